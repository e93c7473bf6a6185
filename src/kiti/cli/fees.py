"""Commands about what is asked beside the fares: list the rules, set one, end one."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, get_args
from uuid import UUID

import click
from rich.console import Console
from rich.table import Column, Table

from kiti.cli.serve import database, run_async
from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.core.settings import load
from kiti.fees import reads
from kiti.fees.model import Bearer, FeeRule, Kind, ListedRule, Per
from kiti.flows import prices
from kiti.flows.house import House
from kiti.gateways.gateway import Method
from kiti.network import reads as network

T = TypeVar("T")

ACTOR = "command line"
PERCENT = re.compile(r"(?P<whole>\d{1,3})(?:\.(?P<hundredths>\d{1,2}))?")
# Where nothing else is said. Who bears a gateway's fee has to be said.
USUAL_BEARERS: dict[Kind, Bearer] = {"tax": "operator", "platform_fee": "traveller", "commission": "operator"}
console = Console(soft_wrap=True)


class Percent(click.ParamType[int]):
    """2.5 as 250 basis points: two decimals, and no float on the way."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The basis points."""
        found = PERCENT.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no percentage. Write 2.5.", param, ctx)
        return int(found["whole"]) * 100 + int((found["hundredths"] or "").ljust(2, "0"))


@click.group()
def fees() -> None:
    """Say what is asked beside the fares, and who bears it."""


@fees.command("list")
@click.option("--ended", is_flag=True, help="Also those that count no more.")
@click.pass_obj
def list_(composition: Any, *, ended: bool) -> None:
    """Show the rules, each with its id."""
    found = _in_house(composition, _listed)
    now = datetime.now(UTC)
    shown = [one for one in found if ended or one.rule.valid_until is None or one.rule.valid_until > now]
    if not shown:
        console.print("Nothing is asked beside the fares.")
        return
    table = Table(*(Column(name) for name in ("id", "operator", "kind", "borne by", "method", "asks", "from", "until")))
    for one in shown:
        rule = one.rule
        table.add_row(
            str(rule.id),
            one.operator or "all",
            rule.kind.replace("_", " "),
            rule.borne_by,
            rule.method or "any",
            _asks(rule),
            f"{rule.valid_from:%Y-%m-%d %H:%M}",
            "" if rule.valid_until is None else f"{rule.valid_until:%Y-%m-%d %H:%M}",
        )
    console.print(table)


@fees.command("set")
@click.argument("kind", type=click.Choice([kind.replace("_", "-") for kind in get_args(Kind)]))
@click.option("--currency", required=True, help="Such as UGX; amounts are in its minor units.")
@click.option("--operator", "code", default="", help="A code; without it all without a rule of their own.")
@click.option("--percent", "basis_points", type=Percent(), default="0", help="Such as 2.5; of a tax its rate.")
@click.option("--fixed", type=click.IntRange(0), default=0, help="On top of the percentage.")
@click.option("--minimum", type=click.IntRange(0), default=0)
@click.option("--maximum", type=click.IntRange(0), default=None)
@click.option("--per", type=click.Choice(get_args(Per)), default="booking", show_default=True)
@click.option("--borne-by", type=click.Choice(get_args(Bearer)), default=None)
@click.option("--method", type=click.Choice(get_args(Method)), default=None, help="Of a gateway's fee: this way only.")
@click.option("--from", "begins", default=None, help="Such as 2027-01-01T00:00+03:00; without it in a minute.")
@click.pass_obj
def set_(
    composition: Any,
    /,
    kind: str,
    currency: str,
    code: str,
    borne_by: Bearer | None,
    begins: str | None,
    **asked: Any,
) -> None:
    """Ask something from a minute from now on, or later; the rule of the same sort before it ends then.

    A tax borne by the operator is within the fare, one borne by the traveller on top. Bookings made before keep what
    they were told.
    """
    sort: Kind = kind.replace("-", "_")  # type: ignore[assignment] # click has chosen among them
    bearer = borne_by or USUAL_BEARERS.get(sort)
    if bearer is None:
        raise click.UsageError("Say with --borne-by who bears a gateway's fee.")
    starts = datetime.now(UTC) if begins is None else _instant(begins)

    async def work(house: House) -> FeeRule:
        async with house.db.reader() as reader:
            operator = await network.operator_by_code(reader, code=code) if code else None
        rule = FeeRule(
            id=new_id(),
            kind=sort,
            borne_by=bearer,
            currency=currency.upper(),
            operator_id=operator,
            valid_from=starts,
            **asked,
        )
        return await prices.set_fee(house, rule=rule, actor=ACTOR)

    rule = _in_house(composition, work)
    console.print(
        f"{rule.id}: {rule.kind.replace('_', ' ')} of {_asks(rule)}, borne by the {rule.borne_by},"
        f" for {code or 'all operators'} from {rule.valid_from:%Y-%m-%d %H:%M:%S} UTC on.",
        highlight=False,
    )


@fees.command("end")
@click.argument("rule_id", type=click.UUID)
@click.pass_obj
def end(composition: Any, rule_id: UUID) -> None:
    """Ask it no more from a minute from now on. Bookings made before keep what they were told."""
    at = _in_house(composition, lambda house: prices.end_fee(house, rule=rule_id, actor=ACTOR))
    console.print(f"{rule_id} counts until {at:%Y-%m-%d %H:%M:%S} UTC.", highlight=False)


def _asks(rule: FeeRule) -> str:
    """2.5 % + UGX 500, at least UGX 1,000, at most UGX 5,000 of each seat."""

    def money(amount: int) -> str:
        return Money(amount, rule.currency).format("en").replace("\u00a0", " ")

    whole, hundredths = divmod(rule.basis_points, 100)
    share = f"{whole}.{hundredths:02d}".rstrip("0").rstrip(".") + " %" if rule.basis_points else ""
    text = " + ".join(part for part in (share, money(rule.fixed) if rule.fixed else "") if part) or money(0)
    text += f", at least {money(rule.minimum)}" if rule.minimum else ""
    text += f", at most {money(rule.maximum)}" if rule.maximum is not None else ""
    place = " of each seat" if rule.per == "seat" else ""
    return f"{text}{place} ({rule.currency})"


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time. Write 2027-01-01T00:00+03:00.", param_hint="--from") from None
    if found.tzinfo is None:
        raise click.BadParameter("Say the time zone too: 2027-01-01T00:00+03:00.", param_hint="--from")
    return found


async def _listed(house: House) -> list[ListedRule]:
    async with house.db.reader() as reader:
        return await reads.listed(reader)


def _in_house(composition: Any, work: Callable[[House], Awaitable[T]]) -> T:
    async def run() -> T:
        async with composition.open_house(settings) as house:
            return await work(house)

    with database(load()) as settings:
        return run_async(run())


COMMANDS = (fees,)
