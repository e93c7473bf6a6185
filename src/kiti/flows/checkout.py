"""Checkout: write the intent down, hold the seats for as long as paying takes, ask the gateway for a page or a prompt.

The attempt is `created` in one transaction and `submitting` in the next, just before the gateway is called; the answer
is written down in a third, and nothing is locked in between. A crash leaves an attempt that the next call to pay or the
poller carries on: what is `created` was asked of nobody, what is `submitting` is looked up.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal
from uuid import UUID

import msgspec
import structlog

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import Booking, Contact
from kiti.core.errors import InvalidInput, KitiError
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.fees import actions as fees
from kiti.fees import reads as fee_reads
from kiti.fees.model import on_top
from kiti.flows import cash, payment_options
from kiti.flows.attempts import give_up_unasked
from kiti.flows.holds import HoldLapsed, can_board, hold_until
from kiti.flows.house import House
from kiti.flows.payment_options import GatewayAtFault, Way
from kiti.flows.plan import TripNotOnSale
from kiti.flows.prices import quote
from kiti.flows.settle import fail_attempt, settle_payment
from kiti.gateways.gateway import (
    CheckoutOpened,
    CheckoutRequest,
    DirectCharges,
    DirectRequest,
    Gateway,
    Method,
    Prompted,
    Rejected,
    Unavailable,
    Unknown,
)
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.actions import PaymentChanged
from kiti.payments.model import Channel, Payment

log = structlog.get_logger(__name__)

PAYMENT_WINDOW_MINUTES = 20
# When the poller first looks, should this process die before it has the gateway's answer.
FIRST_POLL_SECONDS = 60
# Two callers at once: how long the second waits for the first one's page.
PAGE_WAIT_SECONDS = 8.0
PAGE_WAIT_STEP_SECONDS = 0.25
UNAVAILABLE = "The payment service was not available."
STILL_UNCLEAR = "The payment service did not answer. You have not been charged; try again in a moment."


class PaymentRefused(KitiError):
    """The gateway has declined to take this payment; the reason is in the sentence. Nothing was charged."""


class GatewayUnclear(KitiError):
    """The gateway did not answer clearly; nobody was charged as far as we know. Try again in a moment."""


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """How a traveller wants to pay. `amount`, `total` and `currency` only assert what is due.

    `amount` is what the seats cost, `total` that and the fee on top. Through the direct channel `phone` (E.164) is
    asked to approve the payment.
    """

    booking: UUID
    method: Method = "CARD"
    channel: Channel = "hosted"
    phone: str = ""
    gateway: str | None = None
    amount: int | None = None
    total: int | None = None
    currency: str | None = None
    return_url: str = ""
    contact: Contact = Contact()
    actor: str = "guest"


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt that is open now, and whether this call opened it."""

    payment: Payment
    is_new: bool


async def initiate(house: House, intent: Intent) -> Opened:
    """Open an attempt to pay, or give the open one.

    A direct charge whose answer was lost is open as well: the phone may be asked already, so nobody asks it again.
    Raises HoldLapsed, WrongState, InvalidInput (asserted amount or total is not what is due, or it cannot be paid this
    way), PaymentRefused, GatewayUnclear, GatewayAtFault, NotFound, SeatsTaken (the hold had lapsed and a seat is gone).
    """
    found, ways = await payment_options.of_booking(house, intent.booking)
    _check_holding(found)
    fitting = _fitting(house, ways, intent, currency=found.currency)
    standing = await _standing_attempt(house, intent.booking)
    if standing is not None and (standing.gateway != cash.GATEWAY or intent.method == "CASH"):
        _check_due(Money(standing.amount, standing.currency), standing.fee, intent)
        return Opened(payment=standing, is_new=False)
    gateway = house.gateway(payment_options.first_awake(house, fitting).gateway)
    opened, booking = await house.db.run(lambda tx: _open(tx, intent, gateway))
    if booking is None:
        # Somebody else's attempt, opened meanwhile or still without an answer: perhaps its page comes in a moment.
        standing = await _standing_attempt(house, intent.booking)
        if standing is None:
            raise GatewayUnclear(STILL_UNCLEAR)
        return Opened(payment=standing, is_new=False)
    payment = await _submit(house, opened)
    answer = await _ask(house, gateway, payment, booking)
    return Opened(payment=await _record_answer(house, payment, answer), is_new=True)


