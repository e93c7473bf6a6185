"""`kiti payments options`: which gateway takes what, for all operators or for one."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_args
from uuid import UUID

import click
from rich.console import Console

from kiti.cli.serve import database, run_async
from kiti.core.settings import Settings, load
from kiti.flows import payment_options as flow
from kiti.flows.house import House
from kiti.gateways.gateway import Method

T = TypeVar("T")

ACTOR = "staff"
HIGHEST_PRIORITY = 1000
console = Console(soft_wrap=True)


@click.group("options")
def options() -> None:
    """Say which gateway takes what. As long as nothing is said, every gateway takes all that it can."""


@options.command("list")
@click.pass_obj
def list_(composition: Any) -> None:
    """Show all that is said."""
    found = _in_house(composition, flow.all_options)
    if not found:
        console.print("Nothing is said: every gateway takes all that it can.")
    for one in found:
        whose, where = one.operator_code or "all operators", f"from {one.country}" if one.country else "from anywhere"
        state = "on" if one.is_on else "off"
        console.print(
            f"{one.id}  {one.currency} {one.method} {one.gateway}, {whose}, {where}, priority {one.priority}: {state}",
            highlight=False,
        )


@options.command("add")
@click.argument("currency")
@click.argument("method", type=click.Choice(get_args(Method), case_sensitive=False))
@click.argument("gateway")
@click.option("--operator", default="", help="The code of an operator; without it for all.")
@click.option("--country", default="", help="Where the journey begins, such as UG; without it anywhere.")
@click.option(
    "--priority",
    type=click.IntRange(0, HIGHEST_PRIORITY),
    default=flow.UNSAID_PRIORITY,
    show_default=True,
    help="The lowest comes first.",
)
@click.option("--off", is_flag=True, help="Say that this is not possible.")
@click.pass_obj
def add(
    composition: Any,
    currency: str,
    method: str,
    gateway: str,
    operator: str,
    country: str,
    priority: int,
    *,
    off: bool,
) -> None:
    """Say that a METHOD may be paid in a CURRENCY through a GATEWAY; said again it is changed."""
    chosen = next(one for one in get_args(Method) if one == method.upper())
    _check_code(currency, letters=3, hint="CURRENCY")
    if country:
        _check_code(country, letters=2, hint="--country")
    _in_house(
        composition,
        lambda house: flow.say_option(
            house,
            operator_code=operator,
            currency=currency.upper(),
            country=country.upper(),
            method=chosen,
            gateway=gateway,
            priority=priority,
            is_on=not off,
            actor=ACTOR,
        ),
    )
    console.print(f"{chosen} in {currency.upper()} through {gateway} is {'off' if off else 'on'}.", highlight=False)


@options.command("remove")
@click.argument("option_id", type=click.UUID)
@click.pass_obj
def remove(composition: Any, option_id: UUID) -> None:
    """Say nothing about it any more; `list` shows the ids."""
    _in_house(composition, lambda house: flow.drop_option(house, option_id, actor=ACTOR))
    console.print("Removed.")


def _check_code(text: str, *, letters: int, hint: str) -> None:
    if not (text.isascii() and text.isalpha() and len(text) == letters):
        raise click.BadParameter(f"{text!r} is no code of {letters} letters.", param_hint=hint)


def _in_house(composition: Any, work: Callable[[House], Awaitable[T]]) -> T:
    async def inside(settings: Settings) -> T:
        async with composition.open_house(settings) as house:
            return await work(house)

    with database(load()) as settings:
        return run_async(inside(settings))
