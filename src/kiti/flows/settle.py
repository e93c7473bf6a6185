"""Settle: ask the gateway for the truth about a payment, then act on it once.

Webhook, browser return, poller and operator button all call `settle_payment`. What it does is safe to do any
number of times, side by side: the gateway is asked outside any transaction, then one transaction locks the
booking and makes at most one guarded transition.

Money that the gateway has is written down as a charge, whatever else is the case. It then buys the seats, if they
are still ours or free, or it goes back to the traveller, or it waits for a person. Never silence.
"""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, Booking
from kiti.core.errors import KitiError
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.fees import reads as fee_reads
from kiti.fees.model import Part
from kiti.flows.announce import announce, captured, of_booking, of_payment
from kiti.flows.attempts import back_to_hold, look_at_unasked
from kiti.flows.authorise import take_or_let_go
from kiti.flows.equivalent_seats import take_instead
from kiti.flows.holds import call_off, can_board, hold_until, wants_of
from kiti.flows.house import House
from kiti.flows.letters import occasions
from kiti.flows.prices import shares_of
from kiti.flows.queued import Capture
from kiti.flows.refunds import request_refund
from kiti.gateways.gateway import (
    Authorised,
    Authorising,
    Captured,
    Declined,
    Missing,
    Pending,
    Truth,
    Unknown,
    UnreadableAmount,
)
from kiti.ledger import actions as ledger
from kiti.ledger.model import UNSPENT, Owner, Posting, capture
from kiti.messages.model import Channel
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import PAYMENT_TRANSITIONS, WAITING, NewCharge, Payment, Purpose
from kiti.seats import actions as seats
from kiti.seats.model import Claimed
from kiti.tickets import actions as tickets

# The poller asks soon, then ever less often, and goes on long after the hold has ended: mobile money is
# confirmed late, and an expired page may still have been paid. The age of the attempt decides, not how often
# somebody has asked: a traveller who reloads the page of their payment must not use up its polls.
FIRST_WAIT_SECONDS = 20
LONGEST_WAIT_SECONDS = 6 * 3600
POLL_FOR_SECONDS = 3 * 86_400
# While the outcome is unknown the hold is kept this far ahead, up to its cap.
PENDING_HOLD_MINUTES = 5
# ... and asked about often enough that it cannot lapse between two answers.
LONGEST_WAIT_WHILE_HOLDING_SECONDS = PENDING_HOLD_MINUTES * 60 - 60
# Money that was authorised lapses, and seats are kept for it: it is captured or let go before long.
WAIT_WHILE_AUTHORISED_SECONDS = 60
# How long an attempt without an answer may be unheard of before we believe that it never reached the gateway.
NEVER_ARRIVED_SECONDS = 120
NOBODY_PAID = "Nobody paid while the page was open."


class HintUnanswered(KitiError):
    """The gateway said nothing about the transaction that a webhook named, and nobody else will ask it again."""


async def settle_payment(
    house: House, payment: UUID, *, transaction_id: str = "", give_up_missing: bool = False, must_know: bool = False
) -> Payment:
    """Bring our record of a payment to what the gateway says; the payment as it then stands.

    `transaction_id` is a hint from a webhook or a browser; it counts only if the gateway says that the
    transaction belongs to this payment. `give_up_missing` takes an unknown reference as never sent. Raises NotFound,
    and with `must_know` HintUnanswered: a second transaction of a payment that is done is found by its hint alone.
    """
    async with house.db.reader() as reader:
        found = await payment_reads.by_id(reader, payment=payment)
    if found.state == "created":
        found = await _unasked(house, found, must_know=must_know)
        if found.state == "created" or not transaction_id:
            return found  # no gateway was asked, so none has anything to say
    try:
        hinted = await _ask_about_hint(house, found, transaction_id)
        truth = await _whole_truth(house, found, hinted)
        if isinstance(truth, Authorised):
            # Nothing is taken yet, and whether it will be is ours to say.
            objection_to_taking = objection_to(truth.amount, found.total)
            truth = await take_or_let_go(house, found, truth, objection=objection_to_taking)
            hinted = None if hinted is None else truth
    except UnreadableAmount as error:
        objection = str(error)
        settled = await house.db.run(lambda tx: _unreadable(tx, found.id, objection))
        if must_know and settled.state == "captured":
            raise HintUnanswered(objection) from error
        return settled
    match truth:
        case Captured(amount=Money(amount=0)):
            settled = await house.db.run(lambda tx: _unreadable(tx, found.id, "The gateway says that it took nothing."))
        case Captured():
            settled = await _capture(house, found, truth)
        case Declined(reason=reason):
            settled = await house.db.run(lambda tx: _declined(tx, house, found.id, reason))
        case Pending() | Missing() | Unknown():
            settled = await house.db.run(lambda tx: _undecided(tx, house, found.id, truth, give_up=give_up_missing))
    if settled.checkout_url is not None and not settled.is_direct and _page_has_ended(house, settled):
        # Best effort: a page that cannot be closed is a payment that comes late, and that is provided for.
        await house.gateway(found.gateway).close_checkout(settled.checkout_url)
    is_open = isinstance(hinted, Unknown | Pending | Missing) and _next_poll_seconds(settled) is None
    if must_know and is_open and not await _is_known(house, settled, transaction_id):
        raise HintUnanswered(f"The gateway has not decided about transaction {transaction_id} yet.")
    return settled


