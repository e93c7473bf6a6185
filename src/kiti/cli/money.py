"""Commands for whoever looks after money: ask the gateway about a payment, send a refund once more."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import click
from rich.console import Console

from kiti.cli.serve import database, run_async
from kiti.core.money import Money
from kiti.core.settings import Settings, load
from kiti.flows import counter as counter_flow
from kiti.flows.cash import HandedOut, Taken, hand_out
from kiti.flows.payment_options import fee_of
from kiti.flows.reconcile import MOST_DAYS, USUAL_DAYS, Compared, open_breaks, reconcile
from kiti.flows.refunds import retry_refund
from kiti.flows.settle import settle_payment
from kiti.payments.model import OpenBreak, Payment, Refund

console = Console(soft_wrap=True)


@click.group()
def payments() -> None:
    """Look after payments."""


@payments.command()
@click.argument("payment_id", type=click.UUID)
@click.option("--transaction", default="", help="The gateway's id of a transaction that may belong to it.")
@click.pass_obj
def settle(composition: Any, payment_id: UUID, transaction: str) -> None:
    """Ask the gateway about a payment and act on what it says."""
    with database(load()) as settings:
        payment = run_async(_settle(composition, settings, payment_id, transaction))
    why = f": {payment.failure_reason}" if payment.failure_reason else ""
    console.print(f"Payment {payment.id} is {payment.state}{why}.", highlight=False)


@payments.command("cash")
@click.argument("reference")
@click.option("--amount", type=click.IntRange(min=1), required=True, help="In minor units; asserts what is due.")
@click.option("--currency", required=True)
@click.option("--staff", "email", required=True, help="The account of whoever takes the money.")
@click.option("--counter", default="", help="Where.")
@click.pass_obj
def take_cash(composition: Any, reference: str, amount: int, currency: str, email: str, counter: str) -> None:
    """Take cash for a booking: the money lies on the counter."""
    with database(load()) as settings:
        taken = run_async(_take(composition, settings, reference, (amount, currency), email, counter))
    console.print(
        f"Receipt {taken.receipt.number}: {amount} {taken.receipt.currency} (minor units)."
        f" The booking is {taken.booking.standing}.",
        highlight=False,
    )


@payments.command("fee")
@click.option("--amount", type=click.IntRange(min=1), required=True, help="In minor units.")
@click.option("--currency", required=True)
@click.option("--gateway", default="flutterwave", show_default=True)
@click.pass_obj
def fee(composition: Any, amount: int, currency: str, gateway: str) -> None:
    """Ask a gateway what it would keep of a payment: what a rule of `kiti fees` has to cover."""
    asked = Money(amount, currency.upper())
    with database(load()) as settings:
        kept = run_async(_fee(composition, settings, gateway, asked))
    console.print(f"{gateway} keeps {kept:f} of {amount} {asked.currency} (minor units).", highlight=False)


@click.group()
def refunds() -> None:
    """Look after refunds."""


@refunds.command("retry")
@click.argument("refund_id", type=click.UUID)
@click.pass_obj
def retry(composition: Any, refund_id: UUID) -> None:
    """Send a refund that waits for a person once more. Compare with the gateway's dashboard first."""
    with database(load()) as settings:
        refund = run_async(_retry(composition, settings, refund_id))
    why = f": {refund.failure_reason}" if refund.failure_reason else ""
    console.print(f"Refund {refund.id} is {refund.state}{why}.", highlight=False)


@refunds.command("cash")
@click.argument("refund_id", type=click.UUID)
@click.option("--staff", "email", required=True, help="The account of whoever hands the money back.")
@click.option("--counter", default="", help="Where.")
@click.pass_obj
def hand_out_cash(composition: Any, refund_id: UUID, email: str, counter: str) -> None:
    """Write down that a refund was handed back in cash."""
    with database(load()) as settings:
        handed = run_async(_hand_out(composition, settings, refund_id, email, counter))
    console.print(f"Refund {refund_id} is {handed.refund.state}.", highlight=False)


@click.command("reconcile")
@click.option("--days", type=click.IntRange(1, MOST_DAYS), default=USUAL_DAYS, show_default=True)
@click.pass_obj
def reconcile_command(composition: Any, days: int) -> None:
    """Compare what gateways took with our books, take over what was missed, and list where they differ still."""
    with database(load()) as settings:
        compared, breaks = run_async(_reconcile(composition, settings, days))
    console.print(
        f"{compared.transactions} transactions compared, {compared.repaired} taken over now.", highlight=False
    )
    if compared.settlements:
        console.print(f"{compared.settlements} settlements looked at.", highlight=False)
    for one in breaks:
        console.print(
            f"{one.kind} {one.gateway} {one.transaction_id} of {one.day}, known for {one.age_days} days"
            f"{f', {one.assigned_to} looks into it' if one.assigned_to else ''} ({one.sides.replace('_', ' and ')}):"
            f" {one.detail}",
            highlight=False,
        )
    if compared.silent:
        console.print(f"{compared.silent} days could not be compared: the gateway did not answer. Try again.")
    if breaks or compared.silent:
        raise SystemExit(1)


async def _reconcile(composition: Any, settings: Settings, days: int) -> tuple[Compared, list[OpenBreak]]:
    async with composition.open_house(settings) as house:
        return await reconcile(house, days=days), await open_breaks(house)


async def _fee(composition: Any, settings: Settings, gateway: str, amount: Money) -> Decimal:
    async with composition.open_house(settings) as house:
        return await fee_of(house, gateway=gateway, amount=amount)


async def _settle(composition: Any, settings: Settings, payment: UUID, transaction: str) -> Payment:
    async with composition.open_house(settings) as house:
        return await settle_payment(house, payment, transaction_id=transaction)


async def _take(
    composition: Any, settings: Settings, reference: str, due: tuple[int, str], email: str, where: str
) -> Taken:
    async with composition.open_house(settings) as house:
        staff = await counter_flow.clerk(house, email=email)
        found = await counter_flow.look(house, reference=reference, staff=staff)
        amount, currency = due
        return await counter_flow.take_for(
            house, booking=found.booking.id, amount=amount, currency=currency, counter=where, staff=staff
        )


async def _hand_out(composition: Any, settings: Settings, refund: UUID, email: str, where: str) -> HandedOut:
    async with composition.open_house(settings) as house:
        staff = await counter_flow.clerk(house, email=email)
        return await hand_out(house, refund=refund, counter=where, staff=staff)


async def _retry(composition: Any, settings: Settings, refund: UUID) -> Refund:
    async with composition.open_house(settings) as house:
        return await retry_refund(house, refund)


COMMANDS = (payments, refunds, reconcile_command)
