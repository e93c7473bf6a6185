"""Commands about messages to travellers: see those that were given up, send one again."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click
from rich.console import Console

from kiti.cli.serve import database, run_async
from kiti.core.settings import Settings, load
from kiti.flows import parked_messages as flow
from kiti.flows.parked_messages import LONGEST_DAYS, PAGE_LINES, USUAL_DAYS, Filter
from kiti.messages.model import ParkedLine

console = Console(soft_wrap=True)
ACTOR = "command line"


@click.group()
def messages() -> None:
    """Look after mail and text messages to travellers."""


@messages.command("parked")
@click.option(
    "--days", type=click.IntRange(1, LONGEST_DAYS), default=USUAL_DAYS, show_default=True, help="How far to look back."
)
@click.pass_obj
def parked(composition: Any, days: int) -> None:
    """Messages that were given up, the latest first, and why."""
    with database(load()) as settings:
        lines = run_async(_parked(composition, settings, days))
    if not lines:
        console.print(f"No message of the last {days} days is parked.")
    for line in lines:
        about = f"{line.kind} by {line.channel} to {line.recipient}, {line.attempts} attempts: {line.failure_reason}"
        console.print(f"{line.id}  {line.reference}  {about}", highlight=False, markup=False)
    if len(lines) == PAGE_LINES:
        console.print(f"Only the latest {PAGE_LINES} are shown.")


@messages.command("resend")
@click.argument("message", type=click.UUID)
@click.pass_obj
def resend(composition: Any, message: UUID) -> None:
    """Send a parked message once more; exit code 1 where it is not parked."""
    with database(load()) as settings:
        is_queued = run_async(_resend(composition, settings, message))
    if not is_queued:
        console.print(f"Somebody else was quicker: message {message} is on its way already.", highlight=False)
        raise SystemExit(1)
    console.print(f"Message {message} goes out with the next pass of send-notifications.", highlight=False)


async def _parked(composition: Any, settings: Settings, days: int) -> list[ParkedLine]:
    today = datetime.now(UTC).date()
    wanted = Filter(channel="", operator="", since=today - timedelta(days=days), until=today)
    async with composition.open_house(settings) as house:
        return list(await flow.parked_messages(house, wanted=wanted, operator=None))


async def _resend(composition: Any, settings: Settings, message: UUID) -> bool:
    async with composition.open_house(settings) as house:
        return await flow.send_again_by_id(house, message=message, actor=ACTOR)


COMMANDS = (messages,)
