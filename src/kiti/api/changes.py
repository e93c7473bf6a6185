"""What the holder of a booking may change about it after it was made."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, post

from kiti.api import wire
from kiti.api.access import check_booking
from kiti.api.bookings import shape_of
from kiti.api.idempotency import keeping
from kiti.bookings.model import MAX_SEATS, BookedSeat
from kiti.core.errors import InvalidInput
from kiti.db import Transaction
from kiti.flows import show
from kiti.flows.changes import swap_seats
from kiti.flows.house import House


class SwapBody(wire.Shape, frozen=True):
    """The traveller of seat `from` shall sit on `to`."""

    from_: wire.SeatNumber = msgspec.field(name="from")
    to: wire.SeatNumber


class SwapsBody(wire.Shape, frozen=True):
    """`tripId` may be left out where the booking has these seats on one trip only."""

    swaps: Annotated[list[SwapBody], msgspec.Meta(min_length=1, max_length=MAX_SEATS)]
    trip_id: UUID | None = None


class SeatChanges(Controller):
    """`/api/bookings/{id}/seats`."""

    path = "/api/bookings/{booking_id:uuid}/seats"
    tags = ("Bookings",)

    @post(summary="Change seats", status_code=200)
    async def swap(
        self, house: House, request: Request[Any, Any, Any], booking_id: UUID, data: SwapsBody
    ) -> wire.BookingShape:
        """For free ones of the same fare, or among themselves: all or none. Tickets are replaced."""
        check_booking(request, booking_id, house.settings)
        swaps = {swap.from_.upper(): swap.to.upper() for swap in data.swaps}
        if len(swaps) != len(data.swaps):
            raise InvalidInput("swaps", "The same seat stands twice.")
        before, rules = await show.booking(house, booking_id), await house.catalogue.fee_rules()

        async def told(tx: Transaction, _: list[BookedSeat]) -> wire.BookingShape:
            return shape_of(await show.swapped_booking(tx, before, rules=rules))

        await swap_seats(
            house, booking=booking_id, swaps=swaps, trip=data.trip_id, actor="guest", keep=keeping(request, told)
        )
        return shape_of(await show.booking(house, booking_id))
