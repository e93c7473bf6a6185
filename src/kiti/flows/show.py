"""What pages and API show of bookings, seats and payments: reads that join slices, and change nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal
from uuid import UUID

import msgspec

from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, Booking, CancelledSeat, Replacement
from kiti.core.money import Money
from kiti.db import Reader
from kiti.fees import reads as fee_reads
from kiti.fees.model import FeeRule, Part
from kiti.flows.availability import SeatMap
from kiti.flows.house import House
from kiti.flows.prices import Price, price_of, quote
from kiti.network.model import TripDetail
from kiti.payments import reads as payment_reads
from kiti.payments.model import Payment, Standing

PaymentStatus = Literal["PENDING", "COMPLETED", "FAILED", "EXPIRED", "REFUNDED", "PARTIALLY_REFUNDED", "REVIEW"]


class BookingView(msgspec.Struct, frozen=True, kw_only=True):
    """A booking with its seats, its trips, its latest attempt to pay and its price.

    `lines` travel; `cancelled` do not any more; `replaced` are among the lines, in the place of lost seats. The price
    is what was written down for who is paying or has paid; before that, what the dearest way to pay costs.
    """

    booking: Booking
    lines: list[BookedSeat]
    trips: Mapping[UUID, TripDetail]
    payment: "PaymentView | None"
    price: Price
    cancelled: Sequence[CancelledSeat] = ()
    replaced: Sequence[Replacement] = ()

    @property
    def can_decline(self) -> bool:
        """Whether there are seats in the place of lost ones that may still be declined."""
        is_open = any(seat.decline_until > self.booking.now for seat in self.replaced)
        return is_open and self.booking.state == "confirmed"

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
            case "created" | "submitting" | "unknown" | "pending" | "requires_action" | "authorised":
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
    return await house.availability.seat_map(detail, boards, alights)


async def booking(house: House, booking_id: UUID) -> BookingView:
    """A booking with everything around it; raises NotFound."""
    async with house.db.reader() as reader:
        found = await _found(reader, booking_id)
    trips = {line.trip_id: await house.catalogue.trip(line.trip_id) for line in found.lines}
    return found.view(trips, rules=await house.catalogue.fee_rules())


async def swapped_booking(reader: Reader, before: BookingView, *, rules: Sequence[FeeRule]) -> BookingView:
    """A booking whose seats have changed since `before`, on the same trips. It asks `reader` and nobody else."""
    return (await _found(reader, before.booking.id)).view(before.trips, rules=rules)


async def prices_by_method(house: House, view: BookingView, methods: Iterable[str]) -> dict[str, Price]:
    """What a booking that is not paid yet costs by each way to pay."""
    rules = await house.catalogue.fee_rules()
    fares = view.price.fares
    return {method: price_of(fares, quote(rules, view.booking, view.lines, method=method)) for method in methods}


async def payment(house: House, payment_id: UUID) -> PaymentView:
    """A payment and its refunds; raises NotFound."""
    async with house.db.reader() as reader:
        found = await payment_reads.by_id(reader, payment=payment_id)
        return PaymentView(payment=found, standing=await payment_reads.standing(reader, payment=found))


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """A booking as the database has it; `told` are the parts of its price that are written down, None: none are."""

    booking: Booking
    lines: list[BookedSeat]
    payment: PaymentView | None
    told: list[Part] | None
    cancelled: Sequence[CancelledSeat]
    replaced: Sequence[Replacement]

    def view(self, trips: Mapping[UUID, TripDetail], *, rules: Sequence[FeeRule]) -> BookingView:
        parts = quote(rules, self.booking, self.lines, method=None) if self.told is None else self.told
        return BookingView(
            booking=self.booking,
            lines=self.lines,
            trips=trips,
            payment=self.payment,
            price=price_of(Money(self.booking.amount, self.booking.currency), parts),
            cancelled=self.cancelled,
            replaced=self.replaced,
        )


async def _found(reader: Reader, booking_id: UUID) -> _Found:
    found = await booking_reads.by_id(reader, booking=booking_id)
    lines = await booking_reads.seats_of(reader, bookings=[booking_id])
    # Before there was money nothing can have been given back or replaced.
    was_paid = found.confirmed_at is not None
    cancelled = await booking_reads.cancelled_seats(reader, booking=booking_id) if was_paid else []
    replaced = await booking_reads.replacements(reader, booking=booking_id) if was_paid else []
    attempt = await payment_reads.newest_of_booking(reader, booking=booking_id)
    standing = None if attempt is None else await payment_reads.standing(reader, payment=attempt)
    is_told = attempt is not None and (attempt.is_open or not _may_be_paid(found))
    told = await fee_reads.of_bookings(reader, bookings=[booking_id]) if is_told else None
    payment = None if attempt is None or standing is None else PaymentView(payment=attempt, standing=standing)
    return _Found(booking=found, lines=lines, payment=payment, told=told, cancelled=cancelled, replaced=replaced)


def _may_be_paid(booking: Booking) -> bool:
    """Whether nobody has paid yet, and somebody still may: an attempt that came to nothing binds nobody."""
    return booking.state in {"held", "awaiting_payment"}
