"""One payment as staff see it: how it stands, every step that it took, the money that came of it and went back.

Steps and states belong to whoever has seats in the booking. Of amounts an operator is told its own part, and of
charges, refunds and reasons nothing where others have seats too: they cannot be told apart.
"""

from collections.abc import Collection, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec

from kiti.bookings import reads as booking_reads
from kiti.bookings.model import Booking
from kiti.core.errors import NotFound
from kiti.core.money import Money
from kiti.db import Reader
from kiti.disputes import reads as dispute_reads
from kiti.disputes.model import Dispute
from kiti.disputes.model import Step as DisputeStep
from kiti.flows.house import House
from kiti.flows.staff import require
from kiti.payments import reads as payment_reads
from kiti.payments.model import Charge, Payment, Refund, RefundStep, Step
from kiti.people.model import Staff

NO_SUCH_PAYMENT = "There is no such payment."
Taken = TypeVar("Taken", Step, RefundStep)


class PaidBack(msgspec.Struct, frozen=True, kw_only=True):
    """A refund with its history."""

    refund: Refund
    steps: Sequence[RefundStep]


class Disputed(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute with its history."""

    dispute: Dispute
    steps: Sequence[DisputeStep]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A payment with its history; `part` is all of it or an operator's part.

    `charges`, `refunds` and `disputes` are None for an operator that is not the only one of the booking.
    """

    payment: Payment
    booking: Booking
    part: Money
    steps: Sequence[Step]
    charges: Sequence[Charge] | None
    refunds: Sequence[PaidBack] | None
    disputes: Sequence[Disputed] | None


async def history_of(house: House, *, staff: Staff, payment: UUID) -> Sequence[Step]:
    """The steps of a payment, the first one first. Raises NotAllowed, NotFound, also where it is another operator's."""
    require(staff, "payments.see")
    async with house.db.reader() as reader:
        found, operators = await _within_reach(reader, staff, payment)
        return _told(await payment_reads.history(reader, payment=found), staff, operators)


async def refund_history_of(house: House, *, staff: Staff, refund: UUID) -> Sequence[RefundStep]:
    """The steps of a refund, the first one first. Raises NotAllowed, NotFound, also where it is another operator's."""
    require(staff, "refunds.see")
    async with house.db.reader() as reader:
        found = await payment_reads.refund(reader, refund=refund)
        operators = await booking_reads.operators_of(reader, booking=found.booking_id)
        if not any(staff.sees(operator) for operator in operators):
            raise NotFound(payment_reads.NO_SUCH_REFUND)
        return _told(await payment_reads.refund_history(reader, refund=found), staff, operators)


async def story_of(house: House, *, staff: Staff, payment: UUID) -> Story:
    """The same with everything around it. Raises NotAllowed, NotFound."""
    require(staff, "payments.see")
    async with house.db.reader() as reader:
        found, operators = await _within_reach(reader, staff, payment)
        is_theirs = staff.bound is None or operators == {staff.bound}
        charges = await _charges(reader, found) if is_theirs else None
        taken = {(one.gateway, one.transaction_id) for one in charges or []}
        return Story(
            payment=found if is_theirs else msgspec.structs.replace(found, failure_reason=None),
            booking=await booking_reads.by_id(reader, booking=found.booking_id),
            part=await _part(reader, staff, found),
            steps=_told(await payment_reads.history(reader, payment=found), staff, operators),
            charges=charges,
            refunds=await _refunds(reader, found, taken) if is_theirs and staff.can("refunds.see") else None,
            disputes=await _disputes(reader, found, taken) if is_theirs else None,
        )


async def _within_reach(reader: Reader, staff: Staff, payment: UUID) -> tuple[Payment, set[UUID]]:
    """The payment, and whose seats it is for."""
    found = await payment_reads.by_id(reader, payment=payment)
    operators = await booking_reads.operators_of(reader, booking=found.booking_id)
    if not any(staff.sees(operator) for operator in operators):
        raise NotFound(NO_SUCH_PAYMENT)
    return found, operators


def _told(steps: Sequence[Taken], staff: Staff, operators: set[UUID]) -> Sequence[Taken]:
    """The steps; why one was taken may say what was paid in all, so that is for whoever sees all of it."""
    if staff.bound is None or operators == {staff.bound}:
        return steps
    return [msgspec.structs.replace(step, reason="") for step in steps]


async def _part(reader: Reader, staff: Staff, payment: Payment) -> Money:
    if staff.bound is None:
        return payment.total
    lines = await booking_reads.every_seat_of(reader, bookings=[payment.booking_id])
    return Money(sum(line.fare for line in lines if line.operator_id == staff.bound), payment.currency)


async def _charges(reader: Reader, payment: Payment) -> list[Charge]:
    """What this attempt brought, not what another attempt of the booking did."""
    charges = await payment_reads.charges_of(reader, booking=payment.booking_id)
    return [one for one in charges if one.payment_id == payment.id]


async def _refunds(reader: Reader, payment: Payment, taken: Collection[tuple[str, str]]) -> list[PaidBack]:
    """What went back of these transactions."""
    refunds = await payment_reads.refunds_of(reader, booking=payment.booking_id)
    return [
        PaidBack(refund=one, steps=await payment_reads.refund_history(reader, refund=one))
        for one in refunds
        if (one.gateway, one.transaction_id) in taken
    ]


async def _disputes(reader: Reader, payment: Payment, taken: Collection[tuple[str, str]]) -> list[Disputed]:
    """What a bank wants, or wanted, back of these transactions."""
    disputes = await dispute_reads.of_booking(reader, booking=payment.booking_id)
    return [
        Disputed(dispute=one, steps=await dispute_reads.history(reader, dispute=one))
        for one in disputes
        if (one.gateway, one.transaction_id) in taken
    ]
