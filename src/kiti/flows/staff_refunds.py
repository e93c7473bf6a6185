"""Staff give money back: all that is left of a payment or a part of it, with a reason. Seats and tickets stay."""

from uuid import UUID

from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.core.errors import InvalidInput
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.flows.changes import reason_of
from kiti.flows.house import House
from kiti.flows.refunds import request_refund
from kiti.flows.staff import require
from kiti.ledger.model import share_out
from kiti.payments import reads as payment_reads
from kiti.payments.actions import RefundExceedsCharge
from kiti.payments.model import Refund
from kiti.people.model import Staff


async def refund_payment(house: House, *, payment: UUID, amount: int | None, reason: str, staff: Staff) -> Refund:
    """Ask for money to go back, in minor units of the payment's currency; None is all that is left of it.

    Raises NotAllowed, NotFound, InvalidInput, RefundExceedsCharge. Of several at once no two together exceed what was
    paid: the row of the charge refuses.
    """
    why = reason_of(reason)
    if amount is not None and amount <= 0:
        raise InvalidInput("amount", "Give an amount above zero, in minor units, or none for all that is left.")
    async with house.db.reader() as reader:
        found = await payment_reads.by_id(reader, payment=payment)
        lines = await booking_reads.seats_of(reader, bookings=[found.booking_id])
    for operator in {line.operator_id for line in lines}:
        require(staff, "refunds.make", operator=operator)

    async def work(tx: Transaction) -> UUID:
        await bookings.lock(tx, booking=found.booking_id)
        charges = await payment_reads.charges_of(tx, booking=found.booking_id)
        mine = [charge for charge in charges if charge.payment_id == payment]
        charge = max(mine, key=lambda one: one.amount - one.refund_reserved, default=None)
        if charge is None:
            raise RefundExceedsCharge("Nothing was paid here.")
        wanted = charge.amount - charge.refund_reserved if amount is None else amount
        if wanted <= 0:
            raise RefundExceedsCharge("All of this payment has gone back, or is on its way.")
        weights: dict[UUID, int] = {}
        for line in lines:
            weights[line.operator_id] = weights.get(line.operator_id, 0) + line.fare
        return await request_refund(
            tx,
            house,
            booking=found.booking_id,
            gateway=charge.gateway,
            transaction_id=charge.transaction_id,
            amount=Money(wanted, charge.currency),
            shares=share_out(wanted, weights=weights),
            reason=why,
        )

    made = await house.db.run(work)
    async with house.db.reader() as reader:
        return await payment_reads.refund(reader, refund=made)
