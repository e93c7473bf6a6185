"""An attempt is `created` before its gateway is asked: whoever dies in between has asked nobody, nothing is looked up.

A trigger that refuses the move to `submitting` is such a death: what stood before it stands, and nothing after it was
done.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.box import Box
from tests.network import STANDARD_UGX, Network
from tests.obliging import Obliging, another_house

from kiti.bookings.actions import WrongState
from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.flows.attempts import NEVER_ASKED
from kiti.flows.checkout import Intent, initiate
from kiti.flows.holds import release
from kiti.flows.house import House
from kiti.flows.plan import Item, Reservation
from kiti.flows.reserve import reserve
from kiti.flows.review import attach
from kiti.flows.settle import HintUnanswered, settle_payment
from kiti.flows.upkeep import poll_payments
from kiti.flows.wellbeing import examine
from kiti.gateways.gateway import CheckoutOpened, CheckoutRequest, Truth
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.actions import PaymentChanged
from kiti.payments.model import SUBMIT_WITHIN_SECONDS, Break, Payment
from kiti.people.model import Staff

FEMI = Staff(id=UUID(int=4), email="f@kiti.example", name="Femi", role="platform_finance", operator=None)


class Watched(Obliging):
    """Remembers what it was asked for and about."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.looked_up: list[str] = []

    async def open_checkout(self, request: CheckoutRequest) -> CheckoutOpened:
        self.opened.append(request.reference)
        return await super().open_checkout(request)

    async def lookup(self, reference: str) -> Truth:
        self.looked_up.append(reference)
        return await super().lookup(reference)


class Till:
    """A house whose servers die just before they ask the gateway, when they are told to."""

    def __init__(self, house: House, gateway: Watched, trips: Network) -> None:
        self.house = house
        self.gateway = gateway
        self.network = trips
        self.box = Box(house.db)

    async def hold(self) -> UUID:
        item = Item(trip=self.network.bus(), seats=("1A",))
        return (await reserve(self.house, Reservation(items=(item,)))).booking

    async def abandoned(self, booking: UUID) -> Payment:
        """An attempt whose server died before it asked anybody."""
        async with self._dying():
            with pytest.raises(psycopg.errors.RaiseException):
                await initiate(self.house, Intent(booking=booking))
        (row,) = await self.box.rows("SELECT id FROM payment WHERE booking_id = %s AND state = 'created'", booking)
        return await self.payment(row["id"])

    async def payment(self, payment: UUID) -> Payment:
        async with self.house.db.reader() as reader:
            return await payment_reads.by_id(reader, payment=payment)

    async def steps(self, payment: UUID) -> list[str]:
        async with self.house.db.reader() as reader:
            history = await payment_reads.history(reader, payment=await self.payment(payment))
        assert [step.from_state for step in history] == ["new", *(step.to_state for step in history[:-1])]
        return [step.to_state for step in history]

    async def state(self, booking: UUID) -> str:
        found: str = await self.box.value("SELECT state FROM booking WHERE id = %s", booking)
        return found

    @asynccontextmanager
    async def _dying(self) -> AsyncIterator[None]:
        await self.box.rows(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'power cut'; END $$"
        )
        await self.box.rows(
            "CREATE TRIGGER die BEFORE UPDATE ON payment FOR EACH ROW WHEN (NEW.state = 'submitting')"
            " EXECUTE FUNCTION die()"
        )
        yield
        await self.box.rows("DROP FUNCTION die CASCADE")


@pytest.fixture
async def till(box: Box, fresh_url: str) -> AsyncIterator[Till]:
    trips = await Network().build(box.db)
    gateway = Watched()
    async with another_house(fresh_url, gateway) as house:
        yield Till(house, gateway, trips)
        assert not [finding for finding in await examine(house) if not finding.ok]


async def test_a_purchase_leaves_a_row_for_its_opening_and_for_every_step(till: Till) -> None:
    booking = await till.hold()
    opened = (await initiate(till.house, Intent(booking=booking))).payment
    await settle_payment(till.house, opened.id)
    assert await till.steps(opened.id) == ["created", "submitting", "pending", "captured"]
    assert till.gateway.opened == [str(opened.id)]


async def test_the_next_call_to_pay_opens_another_attempt_and_looks_nothing_up(till: Till) -> None:
    booking = await till.hold()
    dead = await till.abandoned(booking)
    await till.box.travel(seconds=SUBMIT_WITHIN_SECONDS + 1)
    opened = await initiate(till.house, Intent(booking=booking))
    assert opened.is_new
    assert (opened.payment.state, till.gateway.opened) == ("pending", [str(opened.payment.id)])
    after = await till.payment(dead.id)
    assert (after.state, after.failure_reason) == ("expired", NEVER_ASKED)
    assert await till.steps(dead.id) == ["created", "expired"]
    assert till.gateway.looked_up == []
    assert await till.box.value("SELECT poll_after FROM payment WHERE id = %s", dead.id) is None


