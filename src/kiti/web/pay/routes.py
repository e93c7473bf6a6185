"""Pay on a gateway's page or by approving on a phone, and wait for it."""

from typing import Any, get_args
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.response import Redirect

from kiti.bookings.actions import WrongState
from kiti.core import text
from kiti.core.errors import InvalidInput
from kiti.flows import payment_options, show
from kiti.flows.checkout import GatewayUnclear, Intent, PaymentRefused, initiate
from kiti.flows.holds import HoldLapsed
from kiti.flows.house import House
from kiti.flows.payment_options import GatewayAtFault, Way
from kiti.flows.plan import SeatsTaken
from kiti.flows.settle import settle_payment
from kiti.flows.show import BookingView, PaymentView
from kiti.gateways.gateway import Method
from kiti.payments.model import Payment
from kiti.web.booking.routes import ends, hold_of, my_booking, seats_address, to_booking
from kiti.web.booking.travellers import region_of
from kiti.web.page import rights
from kiti.web.page.language import Words, marked
from kiti.web.page.render import page, words_of
from kiti.web.page.security import gateway_sources, policy

# What gateways say most often, and we ourselves.
REASONS = {
    "Declined": marked("the bank or mobile money service declined it"),
    "Insufficient Funds": marked("there is not enough money on the account"),
    "Insufficient funds": marked("there is not enough money on the account"),
    "The gateway never got the request": marked("the payment service never got the request"),
    "Nobody paid while the page was open": marked("nobody paid while the page was open"),
    "Nobody approved it on the phone in time": marked("nobody approved it on the phone in time"),
    "The payment service was not available": marked("the payment service was not available"),
    "the gateway gave no reason": marked("the payment service gave no reason"),
    "The payment service was never asked": marked("the payment service was never asked"),
    "The booking was released": marked("the seats were given back"),
}
# A page that waits looks often at first, then seldom, for longer than mobile money takes.
LOOKS = 110
LOOKS_AT_FIRST = 45
LOOK_SECONDS = 4
LATER_LOOK_SECONDS = 15
HINT_LENGTH = 64
PHONE_LENGTH = 40
METHODS: dict[Method, tuple[str, str]] = {
    "MOBILE_MONEY": (marked("Mobile money"), marked("MTN, Airtel, M-Pesa: you confirm on your phone.")),
    "CARD": (marked("Card"), marked("Visa, Mastercard.")),
    "BANK_TRANSFER": (marked("Bank transfer"), marked("From your bank's app.")),
    "USSD": (marked("USSD"), marked("Dial a code, no internet needed.")),
    "CASH": (marked("Cash at a counter"), marked("You say your reference and pay before the time is over.")),
}


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A method as the page offers it; `prefixes` (+256) are those of the phones that can be asked to pay."""

    name: str
    hint: str
    has_page: bool
    prefixes: tuple[str, ...]
    regions: frozenset[str]


@get("/bookings/{booking_id:uuid}/pay")
async def ask_method(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """What it costs and how to pay it."""
    view = await my_booking(request, house, booking_id)
    if not view.booking.is_holding:
        return to_booking(booking_id)
    if not view.booking.contact_phone:
        return Redirect(f"/bookings/{booking_id}/passengers", status_code=303)
    attempt = view.payment.payment if view.payment else None
    if attempt is not None and attempt.is_open and attempt.is_direct:
        # The phone has been asked: whoever paid in another way now might pay twice.
        return Redirect(f"/pay/{attempt.id}", status_code=303)
    return await _methods(request, house, view)


@post("/bookings/{booking_id:uuid}/pay", status_code=303)
async def pay(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Open a payment and go to the gateway's page or wait for the phone; what is refused is told here."""
    view = await my_booking(request, house, booking_id)
    form = await request.form()
    words = words_of(request)
    method = next((one for one in get_args(Method) if one == form.get("method")), None)
    offers = await _offers(house, booking_id)
    if method not in offers:
        return await _methods(request, house, view, error=words.gettext("Choose how you want to pay."), status=422)
    offer = offers[method]
    intent = Intent(booking=booking_id, method=method)
    typed = str(form.get("phone", ""))[:PHONE_LENGTH]
    if offer.prefixes and not (offer.has_page and form.get("channel") == "hosted"):
        phone = _number(typed, view, offer)
        intent = msgspec.structs.replace(intent, channel="direct", phone=phone)
    try:
        opened = await initiate(house, intent)
    except (HoldLapsed, WrongState, SeatsTaken):
        return to_booking(booking_id)
    except (InvalidInput, PaymentRefused, GatewayAtFault, GatewayUnclear) as trouble:
        fresh = await show.booking(house, booking_id)
        return await _tell(request, house, fresh, trouble, method=method, typed=typed)
    if opened.payment.is_direct and not opened.is_new:
        return Redirect(f"/pay/{opened.payment.id}", status_code=303)
    return Redirect(opened.payment.checkout_url or f"/pay/{opened.payment.id}", status_code=303)


