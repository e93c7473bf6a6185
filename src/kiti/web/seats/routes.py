"""Choose seats: on the map, from a list, or let us pick; then hold them."""

import hashlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.response import Redirect

from kiti.bookings import reads as booking_reads
from kiti.bookings.model import MAX_SEATS, BookedSeat, Booking, Contact
from kiti.core.errors import InvalidInput
from kiti.core.money import exponent
from kiti.fees.model import FeeRule, ways_to_pay
from kiti.flows import holds, show
from kiti.flows.availability import SeatMap, SeatOffer
from kiti.flows.house import House
from kiti.flows.plan import Item, Passenger, Reservation, SeatsTaken
from kiti.flows.prices import asking_price
from kiti.flows.reserve import reserve
from kiti.flows.waiting import NotAdmitted, PlaceForged, note_booking
from kiti.web.page import rights
from kiti.web.page.render import page, words_of
from kiti.web.seats import drawing
from kiti.web.waiting import door
from kiti.web.waiting.door import Door

HOLD_MINUTES = 15
MOST_PICKED = 9
CODE_LENGTH = 120
# My newest bookings: one of them may hold seats of this very trip, when I come back to change them.
LOOK_BACK = 3


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """What I hold on this trip between these stops."""

    booking: Booking
    lines: list[BookedSeat]

    @property
    def numbers(self) -> list[str]:
        """The seats."""
        return [line.seat for line in self.lines]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What is chosen on the page, and what went wrong with it."""

    seats: Collection[str] = ()
    lost: Sequence[str] = ()
    error: str = ""
    status: int = 200


@get("/trips/{trip_id:uuid}/seats")
async def show_seats(request: Request[Any, Any, Any], house: House, trip_id: UUID) -> Response[Any]:
    """The map, with the seats chosen that I hold, that the address names, or that we pick.

    Where people wait in line for the trip, whose turn it is not goes there; who holds seats has been let in.
    """
    found = await _seat_map(request, house, trip_id)
    hold = await _my_hold(request, house, found)
    mine = Door() if hold else await door.knock(request, house, trip_id)
    if not mine.is_open:
        return door.to_wait(request, house, trip_id, mine)
    free = drawing.free_seats(found, mine=hold.numbers if hold else ())
    answer = await _page(request, house, found, hold, _first_choice(request, found, hold, free))
    return door.keep(request, house, mine, answer)


@post("/trips/{trip_id:uuid}/seats", status_code=303)
async def choose_seats(request: Request[Any, Any, Any], house: House, trip_id: UUID) -> Response[Any]:
    """Hold the chosen seats; if one was lost, the page comes back with the others still chosen."""
    form = await request.form()
    chosen = list(dict.fromkeys(str(seat).upper()[:8] for seat in form.getall("seat", [])))
    found = await _seat_map(request, house, trip_id)
    hold = await _my_hold(request, house, found)
    words = words_of(request)
    if not chosen:
        return await _page(
            request, house, found, hold, Choice(error=words.gettext("Choose at least one seat."), status=422)
        )
    if hold is not None and set(hold.numbers) == set(chosen):
        return Redirect(f"/bookings/{hold.booking.id}/passengers", status_code=303)
    try:
        mine = await door.enter(request, house, trip_id, giving_up=hold.booking.id if hold else None)
        if not mine.is_open:
            return door.to_wait(request, house, trip_id, mine, seats=",".join(chosen[:MAX_SEATS]))
        return door.keep(request, house, mine, await _take_seats(request, house, found, chosen, hold, mine))
    except (NotAdmitted, PlaceForged):
        # Somebody who holds seats, and whose place in the line is used up: what they hold stays theirs.
        hold = await _my_hold(request, house, found)
        error = words.gettext("Very many people want this trip: what you hold stays yours, but cannot be changed now.")
        return await _page(
            request, house, found, hold, Choice(seats=hold.numbers if hold else (), error=error, status=409)
        )


@get("/trips/{trip_id:uuid}/seats/taken")
async def taken_seats(request: Request[Any, Any, Any], house: House, trip_id: UUID) -> Response[str]:
    """The numbers of the seats that cannot be chosen, separated by blanks; 304 while nothing has changed."""
    found = await _seat_map(request, house, trip_id)
    hold = await _my_hold(request, house, found)
    text = " ".join(drawing.taken_seats(found, mine=hold.numbers if hold else ()))
    etag = f'"{hashlib.blake2b(text.encode(), digest_size=9).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    # A proxy that compresses marks the tag as weak; it means the same to us.
    if request.headers.get("if-none-match", "").removeprefix("W/") == etag:
        return Response("", status_code=304, headers=headers)
    return Response(text, media_type="text/plain; charset=utf-8", headers=headers)


async def _take_seats(
    request: Request[Any, Any, Any], house: House, found: SeatMap, chosen: list[str], hold: Hold | None, mine: Door
) -> Response[Any]:
    """Hold them instead of what I hold; raises NotAdmitted where my place in the line has just been used elsewhere."""
    trip_id, words = found.trip.trip.id, words_of(request)
    if hold is not None:
        await holds.release(house, booking=hold.booking.id, actor="guest")
    try:
        reserved = await reserve(house, _reservation(found, chosen, hold, words.language))
    except SeatsTaken as taken:
        found = await _seat_map(request, house, trip_id)
        left = [seat for seat in chosen if seat not in taken.seats]
        return await _page(request, house, found, None, Choice(seats=left, lost=taken.seats, status=409))
    except InvalidInput:
        error = words.gettext("Choose from 1 to %(most)s seats on the map.", most=MAX_SEATS)
        return await _page(request, house, found, None, Choice(seats=chosen[:MAX_SEATS], error=error, status=422))
    await note_booking(house, admission=mine.admission, booking=reserved.booking)
    onward = Redirect(f"/bookings/{reserved.booking}/passengers", status_code=303)
    onward.set_cookie(rights.grant(request, reserved.booking, house.settings))
    return onward


async def _seat_map(request: Request[Any, Any, Any], house: House, trip_id: UUID) -> SeatMap:
    asked = request.query_params
    return await show.seat_map(
        house,
        trip_id,
        from_code=asked.get("from", "")[:CODE_LENGTH] or None,
        to_code=asked.get("to", "")[:CODE_LENGTH] or None,
    )


async def _my_hold(request: Request[Any, Any, Any], house: House, found: SeatMap) -> Hold | None:
    mine = rights.mine(request, house.settings)[:LOOK_BACK]
    if not mine:
        return None
    async with house.db.reader() as reader:
        lines = [
            line
            for line in await booking_reads.seats_of(reader, bookings=mine)
            if (line.trip_id, line.from_seq, line.to_seq) == (found.trip.trip.id, found.boards.seq, found.alights.seq)
        ]
        for id_ in mine:
            if any(line.booking_id == id_ for line in lines):
                booking = await booking_reads.by_id(reader, booking=id_)
                if booking.is_holding:
                    return Hold(booking=booking, lines=[line for line in lines if line.booking_id == id_])
    return None


def _first_choice(
    request: Request[Any, Any, Any], found: SeatMap, hold: Hold | None, free: Sequence[SeatOffer]
) -> Choice:
    words = words_of(request)
    asked = request.query_params
    numbers = {offer.seat.number for offer in free}
    count = asked.get("pick", "")[:3]
    if count.isdecimal() and 1 <= int(count) <= MOST_PICKED:
        classes = drawing.class_prices(found, free=free)
        wanted = asked.get("class", "")
        seat_class = wanted if wanted in {one.name for one in classes} else classes[0].name
        picked = drawing.pick(free, count=int(count), seat_class=seat_class)
        if picked is None:
            left = next(one.free for one in classes if one.name == seat_class)
            return Choice(
                error=words.ngettext(
                    "Only %(num)s seat of this class is free.", "Only %(num)s seats of this class are free.", left
                )
            )
        return Choice(seats=picked)
    named = [seat.upper() for seat in asked.get("seats", "")[:200].split(",") if seat]
    if named:
        return Choice(
            seats=[seat for seat in named if seat in numbers], lost=[seat for seat in named if seat not in numbers]
        )
    return Choice(seats=hold.numbers if hold else ())


def _reservation(found: SeatMap, chosen: list[str], hold: Hold | None, language: str) -> Reservation:
    """What was typed for seats that are given up for others goes along."""
    names = [line.passenger_name for line in hold.lines if line.passenger_name] if hold else []
    contact = Contact()
    if hold is not None:
        booking = hold.booking
        contact = Contact(name=booking.contact_name, email=booking.contact_email, phone=booking.contact_phone)
    return Reservation(
        items=(
            Item(trip=found.trip.trip.id, seats=tuple(chosen), from_code=found.boards.code, to_code=found.alights.code),
        ),
        hold_minutes=HOLD_MINUTES,
        passengers=tuple(Passenger(name=name) for name in names[: len(chosen)]),
        contact=contact,
        language=language,
    )


async def _page(
    request: Request[Any, Any, Any], house: House, found: SeatMap, hold: Hold | None, choice: Choice
) -> Response[str]:
    rules, operator = await house.catalogue.fee_rules(), found.trip.trip.operator_id
    free = drawing.free_seats(found, mine=hold.numbers if hold else ())
    place = {"from": found.boards.code, "to": found.alights.code}
    travellers = request.query_params.get("passengers", "1")[:3]
    chosen = [offer for offer in free if offer.seat.number in choice.seats]
    fares = [offer.price for offer in chosen if offer.price is not None]
    classes = drawing.class_prices(found, free=free, total=lambda fare: asking_price(rules, operator, [fare]).total)
    return page(
        request,
        "seats/map.html",
        status=choice.status,
        found=found,
        hold=hold,
        choice=choice,
        chosen={offer.seat.number for offer in chosen},
        chosen_names=", ".join(offer.seat.number for offer in chosen),
        price=asking_price(rules, operator, fares) if fares else None,
        totals={one.name: one.total for one in classes},
        ways=_ways(rules, operator, found.trip.fares[0].currency),
        free=free,
        digits=exponent(found.trip.fares[0].currency),
        kinds=sorted({feature.kind for feature in found.trip.layout.features}),
        decks=drawing.decks(found, free=free),
        classes=classes,
        travellers=min(max(int(travellers), 1), MOST_PICKED) if travellers.isdecimal() else 1,
        most_picked=MOST_PICKED,
        picked_class=request.query_params.get("class", ""),
        is_list=request.query_params.get("view") == "list",
        address=f"/trips/{found.trip.trip.id}/seats?{urlencode(place)}",
        path=f"/trips/{found.trip.trip.id}/seats",
        search=f"/trips?{urlencode(place)}&date={found.boards.local_date.isoformat()}",
    )


def _ways(rules: Sequence[FeeRule], operator: UUID, currency: str) -> list[list[dict[str, Any]]]:
    """What the page's script has to know to tell the total of what is chosen; see `onTop` in kiti.js."""
    ways = ways_to_pay(rules, operator=operator, currency=currency, at=datetime.now(UTC))
    return [
        [
            {
                "points": rule.basis_points,
                "fixed": rule.fixed,
                "least": rule.minimum,
                "most": rule.maximum,
                "perSeat": rule.per == "seat",
                "ofAll": rule.kind == "gateway_fee",
            }
            for rule in way
        ]
        for way in ways
        if way
    ]


ROUTES = [show_seats, choose_seats, taken_seats]
