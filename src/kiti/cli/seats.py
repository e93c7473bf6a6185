"""Commands for whoever looks after seats: see who has them, block some, change or cancel those of a booking."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import click
from rich.console import Console
from rich.table import Column, Table

from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat
from kiti.cli.serve import database, run_async
from kiti.core.errors import InvalidInput
from kiti.core.money import Money
from kiti.core.settings import load
from kiti.flows import blocks as flow
from kiti.flows.blocks import Holding
from kiti.flows.cancellation import Part, Quote, cancel_booking, quote_cancellation
from kiti.flows.changes import move_booking, swap_seats
from kiti.flows.house import House
from kiti.flows.partial_cancellation import cancel_part, quote_part

T = TypeVar("T")

ACTOR = "staff"
console = Console(soft_wrap=True)


@click.group()
def seats() -> None:
    """Look after the seats of a trip."""


@seats.command()
@click.argument("trip", type=click.UUID)
@click.pass_obj
def held(composition: Any, trip: UUID) -> None:
    """Who has which seat of a trip, from where to where, until when."""
    found = _in_house(composition, lambda house: flow.held_seats(house, trip=trip))
    if not found:
        console.print("Nobody has a seat on this trip.")
        return
    table = Table("seat", "from", "to", "until", "who", box=None)
    for holding in found:
        until = "for ever" if holding.expires_at is None else f"{holding.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        table.add_row(holding.seat, holding.from_code, holding.to_code, until, _who(holding))
    console.print(table)


@seats.command()
@click.argument("trip", type=click.UUID)
@click.argument("numbers", nargs=-1, required=True, metavar="SEAT...")
@click.option("--reason", required=True, help="Why; others read it.")
@click.option("--from", "from_code", default=None, help="Code of a stop; the trip's first one if left out.")
@click.option("--to", "to_code", default=None, help="Code of a stop; the trip's last one if left out.")
@click.pass_obj
def block(
    composition: Any, trip: UUID, numbers: tuple[str, ...], reason: str, from_code: str | None, to_code: str | None
) -> None:
    """Take seats off sale."""
    blocked = _in_house(
        composition,
        lambda house: flow.block_seats(
            house,
            trip=trip,
            numbers=[number.upper() for number in numbers],
            reason=reason,
            from_code=from_code,
            to_code=to_code,
            actor=ACTOR,
        ),
    )
    console.print(f"Blocked as {blocked}.", highlight=False)


@seats.command()
@click.argument("trip", type=click.UUID)
@click.argument("block_id", type=click.UUID, metavar="BLOCK")
@click.pass_obj
def unblock(composition: Any, trip: UUID, block_id: UUID) -> None:
    """Put blocked seats on sale again."""
    _in_house(composition, lambda house: flow.unblock_seats(house, trip=trip, block=block_id, actor=ACTOR))
    console.print("They are on sale again.")


@seats.command()
@click.argument("trip", type=click.UUID)
@click.pass_obj
def blocks(composition: Any, trip: UUID) -> None:
    """What is blocked on a trip, by whom, and why."""
    found = _in_house(composition, lambda house: flow.blocks(house, trip=trip))
    if not found:
        console.print("Nothing is blocked on this trip.")
        return
    # The id is for copying, so it is what must not be broken into lines.
    table = Table(Column("block", no_wrap=True), "seats", "since", "by", "why", box=None)
    for each in found:
        since = f"{each.created_at:%Y-%m-%d %H:%M} UTC"
        table.add_row(str(each.id), ", ".join(each.seats), since, each.actor, each.reason)
    console.print(table)


@click.group()
def bookings() -> None:
    """Change bookings for travellers."""


@bookings.command()
@click.argument("reference")
@click.argument("swaps", nargs=-1, required=True, metavar="OLD=NEW...")
@click.option("--trip", type=click.UUID, default=None, help="Needed where the booking has the seats on several trips.")
@click.pass_obj
def swap(composition: Any, reference: str, swaps: tuple[str, ...], trip: UUID | None) -> None:
    """Exchange seats of a booking for free ones of the same fare, or among themselves."""
    pairs = [_pair(each) for each in swaps]
    if len(dict(pairs)) != len(pairs):
        raise click.BadParameter("the same seat stands twice", param_hint="OLD=NEW")

    async def work(house: House) -> list[BookedSeat]:
        booking = await _by_reference(house, reference)
        return await swap_seats(house, booking=booking, swaps=dict(pairs), trip=trip, actor=ACTOR)

    _say(_in_house(composition, work))


@bookings.command()
@click.argument("reference")
@click.option("--from-trip", type=click.UUID, required=True, help="The trip that it leaves.")
@click.option("--to-trip", type=click.UUID, required=True, help="The trip of the same operator that it goes to.")
@click.option("--seats", "chosen", default=None, help="Such as 1A,1B, for its travellers in order; else good ones.")
@click.option("--reason", required=True, help="Why; inspectors read it on the old tickets.")
@click.pass_obj
def move(composition: Any, reference: str, from_trip: UUID, to_trip: UUID, chosen: str | None, reason: str) -> None:
    """Move the seats of a booking to another trip, for the same fares."""
    numbers = None if chosen is None else [number.strip().upper() for number in chosen.split(",")]

    async def work(house: House) -> list[BookedSeat]:
        booking = await _by_reference(house, reference)
        return await move_booking(
            house,
            booking=booking,
            from_trip=from_trip,
            to_trip=to_trip,
            seats=numbers,
            reason=reason,
            actor=ACTOR,
        )

    _say(_in_house(composition, work))


@bookings.command()
@click.argument("reference")
@click.option("--seat", "numbers", multiple=True, help="Cancel this seat alone; may be given again for others.")
@click.option(
    "--trip", "trips", type=click.UUID, multiple=True, help="Cancel this trip alone; with --seat: the seats there."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go back.")
@click.option("--reason", default="", help="Why; inspectors read it on the tickets.")
@click.pass_obj
def cancel(
    composition: Any, reference: str, numbers: tuple[str, ...], trips: tuple[UUID, ...], *, dry_run: bool, reason: str
) -> None:
    """Cancel a booking, or some seats of it, by the rules of its operators."""

    async def work(house: House) -> tuple[Quote, list[BookedSeat]]:
        booking = await _by_reference(house, reference)
        part = await _part(house, booking, [number.strip().upper() for number in numbers], trips)
        if dry_run:
            quote = await (
                quote_cancellation(house, booking=booking)
                if part is None
                else quote_part(house, booking=booking, part=part)
            )
        elif part is None:
            quote = (await cancel_booking(house, booking=booking, actor=ACTOR, reason=reason)).quote
        else:
            quote = (await cancel_part(house, booking=booking, part=part, actor=ACTOR, reason=reason)).quote
        async with house.db.reader() as reader:
            return quote, await booking_reads.seats_of(reader, bookings=[booking])

    quote, lines = _in_house(composition, work)
    for seat in quote.seats:
        amount = Money(seat.amount, quote.booking.currency).format("en")
        console.print(f"{seat.line.seat}: {seat.percent} %, {amount}", highlight=False)
    console.print(f"{quote.refund.format('en')} {'would go' if dry_run else 'goes'} back.", highlight=False)
    if not dry_run and quote.is_whole:
        console.print("The booking is cancelled.")
    elif not dry_run:
        console.print(f"{', '.join(line.seat for line in lines)} stays booked.", highlight=False)


async def _part(house: House, booking: UUID, numbers: Sequence[str], trips: Sequence[UUID]) -> Part | None:
    """What was named of the booking; None where nothing was, and that means all. Raises InvalidInput."""
    if not numbers:
        return Part(trips=frozenset(trips)) if trips else None
    async with house.db.reader() as reader:
        lines = await booking_reads.seats_of(reader, bookings=[booking])
    found: set[tuple[UUID, str]] = set()
    for number in numbers:
        there = [line.trip_id for line in lines if line.seat == number and (not trips or line.trip_id in trips)]
        if len(there) != 1:
            problem = "on several trips: say on which by --trip" if there else "not in the booking"
            raise InvalidInput("seat", f"Seat {number} is {problem}.")
        found.add((there[0], number))
    return Part(seats=frozenset(found))


def _in_house(composition: Any, work: Callable[[House], Awaitable[T]]) -> T:
    async def inside(settings: Any) -> T:
        async with composition.open_house(settings) as house:
            return await work(house)

    with database(load()) as ready:
        return run_async(inside(ready))


async def _by_reference(house: House, reference: str) -> UUID:
    async with house.db.reader() as reader:
        return await booking_reads.by_reference(reader, reference=reference.strip().upper())


def _pair(swap: str) -> tuple[str, str]:
    old, _, new = (part.strip().upper() for part in swap.partition("="))
    if not old or not new:
        raise click.BadParameter(f"{swap!r} is no exchange. Write 1A=2A.", param_hint="OLD=NEW")
    return old, new


def _say(lines: Sequence[BookedSeat]) -> None:
    table = Table(Column("trip", no_wrap=True), "seat", "class", "traveller", box=None)
    for line in lines:
        table.add_row(str(line.trip_id), line.seat, line.seat_class, line.passenger_name)
    console.print(table)


def _who(holding: Holding) -> str:
    if holding.block is not None:
        return f"blocked: {holding.block.reason}"
    if holding.booking is not None:
        return f"{holding.booking.reference} ({holding.booking.state.replace('_', ' ')})"
    return "nobody that is known: run `kiti doctor`"


COMMANDS = (seats, bookings)