@get("/pay/{payment_id:uuid}/return")
async def come_back(request: Request[Any, Any, Any], house: House, payment_id: UUID) -> Redirect:
    """Where the gateway sends the browser. What the address says is a hint; the gateway is asked for the truth."""
    hint = request.query_params.get("transaction_id", "")[:HINT_LENGTH]
    payment = await settle_payment(house, payment_id, transaction_id=hint)
    if payment.return_url:
        status = (await show.payment(house, payment_id)).status
        return Redirect(_with_query(payment.return_url, paymentId=str(payment_id), status=status), status_code=303)
    return Redirect(f"/pay/{payment_id}", status_code=303)


@get("/pay/{payment_id:uuid}")
async def wait(request: Request[Any, Any, Any], house: House, payment_id: UUID) -> Response[Any]:
    """How far a payment has come. Whoever has the address sees that, and no more than that."""
    found = await show.payment(house, payment_id)
    return _standing(request, house, found, await show.booking(house, found.payment.booking_id))


@post("/pay/{payment_id:uuid}", status_code=303)
async def look_now(house: House, payment_id: UUID) -> Redirect:
    """Ask the gateway right now."""
    if (await show.payment(house, payment_id)).payment.is_open:
        await settle_payment(house, payment_id)
    return Redirect(f"/pay/{payment_id}", status_code=303)


def _standing(request: Request[Any, Any, Any], house: House, found: PaymentView, view: BookingView) -> Response[Any]:
    payment, booking = found.payment, view.booking
    is_mine = booking.id in rights.mine(request, house.settings)
    if found.status == "COMPLETED" and booking.state in {"confirmed", "completed"} and is_mine:
        target = f"/bookings/{booking.id}/ticket"
        if request.headers.get("hx-request"):
            return Response("", status_code=200, headers={"HX-Redirect": target})
        return Redirect(target, status_code=303)
    looks = request.query_params.get("look", "0")[:3]
    look = int(looks) if looks.isdecimal() else 0
    return page(
        request,
        "pay/standing.html",
        headers={"Cache-Control": "no-store"},
        payment=payment,
        status_word=found.status,
        booking=booking,
        is_mine=is_mine,
        reason=_reason(words_of(request), payment.failure_reason),
        again=seats_address(view, with_seats=True),
        timezone=ends(*view.by_trip()[0])[0].timezone,
        look=look,
        looks_on=look < LOOKS,
        look_seconds=LOOK_SECONDS if look < LOOKS_AT_FIRST else LATER_LOOK_SECONDS,
        **hold_of(booking),
    )


