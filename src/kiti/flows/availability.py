"""Which seats of a trip are free, as pages and API show it: kept for half a second in this process.

A reservation never asks here. What is shown may be old by `FRESH_SECONDS` and the time that reading took, so a seat
that is gone is called free for less than a second; a change that this process has committed shows at once. Those who
ask while it is being read wait for the same answer: a crowd before one trip costs one index range scan, twice a second.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

import msgspec

from kiti.core.money import Money
from kiti.db import Database
from kiti.network import reads as network
from kiti.network.model import Seat, TripDetail, TripStop
from kiti.seats import reads as seat_reads
from kiti.seats.model import SeatStatus

FRESH_SECONDS = 0.5
KEEP_TRIPS = 512


class SeatOffer(msgspec.Struct, frozen=True, kw_only=True):
    """A seat on the asked segment; no price where its class is not sold on it."""

    seat: Seat
    status: SeatStatus
    price: Money | None


class SeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """Every seat of a trip between two stops. `etag` changes exactly when a status or a price does."""

    trip: TripDetail
    boards: TripStop
    alights: TripStop
    seats: list[SeatOffer]
    etag: str

    @property
    def available(self) -> int:
        """How many can be bought now."""
        return sum(1 for offer in self.seats if offer.status == "AVAILABLE" and offer.price is not None)


class _Reading(msgspec.Struct, frozen=True):
    began: float
    found: asyncio.Task[SeatMap]

    def is_fresh(self, now: float) -> bool:
        """Whether it may be shown to who asks now."""
        if now - self.began >= FRESH_SECONDS:
            return False
        return not self.found.done() or (not self.found.cancelled() and self.found.exception() is None)


class Availability:
    """Seat maps of the trips that people look at, least recently used first out."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._kept: OrderedDict[int, dict[tuple[int, int], _Reading]] = OrderedDict()
        db.on_change(self.forget)

    async def seat_map(self, trip: TripDetail, boards: TripStop, alights: TripStop) -> SeatMap:
        """The seats between two stops."""
        number = trip.trip.id.int
        of_trip = self._kept.get(number)
        if of_trip is None:
            of_trip = self._kept[number] = {}
            if len(self._kept) > KEEP_TRIPS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(number)
        segment, now = (boards.seq, alights.seq), time.monotonic()
        reading = of_trip.get(segment)
        if reading is None or not reading.is_fresh(now):
            reading = of_trip[segment] = _Reading(now, asyncio.create_task(self._read(trip, boards, alights)))
        if reading.found.done():
            return reading.found.result()
        # Others may wait for the same answer: who goes away must not take it from them.
        return await asyncio.shield(reading.found)

    def forget(self, trips: Iterable[UUID]) -> None:
        """Seats of these trips have changed hands; what is being read now may not know it yet."""
        for trip in trips:
            self._kept.pop(trip.int, None)

    async def _read(self, trip: TripDetail, boards: TripStop, alights: TripStop) -> SeatMap:
        async with self._db.reader() as reader:
            sells = await network.sells_from(reader, trip=trip.trip.id, seq=boards.seq)
            taken = await seat_reads.taken(reader, trip=trip.trip.id, from_seq=boards.seq, to_seq=alights.seq)
        statuses = {seat.seat: seat.status for seat in taken}
        fares = trip.fares_between(boards.seq, alights.seq)
        # Nobody can have a seat of a trip that was cancelled or has left.
        free: SeatStatus = "AVAILABLE" if sells else "BLOCKED"
        offers = []
        for seat in trip.layout.seats:
            fare = fares.get(seat.seat_class)
            price = None if fare is None else fare.price
            offers.append(SeatOffer(seat=seat, status=statuses.get(seat.number, free), price=price))
        etag = _etag(trip.trip.id, boards, alights, offers)
        return SeatMap(trip=trip, boards=boards, alights=alights, seats=offers, etag=etag)


def _etag(trip: UUID, boards: TripStop, alights: TripStop, offers: list[SeatOffer]) -> str:
    digest = hashlib.blake2b(trip.bytes, digest_size=12)
    digest.update(f"{boards.code} {alights.code}".encode())
    for offer in offers:
        digest.update(f"{offer.seat.number}{offer.status}{offer.price}".encode())
    return f'"{digest.hexdigest()}"'
