"""Commands about webhooks to integrators: endpoints, their secrets, what they were told, and telling it again."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import click
from rich.console import Console
from rich.table import Column, Table

from kiti.cli.serve import database, run_async
from kiti.core.settings import Settings, load
from kiti.flows import hooks as flow
from kiti.flows.deliver_hooks import deliver_due
from kiti.flows.house import House
from kiti.hooks.model import EVENT_TYPES, LONGEST_OVERLAP_HOURS, USUAL_OVERLAP_HOURS, Endpoint, Record

T = TypeVar("T")

LONGEST_LOG = 1000
console = Console(soft_wrap=True)
endpoint_argument = click.argument("endpoint", type=click.UUID)


@click.group()
def hooks() -> None:
    """Tell programs of integrators what happens to bookings."""


@hooks.command()
@click.option("--url", required=True, help="Where to POST to: https://shop.example.com/kiti")
@click.option("--event", "events", multiple=True, type=click.Choice(EVENT_TYPES), help="Again for each; all if none.")
@click.option(
    "--operator", "operator_code", default=None, help="Tell only of its trips. Without: the platform's, of all."
)
@click.option("--description", default="", help="Whose it is, for you to read.")
@click.pass_obj
def add(composition: Any, url: str, events: tuple[str, ...], operator_code: str | None, description: str) -> None:
    """Make an endpoint. Its secret is shown this once."""
    made = _in_house(
        composition,
        lambda house: flow.add_endpoint(
            house, url=url, event_types=events or EVENT_TYPES, description=description, operator_code=operator_code
        ),
    )
    console.print(f"Endpoint {made.id} is told of events from now on. Its secret, shown this once:", highlight=False)
    click.echo(made.secret)


@hooks.command("list")
@click.pass_obj
def list_(composition: Any) -> None:
    """Endpoints, whose they are, and how they stand."""
    found = _in_house(composition, flow.list_endpoints)
    if not found:
        console.print("There are no endpoints. Make one with `kiti hooks add`.")
        return
    for one in found:
        types = "all events" if len(one.event_types) == len(EVENT_TYPES) else ", ".join(one.event_types)
        console.print(f"{one.id}  {_standing(one)}", highlight=False, markup=False)
        whose = one.operator or "every operator"
        about = f"    {one.url} hears of {whose}: {types}." + (f" {one.description}" if one.description else "")
        console.print(about, highlight=False, markup=False)


@hooks.command()
@endpoint_argument
@click.option(
    "--overlap-hours",
    type=click.IntRange(0, LONGEST_OVERLAP_HOURS),
    default=USUAL_OVERLAP_HOURS,
    show_default=True,
    help="For how long the old secret signs too; 0 where somebody else knows it.",
)
@click.pass_obj
def rotate(composition: Any, endpoint: UUID, overlap_hours: int) -> None:
    """Make a new secret, which is shown this once."""
    key = _in_house(
        composition, lambda house: flow.rotate_secret(house, endpoint=endpoint, overlap_hours=overlap_hours)
    )
    console.print(f"The old secret signs too for {overlap_hours} hours. The new one, shown this once:", highlight=False)
    click.echo(key)


@hooks.command()
@endpoint_argument
@click.pass_obj
def disable(composition: Any, endpoint: UUID) -> None:
    """Tell an endpoint nothing any more."""
    _in_house(composition, lambda house: flow.disable_endpoint(house, endpoint=endpoint))
    console.print("It is told nothing any more.")


@hooks.command()
@endpoint_argument
@click.pass_obj
def enable(composition: Any, endpoint: UUID) -> None:
    """Tell an endpoint things again, what was due first."""
    _in_house(composition, lambda house: flow.enable_endpoint(house, endpoint=endpoint))
    console.print("It is told of events from now on, and of those that were due.")


@hooks.command()
@endpoint_argument
@click.option("--failed", "only_failed", is_flag=True, help="Only what could not be delivered.")
@click.option("--limit", type=click.IntRange(1, LONGEST_LOG), default=flow.PAGE_LINES, show_default=True)
@click.pass_obj
def log(composition: Any, endpoint: UUID, only_failed: bool, limit: int) -> None:  # noqa: FBT001 - click's way
    """What an endpoint was told in 30 days, the newest event first."""
    lines = _in_house(
        composition, lambda house: flow.log_of(house, endpoint=endpoint, only_failed=only_failed, limit=limit)
    )
    if not lines.records:
        console.print("It was told nothing.")
        return
    table = Table(
        Column("event", no_wrap=True), Column("type", no_wrap=True), "happened", "state", "attempts", "answer", box=None
    )
    for record in lines.records:
        table.add_row(
            str(record.event_id),
            record.type,
            f"{record.happened_at:%Y-%m-%d %H:%M:%S} UTC",
            record.state,
            str(record.attempts),
            _answer(record),
        )
    console.print(table)


@hooks.command()
@endpoint_argument
@click.argument("event", type=click.UUID, required=False)
@click.option("--failed", "all_failed", is_flag=True, help="Everything that could not be delivered, instead of one.")
@click.pass_obj
def replay(composition: Any, endpoint: UUID, event: UUID | None, all_failed: bool) -> None:  # noqa: FBT001 - click's way
    """Deliver an event once more, under the id that it had."""
    if (event is None) != all_failed:
        raise click.UsageError("Name an event, or say --failed.")
    if event is None:
        number = _in_house(composition, lambda house: flow.replay_failed(house, endpoint=endpoint))
        console.print(f"{number} events are delivered once more.", highlight=False)
        return
    chosen = event
    _in_house(composition, lambda house: flow.replay(house, endpoint=endpoint, event=chosen))
    console.print("It is delivered once more within some seconds.")


@hooks.command("test")
@endpoint_argument
@click.pass_obj
def try_(composition: Any, endpoint: UUID) -> None:
    """Send an endpoint.test now, and say what was answered."""
    record = _in_house(composition, lambda house: _try(house, endpoint))
    if record.state == "delivered":
        console.print(f"Delivered: {_answer(record)}.", highlight=False)
        return
    console.print(f"Not delivered: {_answer(record)}.", highlight=False)
    raise SystemExit(1)


async def _try(house: House, endpoint: UUID) -> Record:
    event = await flow.try_endpoint(house, endpoint=endpoint)
    await deliver_due(house, only=endpoint)
    rounds, _ = await flow.told(house, endpoint=endpoint, event=event)
    return rounds[0]


def _answer(record: Record) -> str:
    if record.status is None:
        return record.reason or record.state
    return f"HTTP {record.status}{f' {record.snippet}' if record.snippet else ''}"


def _standing(endpoint: Endpoint) -> str:
    if endpoint.disabled_at is not None:
        return f"disabled {endpoint.disabled_at:%Y-%m-%d}: {endpoint.disabled_reason}"
    if endpoint.failing_since is not None:
        return f"failing since {endpoint.failing_since:%Y-%m-%d %H:%M} UTC"
    return endpoint.standing


def _in_house(composition: Any, work: Callable[[House], Awaitable[T]]) -> T:
    async def inside(settings: Settings) -> T:
        async with composition.open_house(settings) as house:
            return await work(house)

    with database(load()) as ready:
        return run_async(inside(ready))


COMMANDS = (hooks,)
