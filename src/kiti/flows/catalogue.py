"""Trips as reserve, pages and API read them: kept for some seconds in this process.

What is kept hardly changes: stops, times, layout, fares. Whether a seat is free is never kept here, and whether a
trip still runs is asked again in the transaction that sells it.
"""

import time
from collections import OrderedDict
from uuid import UUID

from kiti.db import Database
from kiti.network import reads as network
from kiti.network.model import TripDetail

KEEP_SECONDS = 20.0
KEEP_TRIPS = 4096


class Catalogue:
    """Bounded, least recently used first out."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._kept: OrderedDict[UUID, tuple[float, TripDetail]] = OrderedDict()

    async def trip(self, trip: UUID) -> TripDetail:
        """The trip with stops, layout and fares; raises NotFound."""
        kept = self._kept.get(trip)
        if kept is not None and time.monotonic() - kept[0] < KEEP_SECONDS:
            self._kept.move_to_end(trip)
            return kept[1]
        async with self._db.reader() as reader:
            detail = await network.trip_detail(reader, trip=trip)
        self._kept[trip] = (time.monotonic(), detail)
        self._kept.move_to_end(trip)
        while len(self._kept) > KEEP_TRIPS:
            self._kept.popitem(last=False)
        return detail

    def forget(self, trip: UUID) -> None:
        """Read the trip anew next time: it was changed here."""
        self._kept.pop(trip, None)
