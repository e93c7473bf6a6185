"""Commands for whoever looks after money: ask the gateway about a payment, send a refund once more."""

from typing import Any
from uuid import UUID

import click
from rich.console import Console

from kiti.cli.serve import database, run_async
from kiti.core.settings import Settings, load
from kiti.flows.refunds import retry_refund
from kiti.flows.settle import settle_payment
from kiti.payments.model import Payment, Refund

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


async def _settle(composition: Any, settings: Settings, payment: UUID, transaction: str) -> Payment:
    async with composition.open_house(settings) as house:
        return await settle_payment(house, payment, transaction_id=transaction)


async def _retry(composition: Any, settings: Settings, refund: UUID) -> Refund:
    async with composition.open_house(settings) as house:
        return await retry_refund(house, refund)


COMMANDS = (payments, refunds)
