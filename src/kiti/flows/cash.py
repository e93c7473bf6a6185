"""Cash at a counter: write the receipt, then settle as for any gateway; hand a refund out once.

A receipt is written in a transaction of its own that also makes the payment due for the poller. Whatever stops the
clerk's machine after it, the money is found: `settle_payment` asks the gateway `cash`, which asks the receipts. So
late, double and concurrent cash obeys the same rules as all other money.
"""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import structlog

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import Booking
from kiti.cash import actions as cash
from kiti.cash import reads as cash_reads
from kiti.cash.model import LONGEST_COUNTER, CashRefund, Handout, Receipt
from kiti.core import text
from kiti.core.errors import InvalidInput, KitiError
from kiti.core.money import Money
from kiti.db import Database, Transaction
from kiti.flows.house import House
from kiti.flows.refunds import retry_refund
from kiti.flows.settle import settle_payment
from kiti.flows.staff import require
from kiti.gateways.gateway import Captured, GatewayRefund
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.actions import PaymentChanged
from kiti.payments.model import Payment, Refund
from kiti.people.model import Staff

log = structlog.get_logger(__name__)

GATEWAY = "cash"
# An attempt that is over may still be paid for: its seats may be free, and if not, the money goes back.
TAKABLE = {"submitting", "unknown", "pending", "expired"}
# A refund that has succeeded or been refused is nothing to hand out.
OWED = {"requested", "submitting", "unknown", "pending", "needs_attention"}


class AlreadyTaken(KitiError):
    """Another clerk has taken this money; the receipt's number is in the sentence."""


class AlreadyHandedOut(KitiError):
    """Another clerk has handed this refund out."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt, what has become of payment and booking, and whether this call wrote it."""

    receipt: Receipt
    payment: Payment
    booking: Booking
    is_new: bool


class HandedOut(msgspec.Struct, frozen=True, kw_only=True):
    """A refund that went back in cash, and whether this call wrote it down."""

    refund: Refund
    handout: Handout
    is_new: bool


async def take(house: House, *, payment: UUID, amount: int, currency: str, counter: str = "", staff: Staff) -> Taken:
    """Write down that the money of an attempt lies on the counter, and settle it.

    `amount` (minor units) and `currency` assert what is due. The same clerk again gets the same receipt. Raises
    NotAllowed, NotFound, InvalidInput, WrongState, AlreadyTaken.
    """
    where = _counter(counter)
    async with house.db.reader() as reader:
        found = await payment_reads.by_id(reader, payment=payment)
        operators = await booking_reads.operators_of(reader, booking=found.booking_id)
    for operator in operators:
        require(staff, "cash.take", operator=operator)
    if found.gateway != GATEWAY:
        raise InvalidInput("paymentId", f"This payment is made through {found.gateway}, not in cash.")
    check_due(found.total, amount=amount, currency=currency)

    async def work(tx: Transaction) -> tuple[Receipt, bool]:
        booking = await bookings.lock(tx, booking=found.booking_id)
        known = await cash_reads.receipt_of_payment(tx, payment=payment)
        if known is not None:
            if known.staff_id != staff.id:
                raise AlreadyTaken(f"Somebody has taken this money: receipt {known.number}. Take no more.")
            return known, False
        now = await payment_reads.by_id(tx, payment=payment)
        _check_takable(now, booking)
        receipt = await cash.take(
            tx,
            booking=booking.id,
            reference=booking.reference,
            payment=payment,
            amount=amount,
            currency=found.currency,
            staff=staff.id,
            counter=where,
        )
        await payments.poll_later(tx, payment=now, seconds=0)
        await _note(tx, booking.id, staff, "cash.taken", receipt=receipt.number, amount=str(amount), counter=where)
        return receipt, True

    receipt, is_new = await house.db.run(work)
    settled = await settle_payment(house, payment)
    async with house.db.reader() as reader:
        after = await booking_reads.by_id(reader, booking=found.booking_id)
    return Taken(receipt=receipt, payment=settled, booking=after, is_new=is_new)


async def hand_out(house: House, *, refund: UUID, counter: str = "", staff: Staff) -> HandedOut:
    """Write down that the money of a refund was handed back; once, whoever presses and however often.

    The same clerk again gets the same answer. Raises NotAllowed, NotFound, InvalidInput, WrongState, AlreadyHandedOut.
    """
    where = _counter(counter)
    async with house.db.reader() as reader:
        found = await payment_reads.refund(reader, refund=refund)
        lines = await booking_reads.seats_of(reader, bookings=[found.booking_id])
    for operator in {line.operator_id for line in lines}:
        require(staff, "cash.take", operator=operator)
    if found.gateway != GATEWAY:
        raise InvalidInput("refundId", f"This refund goes back through {found.gateway}, not in cash.")

    async def work(tx: Transaction) -> tuple[Handout, bool]:
        booking = await bookings.lock(tx, booking=found.booking_id)
        known = await cash_reads.handout(tx, booking=booking.id, refund=refund)
        if known is not None:
            if known.staff_id != staff.id:
                raise AlreadyHandedOut("Somebody has handed this money back. Hand out no more.")
            return known, False
        now = await payment_reads.refund(tx, refund=refund)
        if now.state not in OWED:
            raise WrongState(f"A refund that has {now.state} is nothing to hand out.")
        handout = await cash.hand_out(tx, booking=booking.id, refund=refund, staff=staff.id, counter=where)
        if now.state != "needs_attention":
            await payments.refund_later(tx, refund=now, seconds=0)
        await _note(tx, booking.id, staff, "cash.handed_out", refund=str(refund), amount=str(now.amount), counter=where)
        return handout, True

    handout, is_new = await house.db.run(work)
    try:
        done = await retry_refund(house, refund)
    except PaymentChanged:
        # The refund's own job is at it: it finds what was handed out, as this call would have.
        async with house.db.reader() as reader:
            done = await payment_reads.refund(reader, refund=refund)
    return HandedOut(refund=done, handout=handout, is_new=is_new)


