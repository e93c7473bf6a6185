"""What pages and API show of bookings, seats and payments: reads that join slices, and change nothing."""

import hashlib
from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import msgspec

from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, Booking
from kiti.core.money import Money
from kiti.flows.house import House
from kiti.network.model import Seat, TripDetail, TripStop
from kiti.payments import reads as payment_reads
from kiti.payments.model import Payment, Standing
from kiti.seats import reads as seat_reads
from kiti.seats.model import SeatStatus

PaymentStatus = Literal["PENDING", "COMPLETED", "FAILED", "EXPIRED", "REFUNDED", "PARTIALLY_REFUNDED", "REVIEW"]


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


class BookingView(msgspec.Struct, frozen=True, kw_only=True):
    """A booking with its seats, its trips and its latest attempt to pay."""

    booking: Booking
    lines: list[BookedSeat]
    trips: Mapping[UUID, TripDetail]
    payment: "PaymentView | None"

    def by_trip(self) -> list[tuple[TripDetail, list[BookedSeat]]]:
        """The seat lines grouped by trip, in the traveller's order."""
        groups: dict[UUID, list[BookedSeat]] = {}
        for line in self.lines:
            groups.setdefault(line.trip_id, []).append(line)
        return [(self.trips[trip], lines) for trip, lines in groups.items()]


class PaymentView(msgspec.Struct, frozen=True, kw_only=True):
    """A payment and what has gone back of it."""

    payment: Payment
    standing: Standing

    @property
    def status(self) -> PaymentStatus:
        """The state as callers see it."""
        match self.payment.state:
            case "submitting" | "unknown" | "pending":
                return "PENDING"
            case "failed" | "cancelled":
                return "FAILED"
            case "expired":
                return "EXPIRED"
            case "review":
                return "REVIEW"
            case "captured":
                return self._captured_status()

    def _captured_status(self) -> PaymentStatus:
        if self.standing.refunded == 0:
            return "COMPLETED"
        return "REFUNDED" if self.standing.refunded >= self.standing.captured else "PARTIALLY_REFUNDED"


async def seat_map(house: House, trip: UUID, *, from_code: str | None, to_code: str | None) -> SeatMap:
    """The seats between two stops; raises NotFound, NotOnTrip."""
    detail = await house.catalogue.trip(trip)
    boards, alights = detail.segment(from_code, to_code)
    async with house.db.reader() as reader:
        taken = await seat_reads.taken(reader, trip=trip, from_seq=boards.seq, to_seq=alights.seq)
    statuses = {t.seat: t.status for t in taken}
    fares = detail.fares_between(boards.seq, alights.seq)
    offers = []
    for seat in detail.layout.seats:
        fare = fares.get(seat.seat_class)
        price = None if fare is None else fare.price
        offers.append(SeatOffer(seat=seat, status=statuses.get(seat.number, "AVAILABLE"), price=price))
    return SeatMap(trip=detail, boards=boards, alights=alights, seats=offers, etag=_etag(trip, offers))


async def booking(house: House, booking_id: UUID) -> BookingView:
    """A booking with everything around it; raises NotFound."""
    async with house.db.reader() as reader:
        found = await booking_reads.by_id(reader, booking=booking_id)
        lines = await booking_reads.seats_of(reader, bookings=[booking_id])
        attempt = await payment_reads.newest_of_booking(reader, booking=booking_id)
        standing = None if attempt is None else await payment_reads.standing(reader, payment=attempt)
    trips = {line.trip_id: await house.catalogue.trip(line.trip_id) for line in lines}
    shown = None if attempt is None or standing is None else PaymentView(payment=attempt, standing=standing)
    return BookingView(booking=found, lines=lines, trips=trips, payment=shown)


async def payment(house: House, payment_id: UUID) -> PaymentView:
    """A payment and its refunds; raises NotFound."""
    async with house.db.reader() as reader:
        found = await payment_reads.by_id(reader, payment=payment_id)
        return PaymentView(payment=found, standing=await payment_reads.standing(reader, payment=found))


def _etag(trip: UUID, offers: list[SeatOffer]) -> str:
    digest = hashlib.blake2b(trip.bytes, digest_size=12)
    for offer in offers:
        digest.update(f"{offer.seat.number}{offer.status}{offer.price}".encode())
    return f'"{digest.hexdigest()}"'