async def fail_attempt(
    tx: Transaction, *, payment: Payment, booking: Booking, reason: str, channels: Collection[Channel]
) -> None:
    """The attempt came to nothing: say why, and give up what it had added to the hold."""
    await payments.move(tx, payment=payment, to="failed", reason=reason)
    await back_to_hold(tx, booking)
    await occasions.failed(tx, booking=booking, attempt=payment.id, channels=channels)
    await announce(tx, of_payment("payment.failed", payment, reason=reason))
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


async def adopt(tx: Transaction, house: House, *, payment: UUID, truth: Captured) -> Payment:
    """Take money for this payment, under whatever reference it came to the gateway: a person says what it is for.

    It becomes what money that came by itself becomes. Nobody may have written the transaction down before.
    """
    return await _captured(tx, house, payment, msgspec.structs.replace(truth, reference=str(payment)))


async def give_back_rest(tx: Transaction, house: House, payment: Payment) -> None:
    """Refund all of this payment that has bought nothing, as far as no refund has been asked for yet.

    That is what has just come in if it found no seats, and what came short before another transaction paid in full.
    """
    reasons = {"surplus": "The booking was paid twice.", "unfulfillable": "The payment came too late for these seats."}
    charges = await payment_reads.charges_of(tx, booking=payment.booking_id)
    is_paid = any(charge.purpose == "fulfils" for charge in charges)
    for charge in charges:
        if charge.payment_id != payment.id or charge.purpose == "fulfils" or charge.left == 0:
            continue
        await request_refund(
            tx,
            house,
            booking=payment.booking_id,
            gateway=charge.gateway,
            transaction_id=charge.transaction_id,
            amount=Money(charge.left, charge.currency),
            preferred={},
            reason=reasons["surplus" if is_paid else charge.purpose],
        )


def objection_to(paid: Money, due: Money) -> str | None:
    """Why a person must look at this money; None: it is enough. Too much is accepted."""
    if paid.currency != due.currency:
        return f"Paid in {paid.currency} instead of {due.currency}."
    if paid.amount < due.amount:
        return f"Paid {paid.amount} instead of {due.amount} {due.currency} (minor units)."
    return None


def charge_of(payment: Payment, truth: Captured, purpose: Purpose) -> NewCharge:
    """The charge that money becomes."""
    return NewCharge(
        payment=payment,
        transaction_id=truth.transaction_id,
        purpose=purpose,
        amount=truth.amount,
        fee_exact=truth.fee_exact,
    )


def posting_of(
    payment: Payment, truth: Captured, purpose: Purpose, lines: list[BookedSeat], parts: list[Part]
) -> Posting:
    """The same in the ledger. What fulfils is shared out among operators and platform, by the payment's `parts`."""
    paid = truth.amount.amount
    shares: dict[Owner, int] = shares_of(paid, lines, parts) if purpose == "fulfils" else {UNSPENT: paid}
    return Posting(
        booking=payment.booking_id,
        event=f"capture:{payment.gateway}:{truth.transaction_id}",
        currency=truth.amount.currency,
        entries=capture(payment.gateway, shares=shares, fee_exact=truth.fee_exact),
    )


