"""Operators who earn something: seats are sold and paid for, trips depart, and the books are asked."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from kiti.core.money import Money
from kiti.fees import actions as fees
from kiti.fees.model import Bearer, Kind, Part
from kiti.flows.plan import Item
from kiti.flows.queued import Capture
from kiti.flows.refunds import request_refund
from kiti.flows.revenue import recognise_revenue
from kiti.flows.settlements import calculate_settlements
from kiti.gateways.gateway import Captured, Destination
from kiti.payments import actions as payments
from kiti.payments.model import Payment
from kiti.people.model import Role, Staff
from kiti.settlements.actions import put_terms
from kiti.settlements.model import Period, Terms
from tests.office import Held, Office, open_office

BANK = Destination(kind="mobile_money", country="UG", bank="MTN", account="256772000111", name="Pearl Coaches Ltd")


class Earnings(Office):
    """An office with money: what is bought here is captured as a gateway's money is."""

    @property
    def pearl(self) -> UUID:
        """The operator of the buses."""
        return self.network.bus_line.operator.id

    @property
    def lake(self) -> UUID:
        """The operator of the shuttle, and of the line that is paid in KES."""
        return self.network.shuttle_line.operator.id

    async def buy(self, trip: UUID, *chosen: str, **more: Any) -> Held:
        """Seats on one trip, paid for."""
        return await self.pay(await self.hold(trip, *chosen, **more))

    async def buy_items(self, *items: Item) -> Held:
        """Seats on several trips, paid for at once."""
        return await self.pay(await self.hold_items(*items))

    async def pay(self, held: Held, *, fee: str = "0", more: int = 0) -> Held:
        """A gateway has taken what is due, and `more`; its fee in minor units."""
        async with self.box.db.transaction() as tx:
            currency = await self.currency(held)
            attempt = await payments.open_attempt(
                tx,
                booking=held.booking,
                gateway="flutterwave",
                method="CARD",
                amount=held.amount,
                fee=0,
                currency=currency,
                return_url="",
                expires_at=held.expires_at,
                poll_seconds=60,
            )
            await payments.submit(tx, payment=attempt)
        truth = Captured(
            transaction_id=str(attempt.id.int % 10**9),
            reference=str(attempt.id),
            amount=Money(held.amount + more, currency),
            fee_exact=Decimal(fee),
        )
        paid = await self.house.captures.submit(Capture(payment=attempt.id, booking=held.booking, truth=truth))
        assert isinstance(paid, Payment), paid
        return held

    async def bears(self, held: Held, operator: UUID, kind: Kind, amount: int, by: Bearer = "operator") -> None:
        """Write down one part of what the booking costs besides its fares, in the place of all others."""
        part = Part(booking_id=held.booking, operator_id=operator, kind=kind, borne_by=by, amount=amount)
        await self.cost(held, [part])

    async def cost(self, held: Held, parts: Sequence[Part]) -> None:
        payment = await self.box.value("SELECT payment_id FROM charge WHERE booking_id = %s", held.booking)
        async with self.box.db.transaction() as tx:
            await fees.put(tx, payment=payment, parts=parts)

    async def refund(self, held: Held, amount: int, *, by: UUID | None = None) -> UUID:
        """Ask for money of a booking to go back, at the cost of one operator if named."""
        charge = (await self.box.rows("SELECT * FROM charge WHERE booking_id = %s", held.booking))[0]

        async def work(tx: Any) -> UUID:
            await tx.connection.execute("SELECT 1 FROM booking WHERE id = %s FOR UPDATE", [held.booking])
            return await request_refund(
                tx,
                self.house,
                booking=held.booking,
                gateway=charge["gateway"],
                transaction_id=charge["transaction_id"],
                amount=Money(amount, charge["currency"]),
                preferred={} if by is None else {by: amount},
                reason="test",
            )

        return await self.house.db.run(work)

    async def currency(self, held: Held) -> str:
        found: str = await self.box.value("SELECT currency FROM booking WHERE id = %s", held.booking)
        return found

    async def after(self, trip: UUID, *, seq: int = 0, minutes: float = 5) -> None:
        """Let time pass until a trip has left a stop."""
        leaves: datetime = await self.box.value(
            "SELECT departs_at FROM trip_stop WHERE trip_id = %s AND seq = %s", trip, seq
        )
        await self.at(leaves + timedelta(minutes=minutes))

    async def at(self, moment: datetime) -> None:
        """Move the clock on to a moment."""
        now: datetime = await self.box.value("SELECT kiti_now()")
        assert moment > now, "time passes forwards"
        await self.box.travel(seconds=(moment - now).total_seconds())

    async def recognise(self) -> int:
        """What has departed becomes revenue; nothing may fail."""
        done, failed = await recognise_revenue(self.house)
        assert failed == 0
        return done

    async def settle(self) -> list[dict[str, Any]]:
        """Statements of what has ended, those that were made now; nothing may fail."""
        before = {row["id"] for row in await self.box.rows("SELECT id FROM settlement")}
        _, failed = await calculate_settlements(self.house)
        assert failed == 0
        rows = await self.box.rows("SELECT * FROM settlement ORDER BY id")
        return [row for row in rows if row["id"] not in before]

    async def terms(
        self,
        operator: UUID,
        *,
        currency: str = "UGX",
        period: Period = "monthly",
        minimum: int = 0,
        gateway: str = "bank",
        set_by: str = "staff:boss",
    ) -> None:
        """How an operator is settled with."""
        async with self.box.db.transaction() as tx:
            await put_terms(
                tx,
                terms=Terms(
                    operator_id=operator,
                    currency=currency,
                    period=period,
                    minimum_payout=minimum,
                    gateway=gateway,
                    destination=BANK,
                    set_by=set_by,
                ),
            )

    async def balance(self, account: str, currency: str = "UGX", *, below: UUID | None = None) -> int:
        """Credits minus debits of an account: what we owe; of one booking or of all."""
        found: int = await self.box.value(
            "SELECT coalesce(sum(CASE WHEN credit = %s THEN amount ELSE -amount END), 0)::bigint AS owed FROM transfer"
            " WHERE %s IN (debit, credit) AND currency = %s AND (%s::uuid IS NULL OR booking_id = %s)",
            *(account, account, currency, below, below),
        )
        return found

    async def events(self, held: Held) -> list[str]:
        """What was posted below a booking besides its capture, in order."""
        rows = await self.box.rows(
            "SELECT event FROM transfer WHERE booking_id = %s AND event NOT LIKE 'capture:%%'"
            " GROUP BY event ORDER BY min(posted_at), event",
            held.booking,
        )
        return [row["event"].partition(":")[0] for row in rows]

    async def statements_equal_the_ledger(self) -> None:
        """To the minor unit: each line is its entry, each entry is in one line, and balances follow."""
        wrong = await self.box.rows(WRONG_LINES)
        assert wrong == []
        wrong = await self.box.rows(WRONG_TOTALS)
        assert wrong == []
        wrong = await self.box.rows(WRONG_BALANCES)
        assert wrong == []


