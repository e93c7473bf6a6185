"""Commands for settlements and the ledger. Whoever approves, pays or corrects says who they are, as in the office."""

import sys
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar, cast, get_args
from uuid import UUID

import click
from rich.console import Console
from rich.table import Column, Table

from kiti.cli.serve import database, run_async
from kiti.core.money import Money
from kiti.core.settings import load
from kiti.flows.beancount import as_beancount
from kiti.flows.corrections import correct_event
from kiti.flows.house import House
from kiti.flows.papers.statement import MEDIA_TYPES, statement_paper
from kiti.flows.payouts import request_payout
from kiti.flows.settlements import Page, Statement, approve, list_settlements, set_terms, show_statement
from kiti.flows.sign_in import check_password
from kiti.gateways.gateway import Destination
from kiti.network import reads as network_reads
from kiti.people.model import LONGEST_PASSWORD, Staff
from kiti.settlements import reads
from kiti.settlements.model import Period, State, Terms

T = TypeVar("T")
console = Console(soft_wrap=True)

# Whoever has a shell on the server may look at everything; what people decide they decide under their own names.
ONLOOKER = Staff(id=UUID(int=0), email="cli", name="Command line", role="platform_finance", operator=None)
KINDS = ("bank", "mobile_money", "connected")

email = click.option("--email", required=True, help="Your staff account; the password is asked for.")
password_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


@click.group()
def settlements() -> None:
    """Look after what operators are owed."""


@settlements.command("list")
@click.option("--operator", "code", default="", help="The operator's code.")
@click.option("--state", type=click.Choice(get_args(State)), default=None)
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.pass_obj
def list_(composition: Any, code: str, state: State | None, limit: int) -> None:
    """Statements, the newest first."""

    async def work(house: House) -> Page:
        return await list_settlements(house, staff=ONLOOKER, code=code, state=state, limit=limit)

    found = _in_house(composition, work)
    if not found.settlements:
        console.print("There are no statements of this kind.")
        return
    # Ids are for copying, so days are what gives way.
    table = Table(Column("statement", no_wrap=True), "operator", "days", "state", "to be paid", box=None)
    for one in found.settlements:
        days = f"{one.first_day} to {one.last_day}"
        table.add_row(str(one.id), one.operator_code, days, one.state, one.total.format("en"))
    console.print(table)


@settlements.command()
@click.argument("settlement", type=click.UUID)
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Write .csv, .xlsx or .pdf there.")
@click.pass_obj
def show(composition: Any, settlement: UUID, save: Path | None) -> None:
    """One statement with its payouts, or its paper with --save."""
    form = "" if save is None else save.suffix.removeprefix(".")
    if save is not None and form not in MEDIA_TYPES:
        raise click.BadParameter(f"Let the name end with .{', .'.join(MEDIA_TYPES)}.", param_hint="--save")

    async def work(house: House) -> tuple[Statement, bytes]:
        drawn = b""
        if save is not None:
            paper = await statement_paper(house, settlement=settlement, form=cast("Any", form), staff=ONLOOKER)
            drawn = paper.body
        return await show_statement(house, settlement=settlement, staff=ONLOOKER, limit=1), drawn

    found, drawn = _in_house(composition, work)
    if save is not None:
        save.write_bytes(drawn)
    one = found.settlement
    table = Table("", "", box=None, show_header=False)
    table.add_row("operator", f"{one.operator_name} ({one.operator_code})")
    table.add_row("days", f"{one.first_day} to {one.last_day} in {one.timezone}")
    table.add_row("state", one.state)
    for name in ("gross", "refunds", "commission", "fees", "other", "carried", "net"):
        table.add_row(name, Money(getattr(one, name), one.currency).format("en"))
    for payout in found.payouts:
        table.add_row("payout", f"{payout.id} {payout.state} {payout.failure_reason or ''}")
    console.print(table, highlight=False)


@settlements.command("approve")
@click.argument("settlement", type=click.UUID)
@email
@password_stdin
@click.pass_obj
def approve_(composition: Any, settlement: UUID, email: str, password_stdin: bool) -> None:  # noqa: FBT001 - click's way
    """Approve a draft: its amount, and where it goes. Not for whoever set the terms."""
    password = _password(from_stdin=password_stdin)

    async def work(house: House) -> str:
        staff = await check_password(house, email=email, password=password)
        return (await approve(house, settlement=settlement, staff=staff)).total.format("en")

    console.print(f"Approved: {_in_house(composition, work)}. Somebody else has it paid.", highlight=False)


