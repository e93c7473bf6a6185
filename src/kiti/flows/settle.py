"""Settle: ask the gateway for the truth about a payment, then act on it once.

Webhook, browser return, poller and operator button all call `settle_payment`. What it does is safe to do any
number of times, side by side: the gateway is asked outside any transaction, then one transaction locks the
booking and makes at most one guarded transition.

Money that the gateway has is written down as a charge, whatever else is the case. It then buys the seats, if they
are still ours or free, or it goes back to the traveller, or it waits for a person. Never silence.
"""

from datetime import timedelta
from uuid import UUID

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, Booking
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.flows.holds import hold_until, wants_of
from kiti.flows.house import House
from kiti.flows.refunds import request_refund
from kiti.gateways.gateway import Captured, Declined, Missing, Pending, Truth, Unknown, UnreadableAmount
from kiti.ledger import actions as ledger
from kiti.ledger.model import capture, share_out
from kiti.network import reads as network
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import Payment, Purpose
from kiti.seats import actions as seats
from kiti.seats.model import Claimed
from kiti.tickets import actions as tickets

# The poller asks after 20 s, then ever less often, and goes on long after the hold has ended: mobile money is
# confirmed late, and an expired page may still have been paid.
POLL_STEPS_SECONDS = (20, 20, 30, 30, 60, 60, 120, 120, 300, 300, 600, 600, 1800, 3600, 3600, 7200, 14400, 28800)
# A traveller who has been declined gets this long to try again, even if the hold would be over.
RETRY_GRACE_MINUTES = 3
# While the outcome is unknown the hold is kept this far ahead, up to its cap.
PENDING_HOLD_MINUTES = 5
# How long an attempt without an answer may be unheard of before we believe that it never reached the gateway.
NEVER_ARRIVED_SECONDS = 120


async def settle_payment(
    house: House, payment: UUID, *, transaction_id: str = "", give_up_missing: bool = False
) -> Payment:
    """Bring our record of a payment to what the gateway says; the payment as it then stands.

    `transaction_id` is a hint from a webhook or a browser; it counts only if the gateway says that the
    transaction belongs to this payment. `give_up_missing` takes an unknown reference as never sent. Raises NotFound.
    """
    async with house.db.reader() as reader:
        found = await payment_reads.by_id(reader, payment=payment)
    try:
        truth = await _ask(house, found, transaction_id)
    except UnreadableAmount as error:
        objection = str(error)
        return await house.db.run(lambda tx: _unreadable(tx, found.id, objection))
    match truth:
        case Captured():
            return await house.db.run(lambda tx: _captured(tx, house, found.id, truth))
        case Declined(reason=reason):
            settled = await house.db.run(lambda tx: _declined(tx, found.id, reason))
        case Pending() | Missing() | Unknown():
            settled = await house.db.run(lambda tx: _undecided(tx, found.id, truth, give_up=give_up_missing))
    if settled.state in {"failed", "expired", "cancelled"} and settled.checkout_url is not None and found.is_open:
        # Best effort: a page that cannot be closed is a payment that comes late, and that is provided for.
        await house.gateway(found.gateway).close_checkout(settled.checkout_url)
    return settled


async def fail_attempt(tx: Transaction, *, payment: Payment, booking: Booking, reason: str) -> None:
    """The attempt came to nothing: say why, and give up what it had added to the hold."""
    await payments.move(tx, payment=payment, to="failed", reason=reason)
    await _after_attempt(tx, booking)
    await audit.record(
        tx,
        events=[
            Event(
                subject=booking.id,
                actor=payment.gateway,
                action="payment.failed",
                detail={"payment": str(payment.id), "reason": reason},
            )
        ],
    )


async def _ask(house: House, payment: Payment, transaction_id: str) -> Truth:
    gateway = house.gateway(payment.gateway)
    if transaction_id:
        truth = await gateway.verify(transaction_id)
        if isinstance(truth, Captured | Declined | Pending) and truth.reference == str(payment.id):
            if isinstance(truth, Captured):
                return truth
            # This one failed; another transaction of the same reference may have succeeded.
            whole = await gateway.lookup(str(payment.id))
            return whole if isinstance(whole, Captured) else truth
    return await gateway.lookup(str(payment.id))