async def _standing_attempt(house: House, booking: UUID) -> Payment | None:
    """The open attempt with its page or prompt; one that lost its gateway's answer is looked up, never sent again.

    That a gateway does not know a page's reference proves that nobody can pay there. A phone may be asked a moment
    after the gateway was looked at, so for a direct charge it proves nothing yet. An attempt that was abandoned before
    anybody was asked stands in nobody's way.
    """
    waited = 0.0
    while True:
        async with house.db.reader() as reader:
            payment = await payment_reads.newest_of_booking(reader, booking=booking)
        if payment is None or not payment.is_open or payment.is_abandoned:
            return None
        if payment.checkout_url is not None or payment.state == "pending":
            return payment
        age = (payment.now - payment.created_at).total_seconds()
        if payment.state == "unknown" or age > FIRST_POLL_SECONDS:
            settled = await settle_payment(house, payment.id, give_up_missing=not payment.is_direct)
            has_begun = settled.checkout_url is not None or settled.is_direct
            return settled if settled.is_open and has_begun else None
        if waited >= PAGE_WAIT_SECONDS:
            raise GatewayUnclear(STILL_UNCLEAR)
        await asyncio.sleep(PAGE_WAIT_STEP_SECONDS)
        waited += PAGE_WAIT_STEP_SECONDS


async def _open(tx: Transaction, intent: Intent, gateway: Gateway) -> tuple[Payment, Booking | None]:
    booking = await bookings.lock(tx, booking=intent.booking)
    _check_holding(booking)
    newest = await payment_reads.newest_of_booking(tx, booking=booking.id)
    if newest is not None and not await _makes_way(tx, newest, intent):
        return newest, None
    lines = await booking_reads.seats_of(tx, bookings=[booking.id])
    parts = quote(await fee_reads.rules(tx), booking, lines, method=intent.method)
    due, fee = Money(booking.amount, booking.currency), on_top(parts)
    _check_due(due, fee, intent)
    if not await can_board(tx, booking=booking, lines=lines):
        raise TripNotOnSale("This trip has left or was cancelled. Search for another one.")
    if intent.contact != Contact():
        booking = await _merge_contact(tx, booking, intent.contact)
    if intent.phone and not booking.contact_phone:
        booking = await _merge_contact(tx, booking, Contact(phone=intent.phone))
    until = min(
        max(booking.hold_expires_at, booking.now + timedelta(minutes=PAYMENT_WINDOW_MINUTES)), booking.hold_cap_at
    )
    if until > booking.hold_expires_at:
        await hold_until(tx, booking=booking, until=until)
    if booking.state == "held":
        booking = await bookings.move(tx, booking=booking, to="awaiting_payment")
    opened = await payments.open_attempt(
        tx,
        booking=booking.id,
        gateway=gateway.name,
        method=intent.method,
        amount=due.amount,
        fee=fee,
        currency=due.currency,
        return_url=intent.return_url,
        expires_at=max(until, booking.hold_expires_at),
        poll_seconds=FIRST_POLL_SECONDS,
        channel=intent.channel,
        phone=intent.phone if intent.channel == "direct" else "",
    )
    await fees.put(tx, payment=opened.id, parts=parts)
    await audit.record(
        tx,
        events=[
            Event(
                subject=booking.id,
                actor=intent.actor,
                action="payment.opened",
                detail={"payment": str(opened.id), "gateway": gateway.name},
            )
        ],
    )
    return opened, booking


async def _makes_way(tx: Transaction, newest: Payment, intent: Intent) -> bool:
    """Whether another attempt may be opened. The booking is locked."""
    if not newest.is_open:
        return True
    if newest.is_abandoned:
        await give_up_unasked(tx, payment=newest)
        return True
    return await cash.gives_way(tx, attempt=newest, method=intent.method)


