"""Commands for staff accounts: make them, see them, take them away."""

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar, get_args

import click
from rich.console import Console
from rich.table import Column, Table

from kiti.cli.serve import database, run_async
from kiti.core.errors import InvalidInput
from kiti.core.settings import load
from kiti.db import Database
from kiti.flows import staff as flow
from kiti.people.model import LONGEST_PASSWORD, Account, Role

T = TypeVar("T")

ACTOR = "cli"
console = Console(soft_wrap=True)

from_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


@click.group()
def staff() -> None:
    """Look after the accounts of staff."""


@staff.command()
@click.option("--email", required=True)
@click.option("--name", required=True)
@click.option("--role", type=click.Choice(get_args(Role)), required=True)
@click.option("--operator", "operator_code", default=None, help="The operator's code; for the roles of operators.")
@from_stdin
def add(email: str, name: str, role: Role, operator_code: str | None, password_stdin: bool) -> None:  # noqa: FBT001 - click's way
    """Make an account."""
    password = _password(from_stdin=password_stdin)
    _on_database(
        lambda db: flow.add_staff(
            db, email=email, name=name, role=role, operator_code=operator_code, password=password, actor=ACTOR
        )
    )
    console.print(f"{flow.address_of(email)} may log in now.", highlight=False)


@staff.command("list")
def list_() -> None:
    """Every account: whose, with which role, when last in the office."""
    found = _on_database(flow.list_staff)
    if not found:
        console.print("There are no accounts. Make the first with `kiti staff add`.")
        return
    # Addresses and roles are for copying, so names are what gives way.
    table = Table(
        Column("e-mail", no_wrap=True), "name", Column("role", no_wrap=True), "operator", "last in the office", "",
        box=None,
    )  # fmt: skip
    for account in found:
        person = account.staff
        table.add_row(
            person.email,
            person.name,
            person.role,
            person.operator.code if person.operator else "-",
            f"{account.last_seen_at:%Y-%m-%d %H:%M} UTC" if account.last_seen_at else "never",
            _standing(account),
        )
    console.print(table)


@staff.command()
@click.argument("email")
def disable(email: str) -> None:
    """Take an account out of use, at once and for ever."""
    _on_database(lambda db: flow.disable_staff(db, email=email, actor=ACTOR))
    console.print(f"{flow.address_of(email)} is out.", highlight=False)


@staff.command()
@click.argument("email")
@from_stdin
def password(email: str, password_stdin: bool) -> None:  # noqa: FBT001 - click's way
    """Set a new password; whoever is logged in with the old one is out."""
    typed = _password(from_stdin=password_stdin)
    _on_database(lambda db: flow.change_password(db, email=email, password=typed, actor=ACTOR))
    console.print(f"{flow.address_of(email)} has a new password.", highlight=False)


def _password(*, from_stdin: bool) -> str:
    if not from_stdin:
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt="Again")
        return typed
    read = sys.stdin.readline(LONGEST_PASSWORD + 2).rstrip("\r\n")
    if not read:
        raise InvalidInput("password", "Standard input has no password in its first line.")
    return read


def _standing(account: Account) -> str:
    if account.disabled_at is not None:
        return f"disabled {account.disabled_at:%Y-%m-%d}"
    if account.locked_until is not None:
        return f"at rest until {account.locked_until:%H:%M} UTC"
    return ""


def _on_database(work: Callable[[Database], Awaitable[T]]) -> T:
    async def inside(url: str) -> T:
        db = Database(url, minimum=1, maximum=1)
        await db.open()
        try:
            return await work(db)
        finally:
            await db.close()

    with database(load()) as ready:
        return run_async(inside(ready.database_url))


COMMANDS = (staff,)