async def _tell(
    request: Request[Any, Any, Any],
    house: House,
    view: BookingView,
    trouble: InvalidInput | PaymentRefused | GatewayAtFault | GatewayUnclear,
    *,
    method: Method,
    typed: str,
) -> Response[str]:
    """The page once more, with what went wrong."""
    words = words_of(request)
    match trouble:
        case InvalidInput(field="phoneNumber"):
            prefixes = " ".join((await _offers(house, view.booking.id))[method].prefixes)
            error = words.gettext(
                "This phone cannot be asked to pay here. Give a mobile money number that begins with %(prefixes)s.",
                prefixes=prefixes,
            )
            return await _methods(request, house, view, phone_error=error, method=method, typed=typed, status=422)
        case InvalidInput():
            error, status = words.gettext("Choose how you want to pay."), 422
        case PaymentRefused():
            reason = _reason(words, str(trouble))
            error = words.gettext("The payment did not go through: %(reason)s. Nothing was charged.", reason=reason)
            status = 402
        case GatewayAtFault():
            error, status = words.gettext("The payment service cannot be reached. Nothing was charged; try again."), 502
        case GatewayUnclear():
            error = words.gettext(
                "The payment service did not answer. You have not been charged; try again in a moment."
            )
            status = 504
    return await _methods(request, house, view, error=error, method=method, typed=typed, status=status)


async def _methods(
    request: Request[Any, Any, Any],
    house: House,
    view: BookingView,
    *,
    error: str = "",
    phone_error: str = "",
    method: Method | None = None,
    typed: str | None = None,
    status: int = 200,
) -> Response[str]:
    trip, lines = view.by_trip()[0]
    boards, alights = ends(trip, lines)
    offers = await _offers(house, view.booking.id)
    attempt = _under_way(view)
    wanted = attempt.method if attempt else method
    by_method = {} if attempt else await show.prices_by_method(house, view, offers)
    # An open attempt has its price; else each way to pay tells its own, where they are not all the same.
    totals = {price.total.amount for price in by_method.values()}
    return page(
        request,
        "pay/methods.html",
        status=status,
        headers={"Content-Security-Policy": policy(form_targets=gateway_sources(house.settings))},
        view=view,
        booking=view.booking,
        trip=trip.trip,
        boards=boards,
        alights=alights,
        offers=offers,
        chosen=wanted if wanted in offers else next(iter(offers), None),
        attempt=attempt,
        by_method=by_method if len(totals) > 1 else {},
        price=next(iter(by_method.values())) if len(totals) == 1 else view.price,
        error=error,
        errors={"phone": phone_error} if phone_error else {},
        phone=view.booking.contact_phone if typed is None else typed,
        **hold_of(view.booking),
    )


def _under_way(view: BookingView) -> Payment | None:
    """The attempt that the traveller goes on with; one in cash gives way to any other choice."""
    attempt = None if view.payment is None else view.payment.payment
    return attempt if attempt is not None and attempt.is_open and attempt.method != "CASH" else None


async def _offers(house: House, booking: UUID) -> dict[Method, Offer]:
    """What this booking can be paid with, through the first gateway of each method."""
    _, ways = await payment_options.of_booking(house, booking)
    first: dict[Method, Way] = {}
    for way in ways:
        first.setdefault(way.method, way)
    return {
        method: Offer(
            name=name,
            hint=hint,
            has_page="hosted" in first[method].channels,
            prefixes=tuple(text.calling_code(country) for country in sorted(first[method].countries)),
            regions=first[method].countries,
        )
        for method, (name, hint) in METHODS.items()
        if method in first
    }


def _number(typed: str, view: BookingView, offer: Offer) -> str:
    """The number in E.164, empty for none.

    Without a country code it is taken to be from where the journey begins, if phones of there can be asked.
    """
    here = region_of(view)
    region = here if here in offer.regions else min(offer.regions)
    try:
        return text.phone(typed, field="phone", region=region)
    except InvalidInput:
        return ""


def _reason(words: Words, told: str | None) -> str:
    """The reason as a sentence's end, without a full stop; in the traveller's language if it is one that we know."""
    reason = (told or "").strip().rstrip(".")
    return words.gettext(REASONS[reason]) if reason in REASONS else reason


def _with_query(url: str, **more: str) -> str:
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, urlencode(more)) if part)
    return urlunsplit(parts._replace(query=query))


ROUTES = [ask_method, pay, come_back, wait, look_now]