async def _captured(tx: Transaction, house: House, payment_id: UUID, truth: Captured) -> Payment:
    payment = await payment_reads.by_id(tx, payment=payment_id)
    booking = await bookings.lock(tx, booking=payment.booking_id)
    payment = await payment_reads.by_id(tx, payment=payment_id)
    known = await payment_reads.charge(
        tx, booking=booking.id, gateway=payment.gateway, transaction_id=truth.transaction_id
    )
    if known is not None or truth.reference != str(payment.id):
        return payment
    objection = _objection(truth.amount, payment.total)
    purpose = await _purpose(tx, booking, objection=objection)
    await payments.record_charge(
        tx,
        payment=payment,
        transaction_id=truth.transaction_id,
        purpose=purpose,
        amount=truth.amount.amount,
        currency=truth.amount.currency,
        fee_exact=truth.fee_exact,
    )
    lines = await booking_reads.seats_of(tx, bookings=[booking.id])
    await _post_capture(tx, payment, truth, lines)
    if payment.state != "captured":
        if objection is not None:
            await payments.move(tx, payment=payment, to="review", reason=objection)
        else:
            await payments.move(tx, payment=payment, to="captured", reason=f"transaction {truth.transaction_id}")
    await payments.poll_no_more(tx, payment=payment)
    if purpose == "fulfils":
        await bookings.move(tx, booking=booking, to="confirmed")
        await tickets.issue(tx, booking=booking.id, key=house.ticket_key)
    elif objection is None or purpose == "surplus":
        reason = "The booking was paid twice." if purpose == "surplus" else "The payment came after the seats had gone."
        await request_refund(
            tx,
            house,
            booking=booking.id,
            gateway=payment.gateway,
            transaction_id=truth.transaction_id,
            amount=truth.amount,
            shares=_shares(truth.amount.amount, lines),
            reason=reason,
        )
    await audit.record(tx, events=[_capture_event(payment, truth, purpose, objection)])
    return await payment_reads.by_id(tx, payment=payment.id)


async def _purpose(tx: Transaction, booking: Booking, *, objection: str | None) -> Purpose:
    """What the money is good for. Claims the seats for ever where it fulfils the booking."""
    charges = await payment_reads.charges_of(tx, booking=booking.id)
    if any(charge.purpose == "fulfils" for charge in charges):
        return "surplus"
    if objection is not None or booking.state not in {"held", "awaiting_payment", "expired"}:
        return "unfulfillable"
    lines = await booking_reads.seats_of(tx, bookings=[booking.id])
    boarding = await network.boarding(tx, trips=[line.trip_id for line in lines])
    for line in lines:
        departs_at = boarding.get((line.trip_id, line.from_seq))
        if departs_at is None or departs_at <= booking.now:
            return "unfulfillable"  # cancelled, or left without them
    claims = await seats.confirm(tx, wants=wants_of(lines))
    return "fulfils" if isinstance(claims[booking.id], Claimed) else "unfulfillable"


async def _post_capture(tx: Transaction, payment: Payment, truth: Captured, lines: list[BookedSeat]) -> None:
    shares = _shares(truth.amount.amount, lines)
    await ledger.post(
        tx,
        booking=payment.booking_id,
        event=f"capture:{payment.gateway}:{truth.transaction_id}",
        currency=truth.amount.currency,
        entries=capture(payment.gateway, shares=shares, fee_exact=truth.fee_exact),
    )


async def _declined(tx: Transaction, payment_id: UUID, reason: str) -> Payment:
    payment = await payment_reads.by_id(tx, payment=payment_id)
    booking = await bookings.lock(tx, booking=payment.booking_id)
    payment = await payment_reads.by_id(tx, payment=payment_id)
    if payment.is_open:
        await fail_attempt(tx, payment=payment, booking=booking, reason=reason)
    # A page that stays open may still be paid on: keep asking, ever less often.
    await _poll_on(tx, payment)
    return await payment_reads.by_id(tx, payment=payment.id)


