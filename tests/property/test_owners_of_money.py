"""Whatever travellers, staff, operators, banks and clocks do to bookings in whatever order: all money has one owner.

Two operators, prices with fees, money beyond the price, seats and bookings and trips cancelled, refunds by staff,
disputes of every size, departures in between. Once all is over nothing is left on the way, to the minor unit.
"""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.settling import Treasury, open_treasury

from kiti.core.errors import KitiError
from kiti.core.ids import new_id
from kiti.fees import actions as fees
from kiti.fees.model import FeeRule
from kiti.flows.cancel_trip import cancel_trip
from kiti.flows.cancellation import Part, cancel_booking
from kiti.flows.dispute_answers import looked_at
from kiti.flows.disputes import find_disputes
from kiti.flows.partial_cancellation import cancel_part
from kiti.flows.plan import Item
from kiti.flows.revenue import recognise_revenue
from kiti.flows.staff_refunds import refund_payment
from kiti.ledger.standing import proportion
from kiti.people.model import Staff

FINANCE = Staff(id=UUID(int=2), email="f@kiti.example", name="Grace", role="platform_finance", operator=None)
STEPS = 40
# Seats of each booking on the shuttle.
SHUTTLE_SEATS = ("1A", "1B", "2A", "2B", "3A", "3B", "4A", "4B")


