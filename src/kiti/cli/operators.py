"""Commands about operators: what they give back when a booking is cancelled, what late money may buy."""

import re
from typing import Any
from uuid import UUID

import click
from rich.console import Console

from kiti.cli.serve import database, run_async
from kiti.core.money import Money
from kiti.core.settings import Settings, load
from kiti.db import Transaction
from kiti.network import actions as network
from kiti.network import reads
from kiti.network.model import RefundPolicy, RefundRule

console = Console(soft_wrap=True)
RULE = re.compile(r"(?:(?P<seat_class>[A-Za-z_]+):)?(?P<hours>\d{1,4}):(?P<percent>\d{1,3})")
FEE = re.compile(r"(?P<currency>[A-Z]{3}):(?P<amount>\d{1,12})")
MOST_HOURS = 8760
WHOLE = 100


@click.group()
def operators() -> None:
    """Look after operators."""


@operators.command("refunds")
@click.argument("code")
@click.option("--rule", "rules", multiple=True, help="HOURS:PERCENT or CLASS:HOURS:PERCENT; replaces all rules.")
@click.option("--fee", "fees", multiple=True, help="CURRENCY:AMOUNT in minor units, kept of each seat.")
@click.option("--fee-once", "fees_once", multiple=True, help="CURRENCY:AMOUNT, kept once of each cancellation.")
@click.option("--kept", multiple=True, help="CURRENCY:AMOUNT of each fare that never goes back; rules are of the rest.")
@click.pass_obj
def refunds(
    composition: Any,
    code: str,
    rules: tuple[str, ...],
    fees: tuple[str, ...],
    fees_once: tuple[str, ...],
    kept: tuple[str, ...],
) -> None:
    """Show what goes back of a fare when a booking is cancelled, or say all of it anew with these options."""
    policy = _policy(rules, fees, fees_once, kept) if rules or fees or fees_once or kept else None
    with database(load()) as settings:
        found = run_async(_refunds(composition, settings, code, policy))
    for rule in found.rules:
        kind = rule.seat_class or "every class"
        console.print(f"{rule.hours_before} hours before boarding or earlier: {rule.percent} % ({kind})")
    console.print("Later: nothing.")
    for currency, amount in found.fees.items():
        console.print(f"Fee for each seat: {Money(amount, currency).format('en')}")
    for currency, amount in found.fees_once.items():
        console.print(f"Fee for each cancellation: {Money(amount, currency).format('en')}")
    for currency, amount in found.kept.items():
        console.print(f"Never goes back of a fare: {Money(amount, currency).format('en')}")


@operators.command("lost-seats")
@click.argument("code")
@click.argument("what", type=click.Choice(["replace", "refund"]))
@click.pass_obj
def lost_seats(composition: Any, code: str, what: str) -> None:
    """Say what becomes of money that comes late for seats that somebody else has: other seats like them, or refunds.

    A traveller who got other seats may decline them for all of their money.
    """
    with database(load()) as settings:
        run_async(_lost_seats(composition, settings, code, replaces=what == "replace"))
    console.print("Late money buys other seats like them." if what == "replace" else "Late money goes back.")


def _policy(
    rules: tuple[str, ...], fees: tuple[str, ...], fees_once: tuple[str, ...], kept: tuple[str, ...]
) -> RefundPolicy:
    found = []
    for rule in rules:
        match = RULE.fullmatch(rule)
        if match is None or int(match["hours"]) > MOST_HOURS or int(match["percent"]) > WHOLE:
            raise click.BadParameter(f"{rule!r} is no rule. Write 24:100, or VIP:24:50.", param_hint="--rule")
        seat_class = (match["seat_class"] or "").upper()
        found.append(RefundRule(seat_class=seat_class, hours_before=int(match["hours"]), percent=int(match["percent"])))
    if len({(rule.seat_class, rule.hours_before) for rule in found}) != len(found):
        raise click.BadParameter("Two rules are about the same hours.", param_hint="--rule")
    return RefundPolicy(
        rules=tuple(found),
        fees=_amounts(fees, "--fee"),
        fees_once=_amounts(fees_once, "--fee-once"),
        kept=_amounts(kept, "--kept"),
    )


def _amounts(typed: tuple[str, ...], option: str) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for fee in typed:
        match = FEE.fullmatch(fee)
        if match is None or int(match["amount"]) == 0:
            raise click.BadParameter(f"{fee!r} is no amount. Write UGX:5000.", param_hint=option)
        amounts[match["currency"]] = int(match["amount"])
    return amounts


async def _lost_seats(composition: Any, settings: Settings, code: str, *, replaces: bool) -> None:
    async with composition.open_house(settings) as house:
        async with house.db.reader() as reader:
            operator: UUID = await reads.operator_by_code(reader, code=code)

        async def work(tx: Transaction) -> None:
            await network.set_lost_seats(tx, operator=operator, replaces=replaces)

        await house.db.run(work)


async def _refunds(composition: Any, settings: Settings, code: str, policy: RefundPolicy | None) -> RefundPolicy:
    async with composition.open_house(settings) as house:
        async with house.db.reader() as reader:
            operator: UUID = await reads.operator_by_code(reader, code=code)
        if policy is not None:
            wanted = policy

            async def work(tx: Transaction) -> None:
                await network.set_refund_policy(tx, operator=operator, policy=wanted)

            await house.db.run(work)
        async with house.db.reader() as reader:
            return (await reads.refund_policies(reader, operators=[operator]))[operator]


COMMANDS = (operators,)