async def _unreadable(tx: Transaction, payment_id: UUID, reason: str) -> Payment:
    """Money was taken, and how much cannot be told in minor units: a person must look."""
    payment = await payment_reads.by_id(tx, payment=payment_id)
    await bookings.lock(tx, booking=payment.booking_id)
    payment = await payment_reads.by_id(tx, payment=payment_id)
    if payment.state not in {"captured", "review"}:
        await payments.move(tx, payment=payment, to="review", reason=reason)
    await payments.poll_no_more(tx, payment=payment)
    return await payment_reads.by_id(tx, payment=payment.id)


async def _undecided(
    tx: Transaction, payment_id: UUID, truth: Pending | Missing | Unknown, *, give_up: bool
) -> Payment:
    payment = await payment_reads.by_id(tx, payment=payment_id)
    booking = await bookings.lock(tx, booking=payment.booking_id)
    payment = await payment_reads.by_id(tx, payment=payment_id)
    age_seconds = (payment.now - payment.created_at).total_seconds()
    never_arrived = (
        isinstance(truth, Missing)
        and payment.state in {"submitting", "unknown"}
        and (give_up or age_seconds > NEVER_ARRIVED_SECONDS)
    )
    if never_arrived:
        await fail_attempt(tx, payment=payment, booking=booking, reason="The gateway never got the request.")
    elif payment.is_open and isinstance(truth, Missing) and payment.expires_at <= payment.now:
        await payments.move(tx, payment=payment, to="expired", reason="Nobody paid while the page was open.")
        await _after_attempt(tx, booking)
    elif payment.is_open and isinstance(truth, Pending) and booking.is_holding:
        await _keep_hold(tx, booking)
    await _poll_on(tx, payment)
    return await payment_reads.by_id(tx, payment=payment.id)


async def _keep_hold(tx: Transaction, booking: Booking) -> None:
    """Somebody is paying right now: the hold does not lapse under them before its cap."""
    until = min(booking.now + timedelta(minutes=PENDING_HOLD_MINUTES), booking.hold_cap_at)
    if until > booking.hold_expires_at:
        await hold_until(tx, booking=booking, until=until)


async def _after_attempt(tx: Transaction, booking: Booking) -> None:
    """Back to an ordinary hold: its own end, or a short grace in which to try again."""
    if booking.state != "awaiting_payment":
        return
    await bookings.move(tx, booking=booking, to="held")
    if booking.is_lapsed:
        return
    grace = min(booking.now + timedelta(minutes=RETRY_GRACE_MINUTES), booking.hold_expires_at)
    until = max(booking.hold_until, grace)
    if until < booking.hold_expires_at:
        await hold_until(tx, booking=booking, until=until)


async def _poll_on(tx: Transaction, payment: Payment) -> None:
    if payment.polls >= len(POLL_STEPS_SECONDS):
        await payments.poll_no_more(tx, payment=payment)
    else:
        await payments.poll_later(tx, payment=payment, seconds=POLL_STEPS_SECONDS[payment.polls])


def _objection(paid: Money, due: Money) -> str | None:
    """Why a person must look at this money; None: it is enough. Too much is accepted."""
    if paid.currency != due.currency:
        return f"Paid in {paid.currency} instead of {due.currency}."
    if paid.amount < due.amount:
        return f"Paid {paid.amount} instead of {due.amount} {due.currency} (minor units)."
    return None


def _shares(total: int, lines: list[BookedSeat]) -> dict[UUID, int]:
    """The operators' parts of a payment, by their fares."""
    weights: dict[UUID, int] = {}
    for line in lines:
        weights[line.operator_id] = weights.get(line.operator_id, 0) + line.fare
    return share_out(total, weights=weights)


def _capture_event(payment: Payment, truth: Captured, purpose: Purpose, objection: str | None) -> Event:
    return Event(
        subject=payment.booking_id,
        actor=payment.gateway,
        action=f"payment.captured.{purpose}",
        detail={
            "payment": str(payment.id),
            "transaction": truth.transaction_id,
            "amount": truth.amount.amount,
            "currency": truth.amount.currency,
            "excess": max(0, truth.amount.amount - payment.total.amount) if objection is None else 0,
            "objection": objection,
        },
    )