class World:
    """Eight bookings over the same few trips, and what happens to them by chance."""

    def __init__(self, treasury: Treasury, chance: random.Random) -> None:
        self.treasury = treasury
        self.gateway = treasury.gateway
        self.house = treasury.house
        self.chance = chance
        network = treasury.office.network
        self.trips = [network.bus(), network.bus(), network.shuttle()]
        self.bought: list[tuple[UUID, str, list[tuple[UUID, str]]]] = []

    async def sell(self, number: int) -> None:
        trips = self.chance.sample(self.trips, k=self.chance.randint(1, 3))
        seats = (f"{number + 1}A", f"{number + 1}B")[: self.chance.randint(1, 2)]
        chosen = [(trip, SHUTTLE_SEATS[number : number + 1] if trip == self.trips[2] else seats) for trip in trips]
        held, transaction = await self.treasury.buy(
            items=tuple(Item(trip=trip, seats=taken) for trip, taken in chosen),
            excess=self.chance.choice([0, 0, 1, 7_777, 200_000]),
        )
        self.bought.append((held.booking, transaction, [(trip, seat) for trip, taken in chosen for seat in taken]))

    async def step(self) -> None:
        steps = (
            *(self.refund, self.refund, self.cancel_seat, self.cancel_seat, self.dispute, self.dispute),
            *(self.decide, self.decide, self.depart, self.cancel_booking, self.cancel_trip),
        )
        try:
            await self.chance.choice(steps)()
        except KitiError:
            return  # refused: nothing has changed

    async def refund(self) -> None:
        _, transaction, _ = self.chance.choice(self.bought)
        payment = UUID(self.gateway.taken[transaction].reference)
        amount = self.chance.choice([None, 1, 3_333, 61_000])
        excess = self.chance.random() < 0.4
        await refund_payment(
            self.house,
            payment=payment,
            amount=None if excess else amount,
            reason="Because.",
            staff=FINANCE,
            excess=excess,
        )

    async def cancel_seat(self) -> None:
        booking, _, seats = self.chance.choice(self.bought)
        part = Part(seats=frozenset({self.chance.choice(seats)}))
        await cancel_part(self.house, booking=booking, part=part, actor="guest")

    async def cancel_booking(self) -> None:
        await cancel_booking(self.house, booking=self.chance.choice(self.bought)[0], actor="guest")

    async def cancel_trip(self) -> None:
        if self.chance.random() < 0.4:
            done = await cancel_trip(self.house, trip=self.chance.choice(self.trips), reason="Why not.", actor="test")
            assert done.failed == 0

    async def dispute(self) -> None:
        _, transaction, _ = self.chance.choice(self.bought)
        paid = self.gateway.taken[transaction].amount.amount
        self.gateway.dispute(transaction, amount=self.chance.choice([paid, 5, paid // 3, max(1, paid - 3_000)]))
        await self.hear()

    async def decide(self) -> None:
        for one in list(self.gateway.disputes.values()):
            if one.status == "open" and self.chance.random() < 0.5:
                self.gateway.decide(one, self.chance.choice(["won", "lost", "accepted"]))
        await self.hear()

    async def hear(self) -> None:
        assert (await find_disputes(self.house)).unknown == 0

    async def depart(self) -> None:
        if self.chance.random() < 0.4:
            await self.travel_past(self.chance.choice(self.trips))

    async def travel_past(self, trip: UUID) -> None:
        leaves: datetime = await self.treasury.box.value(
            "SELECT max(departs_at) FROM trip_stop WHERE trip_id = %s", trip
        )
        now: datetime = await self.treasury.box.value("SELECT kiti_now()")
        if leaves + timedelta(hours=2) > now:
            await self.treasury.box.travel(seconds=(leaves + timedelta(hours=2) - now).total_seconds())
        assert (await recognise_revenue(self.house))[1] == 0

    async def end(self) -> None:
        """Every dispute is decided and looked at, every trip has left or would have, what was paid beyond went back."""
        for one in list(self.gateway.disputes.values()):
            if one.status == "open":
                self.gateway.decide(one, self.chance.choice(["won", "lost"]))
        await self.hear()
        for row in await self.treasury.box.rows("SELECT id FROM dispute WHERE attention <> ''"):
            await looked_at(self.house, dispute=row["id"], note="Nothing is owed.", actor="test")
        for trip in self.trips:
            await self.travel_past(trip)
        for _, transaction, _ in self.bought:
            payment = UUID(self.gateway.taken[transaction].reference)
            try:
                await refund_payment(
                    self.house, payment=payment, amount=None, reason="Rest.", staff=FINANCE, excess=True
                )
            except KitiError:
                continue
        await self.treasury.finish_refunds()


@pytest.fixture
async def treasury(fresh_url: str) -> AsyncIterator[Treasury]:
    async with open_treasury(fresh_url) as there:
        yield there


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_all_money_has_one_owner_in_the_end(treasury: Treasury, seed: int) -> None:
    world = World(treasury, random.Random(seed))
    await _rules(treasury)
    for number in range(len(SHUTTLE_SEATS)):
        await world.sell(number)
    for _ in range(STEPS):
        await world.step()
        await _rows_agree_with_the_ledger(treasury)
    await world.end()
    await _rows_agree_with_the_ledger(treasury)
    left = await treasury.box.rows(LEFT_ON_THE_WAY)
    assert left == []
    await _commission_is_on_what_was_kept(treasury)
    back = {
        row["transaction_id"]: row["amount"]
        for row in await treasury.box.rows(
            "SELECT transaction_id, sum(amount)::bigint AS amount FROM refund GROUP BY transaction_id"
        )
    }
    for _, transaction, _ in world.bought:
        assert back.get(transaction, 0) <= treasury.gateway.taken[transaction].amount.amount


async def _rules(treasury: Treasury) -> None:
    """Half of a fare goes back; the platform takes a tenth from the operators and asks travellers for a fee."""
    network = treasury.office.network
    for line in (network.bus_line, network.shuttle_line):
        await treasury.box.rows("INSERT INTO refund_rule VALUES (%s, '', 0, 50)", line.operator.id)
    common: dict[str, Any] = {"currency": "UGX", "valid_from": datetime(2020, 1, 1, tzinfo=UTC)}
    async with treasury.box.db.transaction() as tx:
        for rule in (
            FeeRule(id=new_id(), kind="commission", borne_by="operator", basis_points=1_003, **common),
            FeeRule(id=new_id(), kind="platform_fee", borne_by="traveller", basis_points=151, fixed=7, **common),
            FeeRule(id=new_id(), kind="tax", borne_by="traveller", basis_points=1_800, **common),
        ):
            await fees.set_rule(tx, rule=rule)


async def _rows_agree_with_the_ledger(treasury: Treasury) -> None:
    wrong = await treasury.box.rows(ROWS_THAT_DISAGREE)
    assert wrong == []


async def _commission_is_on_what_was_kept(treasury: Treasury) -> None:
    for row in await treasury.box.rows(COMMISSIONS):
        assert row["taken"] == proportion(row["bill"], part=row["kept"], whole=row["paid"]), row


SIDES = """
WITH side AS (
    SELECT booking_id, event, credit AS account, split_part(credit, ':', 2) AS owner, debit AS other, amount
    FROM transfer
    UNION ALL
    SELECT booking_id, event, debit, split_part(debit, ':', 2), credit, -amount FROM transfer
)
"""

# Accounts below a booking that hold something still when all is over.
LEFT_ON_THE_WAY = f"""
{SIDES}
SELECT booking_id, account, sum(amount)::bigint AS amount FROM side
WHERE split_part(account, ':', 1) IN ('ticket_liability', 'refund_clearing', 'dispute_hold')
GROUP BY booking_id, account
HAVING sum(amount) <> 0
"""

# Charges of which the ledger holds another amount, in all or beyond the price; and owners who have less than nothing.
ROWS_THAT_DISAGREE = f"""
{SIDES},
held AS (
    SELECT
        booking_id,
        coalesce(sum(amount) FILTER (WHERE account = 'ticket_liability:unspent'), 0)::bigint AS unspent,
        coalesce(sum(amount), 0)::bigint AS amount
    FROM side
    WHERE split_part(account, ':', 1) IN ('ticket_liability', 'operator_payable', 'platform_commission')
    GROUP BY booking_id
)
SELECT charge.booking_id, charge.amount, held.amount AS held, charge.excess, held.unspent
FROM charge
INNER JOIN held ON charge.booking_id = held.booking_id
WHERE
    held.unspent <> charge.excess - charge.excess_reserved
    OR held.amount <> charge.amount - charge.refund_reserved + charge.disputed
UNION ALL
SELECT booking_id, 0, sum(amount)::bigint, 0, 0
FROM side
WHERE account LIKE 'ticket_liability:%%' OR account LIKE 'operator_payable:%%'
GROUP BY booking_id, account
HAVING sum(amount) < 0
"""

COMMISSIONS = f"""
{SIDES}
SELECT
    side.booking_id,
    coalesce(sum(side.amount) FILTER (WHERE side.event LIKE 'capture:%%'), 0)::bigint AS paid,
    coalesce(sum(side.amount) FILTER (
        WHERE side.account LIKE 'operator_payable:%%' AND side.other NOT LIKE 'platform_commission:%%'
    ), 0)::bigint AS kept,
    coalesce(sum(-side.amount) FILTER (
        WHERE side.account LIKE 'operator_payable:%%' AND side.other LIKE 'platform_commission:%%'
    ), 0)::bigint AS taken,
    (
        SELECT coalesce(sum(part.amount), 0)::bigint FROM booking_fee AS part
        WHERE
            part.booking_id = side.booking_id AND part.kind = 'commission'
            AND part.operator_id::text = side.owner
    ) AS bill
FROM side
WHERE side.account LIKE 'ticket_liability:________-%%' OR side.account LIKE 'operator_payable:%%'
GROUP BY side.booking_id, side.owner
"""
