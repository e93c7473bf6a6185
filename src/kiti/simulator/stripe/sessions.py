"""Checkout Sessions and the PaymentIntents behind them: open, pay, decline, expire, capture, cancel."""

import time
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, Literal

import msgspec

from kiti.simulator.machine import Machine
from kiti.simulator.stripe import forms
from kiti.simulator.stripe.events import announce
from kiti.simulator.stripe.forms import Form
from kiti.simulator.stripe.objects import Doc, StripeRefusalError, change, find, make, of_reference
from kiti.simulator.timers import set_timer

Action = Literal["pay", "decline", "pay-late", "say-nothing", "pay-without-webhook", "cancel", "require-action"]

SHORTEST_SECONDS: Final = 30 * 60
LONGEST_SECONDS: Final = 24 * 3600
LARGEST_AMOUNT: Final = 99_999_999
LONGEST_CLIENT_REFERENCE: Final = 200
FEE_PERCENT: Final = Decimal("2.9")
WHOLE_HUNDREDS: Final = {"ugx", "isk"}
CANCELLABLE: Final = {"requires_payment_method", "requires_capture", "requires_confirmation", "requires_action"}
INTENT: Final = "payment_intent"
SESSION: Final = "checkout.session"
DECLINE: Final = {"type": "card_error", "code": "card_declined", "message": "Your card was declined."}


class Pressed(msgspec.Struct, frozen=True):
    """What pressing a button did: the PaymentIntents, and where the browser goes next."""

    status: str
    transaction_ids: list[str]
    redirect: str | None


def open_session(machine: Machine, form: Form, *, base_url: str) -> Doc:
    """Make a page; refuses what Stripe refuses."""
    if forms.text(form, "mode") != "payment":
        raise StripeRefusalError("This simulator has sessions of mode payment only.", param="mode")
    success, cancel = forms.text(form, "success_url"), forms.text(form, "cancel_url", default="")
    for name, url in (("success_url", success), ("cancel_url", cancel or success)):
        if not url.startswith(("http://", "https://")):
            raise StripeRefusalError("Not a valid URL", code="url_invalid", param=name)
    currency, amount = _total(form)
    reference = forms.text(form, "client_reference_id", default="")
    if len(reference) > LONGEST_CLIENT_REFERENCE:
        raise StripeRefusalError("Invalid string: too long", param="client_reference_id")
    now = int(time.time())
    expires_at = forms.number(form, "expires_at", default=now + LONGEST_SECONDS)
    if not now + SHORTEST_SECONDS <= expires_at <= now + LONGEST_SECONDS:
        message = "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation."
        raise StripeRefusalError(message, param="expires_at")
    session = make(
        machine,
        SESSION,
        "cs_test",
        reference=reference,
        mode="payment",
        status="open",
        payment_status="unpaid",
        payment_intent=None,
        amount_total=amount,
        amount_subtotal=amount,
        currency=currency,
        client_reference_id=reference or None,
        customer_email=form.get("customer_email"),
        metadata=forms.part(form, "metadata"),
        payment_method_types=forms.rows(form, "payment_method_types"),
        success_url=success,
        cancel_url=cancel or success,
        expires_at=expires_at,
        _intent=forms.part(form, "payment_intent_data"),
        _title=_name(form),
    )
    set_timer(machine, kind="stripe_session", subject=0, delay_seconds=expires_at - now, id=session["id"])
    return change(machine, session, url=f"{base_url}/c/pay/{session['id']}")


def find_session(machine: Machine, identity: str) -> Doc:
    """The session; refuses (404) an unknown id."""
    return find(machine, identity, SESSION)


def session_of(machine: Machine, reference: str) -> Doc | None:
    """The newest session with the shop's reference."""
    return next(reversed(of_reference(machine, reference, SESSION)), None)


def expire(machine: Machine, session: Doc) -> Doc:
    """End a page; refuses one that is not open."""
    if session["status"] != "open":
        raise StripeRefusalError(
            'Only Checkout Sessions with a status in ["open"] can be expired.'
            f" This Checkout Session has a status of {session['status']}."
        )
    session = change(machine, session, status="expired", url=None)
    if session["payment_intent"] is not None:
        intent = find(machine, session["payment_intent"], INTENT)
        if intent["status"] in CANCELLABLE:
            _end(machine, intent, reason="expired")
    announce(machine, "checkout.session.expired", session, reference=session["client_reference_id"] or "")
    return session