async def test_without_one_the_poller_gives_it_up_and_the_hold_goes_back_to_its_own_end(till: Till) -> None:
    booking = await till.hold()
    until = "SELECT hold_until, hold_expires_at FROM booking WHERE id = %s"
    dead = await till.abandoned(booking)
    (row,) = await till.box.rows(until, booking)
    assert row["hold_expires_at"] > row["hold_until"], "paying has made the hold longer"
    await till.box.travel(seconds=61)
    assert (await poll_payments(till.house)).failed == 0
    assert ((await till.payment(dead.id)).state, await till.state(booking)) == ("expired", "held")
    (row,) = await till.box.rows(until, booking)
    assert abs(row["hold_expires_at"] - row["hold_until"]) < timedelta(seconds=1), "claims last for whole seconds"
    assert (till.gateway.opened, till.gateway.looked_up) == ([], [])


async def test_one_that_is_asked_any_moment_is_left_alone(till: Till) -> None:
    booking = await till.hold()
    young = await till.abandoned(booking)
    assert (await settle_payment(till.house, young.id)).state == "created"
    with pytest.raises(HintUnanswered):
        await settle_payment(till.house, young.id, transaction_id=f"t-{young.id}", must_know=True)
    assert (await till.payment(young.id)).state == "created"
    assert till.gateway.looked_up == []


async def test_money_of_nobody_waits_for_one_that_is_asked_any_moment_and_is_taken_after_it_was_given_up(
    till: Till,
) -> None:
    booking = await till.hold()
    young = await till.abandoned(booking)
    other = str(new_id())
    till.gateway.asked[other] = Money(STANDARD_UGX, "UGX")
    today = datetime.now(UTC).date()
    found = Break(transaction_id=f"t-{other}", kind="missing_ours", day=today, booking_id=None, detail="No charge.")
    async with till.house.db.transaction() as tx:
        await payments.put_breaks(tx, gateway="flutterwave", day=today, breaks=[found])

    async def give() -> Payment:
        return await attach(
            till.house,
            gateway="flutterwave",
            transaction_id=f"t-{other}",
            payment=young.id,
            reason="They have shown a receipt.",
            staff=FEMI,
        )

    with pytest.raises(WrongState, match="Try again in a minute"):
        await give()
    await till.box.travel(seconds=SUBMIT_WITHIN_SECONDS + 1)
    assert ((await give()).state, await till.state(booking)) == ("captured", "confirmed")
    assert await till.steps(young.id) == ["created", "expired", "captured"]


async def test_of_many_who_would_ask_one_may_and_too_late_nobody(till: Till) -> None:
    attempt = await till.abandoned(await till.hold())
    late = await till.abandoned(await till.hold())

    async def submit(payment: Payment) -> bool:
        try:
            await till.house.db.run(lambda tx: payments.submit(tx, payment=payment))
        except PaymentChanged:
            return False
        return True

    assert sum(await asyncio.gather(*(submit(attempt) for _ in range(8)))) == 1
    assert await till.steps(attempt.id) == ["created", "submitting"]
    await till.box.travel(seconds=SUBMIT_WITHIN_SECONDS + 1)
    assert not await submit(late)


async def test_a_booking_that_is_released_meanwhile_opens_no_page(till: Till) -> None:
    booking = await till.hold()
    attempt = await till.abandoned(booking)
    await release(till.house, booking=booking, actor="guest")
    assert await till.steps(attempt.id) == ["created", "cancelled"]
    assert await till.box.value("SELECT poll_after FROM payment WHERE id = %s", attempt.id) is None
    with pytest.raises(PaymentChanged):
        await till.house.db.run(lambda tx: payments.submit(tx, payment=attempt))


async def test_money_that_a_gateway_has_all_the_same_is_taken(till: Till) -> None:
    booking = await till.hold()
    dead = await till.abandoned(booking)
    await till.box.travel(seconds=SUBMIT_WITHIN_SECONDS + 1)
    till.gateway.asked[str(dead.id)] = Money(STANDARD_UGX, "UGX")
    settled = await settle_payment(till.house, dead.id, transaction_id=f"t-{dead.id}", must_know=True)
    assert (settled.state, await till.state(booking)) == ("captured", "confirmed")
    assert await till.steps(dead.id) == ["created", "expired", "captured"]


async def test_ten_who_pay_at_once_after_the_crash_have_one_page(till: Till) -> None:
    booking = await till.hold()
    await till.abandoned(booking)
    await till.box.travel(seconds=SUBMIT_WITHIN_SECONDS + 1)
    opened: list[Any] = await asyncio.gather(*(initiate(till.house, Intent(booking=booking)) for _ in range(10)))
    assert len({one.payment.checkout_url for one in opened}) == len(till.gateway.opened) == 1
