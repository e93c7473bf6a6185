"""Writing verbs of waiting rooms: open, close, give places out, count what is done with them."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from kiti.core.errors import KitiError, NotFound
from kiti.db import Transaction, load
from kiti.waiting.model import PLACE_ATTEMPTS, Booked, NewRoom, Run, Use, Used

sql = load("kiti.waiting")

# Every server looks at all of them each second.
MAX_TRIPS_BEHIND_DOORS = 1000


class TripHasRoom(KitiError):
    """A trip is behind one door at a time."""


class TooManyTrips(KitiError):
    """So many trips cannot have waiting rooms at once."""


class RoomNotOpen(NotFound):
    """There is no such room, or it is closed already."""


class _Trip(msgspec.Struct, frozen=True):
    id: UUID


class _Count(msgspec.Struct, frozen=True):
    trips: int


async def open_room(tx: Transaction, *, room: NewRoom) -> None:
    """Put trips behind a door; raises TripHasRoom, TooManyTrips."""
    await tx.execute(
        sql.open_room,
        id=room.id,
        name=room.name,
        rate_per_second=room.rate_per_second,
        burst=room.burst,
        window_seconds=room.window_seconds,
        opens_at=room.opens_at,
    )
    put = {row.id for row in await tx.many(sql.put_trips, _Trip, room=room.id, trips=list(room.trips))}
    others = [str(trip) for trip in room.trips if trip not in put]
    if others:
        raise TripHasRoom(f"Already behind another waiting room: {', '.join(others)}. Close that one first.")
    if (await tx.one(sql.count_trips, _Count)).trips > MAX_TRIPS_BEHIND_DOORS:
        raise TooManyTrips(f"At most {MAX_TRIPS_BEHIND_DOORS} trips can have waiting rooms at once.")


async def close_room(tx: Transaction, *, room: UUID) -> None:
    """Let everybody in; the room's places are worth nothing any more. Raises RoomNotOpen."""
    if await tx.execute(sql.close_room, room=room) == 0:
        raise RoomNotOpen("There is no such waiting room, or it is closed already.")
    await tx.execute(sql.free_trips, room=room)


async def take_places(tx: Transaction, *, counts: Mapping[UUID, int]) -> dict[UUID, Run]:
    """The next so many places of each room; a room that is closed is missing."""
    rooms = sorted(counts)
    runs = await tx.many(sql.take_places, Run, rooms=rooms, places=[counts[room] for room in rooms])
    return {run.id: run for run in runs}


async def use_places(tx: Transaction, *, uses: Sequence[Use]) -> list[Used | None]:
    """Count an attempt with each place; in their order None where it may be made, else why not.

    No place may stand twice.
    """
    granted = await tx.many(
        sql.use_places,
        Used,
        rooms=[use.room for use in uses],
        numbers=[use.number for use in uses],
        instead_of=[use.instead_of for use in uses],
        most=PLACE_ATTEMPTS,
    )
    good = {(used.room_id, used.number) for used in granted}
    bad = [use for use in uses if (use.room, use.number) not in good]
    if not bad:
        return [None] * len(uses)
    refused = await tx.many(sql.used_places, Used, rooms=[use.room for use in bad], numbers=[use.number for use in bad])
    why = {(used.room_id, used.number): used for used in refused}
    return [why.get((use.room, use.number)) for use in uses]


async def note_bookings(tx: Transaction, *, made: Sequence[Booked]) -> list[bool]:
    """Write down what was booked with places; in their order whether it counts: False where another booking was first.

    No place may stand twice.
    """
    noted = await tx.many(
        sql.note_bookings,
        Used,
        rooms=[each.use.room for each in made],
        numbers=[each.use.number for each in made],
        bookings=[each.booking for each in made],
        instead_of=[each.use.instead_of for each in made],
    )
    counted = {(used.room_id, used.number) for used in noted}
    return [(each.use.room, each.use.number) in counted for each in made]
