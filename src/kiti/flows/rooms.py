"""Which trips are behind a door, as this process knows it: looked at each second while somebody asks.

A room that is opened elsewhere is known here `STALE_SECONDS` later at the latest, for what is older is never used.
With it comes the database's clock, so that checking a place costs no question to the database.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import structlog

from kiti.db import Database, DatabaseUnavailable, Transaction
from kiti.flows.grouping import GroupCommit
from kiti.waiting import actions as waiting
from kiti.waiting import reads as waiting_reads
from kiti.waiting.model import Booked, Place, Room, Use, Used

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 1.0
STALE_SECONDS = 2.0
# One line is one row: who comes together shares its lock, and thousands may come together.
PLACES_AT_ONCE = 1024
MOST_ASKING = 16384


class Rooms:
    """Open rooms, the clock that counts there, and the writing of many in few transactions."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rooms: dict[UUID, Room] = {}
        # By number: a UUID is hashed in Python.
        self._of_trip: dict[int, Room] = {}
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._clock: tuple[datetime, float] | None = None
        self._places: GroupCommit[UUID, Place | None] = GroupCommit(
            db, self._take, keys=_nothing, lanes=1, max_batch=PLACES_AT_ONCE, max_queue=MOST_ASKING
        )
        self._uses: GroupCommit[Use, Used | None] = GroupCommit(db, _use, keys=_place, lanes=1)
        self._bookings: GroupCommit[Booked, bool] = GroupCommit(db, _note, keys=lambda made: _place(made.use), lanes=1)

    async def before(self, trips: Iterable[UUID]) -> list[Room]:
        """The rooms that one has to pass to reserve on these trips; raises DatabaseUnavailable."""
        await self._look()
        if not self._of_trip:
            return []
        found = {room.id: room for trip in trips if (room := self._of_trip.get(trip.int)) is not None}
        return list(found.values())

    async def of_place(self, place: Place) -> Room | None:
        """The room of a place while it is open; raises DatabaseUnavailable."""
        await self._look()
        return self._rooms.get(place.room)

    def now(self) -> datetime:
        """The database's clock, never ahead of it; only after one of the above."""
        assert self._clock is not None
        read, at = self._clock
        return read + timedelta(seconds=time.monotonic() - at)

    async def take(self, room: UUID) -> Place | None:
        """The next place of the line, None where the room has closed; raises Overloaded, DatabaseUnavailable."""
        place = await self._places.submit(room)
        if place is None:
            self._looked_at = float("-inf")  # what is known here is out of date
        return place

    async def use(self, use: Use) -> Used | None:
        """Count an attempt with a place: None where it may be made, else why not."""
        return await self._uses.submit(use)

    async def note(self, made: Booked) -> bool:
        """Write down what was booked with a place; False where another booking was first."""
        return await self._bookings.submit(made)

    async def _look(self) -> None:
        looked_at = self._looked_at
        age_seconds = time.monotonic() - looked_at
        if age_seconds < REFRESH_SECONDS:
            return
        if self._looking is None:
            self._looking = asyncio.create_task(self._read())
        if age_seconds < STALE_SECONDS:
            return
        # Others may wait for the same look: who goes away must not take it from them.
        await asyncio.shield(self._looking)
        if self._looked_at == looked_at:
            raise DatabaseUnavailable("The database did not answer. Try again in a moment.")

    async def _read(self) -> None:
        began = time.monotonic()
        try:
            # On the connections of those who reserve, so that a crowd which only reads does not keep it waiting.
            async with self._db.transaction(pipelined=True) as tx:
                rooms = await waiting_reads.open_rooms(tx)
                clock = await waiting_reads.now(tx)
                self._clock = (clock, time.monotonic())
        except (DatabaseUnavailable, psycopg.Error) as error:
            # Who cannot do with what is known hears of it in `_look`.
            log.warning("could not look for waiting rooms", error=str(error))
        else:
            self._rooms = {room.id: room for room in rooms}
            self._of_trip = {trip.int: room for room in rooms for trip in room.trips}
            self._looked_at = began
        finally:
            self._looking = None

    async def _take(self, tx: Transaction, asked: Sequence[UUID]) -> list[Place | None]:
        runs = await waiting.take_places(tx, counts=Counter(asked))
        for run in runs.values():
            # A place that is admitted at once must not look as if it were not yet.
            if self._clock is not None and run.now > self.now():
                self._clock = (run.now, time.monotonic())
        given: Counter[UUID] = Counter()
        places: list[Place | None] = []
        for room in asked:
            run_of_room = runs.get(room)
            places.append(None if run_of_room is None else run_of_room.place(given[room]))
            given[room] += 1
        return places


async def _use(tx: Transaction, uses: Sequence[Use]) -> list[Used | None]:
    return await waiting.use_places(tx, uses=uses)


async def _note(tx: Transaction, made: Sequence[Booked]) -> list[bool]:
    return await waiting.note_bookings(tx, made=made)


def _nothing(_: UUID) -> frozenset[int]:
    """Any number of people may stand in one line."""
    return frozenset()


def _place(use: Use) -> frozenset[tuple[int, int]]:
    return frozenset([(use.room.int, use.number)])
