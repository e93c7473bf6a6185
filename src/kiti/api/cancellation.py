"""Cancel a booking, or hear first what would go back."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, post

from kiti.api import wire
from kiti.api.access import check_booking
from kiti.core import text
from kiti.flows import cancellation, show
from kiti.flows.cancellation import Cancelled
from kiti.flows.house import House

LONGEST_REASON = 200


class CancelBody(wire.Shape, frozen=True):
    """`dryRun` changes nothing."""

    dry_run: bool = False
    reason: Annotated[str, msgspec.Meta(max_length=LONGEST_REASON)] = ""


class CancelledSeat(wire.Shape, frozen=True):
    """`percent` of the price goes back, less the operator's `fee`: that is `refund`.

    The price is the fare and a tax on top of it. Of a trip that its operator has cancelled the fees go back as well.
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
        """The whole booking. What a paid one gets back follows the operators' rules: ask with `dryRun` first."""
        check_booking(request, booking_id, house.settings)
        asked = data or CancelBody()
        if asked.dry_run:
            quote = await cancellation.quote_cancellation(house, booking=booking_id)
            return await _shape(house, Cancelled(quote=quote, refund=None))
        reason = text.clean(asked.reason, field="reason", length=LONGEST_REASON)
        return await _shape(
            house, await cancellation.cancel_booking(house, booking=booking_id, actor="guest", reason=reason)
        )


async def _shape(house: House, cancelled: Cancelled) -> CancelShape:
    quote = cancelled.quote
    view = await show.booking(house, quote.booking.id)

    def money(amount: int) -> wire.MoneyShape:
        return wire.MoneyShape(amount=amount, currency=quote.booking.currency)

    return CancelShape(
        booking_id=quote.booking.id,
        status=quote.booking.standing.upper(),  # type: ignore[arg-type] # the states in capitals
        refund=money(quote.refund.amount),
        excess=money(quote.excess),
        refund_id=cancelled.refund,
        seats=[
            CancelledSeat(
                trip_id=seat.line.trip_id,
                seat_number=seat.line.seat,
                departure_at=view.trips[seat.line.trip_id].stops[seat.line.from_seq].departs_at,
                price=money(seat.price),
                percent=seat.percent,
                fee=money(seat.fee),
                refund=money(seat.amount),
            )
            for seat in quote.seats
        ],
    )
