"""Trips as reserve, pages and API read them: kept for some seconds in this process.

What is kept hardly changes: stops, times, layout, fares. Whether a seat is free is never kept here, and whether a
trip still runs is asked again in the transaction that sells it. Many trips share one layout and the fares of one
route, so these are kept on their own: trips that are asked for the first time cost two reads together, not six each.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from typing import Generic, TypeVar
from uuid import UUID

from kiti.db import Database, Reader
from kiti.fees import reads as fees
from kiti.fees.model import FeeRule
from kiti.network import reads as network
from kiti.network.model import Fare, Layout, TripDetail

# Together they say for how long a changed fare may still be asked: twenty seconds.
KEEP_TRIPS_SECONDS = 15.0
KEEP_FARES_SECONDS = 5.0
# Less than the time after which a changed rule counts at the earliest: flows.prices.LEAD_SECONDS.
KEEP_RULES_SECONDS = 15.0
KEEP_TRIPS = 4096
KEEP_ROUTES = 1024
KEEP_LAYOUTS = 256
READ_AT_ONCE = 128

T = TypeVar("T")


class Catalogue:
    """Bounded, least recently used first out. What is asked for during a read goes with the next."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._trips: _Kept[TripDetail] = _Kept(KEEP_TRIPS, seconds=KEEP_TRIPS_SECONDS)
        self._fares: _Kept[tuple[Fare, ...]] = _Kept(KEEP_ROUTES, seconds=KEEP_FARES_SECONDS)
        self._layouts: _Kept[Layout] = _Kept(KEEP_LAYOUTS, seconds=float("inf"))  # a layout never changes
        self._rules: tuple[float, asyncio.Task[tuple[FeeRule, ...]]] | None = None
        self._asked: dict[UUID, asyncio.Future[TripDetail]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def trip(self, trip: UUID) -> TripDetail:
        """The trip with stops, layout and fares; raises NotFound."""
        kept = self._trips.get(trip)
        if kept is not None:
            return kept
        answer = self._asked.get(trip)
        if answer is None:
            answer = self._asked[trip] = asyncio.get_running_loop().create_future()
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_asked())
        # Others may wait for the same answer: who goes away must not take it from them.
        return await asyncio.shield(answer)

    async def fee_rules(self) -> tuple[FeeRule, ...]:
        """What is asked beside the fares. Who asks while the rules are being read waits for the same answer."""
        now = time.monotonic()
        if self._rules is None or now - self._rules[0] >= KEEP_RULES_SECONDS or _has_failed(self._rules[1]):
            self._rules = (now, asyncio.create_task(self._read_rules()))
        return await asyncio.shield(self._rules[1])

    def forget(self, trip: UUID) -> None:
        """It has changed: whoever asks next reads it anew."""
        self._trips.drop(trip)

    async def _read_rules(self) -> tuple[FeeRule, ...]:
        async with self._db.reader() as reader:
            return await fees.rules(reader)

    async def _read_asked(self) -> None:
        """Read batch after batch until nobody waits."""
        try:
            while self._asked:
                batch = list(islice(self._asked, READ_AT_ONCE))
                try:
                    async with self._db.reader() as reader:
                        found = await self._read(reader, batch)
                except Exception as error:  # noqa: BLE001 - whatever it is, it goes to those who wait
                    for trip in batch:
                        self._asked.pop(trip).set_exception(error)
                else:
                    for trip in batch:
                        self._answer(trip, found.get(trip))
        finally:
            self._reading = None

    def _answer(self, trip: UUID, detail: TripDetail | None) -> None:
        answer = self._asked.pop(trip)
        if detail is None:
            answer.set_exception(network.TripNotFound("There is no such trip."))
        else:
            answer.set_result(self._trips.put(trip, detail))

    async def _read(self, reader: Reader, trips: Sequence[UUID]) -> dict[UUID, TripDetail]:
        heads = await network.trip_heads(reader, trips=trips)
        stops = await network.stops_of_trips(reader, trips=trips)
        return {
            trip: TripDetail(
                trip=head,
                stops=stops[trip],
                layout=await self._layout(reader, head.layout_id),
                fares=await self._fares_of(reader, head.route_id),
            )
            for trip, head in heads.items()
        }

    async def _layout(self, reader: Reader, layout: UUID) -> Layout:
        kept = self._layouts.get(layout)
        return kept or self._layouts.put(layout, await network.layout(reader, layout=layout))

    async def _fares_of(self, reader: Reader, route: UUID) -> tuple[Fare, ...]:
        kept = self._fares.get(route)
        if kept is not None:
            return kept
        return self._fares.put(route, await network.fares_of_route(reader, route=route))


def _has_failed(reading: asyncio.Task[tuple[FeeRule, ...]]) -> bool:
    return reading.done() and (reading.cancelled() or reading.exception() is not None)


class _Kept(Generic[T]):
    """Up to `size` things by id, none for longer than `seconds`."""

    def __init__(self, size: int, *, seconds: float) -> None:
        self._size = size
        self._seconds = seconds
        self._things: OrderedDict[UUID, tuple[float, T]] = OrderedDict()

    def get(self, key: UUID) -> T | None:
        kept = self._things.get(key)
        if kept is None or time.monotonic() - kept[0] >= self._seconds:
            return None
        self._things.move_to_end(key)
        return kept[1]

    def put(self, key: UUID, thing: T) -> T:
        self._things[key] = (time.monotonic(), thing)
        self._things.move_to_end(key)
        while len(self._things) > self._size:
            self._things.popitem(last=False)
        return thing

    def drop(self, key: UUID) -> None:
        self._things.pop(key, None)