async def _submit(house: House, opened: Payment) -> Payment:
    """Win the right to ask the gateway. Raises HoldLapsed, GatewayUnclear where it was called off meanwhile."""
    try:
        return await house.db.run(lambda tx: payments.submit(tx, payment=opened))
    except PaymentChanged as error:
        async with house.db.reader() as reader:
            booking = await booking_reads.by_id(reader, booking=opened.booking_id)
        if not booking.is_holding:
            raise HoldLapsed("The hold ended meanwhile. Search again: the seats may still be free.") from error
        raise GatewayUnclear(STILL_UNCLEAR) from error


def _check_holding(booking: Booking) -> None:
    if booking.is_lapsed:
        raise HoldLapsed("The hold is over. Search again: the seats may still be free.")
    if not booking.is_holding:
        raise WrongState(f"A booking that is {booking.state} cannot be paid for.")


async def _merge_contact(tx: Transaction, booking: Booking, contact: Contact) -> Booking:
    merged = Contact(
        name=contact.name or booking.contact_name,
        email=contact.email or booking.contact_email,
        phone=contact.phone or booking.contact_phone,
    )
    await bookings.set_contact(tx, booking=booking.id, contact=merged)
    return msgspec.structs.replace(
        booking, contact_name=merged.name, contact_email=merged.email, contact_phone=merged.phone
    )


async def _ask(
    house: House, gateway: Gateway, payment: Payment, booking: Booking
) -> CheckoutOpened | Prompted | Rejected | Unknown:
    if not payment.is_direct:
        return await gateway.open_checkout(_request(house, payment, booking))
    assert isinstance(gateway, DirectCharges), "whoever chose the gateway has looked"
    return await gateway.charge(
        DirectRequest(
            reference=str(payment.id),
            amount=payment.total,
            phone=payment.phone,
            customer_email=booking.contact_email,
            customer_name=booking.contact_name,
            return_url=_return_url(house, payment),
        )
    )


async def _record_answer(
    house: House, payment: Payment, answer: CheckoutOpened | Prompted | Rejected | Unknown
) -> Payment:
    match answer:
        case CheckoutOpened(url=url):
            opened = await house.db.run(lambda tx: _answered(tx, payment, to="pending", reason="page opened", url=url))
            if opened.state == "cancelled":
                if url is not None:
                    await house.gateway(payment.gateway).close_checkout(url)
                raise HoldLapsed("The hold ended meanwhile. Search again: the seats may still be free.")
            return opened
        case Prompted(url=url):
            opened = await house.db.run(lambda tx: _answered(tx, payment, to="pending", reason="phone asked", url=url))
            if opened.state == "cancelled":
                raise HoldLapsed("The hold ended meanwhile. Search again: the seats may still be free.")
            return opened
        case Unavailable(reason=reason):
            log.warning("a gateway did not do it", gateway=payment.gateway, payment=str(payment.id), reason=reason)
            await house.db.run(lambda tx: _fail(tx, house, payment, UNAVAILABLE))
            raise GatewayAtFault("The payment service is not available. You have not been charged; try again later.")
        case Rejected(reason=reason):
            await house.db.run(lambda tx: _fail(tx, house, payment, reason))
            raise PaymentRefused(reason)
        case Unknown(reason=reason):
            unclear = await house.db.run(lambda tx: _answered(tx, payment, to="unknown", reason=reason, url=None))
            if payment.is_direct:
                return unclear
            raise GatewayUnclear(STILL_UNCLEAR)


async def _answered(
    tx: Transaction, payment: Payment, *, to: Literal["pending", "unknown"], reason: str, url: str | None
) -> Payment:
    booking = await bookings.lock(tx, booking=payment.booking_id)
    now = await payment_reads.by_id(tx, payment=payment.id)
    if now.state != "submitting":
        return now  # the poller or a webhook was quicker
    if to == "pending" and not booking.is_holding:
        return await payments.move(tx, payment=now, to="cancelled", reason="The hold ended.", checkout_url=url)
    await payments.move(tx, payment=now, to=to, reason=reason, checkout_url=url)
    return await payment_reads.by_id(tx, payment=payment.id)


