"""Pay at a gateway's page, and come back."""

from typing import Any, get_args
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.response import Redirect

from kiti.bookings.actions import WrongState
from kiti.flows import show
from kiti.flows.checkout import GatewayUnclear, Intent, PaymentRefused, initiate
from kiti.flows.holds import HoldLapsed
from kiti.flows.house import House
from kiti.flows.plan import SeatsTaken
from kiti.flows.settle import settle_payment
from kiti.flows.show import BookingView, PaymentView
from kiti.gateways.gateway import Method
from kiti.payments.model import Payment
from kiti.web.booking.routes import ends, hold_of, my_booking, seats_address, to_booking
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
    "the gateway gave no reason": marked("the payment service gave no reason"),
    "The booking was released": marked("the seats were given back"),
}
LOOKS = 60
LOOK_SECONDS = 4
HINT_LENGTH = 64
METHODS: dict[Method, tuple[str, str]] = {
    "MOBILE_MONEY": (marked("Mobile money"), marked("MTN, Airtel, M-Pesa: you confirm on your phone.")),
    "CARD": (marked("Card"), marked("Visa, Mastercard.")),
    "BANK_TRANSFER": (marked("Bank transfer"), marked("From your bank's app.")),
    "USSD": (marked("USSD"), marked("Dial a code, no internet needed.")),
    "CASH": (marked("Cash at a counter"), marked("You say your reference and pay before the time is over.")),
}


@get("/bookings/{booking_id:uuid}/pay")
async def ask_method(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """What it costs and how to pay it."""
    view = await my_booking(request, house, booking_id)
    if not view.booking.is_holding:
        return to_booking(booking_id)
    if not view.booking.contact_phone:
        return Redirect(f"/bookings/{booking_id}/passengers", status_code=303)
    return await _methods(request, house, view)


@post("/bookings/{booking_id:uuid}/pay", status_code=303)
async def pay(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Open a payment and go to the gateway's page; what the gateway refuses is told here, and can be tried again."""
    view = await my_booking(request, house, booking_id)
    form = await request.form()
    words = words_of(request)
    method = next((one for one in get_args(Method) if one == form.get("method")), None)
    if method not in _offered(house):
        return await _methods(request, house, view, error=words.gettext("Choose how you want to pay."), status=422)
    try:
        opened = await initiate(house, Intent(booking=booking_id, method=method))
    except (HoldLapsed, WrongState, SeatsTaken):
        return to_booking(booking_id)
    except PaymentRefused as refused:
        error = words.gettext(
            "The payment did not go through: %(reason)s. Nothing was charged.", reason=_reason(words, str(refused))
        )
        return await _methods(request, house, await show.booking(house, booking_id), error=error, status=402)
    except GatewayUnclear:
        error = words.gettext("The payment service did not answer. You have not been charged; try again in a moment.")
        return await _methods(request, house, await show.booking(house, booking_id), error=error, status=504)
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
        look_seconds=LOOK_SECONDS,
        **hold_of(booking),
    )


async def _methods(
    request: Request[Any, Any, Any], house: House, view: BookingView, *, error: str = "", status: int = 200
) -> Response[str]:
    trip, lines = view.by_trip()[0]
    boards, alights = ends(trip, lines)
    attempt = _under_way(view)
    offered = _offered(house)
    by_method = {} if attempt else await show.prices_by_method(house, view, offered)
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
        methods=offered,
        attempt=attempt,
        by_method=by_method if len(totals) > 1 else {},
        price=next(iter(by_method.values())) if len(totals) == 1 else view.price,
        error=error,
        **hold_of(view.booking),
    )


def _under_way(view: BookingView) -> Payment | None:
    """The attempt that the traveller goes on with; one in cash gives way to any other choice."""
    attempt = None if view.payment is None else view.payment.payment
    return attempt if attempt is not None and attempt.is_open and attempt.method != "CASH" else None


def _offered(house: House) -> dict[Method, tuple[str, str]]:
    """What any of our gateways takes."""
    taken = {method for gateway in house.gateways.values() for method in gateway.capabilities.methods}
    return {method: texts for method, texts in METHODS.items() if method in taken}


def _reason(words: Words, told: str | None) -> str:
    """The reason as a sentence's end, without a full stop; in the traveller's language if it is one that we know."""
    reason = (told or "").strip().rstrip(".")
    return words.gettext(REASONS[reason]) if reason in REASONS else reason


def _with_query(url: str, **more: str) -> str:
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, urlencode(more)) if part)
    return urlunsplit(parts._replace(query=query))


ROUTES = [ask_method, pay, come_back, wait, look_now]