def capture_event(payment: Payment, truth: Captured, purpose: Purpose, objection: str | None) -> Event:
    """What the audit log says of it."""
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


def _page_has_ended(house: House, payment: Payment) -> bool:
    """Whether nobody should pay on the page any more.

    After a decline a page that authorises goes on, for half an hour and longer than the hold. What is paid where the
    money is taken at once is not to be cut short.
    """
    if payment.state in {"failed", "expired", "cancelled"}:
        return True
    is_over = payment.state == "pending" and payment.expires_at <= payment.now
    return is_over and isinstance(house.gateway(payment.gateway), Authorising)


async def _is_known(house: House, payment: Payment, transaction_id: str) -> bool:
    async with house.db.reader() as reader:
        charge = await payment_reads.charge(
            reader, booking=payment.booking_id, gateway=payment.gateway, transaction_id=transaction_id
        )
    return charge is not None


async def _ask_about_hint(house: House, payment: Payment, transaction_id: str) -> Truth | None:
    """What the gateway says of the transaction; None without a hint, or if it is not this payment's."""
    if not transaction_id:
        return None
    try:
        truth = await house.gateway(payment.gateway).verify(transaction_id)
    except UnreadableAmount as error:
        if error.reference == str(payment.id):
            raise
        return None
    match truth:
        case Captured() | Authorised() | Declined() | Pending():
            return truth if truth.reference == str(payment.id) else None
        case Missing() | Unknown():
            return truth


async def _whole_truth(house: House, payment: Payment, hinted: Truth | None) -> Truth:
    """A hint that failed is not all: another transaction of the same reference may have succeeded."""
    if isinstance(hinted, Captured | Authorised):
        return hinted
    truth = await house.gateway(payment.gateway).lookup(str(payment.id))
    if isinstance(hinted, Declined | Pending) and not isinstance(truth, Captured | Authorised):
        return hinted
    if isinstance(truth, Captured | Authorised) and truth.reference != str(payment.id):
        return Unknown(reason=f"the gateway told of {truth.reference} instead")
    return truth


async def _locked(tx: Transaction, payment_id: UUID) -> tuple[Payment, Booking]:
    """The payment as it stands once its booking is locked: whoever settles it too has to wait."""
    payment = await payment_reads.by_id(tx, payment=payment_id)
    booking = await bookings.lock(tx, booking=payment.booking_id)
    return await payment_reads.by_id(tx, payment=payment_id), booking


async def _capture(house: House, payment: Payment, truth: Captured) -> Payment:
    """In a batch where it is as plain as nearly always, by itself where it is not."""
    settled = await house.captures.submit(Capture(payment=payment.id, booking=payment.booking_id, truth=truth))
    if isinstance(settled, Payment):
        return settled
    return await house.db.run(lambda tx: _captured(tx, house, payment.id, truth))


async def _captured(tx: Transaction, house: House, payment_id: UUID, truth: Captured) -> Payment:
    payment, booking = await _locked(tx, payment_id)
    known = await payment_reads.charge(
        tx, booking=booking.id, gateway=payment.gateway, transaction_id=truth.transaction_id
    )
    if known is not None:
        await payments.poll_no_more(tx, payment=payment)
        return payment
    assert truth.reference == str(payment.id), "whoever asked has compared the references"
    objection = objection_to(truth.amount, payment.total)
    lines = await booking_reads.seats_of(tx, bookings=[booking.id])
    parts = await _parts(tx, payment)
    purpose = await _purpose(tx, house, booking, lines, objection=objection)
    await payments.record_charges(tx, charges=[charge_of(payment, truth, purpose)])
    await ledger.post_many(tx, postings=[posting_of(payment, truth, purpose, lines, parts)])
    # A payment that is done cannot go to review any more; what comes on top of it goes back.
    is_for_a_person = objection is not None and purpose != "surplus" and payment.state != "captured"
    if is_for_a_person and payment.state != "review":
        await payments.move(tx, payment=payment, to="review", reason=objection or "")
    elif not is_for_a_person and payment.state != "captured":
        await payments.move(tx, payment=payment, to="captured", reason=f"transaction {truth.transaction_id}")
    await payments.poll_no_more(tx, payment=payment)
    if purpose == "fulfils":
        await bookings.move(tx, booking=booking, to="confirmed")
        await tickets.issue(tx, booking=booking.id, key=house.ticket_key)
        await _drop_other_attempt(tx, payment)
        receipts = [(booking, truth.amount)]
        await occasions.paid(tx, receipts=receipts, channels=house.settings.message_channels)
        await announce(tx, of_booking("booking.confirmed", booking.id))
    await announce(tx, captured(payment, truth, purpose, objection=objection if is_for_a_person else None))
    if not is_for_a_person:
        await give_back_rest(tx, house, payment)
    await audit.record(tx, events=[capture_event(payment, truth, purpose, objection)])
    return await payment_reads.by_id(tx, payment=payment.id)


