"""Change seats: for each traveller a list of the seats that they may have instead."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post

from kiti.bookings.model import BookedSeat
from kiti.flows import show
from kiti.flows.changes import swap_seats
from kiti.flows.house import House
from kiti.flows.plan import SeatsTaken
from kiti.flows.show import BookingView
from kiti.network.model import Seat, TripDetail
from kiti.web.booking.routes import ends, my_booking, to_booking
from kiti.web.page.language import Words
from kiti.web.page.render import page, words_of

TYPED_LENGTH = 8


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the booking, the name of its field, free seats of its class, and its fellow travellers' seats."""

    name: str
    line: BookedSeat
    free: list[Seat]
    fellows: list[BookedSeat]

    def allows(self, seat: str) -> bool:
        """Whether that is one of the seats on offer, the present one included."""
        return seat in {self.line.seat, *(one.number for one in self.free), *(one.seat for one in self.fellows)}


_Legs = list[tuple[TripDetail, list[Choice]]]


@get("/bookings/{booking_id:uuid}/seats")
async def ask_seats(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Where everybody sits, and where they could."""
    view = await my_booking(request, house, booking_id)
    legs = await _legs(house, view)
    return _page(request, view, legs, chosen={}, errors={}) if legs else to_booking(booking_id)


@post("/bookings/{booking_id:uuid}/seats", status_code=303)
async def change_seats(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Change what was chosen, trip by trip; or show what is wrong, beside what was chosen."""
    view = await my_booking(request, house, booking_id)
    legs = await _legs(house, view)
    form = await request.form()
    choices = [choice for _, of_trip in legs for choice in of_trip]
    chosen = {choice.name: str(form.get(choice.name, choice.line.seat))[:TYPED_LENGTH] for choice in choices}
    errors = _errors(legs, chosen, words_of(request))
    if errors:
        return _page(request, view, legs, chosen=chosen, errors=errors)
    for trip, of_trip in legs:
        swaps = {one.line.seat: chosen[one.name] for one in of_trip if chosen[one.name] != one.line.seat}
        if not swaps:
            continue
        try:
            await swap_seats(house, booking=booking_id, swaps=swaps, trip=trip.trip.id, actor="guest")
        except SeatsTaken as taken:
            errors = {
                choice.name: words_of(request).gettext(
                    "%(seat)s has just been taken. Choose another one.", seat=chosen[choice.name]
                )
                for choice in of_trip
                if chosen[choice.name] in taken.seats
            }
            view = await my_booking(request, house, booking_id)
            return _page(request, view, await _legs(house, view), chosen=chosen, errors=errors)
    return to_booking(booking_id)


async def _legs(house: House, view: BookingView) -> _Legs:
    """The trips of a booking on which seats can be changed still; none where the booking is over."""
    if not view.booking.is_holding and view.booking.state != "confirmed":
        return []
    legs: _Legs = []
    for trip, lines in view.by_trip():
        boards, alights = ends(trip, lines)
        if boards.departs_at <= view.booking.now:
            continue
        found = await show.seat_map(house, trip.trip.id, from_code=boards.code, to_code=alights.code)
        free = [offer.seat for offer in found.seats if offer.status == "AVAILABLE"]
        legs.append(
            (
                trip,
                [
                    Choice(
                        name=f"seat-{view.lines.index(line) + 1}",
                        line=line,
                        free=[seat for seat in free if seat.seat_class == line.seat_class],
                        fellows=[one for one in lines if one != line and one.seat_class == line.seat_class],
                    )
                    for line in lines
                ],
            )
        )
    return legs


def _errors(legs: _Legs, chosen: Mapping[str, str], words: Words) -> dict[str, str]:
    errors: dict[str, str] = {}
    for _, of_trip in legs:
        given: set[str] = set()
        for choice in of_trip:
            seat = chosen[choice.name]
            if not choice.allows(seat):
                errors[choice.name] = words.gettext("%(seat)s has just been taken. Choose another one.", seat=seat)
            elif seat in given:
                errors[choice.name] = words.gettext("Two travellers cannot have the same seat.")
            given.add(seat)
    return errors


def _page(
    request: Request[Any, Any, Any],
    view: BookingView,
    legs: _Legs,
    *,
    chosen: Mapping[str, str],
    errors: dict[str, str],
) -> Response[str]:
    present = {choice.name: choice.line.seat for _, of_trip in legs for choice in of_trip}
    return page(
        request,
        "booking/change.html",
        status=422 if errors else 200,
        view=view,
        booking=view.booking,
        legs=[(trip.trip, *ends(trip, [choice.line for choice in of_trip]), of_trip) for trip, of_trip in legs],
        chosen=present | dict(chosen),
        errors=errors,
    )


ROUTES = [ask_seats, change_seats]
