"""Cancel a booking: first what goes back, seat by seat, then the button."""

from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post

from kiti.bookings.actions import WrongState
from kiti.core.money import Money
from kiti.flows import cancellation
from kiti.flows.cancellation import Quote
from kiti.flows.house import House
from kiti.flows.show import BookingView
from kiti.tickets.actions import TicketsUsed
from kiti.web.booking.routes import my_booking, to_booking
from kiti.web.page.render import page


@get("/bookings/{booking_id:uuid}/cancel")
async def ask_to_cancel(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """What would go back; a booking that cannot be cancelled shows itself."""
    view = await my_booking(request, house, booking_id)
    try:
        quote = await cancellation.quote_cancellation(house, booking=booking_id)
    except (WrongState, TicketsUsed):
        return to_booking(booking_id)
    return _page(request, view, quote)


@post("/bookings/{booking_id:uuid}/cancel", status_code=303)
async def cancel(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Cancel it for what was shown. Where less goes back by now, that is shown first."""
    view = await my_booking(request, house, booking_id)
    form = await request.form()
    try:
        quote = await cancellation.quote_cancellation(house, booking=booking_id)
        if str(form.get("refund", "")) != str(quote.refund.amount):
            return _page(request, view, quote, has_changed=True)
        await cancellation.cancel_booking(house, booking=booking_id, actor="guest")
    except (WrongState, TicketsUsed):
        pass  # it is over already, by this traveller or by time: the booking's page says how it stands
    return to_booking(booking_id)


def _page(
    request: Request[Any, Any, Any], view: BookingView, quote: Quote, *, has_changed: bool = False
) -> Response[str]:
    currency = quote.booking.currency
    seats = [
        (
            view.trips[seat.line.trip_id],
            seat,
            Money(seat.price, currency),
            Money(seat.fee, currency),
            Money(seat.amount, currency),
        )
        for seat in quote.seats
    ]
    return page(
        request,
        "booking/cancel.html",
        status=409 if has_changed else 200,
        view=view,
        booking=view.booking,
        quote=quote,
        seats=seats,
        excess=Money(quote.excess, currency),
        has_changed=has_changed,
    )


ROUTES = [ask_to_cancel, cancel]