async def _drop_other_attempt(tx: Transaction, paid: Payment) -> None:
    """Nothing is due any more: an attempt that is still open is called off, and the poller closes its page."""
    other = await payment_reads.newest_of_booking(tx, booking=paid.booking_id)
    if other is not None and other.id != paid.id and other.state in WAITING:
        dropped = await call_off(tx, attempts=[other], reason="Another attempt has paid for the booking.")
        await dropped()


async def _parts(tx: Transaction, payment: Payment) -> list[Part]:
    """What the payment is for beside the fares."""
    told = await fee_reads.of_payments(tx, bookings=[payment.booking_id], payments=[payment.id])
    return (await told())[payment.id]


async def _purpose(
    tx: Transaction, house: House, booking: Booking, lines: list[BookedSeat], *, objection: str | None
) -> Purpose:
    """What the money is good for. Claims the seats for ever where it fulfils the booking."""
    charges = await payment_reads.charges_of(tx, booking=booking.id)
    if any(charge.purpose == "fulfils" for charge in charges):
        return "surplus"
    if objection is not None or booking.state not in {"held", "awaiting_payment", "expired"}:
        return "unfulfillable"
    if not await can_board(tx, booking=booking, lines=lines):
        return "unfulfillable"
    claims = await seats.confirm(tx, wants=wants_of(lines))
    if isinstance(claims[booking.id], Claimed):
        return "fulfils"
    channels = house.settings.message_channels
    return "fulfils" if await take_instead(tx, booking=booking, lines=lines, channels=channels) else "unfulfillable"


async def _declined(tx: Transaction, house: House, payment_id: UUID, reason: str) -> Payment:
    payment, booking = await _locked(tx, payment_id)
    if payment.is_open:
        channels = house.settings.message_channels
        await fail_attempt(tx, payment=payment, booking=booking, reason=reason, channels=channels)
    # A page that stays open may still be paid on: keep asking, ever less often.
    await _poll_on(tx, payment)
    return await payment_reads.by_id(tx, payment=payment.id)


async def _unreadable(tx: Transaction, payment_id: UUID, reason: str) -> Payment:
    """Money was taken, and how much cannot be told in minor units: a person must look."""
    payment, _ = await _locked(tx, payment_id)
    if payment.state not in {"captured", "review"}:
        await payments.move(tx, payment=payment, to="review", reason=reason)
        await announce(tx, of_payment("payment.review", payment, reason=reason))
    event = Event(
        subject=payment.booking_id,
        actor=payment.gateway,
        action="payment.unreadable",
        detail={"payment": str(payment.id), "reason": reason},
    )
    await audit.record(tx, events=[event])
    await payments.poll_no_more(tx, payment=payment)
    return await payment_reads.by_id(tx, payment=payment.id)


async def _unasked(house: House, payment: Payment, *, must_know: bool) -> Payment:
    """One whose gateway was not asked: given up if nobody will ask, as it stands if somebody is about to."""
    now = await house.db.run(lambda tx: look_at_unasked(tx, payment=payment.id))
    if now.state == "created" and must_know:
        raise HintUnanswered("The gateway is only about to be asked for this payment.")
    return now


