"""Commands about trips: cancel one, and give everybody their money back."""

from typing import Any
from uuid import UUID

import click
from rich.console import Console

from kiti.cli.serve import database, run_async
from kiti.core.settings import Settings, load
from kiti.flows.cancel_trip import TripCancelled, cancel_trip

console = Console(soft_wrap=True)


@click.group()
def trips() -> None:
    """Look after trips."""


@trips.command("cancel")
@click.argument("trip_id", type=click.UUID)
@click.option("--reason", required=True, help="Why; travellers read it.")
@click.pass_obj
def cancel(composition: Any, trip_id: UUID, reason: str) -> None:
    """Take a trip off sale for good and refund everybody in full. Safe to run again until it says nothing is left."""
    with database(load()) as settings:
        done = run_async(_cancel(composition, settings, trip_id, reason))
    console.print(
        f"The trip is cancelled. {done.refunded} bookings get their money back, {done.released} holds were given up"
        + (f", {done.before} were dealt with before." if done.before else "."),
        highlight=False,
    )
    if done.failed:
        raise click.ClickException(
            f"{done.failed} bookings could not be given their money back; the log says why. The job"
            " refund-cancelled-trips tries them again each minute, and so does this command."
        )


async def _cancel(composition: Any, settings: Settings, trip: UUID, reason: str) -> TripCancelled:
    async with composition.open_house(settings) as house:
        return await cancel_trip(house, trip=trip, reason=reason, actor="command line")


COMMANDS = (trips,)
