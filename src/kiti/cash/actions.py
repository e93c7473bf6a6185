"""Writing down what a counter takes and hands back. The booking is locked by whoever calls."""

from uuid import UUID

from kiti.cash.model import Handout, Receipt
from kiti.core.ids import new_id
from kiti.db import Transaction, load

sql = load("kiti.cash")


async def take(
    tx: Transaction,
    *,
    booking: UUID,
    reference: str,
    payment: UUID,
    amount: int,
    currency: str,
    staff: UUID,
    counter: str,
) -> Receipt:
    """Write a receipt; a second one for the same payment violates its unique constraint."""
    return await tx.one(
        sql.take,
        Receipt,
        booking=booking,
        id=new_id(),
        payment=payment,
        reference=reference,
        amount=amount,
        currency=currency,
        staff=staff,
        counter=counter,
    )


async def hand_out(tx: Transaction, *, booking: UUID, refund: UUID, staff: UUID, counter: str) -> Handout:
    """Write down that the money of a refund was handed back; a second time violates the primary key."""
    return await tx.one(sql.hand_out, Handout, booking=booking, refund=refund, staff=staff, counter=counter)
