"""`kiti payments subaccounts`: accounts of operators at a gateway. No payment is split to them yet."""

from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click
from rich.console import Console

from kiti.cli.serve import database, run_async
from kiti.core.settings import Settings, load
from kiti.flows import subaccounts as flow
from kiti.flows.house import House
from kiti.gateways.gateway import Destination, SubaccountRequest

T = TypeVar("T")

ACTOR = "staff"
WHOLE = 100
console = Console(soft_wrap=True)


@click.group("subaccounts")
def subaccounts() -> None:
    """Open accounts for operators at a gateway, and list them. Operators are paid by settlements all the same."""


@subaccounts.command("list")
@click.pass_obj
def list_(composition: Any) -> None:
    """Show all that were opened or asked for."""
    found = _in_house(composition, flow.list_subaccounts)
    if not found:
        console.print("No operator has an account at a gateway.")
    for one in found:
        identity = one.subaccount_id or "asked for, not known to be open: run `open` again"
        where = f"{one.bank} {one.account} ({one.country}), {one.name}, {one.platform_percent.normalize():f} % ours"
        console.print(f"{one.operator_code}  {one.gateway}  {where}: {identity}", highlight=False)


@subaccounts.command("open")
@click.argument("operator")
@click.option("--gateway", default="flutterwave", show_default=True)
@click.option("--country", required=True, help="Of the bank, such as UG.")
@click.option("--bank", required=True, help="The gateway's code of the bank.")
@click.option("--account", required=True, help="The account's number there.")
@click.option("--name", required=True, help="Whose account it is.")
@click.option("--percent", default="0", show_default=True, help="What would stay with the platform, such as 2.5.")
@click.option("--email", required=True, help="Where the gateway writes to the operator.")
@click.option("--phone", required=True, help="The operator's number, with its country code.")
@click.pass_obj
def open_(composition: Any, /, operator: str, gateway: str, percent: str, **said: str) -> None:
    """Have a GATEWAY open an account for an OPERATOR; said again it is the same account."""
    country = said["country"].upper()
    if not (country.isascii() and country.isalpha() and len(country) == 2):  # noqa: PLR2004 - ISO 3166
        raise click.BadParameter(f"{country!r} is no code of 2 letters.", param_hint="--country")
    wanted = SubaccountRequest(
        destination=Destination(
            kind="bank", country=country, bank=said["bank"], account=said["account"], name=said["name"]
        ),
        platform_percent=_percent(percent),
        email=said["email"],
        phone=said["phone"],
    )
    opened = _in_house(
        composition,
        lambda house: flow.open_subaccount(house, operator_code=operator, gateway=gateway, wanted=wanted, actor=ACTOR),
    )
    console.print(f"{operator} has the account {opened.subaccount_id} at {gateway}.", highlight=False)


def _percent(typed: str) -> Decimal:
    try:
        percent = Decimal(typed)
    except InvalidOperation:
        raise click.BadParameter(f"{typed!r} is no percentage.", param_hint="--percent") from None
    if not percent.is_finite() or not 0 <= percent <= WHOLE:
        raise click.BadParameter("A percentage is from 0 to 100.", param_hint="--percent")
    return percent


def _in_house(composition: Any, work: Callable[[House], Awaitable[T]]) -> T:
    async def inside(settings: Settings) -> T:
        async with composition.open_house(settings) as house:
            return await work(house)

    with database(load()) as settings:
        return run_async(inside(settings))
