"""Staff give money back: all that is left of a payment, a part of it, or what was paid beyond the price, with a reason.

Seats and tickets stay.
"""

from uuid import UUID, uuid5

from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.core.errors import InvalidInput
from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.flows.changes import reason_of
from kiti.flows.house import House
from kiti.flows.refunds import by_fares, request_refund
from kiti.flows.staff import require
from kiti.payments import reads as payment_reads
from kiti.payments.actions import DISPUTED, ChargeDisputed, RefundExceedsCharge
from kiti.payments.model import Refund
from kiti.people.model import Staff

# The namespace of refunds that staff ask for with a key (RFC 9562, version 5).
REFUNDS = UUID("5f0f6c1e-6b69-5469-8000-726566756e64")
NO_EXCESS = "Nothing was paid here beyond the price, or it has gone back already."


async def refund_payment(
    house: House,
    *,
    payment: UUID,
    amount: int | None,
    reason: str,
    staff: Staff,
    key: str = "",
    excess: bool = False,
) -> Refund:
    """Ask for money to go back, in minor units of the payment's currency; None is all that is left of it.

    An amount is taken from the price first. `excess` means all that is left of what was paid beyond the price, and
    nothing of the price. With a `key` (the request's Idempotency-Key) the refund has one id however often the same
    person asks. Raises NotAllowed, NotFound, InvalidInput, RefundExceedsCharge. Of several at once no two together
    exceed what was paid: the row of the charge refuses.
    """
    why = reason_of(reason)
    if excess and amount is not None:
        raise InvalidInput("amount", "The excess goes back whole. Leave the amount out.")
    if amount is not None and amount <= 0:
        raise InvalidInput("amount", "Give an amount above zero, in minor units, or none for all that is left.")
    async with house.db.reader() as reader:
        found = await payment_reads.by_id(reader, payment=payment)
        operators = await booking_reads.operators_of(reader, booking=found.booking_id)
    for operator in operators:
        require(staff, "refunds.make", operator=operator)

    id_ = uuid5(REFUNDS, f"{staff.id} {payment} {key}") if key else new_id()

    async def work(tx: Transaction) -> Refund:
        await bookings.lock(tx, booking=found.booking_id)
        made = [one for one in await payment_reads.refunds_of(tx, booking=found.booking_id) if one.id == id_]
        if made:
            return made[0]
        charges = await payment_reads.charges_of(tx, booking=found.booking_id)
        mine = [charge for charge in charges if charge.payment_id == payment]
        charge = max(mine, key=lambda one: one.left, default=None)
        if charge is None:
            raise RefundExceedsCharge("Nothing was paid here.")
        left = charge.excess_left if excess else charge.left
        wanted = left if amount is None else amount
        if wanted <= 0 and charge.disputed:
            raise ChargeDisputed(DISPUTED)
        if wanted <= 0:
            raise RefundExceedsCharge(NO_EXCESS if excess else "All of this payment has gone back, or is on its way.")
        await request_refund(
            tx,
            house,
            booking=found.booking_id,
            gateway=charge.gateway,
            transaction_id=charge.transaction_id,
            amount=Money(wanted, charge.currency),
            preferred=by_fares(wanted, await booking_reads.every_seat_of(tx, bookings=[found.booking_id])),
            reason=why,
            id_=id_,
            of_excess=wanted if excess else None,
        )
        return await payment_reads.refund(tx, refund=id_)

    return await house.db.run(work)