async def gives_way(tx: Transaction, *, attempt: Payment, method: str) -> bool:
    """Call off an attempt in cash that nobody has paid, as the traveller chooses another way. The booking is locked."""
    if attempt.gateway != GATEWAY or method == "CASH" or attempt.state not in {"created", "submitting", "pending"}:
        return False
    if await cash_reads.receipt_of_payment(tx, payment=attempt.id) is not None:
        return False
    called_off = await payments.move(tx, payment=attempt, to="cancelled", reason="Another way to pay was chosen.")
    await payments.poll_no_more(tx, payment=called_off)
    return True


def check_due(due: Money, *, amount: int, currency: str) -> None:
    """Raise InvalidInput unless what lies on the counter is what is due, the fee included."""
    if amount != due.amount:
        raise InvalidInput("amount", f"What is due is {due.amount} {due.currency} (minor units), not {amount}.")
    if currency.upper() != due.currency:
        raise InvalidInput("currency", f"This booking is paid in {due.currency}, not {currency}.")


class OpenTill:
    """What the counters have written down, for the gateway `cash`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def receipt_for(self, reference: str) -> Captured | None:
        """The money that was taken for a payment of ours."""
        payment = _uuid(reference)
        if payment is None:
            return None
        async with self._db.reader() as reader:
            return _captured(await cash_reads.receipt_of_payment(reader, payment=payment))

    async def receipt(self, transaction_id: str) -> Captured | None:
        """The money of one receipt."""
        receipt = _uuid(transaction_id)
        if receipt is None:
            return None
        async with self._db.reader() as reader:
            return _captured(await cash_reads.receipt(reader, receipt=receipt))

    async def receipts_on(self, day: date) -> list[Captured]:
        """All that was taken on a day, in UTC."""
        midnight = datetime.combine(day, time(), UTC)
        async with self._db.reader() as reader:
            found = await cash_reads.receipts_between(reader, since=midnight, until=midnight + timedelta(days=1))
        return [told for receipt in found if (told := _captured(receipt)) is not None]

    async def refund(self, refund_id: str) -> GatewayRefund | None:
        """A refund in cash: pending until it was handed out."""
        refund = _uuid(refund_id)
        if refund is None:
            return None
        async with self._db.reader() as reader:
            found = await cash_reads.refund(reader, refund=refund)
        return None if found is None else _gateway_refund(found)

    async def handed_out_of(self, transaction_id: str) -> list[GatewayRefund]:
        """The refunds of a receipt that were handed out."""
        async with self._db.reader() as reader:
            found = await cash_reads.handed_out_of(reader, transaction_id=transaction_id)
        return [_gateway_refund(one) for one in found]


def _check_takable(payment: Payment, booking: Booking) -> None:
    if payment.state not in TAKABLE:
        raise WrongState(f"A payment that is {payment.state} cannot be made at a counter. Take no money.")
    if booking.state not in {"held", "awaiting_payment", "expired"}:
        raise WrongState(f"Nothing is due: the booking is {booking.state}. Take no money.")


def _counter(typed: str) -> str:
    where = text.clean(typed, field="counter")
    if len(where) > LONGEST_COUNTER:
        raise InvalidInput("counter", f"A counter's name has at most {LONGEST_COUNTER} characters.")
    return where


def _captured(receipt: Receipt | None) -> Captured | None:
    if receipt is None:
        return None
    return Captured(
        transaction_id=str(receipt.id),
        reference=str(receipt.payment_id),
        amount=Money(receipt.amount, receipt.currency),
        fee_exact=Decimal(0),
    )


def _gateway_refund(found: CashRefund) -> GatewayRefund:
    return GatewayRefund(
        refund_id=str(found.refund_id),
        transaction_id=found.transaction_id,
        reference=str(found.refund_id),
        amount_exact=Decimal(found.amount),
        status="succeeded" if found.is_handed_out else "pending",
        failure_reason="",
    )


def _uuid(typed: str) -> UUID | None:
    try:
        return UUID(typed)
    except ValueError:
        return None


async def _note(tx: Transaction, booking: UUID, staff: Staff, action: str, **detail: str) -> None:
    await audit.record(tx, events=[Event(subject=booking, actor=staff.actor, action=action, detail=detail)])
