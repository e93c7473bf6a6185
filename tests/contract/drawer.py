"""A counter's books: bookings, attempts and refunds as flows leave them, and what a clerk writes down."""

from uuid import UUID

from tests.box import Box
from tests.staff import employ

from kiti.cash import actions as cash
from kiti.core.ids import new_id
from kiti.core.ids import new_reference as spoken
from kiti.core.money import Money
from kiti.db import Database
from kiti.gateways.gateway import RefundRequest


class Drawer:
    """One counter on a fresh database."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._box = Box(db)

    async def take(self, reference: str, amount: Money) -> str:
        """Take the money of an attempt; the receipt's id."""
        booking, payment, spoken_reference, clerk = new_id(), UUID(reference), spoken(), await self._clerk()
        now = "kiti_now(), kiti_now() + interval '15 minutes', kiti_now() + interval '15 minutes'"
        await self._box.rows(
            "INSERT INTO booking (id, reference, state, currency, amount, created_at, hold_until, hold_expires_at,"
            f" hold_cap_at) VALUES (%s, %s, 'awaiting_payment', %s, %s, {now}, kiti_now() + interval '1 hour')",
            *(booking, spoken_reference, amount.currency, amount.amount),
        )
        await self._box.rows(
            "INSERT INTO payment (booking_id, id, gateway, method, state, amount, fee, currency, created_at,"
            " expires_at) VALUES (%s, %s, 'cash', 'CASH', 'pending', %s, 0, %s, kiti_now(), kiti_now())",
            *(booking, payment, amount.amount, amount.currency),
        )
        async with self.db.transaction() as tx:
            receipt = await cash.take(
                tx,
                booking=booking,
                reference=spoken_reference,
                payment=payment,
                amount=amount.amount,
                currency=amount.currency,
                staff=clerk,
                counter="Kampala 1",
            )
        await self._box.rows(
            "INSERT INTO charge (booking_id, gateway, transaction_id, payment_id, purpose, amount, currency, fee_exact,"
            " captured_at) VALUES (%s, 'cash', %s, %s, 'fulfils', %s, %s, 0, kiti_now())",
            *(booking, str(receipt.id), payment, amount.amount, amount.currency),
        )
        return str(receipt.id)

    async def owe(self, asked: RefundRequest) -> None:
        """Write down a refund that is about to be asked for."""
        await self._box.rows(
            "INSERT INTO refund (booking_id, id, gateway, transaction_id, amount, currency, reason, state, created_at)"
            " SELECT booking_id, %s, 'cash', transaction_id, %s, %s, 'Because.', 'submitting', kiti_now() FROM charge"
            " WHERE transaction_id = %s",
            *(UUID(asked.reference), asked.amount.amount, asked.amount.currency, asked.transaction_id),
        )

    async def hand_out(self, refund_id: str) -> None:
        """Hand the money of a refund back."""
        booking = await self._box.value("SELECT booking_id FROM refund WHERE id = %s", UUID(refund_id))
        clerk = await self._clerk()
        async with self.db.transaction() as tx:
            await cash.hand_out(tx, booking=booking, refund=UUID(refund_id), staff=clerk, counter="Kampala 1")

    async def _clerk(self) -> UUID:
        known = await self._box.rows("SELECT id FROM staff LIMIT 1")
        if not known:
            await employ(self.db)
            known = await self._box.rows("SELECT id FROM staff LIMIT 1")
        found: UUID = known[0]["id"]
        return found
