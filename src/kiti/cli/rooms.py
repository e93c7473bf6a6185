"""Commands for an on-sale rush: open a waiting room before trips, close it, see how it goes."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import click
from rich.console import Console
from rich.table import Column, Table

from kiti.cli.serve import database, run_async
from kiti.core.settings import Settings, load
from kiti.flows import waiting as flow
from kiti.flows.house import House

T = TypeVar("T")

ACTOR = "staff"
console = Console(soft_wrap=True)


@click.group()
def rooms() -> None:
    """Let people wait in line for trips that very many want."""


@rooms.command("open")
@click.option("--trip", "trips", type=click.UUID, multiple=True, required=True, help="Again for each of several.")
@click.option("--rate", type=float, required=True, help="How many people are let in a second; 0.5 is one in two.")
@click.option("--burst", type=int, default=None, help="How many at once after a pause; as many as in one second.")
@click.option(
    "--window",
    "window_minutes",
    type=int,
    default=flow.DEFAULT_WINDOW_MINUTES,
    show_default=True,
    help="For how many minutes a person may reserve once let in.",
)
@click.option("--opens-at", default=None, help="Nobody is let in before, such as 2026-12-01T09:00+03:00.")
@click.option("--name", default="On-sale", show_default=True, help="For you to tell rooms apart.")
@click.pass_obj
def open_(
    composition: Any,
    trips: tuple[UUID, ...],
    rate: float,
    burst: int | None,
    window_minutes: int,
    opens_at: str | None,
    name: str,
) -> None:
    """Open a waiting room before one trip, or one for several together."""
    opening = None if opens_at is None else _instant(opens_at)
    opened = _in_house(
        composition,
        lambda house: flow.open_room(
            house,
            name=name,
            trips=trips,
            rate_per_second=rate,
            burst=burst,
            window_minutes=window_minutes,
            opens_at=opening,
            actor=ACTOR,
        ),
    )
    console.print(f"Waiting room {opened} is open. Every server minds it within two seconds.", highlight=False)


@rooms.command()
@click.argument("room", type=click.UUID)
@click.pass_obj
def close(composition: Any, room: UUID) -> None:
    """Close a waiting room: everybody is let in."""
    _in_house(composition, lambda house: flow.close_room(house, room=room, actor=ACTOR))
    console.print("Closed. Nobody has to wait any more.")


@rooms.command("list")
@click.pass_obj
def list_(composition: Any) -> None:
    """Open waiting rooms, and how many people wait in each."""
    found = _in_house(composition, flow.open_rooms)
    if not found:
        console.print("No waiting room is open.")
        return
    # The id is for copying, so it is what must not be broken into lines.
    table = Table(
        Column("room", no_wrap=True), "name", "trips", "a second", "at once", "minutes", "opens", "given", "waiting",
        box=None,
    )  # fmt: skip
    for view in found:
        room = view.room
        table.add_row(
            str(room.id),
            room.name,
            str(len(room.trips)),
            f"{room.rate_per_second:g}",
            str(room.burst),
            f"{room.window_seconds / 60:g}",
            f"{room.opens_at:%Y-%m-%d %H:%M:%S} UTC",
            str(view.given),
            str(view.waiting),
        )
    console.print(table)


def _in_house(composition: Any, work: Callable[[House], Awaitable[T]]) -> T:
    async def inside(settings: Settings) -> T:
        async with composition.open_house(settings) as house:
            return await work(house)

    with database(load()) as ready:
        return run_async(inside(ready))


def _instant(typed: str) -> datetime:
    try:
        moment = datetime.fromisoformat(typed)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise click.BadParameter(f"{typed!r} is no time with an offset.", param_hint="--opens-at")
    return moment


COMMANDS = (rooms,)
