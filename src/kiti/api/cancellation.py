"""Cancel a booking or a part of it, or hear first what would go back; decline seats in the place of lost ones."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, post

from kiti.api import wire
from kiti.api.access import check_booking
from kiti.api.idempotency import keeping
from kiti.bookings.model import MAX_SEATS, MAX_TRIPS
from kiti.core import text
from kiti.db import Reader
from kiti.flows import cancellation, equivalent_seats, partial_cancellation
from kiti.flows.cancellation import Cancelled, Part, Quote
from kiti.flows.house import House
from kiti.network import reads as network_reads

LONGEST_REASON = 200


class SeatOfTrip(wire.Shape, frozen=True):
    """A seat of the booking."""

    trip_id: UUID
    seat_number: wire.SeatNumber


class CancelBody(wire.Shape, frozen=True):
    """All of the booking, or `seats` and all seats on `trips`. `dryRun` changes nothing."""

    dry_run: bool = False
    seats: Annotated[list[SeatOfTrip], msgspec.Meta(max_length=MAX_SEATS * MAX_TRIPS)] | None = None
    trips: Annotated[list[UUID], msgspec.Meta(max_length=MAX_TRIPS)] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=LONGEST_REASON)] = ""


class CancelledSeat(wire.Shape, frozen=True):
    """`percent` of the price goes back, less the operator's `fee`: that is `refund`.

    The price is the fare and a tax on top of it; of a price with a part that never goes back it is the percentage of
    the rest. Of a trip that its operator has cancelled the fees go back as well.
    """

    trip_id: UUID
    seat_number: str
    departure_at: datetime
    price: wire.MoneyShape
    percent: int
    fee: wire.MoneyShape
    refund: wire.MoneyShape


class CancelShape(wire.Shape, frozen=True):
    """`excess` is what was paid beyond the price. `refundId` is null in a dry run, and where nothing goes back."""

    booking_id: UUID
    status: wire.BookingStatus
    refund: wire.MoneyShape
    excess: wire.MoneyShape
    refund_id: UUID | None
    seats: list[CancelledSeat]


class Cancellations(Controller):
    """`/api/bookings/{id}/cancel`."""

    path = "/api/bookings/{booking_id:uuid}/cancel"
    tags = ("Bookings",)

    @post(summary="Cancel", status_code=200)
    async def cancel(
        self, house: House, request: Request[Any, Any, Any], booking_id: UUID, data: CancelBody | None = None
    ) -> CancelShape:
        """All of it, or a part. What a paid one gets back follows the operators' rules: ask with `dryRun` first.

        Of a part the other seats stay booked; with the last ones the booking is cancelled.
        """
        check_booking(request, booking_id, house.settings)
        asked = data or CancelBody()
        part = _part(asked)
        if asked.dry_run:
            return await _told(house, Cancelled(quote=await _quote(house, booking_id, part), refund=None))
        reason = text.clean(asked.reason, field="reason", length=LONGEST_REASON)
        keep = keeping(request, _shape)
        if part is None:
            done = await cancellation.cancel_booking(house, booking=booking_id, actor="guest", reason=reason, keep=keep)
        else:
            done = await partial_cancellation.cancel_part(
                house, booking=booking_id, part=part, actor="guest", reason=reason, keep=keep
            )
        return await _told(house, done)

    @post("/replacement", summary="Decline other seats than those that were lost", status_code=200)
    async def decline(self, house: House, request: Request[Any, Any, Any], booking_id: UUID) -> CancelShape:
        """For a booking with `replacedSeats`, until `declineUntil`: it is cancelled, and all of its money goes back."""
        check_booking(request, booking_id, house.settings)
        keep = keeping(request, _shape)
        return await _told(house, await equivalent_seats.decline(house, booking=booking_id, actor="guest", keep=keep))


def _part(asked: CancelBody) -> Part | None:
    """None for all of the booking. A list that is there and empty is a part too, and a mistake."""
    if asked.seats is None and asked.trips is None:
        return None
    return Part(
        seats=frozenset((seat.trip_id, seat.seat_number.upper()) for seat in asked.seats or ()),
        trips=frozenset(asked.trips or ()),
    )


async def _quote(house: House, booking: UUID, part: Part | None) -> Quote:
    if part is None:
        return await cancellation.quote_cancellation(house, booking=booking)
    return await partial_cancellation.quote_part(house, booking=booking, part=part)


async def _told(house: House, cancelled: Cancelled) -> CancelShape:
    async with house.db.reader() as reader:
        return await _shape(reader, cancelled)


async def _shape(reader: Reader, cancelled: Cancelled) -> CancelShape:
    quote = cancelled.quote
    stops = await network_reads.stops_of_trips(reader, trips=list({seat.line.trip_id for seat in quote.seats}))

    def money(amount: int) -> wire.MoneyShape:
        return wire.MoneyShape(amount=amount, currency=quote.booking.currency)

    return CancelShape(
        booking_id=quote.booking.id,
        status=quote.booking.standing.upper(),  # type: ignore[arg-type] # the states in capitals
        refund=money(quote.refund.amount if cancelled.amount is None else cancelled.amount),
        excess=money(quote.excess),
        refund_id=cancelled.refund,
        seats=[
            CancelledSeat(
                trip_id=seat.line.trip_id,
                seat_number=seat.line.seat,
                departure_at=stops[seat.line.trip_id][seat.line.from_seq].departs_at,
                price=money(seat.price),
                percent=seat.percent,
                fee=money(seat.fee),
                refund=money(seat.amount),
            )
            for seat in quote.seats
        ],
    )