def somebody(role: Role = "platform_finance", *, number: int = 1) -> Staff:
    """A person of the platform; another number is another person."""
    return Staff(
        id=UUID(int=number), email=f"p{number}@kiti.example", name=f"Person {number}", role=role, operator=None
    )


@asynccontextmanager
async def open_earnings(url: str) -> AsyncIterator[Earnings]:
    """On a fresh database; in the end the doctor must find nothing, and statements equal the ledger."""
    async with open_office(url) as office:
        there = Earnings(office.house, office.network)
        yield there
        await there.statements_equal_the_ledger()


# Lines that are not what their entry says from the operator's side, or of another operator, currency or period; and
# entries of settled periods without a line.
WRONG_LINES = """
WITH entry AS (
    SELECT booking_id, id, posted_at, currency, amount, substr(credit, 18) AS operator
    FROM transfer WHERE credit LIKE 'operator\\_payable:%%' AND debit NOT LIKE 'payout\\_in\\_transit:%%'
    UNION ALL
    SELECT booking_id, id, posted_at, currency, -amount, substr(debit, 18)
    FROM transfer WHERE debit LIKE 'operator\\_payable:%%' AND credit NOT LIKE 'payout\\_in\\_transit:%%'
)
SELECT entry.*, line.amount AS told
FROM entry
FULL JOIN settlement_line AS line ON entry.booking_id = line.booking_id AND entry.id = line.transfer_id
LEFT JOIN settlement ON line.settlement_id = settlement.id
WHERE
    (entry.id IS NULL)
    OR (line.amount IS NOT NULL AND (
        entry.amount <> line.amount OR entry.operator <> settlement.operator_id::text
        OR entry.currency <> settlement.currency OR entry.posted_at >= settlement.ends_at
    ))
    OR (line.amount IS NULL AND EXISTS (
        SELECT 1 FROM settlement AS over
        WHERE
            over.operator_id::text = entry.operator AND over.currency = entry.currency
            AND over.ends_at > entry.posted_at AND over.made_at > entry.posted_at
    ))
"""