async def _fail(tx: Transaction, house: House, payment: Payment, reason: str) -> None:
    booking = await bookings.lock(tx, booking=payment.booking_id)
    now = await payment_reads.by_id(tx, payment=payment.id)
    if now.state == "submitting":
        channels = house.settings.message_channels
        await fail_attempt(tx, payment=now, booking=booking, reason=reason, channels=channels)


def _fitting(house: House, ways: Sequence[Way], intent: Intent, *, currency: str) -> list[Way]:
    """The ways that this is, the first choice first; raises InvalidInput where there is none."""
    if intent.gateway is not None and intent.gateway not in house.gateways:
        known = ", ".join(house.gateways)
        raise InvalidInput("gateway", f"There is no gateway {intent.gateway!r}. Use one of {known}.")
    through = [way for way in ways if intent.gateway in {None, way.gateway}]
    fitting = [way for way in through if way.method == intent.method]
    if not fitting:
        possible = ", ".join(dict.fromkeys(way.method for way in through)) or "nothing"
        whose = f" through {intent.gateway}" if intent.gateway else ""
        raise InvalidInput(
            "paymentMethod", f"{currency} cannot be paid here with {intent.method}{whose}, only with {possible}."
        )
    if intent.method == "CASH":
        return fitting  # at a counter, whatever channel was meant
    fitting = [way for way in fitting if intent.channel in way.channels]
    if intent.channel == "hosted":
        if not fitting:
            raise InvalidInput("channel", f"There is no page to pay on with {intent.method}. Use DIRECT.")
        return fitting
    if not fitting:
        raise InvalidInput("channel", f"No phone can be asked to pay {currency} with {intent.method}. Use HOSTED.")
    return _for_phone(house, fitting, intent.phone, currency=currency)


def _for_phone(house: House, ways: Sequence[Way], phone: str, *, currency: str) -> list[Way]:
    """Those of the direct ways that can ask this phone; raises InvalidInput with what the first has against it."""
    if not phone:
        raise InvalidInput("phoneNumber", "Give the number of the phone that should be asked to pay.")
    objections = []
    fitting = []
    for way in ways:
        gateway = house.gateway(way.gateway)
        assert isinstance(gateway, DirectCharges), "only they have a direct channel"
        objection = gateway.objection_to_phone(phone, currency=currency)
        if objection is None:
            fitting.append(way)
        else:
            objections.append(objection)
    if not fitting:
        raise InvalidInput("phoneNumber", objections[0])
    return fitting


def _check_due(due: Money, fee: int, intent: Intent) -> None:
    if intent.amount is not None and intent.amount != due.amount:
        raise InvalidInput("amount", f"What is due is {due.amount} {due.currency} (minor units), not {intent.amount}.")
    if intent.total is not None and intent.total != due.amount + fee:
        costs = f"{due.amount + fee} {due.currency} (minor units)"
        raise InvalidInput("total", f"With the fee of {fee} it is {costs}, not {intent.total}.")
    if intent.currency is not None and intent.currency.upper() != due.currency:
        raise InvalidInput("currency", f"This booking is paid in {due.currency}, not {intent.currency}.")


def _return_url(house: House, payment: Payment) -> str:
    return f"{house.settings.base_url}/pay/{payment.id}/return"


def _request(house: House, payment: Payment, booking: Booking) -> CheckoutRequest:
    session = max(1, int((payment.expires_at - payment.now).total_seconds()) // 60)
    return CheckoutRequest(
        reference=str(payment.id),
        amount=payment.total,
        method=payment.method,  # type: ignore[arg-type] # the column's CHECK names the same five
        customer_email=booking.contact_email,
        customer_name=booking.contact_name,
        customer_phone=booking.contact_phone,
        return_url=_return_url(house, payment),
        session_minutes=session,
        description=f"Kiti booking {booking.reference}",
    )