@settlements.command()
@click.argument("settlement", type=click.UUID)
@email
@password_stdin
@click.pass_obj
def pay(composition: Any, settlement: UUID, email: str, password_stdin: bool) -> None:  # noqa: FBT001 - click's way
    """Have an approved statement paid. Not for whoever approved it."""
    password = _password(from_stdin=password_stdin)

    async def work(house: House) -> UUID:
        staff = await check_password(house, email=email, password=password)
        return await request_payout(house, settlement=settlement, staff=staff)

    console.print(f"Payout {_in_house(composition, work)} is on its way.", highlight=False)


@settlements.command()
@click.argument("code")
@click.argument("currency", required=False)
@click.option("--period", type=click.Choice(get_args(Period)), default="monthly", show_default=True)
@click.option("--minimum", type=click.IntRange(0), default=0, help="Minor units; less is carried over.")
@click.option("--gateway", help="Through which gateway money is sent.")
@click.option("--kind", type=click.Choice(KINDS), help="Where it goes.")
@click.option("--country", default="", help="Two letters, as UG.")
@click.option("--bank", default="", help="The gateway's code of the bank or network.")
@click.option("--account", default="", help="The number there.")
@click.option("--account-name", default="", help="Whose it is.")
@click.option("--email", default="", help="Your staff account; needed to set terms.")
@password_stdin
@click.pass_obj
def terms(composition: Any, /, code: str, currency: str | None, password_stdin: bool, **said: Any) -> None:  # noqa: FBT001 - click's way
    """Show an operator's terms, or set those of a CURRENCY anew with --gateway, --kind and the account."""
    is_new = currency is not None
    if is_new and not (said["gateway"] and said["kind"] and said["email"]):
        raise click.UsageError("To set terms say --gateway, --kind, the account and --email.")
    password = _password(from_stdin=password_stdin) if is_new else ""

    async def work(house: House) -> list[Terms]:
        async with house.db.reader() as reader:
            operator = await network_reads.operator_by_code(reader, code=code)
        if currency is not None:
            staff = await check_password(house, email=said["email"], password=password)
            await set_terms(house, terms=_terms(operator, currency.upper(), said), staff=staff)
        async with house.db.reader() as reader:
            return await reads.terms_of(reader, operator=operator)

    found = _in_house(composition, work)
    for one in found:
        to = one.destination
        console.print(
            f"{one.currency}: {one.period}, from {Money(one.minimum_payout, one.currency).format('en')} on, through"
            f" {one.gateway} to {to.name}, {to.kind} {to.country} {to.bank} {to.account}",
            highlight=False,
        )
    if not found:
        console.print("Monthly, and nobody has said where the money goes.")


@click.group()
def ledger() -> None:
    """Look after the ledger."""


@ledger.command()
@click.option("--format", "form", type=click.Choice(("beancount",)), default="beancount", show_default=True)
@click.option("--since", type=click.DateTime(("%Y-%m-%d",)), default=None, help="The first day, in UTC.")
@click.option("--until", type=click.DateTime(("%Y-%m-%d",)), default=None, help="The last day, in UTC.")
@click.pass_obj
def export(composition: Any, form: str, since: datetime | None, until: datetime | None) -> None:
    """Write the ledger to standard output, for Beancount."""
    assert form == "beancount", "the only choice"

    async def work(house: House) -> None:
        async for piece in as_beancount(house, since=_day(since), until=_day(until)):
            sys.stdout.write(piece)

    _in_house(composition, work)


@ledger.command()
@click.argument("booking", type=click.UUID)
@click.argument("event")
@click.option("--reason", required=True)
@email
@password_stdin
@click.pass_obj
def correct(composition: Any, booking: UUID, event: str, reason: str, email: str, password_stdin: bool) -> None:  # noqa: FBT001 - click's way
    """Undo an event below a booking, such as departed:<trip>, by entries that reverse it."""
    password = _password(from_stdin=password_stdin)

    async def work(house: House) -> None:
        staff = await check_password(house, email=email, password=password)
        await correct_event(house, booking=booking, event=event, reason=reason, staff=staff)

    _in_house(composition, work)
    console.print(f"Reversed: {event}.", highlight=False)


def _terms(operator: UUID, currency: str, said: dict[str, Any]) -> Terms:
    return Terms(
        operator_id=operator,
        currency=currency,
        period=said["period"],
        minimum_payout=said["minimum"],
        gateway=said["gateway"],
        destination=Destination(
            kind=said["kind"],
            country=said["country"].upper(),
            bank=said["bank"],
            account=said["account"],
            name=said["account_name"],
        ),
        set_by="",
    )


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline(LONGEST_PASSWORD + 2).rstrip("\r\n")
    typed: str = click.prompt("Password", hide_input=True, err=True)
    return typed


def _in_house(composition: Any, work: Callable[[House], Awaitable[T]]) -> T:
    async def inside(settings: Any) -> T:
        async with composition.open_house(settings) as house:
            return await work(house)

    with database(load()) as settings:
        return run_async(inside(settings))


COMMANDS = (settlements, ledger)