# Statements whose totals are not the sums of their lines, or that carry another amount than was left to them.
WRONG_TOTALS = """
SELECT settlement.id
FROM settlement
LEFT JOIN settlement_line AS line ON settlement.id = line.settlement_id
GROUP BY settlement.id
HAVING
    settlement.gross <> coalesce(sum(line.amount) FILTER (WHERE line.kind = 'gross'), 0)
    OR settlement.refunds <> -coalesce(sum(line.amount) FILTER (WHERE line.kind = 'refund'), 0)
    OR settlement.commission <> -coalesce(sum(line.amount) FILTER (WHERE line.kind = 'commission'), 0)
    OR settlement.fees <> -coalesce(sum(line.amount) FILTER (WHERE line.kind = 'fee'), 0)
    OR settlement.other <> coalesce(sum(line.amount) FILTER (WHERE line.kind = 'other'), 0)
    OR settlement.net <> coalesce(sum(line.amount), 0) + settlement.carried
    OR settlement.carried <> (
        SELECT coalesce(sum(before.net), 0) FROM settlement AS before WHERE before.carried_into = settlement.id
    )
"""

# Operators to whom the ledger owes something else than their statements that are not paid, and what no statement has.
WRONG_BALANCES = """
WITH side AS (
    SELECT substr(credit, 18) AS operator, currency, booking_id, id, amount
    FROM transfer WHERE credit LIKE 'operator\\_payable:%%'
    UNION ALL
    SELECT substr(debit, 18), currency, booking_id, id, -amount FROM transfer WHERE debit LIKE 'operator\\_payable:%%'
),
owed AS (SELECT operator, currency, sum(amount) AS amount FROM side GROUP BY operator, currency),
told AS (
    SELECT operator, currency, sum(amount) AS amount
    FROM (
        SELECT operator_id::text AS operator, currency, net AS amount FROM settlement
        WHERE state IN ('draft', 'approved', 'failed') OR (state = 'carried' AND carried_into IS NULL)
        UNION ALL
        SELECT side.operator, side.currency, side.amount
        FROM side
        INNER JOIN transfer ON side.booking_id = transfer.booking_id AND side.id = transfer.id
        LEFT JOIN settlement_line AS line ON side.booking_id = line.booking_id AND side.id = line.transfer_id
        WHERE
            line.transfer_id IS NULL
            AND transfer.debit NOT LIKE 'payout\\_in\\_transit:%%'
            AND transfer.credit NOT LIKE 'payout\\_in\\_transit:%%'
    ) AS part
    GROUP BY operator, currency
)
SELECT operator, currency, owed.amount AS owed, told.amount AS told
FROM owed FULL JOIN told USING (operator, currency)
WHERE coalesce(owed.amount, 0) <> coalesce(told.amount, 0)
"""
