"""Authorised money: the seats first, then the money.

A gateway that only authorises leaves it to us whether anything is taken at all. So one transaction makes the seats ours
for longer than any capture takes, and the gateway is asked to capture after it. Where the seats cannot be had, the
authorisation is let go: nothing is taken, so nothing has to go back.

Killed between any two steps, the attempt stands as `authorised` or as before, and the poller comes here again: seats
that are ours stay ours, and the gateway captures or cancels a payment once, however often it is asked.
"""

from datetime import timedelta
from typing import Protocol
from uuid import UUID

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, Booking
from kiti.db import Transaction
from kiti.flows.holds import can_board, hold_until, wants_of
from kiti.flows.house import House
from kiti.flows.plan import SeatsTaken
from kiti.gateways.gateway import (
    Authorised,
    Authorising,
    Captured,
    Declined,
    Gateway,
    Missing,
    Pending,
    Rejected,
    Truth,
    Unknown,
)
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import PAYMENT_TRANSITIONS, Payment
from kiti.seats import actions as seats
from kiti.seats.model import Lost

# Longer than an outage in which the outcome of a capture stays unknown. Who lets go gives the seats back at once.
KEPT_SECONDS = 24 * 3600
# The poller's next look, should this process die before it has captured.
LOOK_AGAIN_SECONDS = 20

SEATS_GONE = "Somebody else has these seats by now. Nothing was charged."
ENDED = "The booking was given up, or has been paid for already. Nothing was charged."
OTHER_ATTEMPT = "Another payment for this booking is under way. Nothing was charged."
LEFT = "The trip has left or was cancelled. Nothing was charged."

Settled = Captured | Declined | Pending | Missing | Unknown


class _Gateway(Gateway, Authorising, Protocol):
    """A gateway that can do both."""


async def take_or_let_go(house: House, payment: Payment, truth: Authorised, *, objection: str | None) -> Settled:
    """What becomes of authorised money: captured, declined because we let it go, or not known yet.

    `objection` is why it must not be taken whatever the seats. Raises what the gateway's verbs raise.
    """
    gateway = house.gateway(payment.gateway)
    assert isinstance(gateway, Authorising), f"{gateway.name} tells of an authorisation and cannot capture it"
    refusal = objection
    if refusal is None:
        try:
            refusal = await house.db.run(lambda tx: _keep_seats(tx, payment.id, truth))
        except SeatsTaken:
            refusal = SEATS_GONE
    if refusal is not None:
        return await _let_go(gateway, truth, refusal)
    answer = await gateway.capture(truth.transaction_id, reference=truth.reference, amount=payment.total)
    match answer:
        case Captured():
            return answer
        case Rejected(reason=reason) | Unknown(reason=reason):
            return _undecided(await gateway.verify(truth.transaction_id), f"not captured yet: {reason}")


async def _keep_seats(tx: Transaction, payment_id: UUID, truth: Authorised) -> str | None:
    """Make the seats ours for as long as the capture may take; or why not. Raises SeatsTaken."""
    found = await payment_reads.by_id(tx, payment=payment_id)
    booking = await bookings.lock(tx, booking=found.booking_id)
    payment = await payment_reads.by_id(tx, payment=payment_id)
    lines = await booking_reads.seats_of(tx, bookings=[booking.id])
    refusal = await _refusal(tx, payment, booking, lines)
    if refusal is not None:
        return refusal
    await _claim(tx, booking, lines)
    if booking.state == "held":
        await bookings.move(tx, booking=booking, to="awaiting_payment")
    if "authorised" in PAYMENT_TRANSITIONS[payment.state]:
        await payments.move(tx, payment=payment, to="authorised", reason=f"transaction {truth.transaction_id}")
        await audit.record(tx, events=[_event(payment, truth)])
    await payments.poll_later(tx, payment=payment, seconds=LOOK_AGAIN_SECONDS)
    return None


async def _refusal(tx: Transaction, payment: Payment, booking: Booking, lines: list[BookedSeat]) -> str | None:
    if payment.state in {"captured", "cancelled"} or booking.state not in {"held", "awaiting_payment", "expired"}:
        return ENDED
    newest = await payment_reads.newest_of_booking(tx, booking=booking.id)
    if newest is not None and newest.is_open and newest.id != payment.id:
        return OTHER_ATTEMPT
    return None if await can_board(tx, booking=booking, lines=lines) else LEFT


async def _claim(tx: Transaction, booking: Booking, lines: list[BookedSeat]) -> None:
    """Raises SeatsTaken. A booking that was swept up claims its seats anew, and stays expired until it is paid."""
    if booking.state != "expired":
        await hold_until(tx, booking=booking, until=booking.now + timedelta(seconds=KEPT_SECONDS))
        return
    claims = await seats.claim(tx, wants=wants_of(lines), ttl_seconds={booking.id: KEPT_SECONDS})
    claimed = claims[booking.id]
    if isinstance(claimed, Lost):
        raise SeatsTaken([seat for _, seat in claimed.seats])


async def _let_go(gateway: _Gateway, truth: Authorised, reason: str) -> Settled:
    answer = await gateway.cancel(truth.transaction_id, reference=truth.reference)
    match answer:
        case Declined():
            return Declined(transaction_id=truth.transaction_id, reference=truth.reference, reason=reason)
        case Rejected(reason=why) | Unknown(reason=why):
            return _undecided(await gateway.verify(truth.transaction_id), f"not let go yet: {why}", declined=reason)


def _undecided(truth: Truth, reason: str, *, declined: str | None = None) -> Settled:
    """The truth after a lost answer. What is authorised still was perhaps not asked for yet: the poller asks again."""
    match truth:
        case Authorised():
            return Unknown(reason=reason)
        case Declined() if declined is not None:
            return Declined(transaction_id=truth.transaction_id, reference=truth.reference, reason=declined)
        case Captured() | Declined() | Pending() | Missing() | Unknown():
            return truth


def _event(payment: Payment, truth: Authorised) -> Event:
    return Event(
        subject=payment.booking_id,
        actor=payment.gateway,
        action="payment.authorised",
        detail={
            "payment": str(payment.id),
            "transaction": truth.transaction_id,
            "amount": truth.amount.amount,
            "currency": truth.amount.currency,
        },
    )
