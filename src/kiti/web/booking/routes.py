"""Name the travellers, hold on, let go, look at a booking, find it again."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.response import Redirect

from kiti.bookings import reads as booking_reads
from kiti.bookings.model import Booking
from kiti.core import text
from kiti.core.errors import InvalidInput, NotFound
from kiti.core.ids import REFERENCE_ALPHABET, REFERENCE_LENGTH
from kiti.flows import holds, show
from kiti.flows.house import House
from kiti.flows.show import BookingView
from kiti.network.model import TripDetail
from kiti.web.booking import travellers
from kiti.web.page import rights
from kiti.web.page.render import local_path, page, words_of

EXTENSION_MINUTES = 10
# Where a phone number without a country code may be from, when nothing else tells.
REGIONS = (None, "UG", "KE", "RW", "TZ")
TYPED_LENGTH = 60


@get("/bookings/{booking_id:uuid}/passengers")
async def ask_travellers(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Who travels, and whom to reach; what was typed before stands there again."""
    view = await my_booking(request, house, booking_id)
    if not view.booking.is_holding:
        return to_booking(booking_id)
    return _travellers(request, view, travellers.standing(view))


@post("/bookings/{booking_id:uuid}/passengers", status_code=303)
async def name_travellers(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Write it down and go on to pay; or show what is wrong, beside what was typed."""
    view = await my_booking(request, house, booking_id)
    form = await request.form()
    found = travellers.typed(form, view)
    if not view.booking.is_holding:
        return to_booking(booking_id)
    if "extend" in form:
        await holds.extend(house, booking=booking_id, minutes=EXTENSION_MINUTES, actor="guest")
        return _travellers(request, await show.booking(house, booking_id), found)
    clean, errors = travellers.checked(found, region=travellers.region_of(view), words=words_of(request))
    if errors:
        return _travellers(request, view, found, errors=errors)
    await travellers.write_down(house, view, clean)
    return Redirect(f"/bookings/{booking_id}/pay", status_code=303)


@post("/bookings/{booking_id:uuid}/extend", status_code=200)
async def extend(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Hold on for some minutes; htmx gets the clock alone, so that nothing typed is lost."""
    rights.check(request, booking_id, house.settings)
    await holds.extend(house, booking=booking_id, minutes=EXTENSION_MINUTES, actor="guest")
    if request.headers.get("hx-request"):
        view = await show.booking(house, booking_id)
        return page(request, "booking/clock.html", **(hold_of(view.booking) | {"is_alone": True}))
    form = await request.form()
    return Redirect(local_path(str(form.get("next", f"/bookings/{booking_id}"))), status_code=303)


@post("/bookings/{booking_id:uuid}/release", status_code=303)
async def release(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Give the seats back, and show the map again."""
    view = await my_booking(request, house, booking_id)
    await holds.release(house, booking=booking_id, actor="guest")
    return Redirect(seats_address(view), status_code=303)


@get("/bookings/{booking_id:uuid}")
async def show_booking(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """How a booking stands, and what can be done next."""
    view = await my_booking(request, house, booking_id)
    legs = view.by_trip()
    return page(
        request,
        "booking/booking.html",
        view=view,
        booking=view.booking,
        legs=[(trip.trip, *ends(trip, lines), lines) for trip, lines in legs],
        price=view.price,
        again=seats_address(view, with_seats=True),
        **hold_of(view.booking),
    )


@get("/find")
async def ask_reference(request: Request[Any, Any, Any], house: House) -> Response[str]:
    """Reference and phone number; and the bookings that this browser has already."""
    mine = []
    for booking_id in rights.mine(request, house.settings):
        try:
            view = await show.booking(house, booking_id)
        except NotFound:  # a cookie may be older than the data of a demo
            continue
        trip, lines = view.by_trip()[0]
        mine.append((view, *ends(trip, lines)))
    return page(request, "booking/find.html", mine=mine, reference="", phone="", errors={})


@post("/find", status_code=303)
async def find(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """Open the booking that has this reference and this phone number."""
    form = await request.form()
    reference, phone = (str(form.get(field, ""))[:TYPED_LENGTH] for field in ("reference", "phone"))
    words = words_of(request)
    errors: dict[str, str] = {}
    wanted = "".join(reference.upper().split()).partition("-")[0]
    numbers = _numbers(phone)
    if len(wanted) != REFERENCE_LENGTH or not set(wanted) <= set(REFERENCE_ALPHABET):
        errors["reference"] = words.gettext("A reference has %(length)s letters and digits.", length=REFERENCE_LENGTH)
    if not numbers:
        errors["phone"] = words.gettext("This is no phone number. Write it with the country code: +256 772 123456.")
    booking = None if errors else await _booking_of(house, wanted, numbers)
    if booking is not None:
        onward = Redirect(f"/bookings/{booking}", status_code=303)
        onward.set_cookie(rights.grant(request, booking, house.settings))
        return onward
    if not errors:
        errors["reference"] = words.gettext("No booking has this reference and this phone number. Check both.")
    return page(request, "booking/find.html", status=422, mine=[], reference=reference, phone=phone, errors=errors)


async def my_booking(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> BookingView:
    """The booking, if the browser has a right to it; raises NotYours, NotFound."""
    rights.check(request, booking_id, house.settings)
    return await show.booking(house, booking_id)


def to_booking(booking_id: UUID) -> Redirect:
    """Where every step leads that is not to be taken any more."""
    return Redirect(f"/bookings/{booking_id}", status_code=303)


def ends(trip: TripDetail, lines: list[Any]) -> tuple[Any, Any]:
    """The stops where one gets on and off."""
    return trip.stops[lines[0].from_seq], trip.stops[lines[0].to_seq]


def seats_address(view: BookingView, *, with_seats: bool = False) -> str:
    """The seat map of the booking's first trip; with its seats chosen, if they are still free."""
    trip, lines = view.by_trip()[0]
    boards, alights = ends(trip, lines)
    place = {"from": boards.code, "to": alights.code, "passengers": len(lines)}
    chosen = {"seats": ",".join(line.seat for line in lines)} if with_seats else {}
    return f"/trips/{trip.trip.id}/seats?{urlencode(place | chosen)}"


def hold_of(booking: Booking) -> dict[str, Any]:
    """What the hold's clock shows. Milliseconds since 1970, by the database's clock."""
    return {
        "hold_booking": booking.id,
        "hold_until": booking.hold_expires_at,
        "hold_until_ms": round(booking.hold_expires_at.timestamp() * 1000),
        "hold_now_ms": round(booking.now.timestamp() * 1000),
        "hold_left_seconds": max(0, round((booking.hold_expires_at - booking.now).total_seconds())),
        "hold_can_extend": booking.hold_expires_at < booking.hold_cap_at,
        "is_alone": False,
    }


def _travellers(
    request: Request[Any, Any, Any],
    view: BookingView,
    found: travellers.Typed,
    *,
    errors: dict[str, str] | None = None,
) -> Response[str]:
    trip, lines = view.by_trip()[0]
    boards, alights = ends(trip, lines)
    return page(
        request,
        "booking/travellers.html",
        status=422 if errors else 200,
        view=view,
        booking=view.booking,
        trip=trip.trip,
        boards=boards,
        alights=alights,
        found=found,
        fields=[(travellers.field_of(line, view.lines), line) for line in view.lines],
        errors=errors or {},
        price=view.price,
        back=seats_address(view),
        **hold_of(view.booking),
    )


def _numbers(typed: str) -> list[str]:
    """What a typed phone number may mean, each once."""
    found: dict[str, None] = {}
    for region in REGIONS:
        try:
            number = text.phone(typed, field="phone", region=region)
        except InvalidInput:
            continue  # not a number there; it may be one elsewhere
        if number:
            found[number] = None
    return list(found)


async def _booking_of(house: House, reference: str, numbers: list[str]) -> UUID | None:
    async with house.db.reader() as reader:
        for number in numbers:
            try:
                return await booking_reads.by_reference_and_phone(reader, reference=reference, phone=number)
            except NotFound:
                continue  # the next meaning of the number
    return None


ROUTES = [ask_travellers, name_travellers, extend, release, show_booking, ask_reference, find]
