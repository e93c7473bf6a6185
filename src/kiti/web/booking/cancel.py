"""Cancel a booking or a part of it: first who, then what goes back seat by seat, then the button."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post

from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat
from kiti.core.errors import InvalidInput, NotFound
from kiti.core.money import Money
from kiti.flows import cancellation, equivalent_seats
from kiti.flows.cancellation import Part, Quote
from kiti.flows.house import House
from kiti.flows.partial_cancellation import cancel_part, quote_part
from kiti.flows.show import BookingView
from kiti.tickets.actions import TicketsUsed
from kiti.web.booking.routes import ends, my_booking, to_booking
from kiti.web.page.render import page, words_of

FIELD = "seat"


@get("/bookings/{booking_id:uuid}/cancel")
async def ask_to_cancel(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Who of several shall not travel; then what would go back. What cannot be cancelled shows its booking."""
    view = await my_booking(request, house, booking_id)
    part = _part(view, request.query_params.getall(FIELD, []))
    if part is None and len(view.lines) > 1 and view.booking.state == "confirmed":
        return _who(request, view, is_missing="choose" in request.query_params)
    try:
        quote = await _quote(house, booking_id, part)
    except InvalidInput:
        return _who(request, view, is_missing=False)
    except (WrongState, TicketsUsed):
        return to_booking(booking_id)
    return _page(request, view, quote)


@post("/bookings/{booking_id:uuid}/cancel", status_code=303)
async def cancel(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Cancel what was shown for what was shown. Where less goes back by now, that is shown first."""
    view = await my_booking(request, house, booking_id)
    form = await request.form()
    part = _part(view, [str(value) for value in form.getall(FIELD, [])])
    try:
        quote = await _quote(house, booking_id, part)
        if str(form.get("refund", "")) != str(quote.refund.amount):
            return _page(request, view, quote, has_changed=True)
        if part is None:
            await cancellation.cancel_booking(house, booking=booking_id, actor="guest")
        else:
            await cancel_part(house, booking=booking_id, part=part, actor="guest")
    except (InvalidInput, WrongState, TicketsUsed):
        pass  # it is over already, by this traveller or by time: the booking's page says how it stands
    return to_booking(booking_id)


@post("/bookings/{booking_id:uuid}/decline", status_code=303)
async def decline(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Other seats than those that were lost are not wanted: everything goes back."""
    await my_booking(request, house, booking_id)
    # Declined already, or too late: the booking's page says how it stands.
    with suppress(NotFound, WrongState, TicketsUsed):
        await equivalent_seats.decline(house, booking=booking_id, actor="guest")
    return to_booking(booking_id)


def key_of(line: BookedSeat) -> str:
    """A seat line as the form names it."""
    return f"{line.trip_id}:{line.seat}"


def _part(view: BookingView, keys: Sequence[str]) -> Part | None:
    """What was chosen; None where nothing was, and where it cannot be this page that asks."""
    chosen = set(keys)
    seats = frozenset((line.trip_id, line.seat) for line in view.lines if key_of(line) in chosen)
    if not chosen:
        return None
    # What is not there any more is no seat of the booking, and is refused as such.
    return Part(seats=seats if len(seats) == len(chosen) else frozenset())


async def _quote(house: House, booking: UUID, part: Part | None) -> Quote:
    if part is None:
        return await cancellation.quote_cancellation(house, booking=booking)
    return await quote_part(house, booking=booking, part=part)


def _who(request: Request[Any, Any, Any], view: BookingView, *, is_missing: bool) -> Response[str]:
    """Nobody is chosen beforehand: who presses the button too soon cancels nothing."""
    problem = words_of(request).gettext("Choose at least one seat.")
    return page(
        request,
        "booking/cancel_who.html",
        status=422 if is_missing else 200,
        view=view,
        booking=view.booking,
        legs=[
            (trip.trip, *ends(trip, lines), [(key_of(line), line) for line in lines]) for trip, lines in view.by_trip()
        ],
        errors={"seats": problem} if is_missing else {},
    )


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
        keys=[key_of(seat.line) for seat in quote.seats],
        stays=len(view.lines) - len(quote.seats),
        excess=Money(quote.excess, currency),
        has_changed=has_changed,
    )


ROUTES = [ask_to_cancel, cancel, decline]
