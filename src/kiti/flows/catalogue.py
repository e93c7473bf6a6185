"""Trips as reserve, pages and API read them: kept for some seconds in this process.

What is kept hardly changes: stops, times, layout, fares. Whether a seat is free is never kept here, and whether a
trip still runs is asked again in the transaction that sells it. Many trips share one layout and the fares of one
route, so these are kept on their own: a trip that is asked for the first time costs two reads, not six.
"""

import time
from collections import OrderedDict
from typing import Generic, TypeVar
from uuid import UUID

from kiti.db import Database, Reader
from kiti.network import reads as network
from kiti.network.model import Fare, Layout, TripDetail

# Together they say for how long a changed fare may still be asked: twenty seconds.
KEEP_TRIPS_SECONDS = 15.0
KEEP_FARES_SECONDS = 5.0
KEEP_TRIPS = 4096
KEEP_ROUTES = 1024
KEEP_LAYOUTS = 256

T = TypeVar("T")


class Catalogue:
    """Bounded, least recently used first out."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._trips: _Kept[TripDetail] = _Kept(KEEP_TRIPS, seconds=KEEP_TRIPS_SECONDS)
        self._fares: _Kept[tuple[Fare, ...]] = _Kept(KEEP_ROUTES, seconds=KEEP_FARES_SECONDS)
        self._layouts: _Kept[Layout] = _Kept(KEEP_LAYOUTS, seconds=float("inf"))  # a layout never changes

    async def trip(self, trip: UUID) -> TripDetail:
        """The trip with stops, layout and fares; raises NotFound."""
        kept = self._trips.get(trip)
        if kept is not None:
            return kept
        async with self._db.reader() as reader:
            return self._trips.put(trip, await self._read(reader, trip))

    def forget(self, trip: UUID) -> None:
        """Read the trip anew next time: it was changed here."""
        kept = self._trips.get(trip)
        if kept is not None:
            self._trips.drop(trip)
            self._fares.drop(kept.trip.route_id)

    async def _read(self, reader: Reader, trip: UUID) -> TripDetail:
        head = await network.trip_head(reader, trip=trip)
        fares = self._fares.get(head.route_id)
        if fares is None:
            fares = self._fares.put(head.route_id, await network.fares_of_route(reader, route=head.route_id))
        layout = self._layouts.get(head.layout_id)
        if layout is None:
            layout = self._layouts.put(head.layout_id, await network.layout(reader, layout=head.layout_id))
        stops = await network.stops_of_trip(reader, trip=trip)
        return TripDetail(trip=head, stops=stops, layout=layout, fares=fares)


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
