"""Confirm paid bookings in batches: the way that nearly all money goes.

Plain is money that is enough, the first for its booking, for seats that are still ours or free on trips that can
still be boarded. All else is answered with Alone, and `flows.settle` takes a transaction for it.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, Booking
from kiti.db import Database, Transaction
from kiti.fees import reads as fee_reads
from kiti.fees.model import Part
from kiti.flows.announce import announce, captured, of_booking
from kiti.flows.grouping import LANES, MAX_QUEUE, GroupCommit, Verdict
from kiti.flows.holds import call_off, is_in_time, wants_of
from kiti.flows.letters import occasions
from kiti.flows.queued import Alone, Capture, Captures
from kiti.flows.settle import capture_event, charge_of, objection_to, posting_of
from kiti.ledger import actions as ledger
from kiti.messages.model import Channel
from kiti.network import reads as network
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import PAYMENT_TRANSITIONS, WAITING, Payment
from kiti.seats import actions as seats
from kiti.seats.model import Claimed
from kiti.tickets import actions as tickets
from kiti.tickets.signing import SigningKey

# Each seat is signed for while the batch's rows are locked.
MAX_BATCH = 64


class _Case(msgspec.Struct, frozen=True):
    """Money, and what it is for."""

    capture: Capture
    payment: Payment
    attempts: list[Payment]
    booking: Booking
    lines: list[BookedSeat]
    parts: list[Part]


def group_captures(
    db: Database,
    *,
    key: SigningKey,
    channels: Collection[Channel] = (),
    lanes: int = LANES,
    max_queue: int = MAX_QUEUE,
) -> Captures:
    """Captures in batches. Webhook, browser and poller that tell of the same transaction at once get one answer."""

    async def commit(tx: Transaction, captures: Sequence[Capture]) -> list[Payment | Alone]:
        return await capture_batch(tx, captures, key=key, channels=channels)

    return GroupCommit(db, commit, keys=_key, foresee=_known, lanes=lanes, max_batch=MAX_BATCH, max_queue=max_queue)


async def capture_batch(
    tx: Transaction, captures: Sequence[Capture], *, key: SigningKey, channels: Collection[Channel] = ()
) -> list[Payment | Alone]:
    """Confirm many bookings; each capture gets its own answer, in their order.

    Four round trips and the commit, and one more where somebody has lost a seat.
    """
    cases = await _plain_cases(tx, captures)
    if cases:
        boarding = await network.boarding(tx, trips=list({line.trip_id for case in cases for line in case.lines}))
        cases = [case for case in cases if is_in_time(case.booking, case.lines, boarding)]
    if cases:
        claims = await seats.confirm(tx, wants=wants_of([line for case in cases for line in case.lines]))
        cases = [case for case in cases if isinstance(claims[case.booking.id], Claimed)]
    paid = await _fulfil(tx, cases, key, channels) if cases else {}
    return [paid.get(capture.payment, Alone()) for capture in captures]


async def _plain_cases(tx: Transaction, captures: Sequence[Capture]) -> list[_Case]:
    """Lock the bookings; those whose money is plain as far as their own rows tell."""
    ids = [capture.booking for capture in captures]
    locked = await bookings.lock_many(tx, bookings=ids)
    attempts = await payment_reads.of_bookings(tx, bookings=ids)
    charged = await payment_reads.charged(tx, bookings=ids)
    told = await fee_reads.of_payments(tx, bookings=ids, payments=[capture.payment for capture in captures])
    lines: dict[UUID, list[BookedSeat]] = {}
    for line in await booking_reads.seats_of(tx, bookings=ids):
        lines.setdefault(line.booking_id, []).append(line)
    standing, theirs, known, parts = await locked(), await attempts(), await charged(), await told()
    cases = [
        _Case(
            capture,
            payment,
            theirs[capture.booking],
            standing[capture.booking],
            lines[capture.booking],
            parts[payment.id],
        )
        for capture in captures
        for payment in theirs[capture.booking]
        if payment.id == capture.payment and capture.booking not in known
    ]
    return [case for case in cases if _is_plain(case)]


def _is_plain(case: _Case) -> bool:
    truth, payment = case.capture.truth, case.payment
    return (
        truth.reference == str(payment.id)
        and objection_to(truth.amount, payment.total) is None
        and "captured" in PAYMENT_TRANSITIONS[payment.state]
        and case.booking.state in {"held", "awaiting_payment", "expired"}
    )


async def _fulfil(
    tx: Transaction, cases: Sequence[_Case], key: SigningKey, channels: Collection[Channel]
) -> dict[UUID, Payment]:
    """Write down what follows from money that buys seats which are claimed for ever; the payments by id."""
    await payments.record_charges(
        tx, charges=[charge_of(case.payment, case.capture.truth, "fulfils") for case in cases]
    )
    postings = [posting_of(case.payment, case.capture.truth, "fulfils", case.lines, case.parts) for case in cases]
    await ledger.post_many(tx, postings=postings)
    paid = await payments.move_many(
        tx,
        payments=[case.payment for case in cases],
        to="captured",
        reasons=[f"transaction {case.capture.truth.transaction_id}" for case in cases],
        ask_again_seconds=None,
    )
    dropped = await call_off(
        tx,
        attempts=[
            other for case in cases for other in case.attempts if other.id != case.payment.id and other.state in WAITING
        ],
        reason="Another attempt has paid for the booking.",
    )
    confirmed = await bookings.move_many(tx, bookings=[case.booking for case in cases], to="confirmed")
    await audit.record(tx, events=[capture_event(case.payment, case.capture.truth, "fulfils", None) for case in cases])
    await tickets.issue_many(tx, bookings=[case.booking.id for case in cases], key=key)
    receipts = [(case.booking, case.capture.truth.amount) for case in cases]
    await occasions.paid(tx, receipts=receipts, channels=channels)
    await announce(
        tx,
        *(of_booking("booking.confirmed", case.booking.id) for case in cases),
        *(captured(case.payment, case.capture.truth, "fulfils") for case in cases),
    )
    await confirmed()
    await dropped()
    return {payment.id: payment for payment in await paid()}


def _key(capture: Capture) -> frozenset[UUID]:
    return frozenset([capture.booking])


def _known(done: Sequence[tuple[Capture, Payment | Alone]]) -> Verdict[Capture, Payment | Alone] | None:
    """Whoever waits to tell of a transaction that has just been written down need not tell of it again."""
    written = {
        (capture.payment, capture.truth.transaction_id): answer
        for capture, answer in done
        if isinstance(answer, Payment)
    }
    return (lambda capture, _: written.get((capture.payment, capture.truth.transaction_id))) if written else None