def expire_in_time(machine: Machine, _subject: int, data: dict[str, Any]) -> None:
    """Timer: `expires_at` has come."""
    session = find_session(machine, data["id"])
    if session["status"] == "open":
        expire(machine, session)


def press(machine: Machine, session: Doc, action: Action, *, delay_seconds: float | None = None) -> Pressed:
    """Do what the button says; refuses (409) where the page is over."""
    if session["status"] != "open":
        raise StripeRefusalError(f"This page is {session['status']}.", http_status=409)
    if action == "cancel":
        return Pressed("cancelled", [], session["cancel_url"])
    session, intent = _attempt(machine, session)
    reference = session["client_reference_id"] or ""
    match action:
        case "pay":
            _authorise(machine, session, intent, is_heard=True)
        case "pay-without-webhook" | "say-nothing":
            _authorise(machine, session, intent, is_heard=False)
        case "decline":
            intent = change(machine, intent, status="requires_payment_method", last_payment_error=DECLINE)
            announce(machine, "payment_intent.payment_failed", intent, reference=reference)
            return Pressed("failed", [intent["id"]], None)
        case "require-action":
            intent = change(machine, intent, status="requires_action")
            announce(machine, "payment_intent.requires_action", intent, reference=reference)
            return Pressed("pending", [intent["id"]], None)
        case "pay-late":
            change(machine, intent, status="processing")
            seconds = machine.config.pay_late_seconds if delay_seconds is None else delay_seconds
            set_timer(machine, kind="stripe_late", subject=0, delay_seconds=seconds, id=session["id"])
            return Pressed("pending", [intent["id"]], session["success_url"])
    silent = action == "say-nothing"
    return Pressed("successful", [intent["id"]], None if silent else session["success_url"])


def pay_late(machine: Machine, _subject: int, data: dict[str, Any]) -> None:
    """Timer: what was in process is authorised, if the page did not end before."""
    session = find_session(machine, data["id"])
    intent = find(machine, session["payment_intent"], INTENT)
    if session["status"] == "open" and intent["status"] == "processing":
        _authorise(machine, session, intent, is_heard=True)


def capture(machine: Machine, intent: Doc, form: Form) -> Doc:
    """Take what was authorised, or a part of it; the rest goes back to the buyer."""
    if intent["status"] != "requires_capture":
        raise _unexpected(intent, "captured", "requires_capture")
    amount = forms.number(form, "amount_to_capture", default=intent["amount_capturable"])
    if not 0 < amount <= intent["amount_capturable"]:
        message = "The requested capture amount is greater than the authorised one."
        raise StripeRefusalError(message, code="amount_too_large", param="amount_to_capture")
    _check_money(intent["currency"], amount, "amount_to_capture")
    charge = find(machine, intent["latest_charge"], "charge")
    fee = fee_of(amount)
    balance = make(
        machine,
        "balance_transaction",
        "txn",
        parent=charge["id"],
        type="charge",
        amount=amount,
        fee=fee,
        net=amount - fee,
        currency=intent["currency"],
        source=charge["id"],
        exchange_rate=None,
        status="available",
        _payout=None,
    )
    reference = intent["metadata"].get("reference", "")
    charge = change(machine, charge, captured=True, amount_captured=amount, balance_transaction=balance["id"])
    intent = change(machine, intent, status="succeeded", amount_received=amount, amount_capturable=0)
    announce(machine, "charge.captured", charge, reference=reference)
    announce(machine, "payment_intent.succeeded", intent, reference=reference)
    return intent


def cancel(machine: Machine, intent: Doc, form: Form) -> Doc:
    """Let go of a payment that has taken nothing."""
    if intent["status"] not in CANCELLABLE:
        raise _unexpected(intent, "canceled", ", ".join(sorted(CANCELLABLE)))
    return _end(machine, intent, reason=forms.text(form, "cancellation_reason", default="requested_by_customer"))


def lapse(machine: Machine, reference: str) -> Doc:
    """The bank takes an authorisation back; refuses (404) where there is none."""
    for intent in of_reference(machine, reference, INTENT):
        if intent["status"] == "requires_capture":
            return _end(machine, intent, reason="automatic")
    raise StripeRefusalError("Nothing is authorised under this reference.", http_status=404)