async def _undecided(
    tx: Transaction, house: House, payment_id: UUID, truth: Pending | Missing | Unknown, *, give_up: bool
) -> Payment:
    payment, booking = await _locked(tx, payment_id)
    payment = await _note_question(tx, payment, truth)
    age_seconds = (payment.now - payment.created_at).total_seconds()
    never_arrived = (
        isinstance(truth, Missing)
        and payment.state in {"submitting", "unknown"}
        and (give_up or age_seconds > NEVER_ARRIVED_SECONDS)
    )
    if never_arrived:
        reason = "The gateway never got the request."
        channels = house.settings.message_channels
        await fail_attempt(tx, payment=payment, booking=booking, reason=reason, channels=channels)
    elif "expired" in PAYMENT_TRANSITIONS[payment.state] and _is_unanswered(payment, truth):
        why = "Nobody approved it on the phone in time." if payment.is_direct else NOBODY_PAID
        await payments.move(tx, payment=payment, to="expired", reason=why)
        await back_to_hold(tx, booking)
    elif payment.is_open and age_seconds > POLL_FOR_SECONDS:
        # Nobody will ask any more, so it must not look as if somebody would.
        reason = "The gateway has not said for days how this payment ended. Look at it in its dashboard."
        await payments.move(tx, payment=payment, to="review", reason=reason)
        await back_to_hold(tx, booking)
        await announce(tx, of_payment("payment.review", payment, reason=reason))
    elif payment.is_open and isinstance(truth, Pending | Unknown) and booking.is_holding:
        await _keep_hold(tx, booking)
    if payment.is_direct and payment.state in {"submitting", "unknown"} and isinstance(truth, Pending):
        now = await payment_reads.by_id(tx, payment=payment.id)
        if now.state == payment.state:
            await payments.move(tx, payment=now, to="pending", reason="The gateway has it: the phone is asked.")
    await _poll_on(tx, payment, is_holding=booking.is_holding)
    return await payment_reads.by_id(tx, payment=payment.id)


async def _note_question(tx: Transaction, payment: Payment, truth: Pending | Missing | Unknown) -> Payment:
    """Whether the traveller is before a question of their bank's, as far as that is told."""
    if not isinstance(truth, Pending) or payment.state not in WAITING:
        return payment
    if truth.requires_action == (payment.state == "requires_action"):
        return payment
    if truth.requires_action:
        return await payments.move(tx, payment=payment, to="requires_action", reason="The bank asks the traveller.")
    return await payments.move(tx, payment=payment, to="pending", reason="The bank has its answer.")


def _is_unanswered(payment: Payment, truth: Pending | Missing | Unknown) -> bool:
    """Whether the time to pay is over and nobody has.

    A prompt on a phone ends by itself after some minutes, but its charge may stay pending at the gateway for days.
    """
    is_nobodys = isinstance(truth, Missing) or (payment.is_direct and isinstance(truth, Pending))
    return is_nobodys and payment.expires_at <= payment.now


async def _keep_hold(tx: Transaction, booking: Booking) -> None:
    """Somebody is paying right now: the hold does not lapse under them before its cap."""
    until = min(booking.now + timedelta(minutes=PENDING_HOLD_MINUTES), booking.hold_cap_at)
    if until > booking.hold_expires_at:
        await hold_until(tx, booking=booking, until=until)


async def _poll_on(tx: Transaction, payment: Payment, *, is_holding: bool = False) -> None:
    seconds = _next_poll_seconds(payment)
    if seconds is not None and is_holding:
        seconds = min(seconds, LONGEST_WAIT_WHILE_HOLDING_SECONDS)
    if seconds is None:
        await payments.poll_no_more(tx, payment=payment)
    else:
        await payments.poll_later(tx, payment=payment, seconds=seconds)


def _next_poll_seconds(payment: Payment) -> int | None:
    """When to ask again; None where nothing is left to ask, or where the gateway has had days to answer."""
    age_seconds = int((payment.now - payment.created_at).total_seconds())
    if payment.state in {"captured", "review"} or age_seconds > POLL_FOR_SECONDS:
        return None
    if payment.state == "authorised":
        return WAIT_WHILE_AUTHORISED_SECONDS
    return min(LONGEST_WAIT_SECONDS, max(FIRST_WAIT_SECONDS, age_seconds // 2))
