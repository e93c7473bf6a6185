"""Whatever is bought, refunded, disputed and settled in whatever order: a settled transaction leaves nothing behind."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from tests.settling import Treasury, open_treasury

from kiti.banking import reads as banking_reads
from kiti.flows.disputes import find_disputes
from kiti.flows.staff_refunds import refund_payment
from kiti.payments.actions import RefundExceedsCharge
from kiti.people.model import Staff

FINANCE = Staff(id=UUID(int=2), email="f@kiti.example", name="Grace", role="platform_finance", operator=None)
STEPS = 30


@pytest.fixture
async def treasury(fresh_url: str) -> AsyncIterator[Treasury]:
    async with open_treasury(fresh_url) as there:
        yield there


class World:
    """Steps that people, banks and the gateway take by chance."""

    def __init__(self, treasury: Treasury, chance: random.Random) -> None:
        self.treasury = treasury
        self.gateway = treasury.gateway
        self.chance = chance
        self.bought: list[str] = []

    async def step(self) -> None:
        steps = (self.buy, self.buy, self.miss, self.refund, self.finish, self.dispute, self.decide, self.settle)
        await self.chance.choice(steps)()

    async def buy(self) -> None:
        self.gateway.fee = Decimal(self.chance.choice(["0", "0.58", "12.5", "1740"]))
        self.bought.append((await self.treasury.buy())[1])

    async def miss(self) -> None:
        """A payment of which no webhook tells."""
        _, reference = await self.treasury.hold()
        self.gateway.pay(reference)

    async def refund(self) -> None:
        if self.bought:
            payment = UUID(self.gateway.taken[self.chance.choice(self.bought)].reference)
            amount = self.chance.choice([None, 1, 10_000, 59_999])
            try:
                await refund_payment(
                    self.treasury.house, payment=payment, amount=amount, reason="Because.", staff=FINANCE
                )
            except RefundExceedsCharge:
                return

    async def finish(self) -> None:
        await self.treasury.finish_refunds()

    async def dispute(self) -> None:
        if self.bought:
            self.gateway.dispute(self.chance.choice(self.bought), amount=self.chance.choice([None, 7, 25_000]))
            await find_disputes(self.treasury.house)

    async def decide(self) -> None:
        undecided = [one for one in self.gateway.disputes.values() if one.status == "open"]
        if undecided:
            self.gateway.decide(self.chance.choice(undecided), self.chance.choice(["won", "lost", "accepted"]))

    async def settle(self) -> None:
        self.gateway.settle()
        if self.chance.random() < 0.5:
            await self.treasury.compare()


@pytest.mark.parametrize("seed", range(4))
async def test_a_settled_transaction_leaves_nothing_in_clearing(treasury: Treasury, seed: int) -> None:
    world = World(treasury, random.Random(seed))
    for _ in range(STEPS):
        await world.step()
    await treasury.finish_refunds()
    await find_disputes(treasury.house)
    await treasury.compare()
    treasury.gateway.settle()
    await treasury.compare()
    assert await treasury.clearing() == {}
    assert await treasury.balance("bank:flutterwave") == treasury.paid_out()
    held = sum(d.amount.amount for d in treasury.gateway.disputes.values() if d.status == "open")
    assert await treasury.balance("dispute_hold:flutterwave") == held
    assert {found for found in await treasury.breaks() if found[2] != "ledger_dispute"} == set()
    first = datetime.now(UTC).date() - timedelta(days=1)
    async with treasury.box.db.reader() as reader:
        assert await banking_reads.clearing(reader, gateway="flutterwave", first=first, limit=100) == []