def fee_of(amount: int) -> int:
    """What Stripe keeps: 2.9 per cent."""
    return int((amount * FEE_PERCENT / 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _attempt(machine: Machine, session: Doc) -> tuple[Doc, Doc]:
    """The session with its PaymentIntent, which is made when somebody first tries to pay."""
    if session["payment_intent"] is not None:
        return session, find(machine, session["payment_intent"], INTENT)
    wanted = session["_intent"]
    intent = make(
        machine,
        INTENT,
        "pi",
        parent=session["id"],
        reference=session["client_reference_id"] or "",
        amount=session["amount_total"],
        amount_capturable=0,
        amount_received=0,
        currency=session["currency"],
        capture_method=wanted.get("capture_method", "automatic_async"),
        metadata=forms.part(wanted, "metadata"),
        description=wanted.get("description"),
        status="requires_payment_method",
        latest_charge=None,
        last_payment_error=None,
        cancellation_reason=None,
        payment_method_types=session["payment_method_types"],
    )
    return change(machine, session, payment_intent=intent["id"]), intent


def _authorise(machine: Machine, session: Doc, intent: Doc, *, is_heard: bool) -> None:
    charge = make(
        machine,
        "charge",
        "ch",
        parent=intent["id"],
        amount=intent["amount"],
        amount_captured=0,
        amount_refunded=0,
        balance_transaction=None,
        captured=False,
        currency=intent["currency"],
        metadata=intent["metadata"],
        paid=True,
        payment_intent=intent["id"],
        refunded=False,
        status="succeeded",
    )
    intent = change(
        machine,
        intent,
        status="requires_capture",
        amount_capturable=intent["amount"],
        latest_charge=charge["id"],
        last_payment_error=None,
    )
    session = change(machine, session, status="complete", url=None)
    reference = session["client_reference_id"] or ""
    if intent["capture_method"] != "manual":
        capture(machine, intent, {})
        session = change(machine, session, payment_status="paid")
    if is_heard:
        announce(machine, "payment_intent.amount_capturable_updated", intent, reference=reference)
        announce(machine, "checkout.session.completed", session, reference=reference)


def _end(machine: Machine, intent: Doc, *, reason: str) -> Doc:
    intent = change(machine, intent, status="canceled", cancellation_reason=reason, amount_capturable=0)
    announce(machine, "payment_intent.canceled", intent, reference=intent["metadata"].get("reference", ""))
    return intent


def _total(form: Form) -> tuple[str, int]:
    rows = forms.rows(form, "line_items")
    if not rows:
        raise StripeRefusalError("Missing required param: line_items.", code="parameter_missing", param="line_items")
    amount, currencies = 0, set()
    for row in rows:
        price = forms.part(row, "price_data")
        currencies.add(forms.text(price, "currency"))
        amount += forms.number(price, "unit_amount") * forms.number(row, "quantity", default=1)
    if len(currencies) != 1:
        raise StripeRefusalError("All prices must use the same currency.", param="line_items")
    [currency] = currencies
    _check_money(currency, amount, "line_items[0][price_data][unit_amount]")
    return currency, amount


def _check_money(currency: str, amount: int, param: str) -> None:
    if not 0 < amount <= LARGEST_AMOUNT:
        raise StripeRefusalError("Invalid amount", code="amount_too_small" if amount <= 0 else "amount_too_large")
    if currency in WHOLE_HUNDREDS and amount % 100:
        message = f"Invalid amount: {currency} has no decimals, so the amount must be divisible by 100."
        raise StripeRefusalError(message, code="parameter_invalid_integer", param=param)


def _name(form: Form) -> str:
    row = forms.rows(form, "line_items")[0]
    return forms.text(forms.part(forms.part(row, "price_data"), "product_data"), "name", default="Payment")


def _unexpected(intent: Doc, verb: str, wanted: str) -> StripeRefusalError:
    message = (
        f"This PaymentIntent could not be {verb} because it has a status of {intent['status']}."
        f" Only a PaymentIntent with one of the following statuses may be {verb}: {wanted}."
    )
    return StripeRefusalError(message, code="payment_intent_unexpected_state")
