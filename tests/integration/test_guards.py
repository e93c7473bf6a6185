"""Each guard by itself: above it stands the booking's lock, below it a CHECK of the table, and both hide its loss."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from tests.box import Box
from tests.network import STANDARD_UGX, Network
from tests.obliging import Obliging, another_house

from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.flows.cancellation import Part, cancel_booking
from kiti.flows.checkout import Intent, initiate
from kiti.flows.house import House
from kiti.flows.partial_cancellation import cancel_part
from kiti.flows.plan import Item, Reservation
from kiti.flows.reserve import reserve
from kiti.flows.settle import NEVER_ARRIVED_SECONDS, settle_payment
from kiti.gateways.gateway import Authorised, Captured, Declined, Truth
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.actions import ChargeDisputed, PaymentChanged, RefundExceedsCharge
from kiti.payments.model import Charge, Payment
from kiti.seats import actions as seats
from kiti.seats.model import Claimed, Want
from kiti.tickets.actions import TicketsUsed

EXCESS = 5_000


class Confused(Obliging):
    """Tells of other payments than it is asked about, and has taken more than it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.tells: dict[str, str] = {}
        self.excess = 0

    async def lookup(self, reference: str) -> Truth:
        return await super().lookup(self.tells.get(reference, reference))

    def truth(self, reference: str, *, excess: int = 0, transaction: str = "") -> Captured:
        return super().truth(reference, excess=excess or self.excess, transaction=transaction)


class Holding(Obliging):
    """Only authorises, and another amount than it was asked to; remembers what it was told to do with that."""

    def __init__(self, authorises: Money) -> None:
        super().__init__()
        self.authorises = authorises
        self.told: list[str] = []

    async def lookup(self, reference: str) -> Truth:
        return Authorised(transaction_id=f"t-{reference}", reference=reference, amount=self.authorises)

    async def capture(self, transaction_id: str, *, reference: str, amount: Money) -> Captured:
        self.told.append("capture")
        told = self.truth(reference, transaction=transaction_id)
        return msgspec.structs.replace(told, amount=amount)

    async def cancel(self, transaction_id: str, *, reference: str) -> Declined:
        self.told.append("cancel")
        return Declined(transaction_id=transaction_id, reference=reference, reason="let go")


class Counter:
    """A house with such a gateway."""

    def __init__(self, house: House, gateway: Confused, trips: Network) -> None:
        self.house = house
        self.gateway = gateway
        self.network = trips
        self.box = Box(house.db)

    async def opened(self, *, seats: tuple[str, ...] = ("1A",)) -> Payment:
        """An attempt to pay for seats on a bus of its own."""
        item = Item(trip=self.network.bus(), seats=seats)
        booking = (await reserve(self.house, Reservation(items=(item,)))).booking
        return (await initiate(self.house, Intent(booking=booking))).payment

    async def charged(self, *, excess: int = 0, seats: tuple[str, ...] = ("1A",)) -> Charge:
        """A payment that has bought its seats."""
        opened = await self.opened(seats=seats)
        self.gateway.excess = excess
        await settle_payment(self.house, opened.id)
        async with self.house.db.reader() as reader:
            (charge,) = await payment_reads.charges_of(reader, booking=opened.booking_id)
        return charge

    async def somebody_waits(self) -> None:
        """Until somebody waits for a row that another transaction has changed."""
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        for _ in range(600):
            if await self.box.value(waiting):
                return
            await asyncio.sleep(0.05)
        raise AssertionError("nobody waits")

    async def ask_back(self, charge: Charge, amount: int, *, of_excess: int = 0) -> UUID:
        async with self.house.db.transaction() as tx:
            return await payments.request_refund(
                tx,
                booking=charge.booking_id,
                gateway=charge.gateway,
                transaction_id=charge.transaction_id,
                amount=amount,
                currency=charge.currency,
                reason="Because.",
                of_excess=of_excess,
            )


@pytest.fixture
async def counter(box: Box, fresh_url: str) -> AsyncIterator[Counter]:
    trips = await Network().build(box.db)
    gateway = Confused()
    async with another_house(fresh_url, gateway) as house:
        yield Counter(house, gateway, trips)


async def test_seats_are_claimed_in_the_order_of_their_keys_whatever_the_order_of_the_wants(counter: Counter) -> None:
    """Two batches that take the same rows in different orders would wait for each other for ever."""
    trips, owner = [counter.network.bus(), counter.network.bus()], new_id()
    wants = [
        Want(owner=owner, trip=trip, seat=seat, from_seq=0, to_seq=2)
        for trip in trips
        for seat in counter.network.bus_line.seats
    ]
    random.Random(7).shuffle(wants)
    async with counter.house.db.transaction() as tx:
        claims = await seats.claim(tx, wants=wants, ttl_seconds={owner: 600})
    assert isinstance(claims[owner], Claimed)
    rows = await counter.box.rows("SELECT trip_id, seat, leg FROM seat_claim WHERE owner_id = %s ORDER BY ctid", owner)
    written = [(row["trip_id"], row["seat"], row["leg"]) for row in rows]
    in_order = await counter.box.rows(
        "SELECT trip_id, seat, leg FROM seat_claim WHERE owner_id = %s ORDER BY trip_id, seat, leg", owner
    )
    assert written == [(row["trip_id"], row["seat"], row["leg"]) for row in in_order]


async def test_a_payment_is_moved_from_the_state_in_which_it_was_read_and_from_no_other(counter: Counter) -> None:
    before = await counter.opened()
    settled = await settle_payment(counter.house, before.id)
    assert (before.state, settled.state) == ("pending", "captured")
    with pytest.raises(PaymentChanged):
        async with counter.house.db.transaction() as tx:
            await payments.move(tx, payment=before, to="failed", reason="It looked so.")
    assert await counter.box.value("SELECT state FROM payment WHERE id = %s", before.id) == "captured"


async def test_no_more_is_asked_back_than_was_taken(counter: Counter) -> None:
    charge = await counter.charged()
    await counter.ask_back(charge, STANDARD_UGX - 1)
    with pytest.raises(RefundExceedsCharge):
        await counter.ask_back(charge, 2)
    await counter.ask_back(charge, 1)


async def test_the_price_takes_nothing_of_what_is_beyond_it_nor_the_other_way_round(counter: Counter) -> None:
    charge = await counter.charged(excess=EXCESS)
    assert charge.excess == EXCESS
    with pytest.raises(RefundExceedsCharge):
        await counter.ask_back(charge, STANDARD_UGX + 1)
    with pytest.raises(RefundExceedsCharge):
        await counter.ask_back(charge, EXCESS + 1, of_excess=EXCESS + 1)
    await counter.ask_back(charge, STANDARD_UGX)
    await counter.ask_back(charge, EXCESS, of_excess=EXCESS)


async def test_no_bank_is_reserved_more_than_is_left_and_no_refund_takes_of_that(counter: Counter) -> None:
    charge = await counter.charged()
    await counter.ask_back(charge, 1)
    asked: dict[str, Any] = {
        "booking": charge.booking_id,
        "gateway": charge.gateway,
        "transaction_id": charge.transaction_id,
    }
    async with counter.house.db.transaction() as tx:
        assert not await payments.reserve_dispute(tx, **asked, amount=STANDARD_UGX)
        assert await payments.reserve_dispute(tx, **asked, amount=STANDARD_UGX - 2)
    with pytest.raises(ChargeDisputed):
        await counter.ask_back(charge, 2)
    await counter.ask_back(charge, 1)


async def test_money_that_has_bought_something_is_not_accepted_again(counter: Counter) -> None:
    charge = await counter.charged()
    with pytest.raises(PaymentChanged):
        async with counter.house.db.transaction() as tx:
            await payments.accept_charge(tx, charge=charge)


async def test_a_hint_at_somebody_elses_transaction_buys_nothing_and_breaks_nothing(counter: Counter) -> None:
    mine, theirs = await counter.opened(), await counter.opened()
    counter.gateway.silent = True  # what it is asked by our own reference, it has never heard of
    settled = await settle_payment(counter.house, mine.id, transaction_id=f"t-{theirs.id}")
    assert settled.state == "pending"
    assert await counter.box.value("SELECT count(*) FROM charge") == 0
    counter.gateway.silent = False
    assert (await settle_payment(counter.house, theirs.id, transaction_id=f"t-{theirs.id}")).state == "captured"


async def test_a_gateway_that_tells_of_another_payment_has_told_nothing(counter: Counter) -> None:
    mine, theirs = await counter.opened(), await counter.opened()
    counter.gateway.tells[str(mine.id)] = str(theirs.id)
    assert (await settle_payment(counter.house, mine.id)).state == "pending"
    assert await counter.box.value("SELECT count(*) FROM charge") == 0
    counter.gateway.tells.clear()
    assert (await settle_payment(counter.house, mine.id)).state == "captured"
    assert await counter.box.value("SELECT amount FROM charge WHERE payment_id = %s", mine.id) == STANDARD_UGX


async def test_a_request_may_be_on_its_way_for_two_minutes_and_then_it_never_was(counter: Counter) -> None:
    """A gateway that does not know a reference yet may know it in a moment, and then take money for it."""
    opened = await counter.opened()
    await counter.box.rows("UPDATE payment SET state = 'submitting', checkout_url = NULL WHERE id = %s", opened.id)
    counter.gateway.silent = True
    assert (await settle_payment(counter.house, opened.id)).state == "submitting"
    await counter.box.travel(seconds=NEVER_ARRIVED_SECONDS + 1)
    assert (await settle_payment(counter.house, opened.id)).state == "failed"


@pytest.mark.parametrize("part", [False, True], ids=["whole", "a seat of it"])
async def test_a_journey_that_begins_in_the_same_instant_is_not_cancelled(counter: Counter, *, part: bool) -> None:
    """An inspector has the ticket in hand when the cancellation begins, and is done before it ends."""
    charge = await counter.charged(seats=("1A", "1B"))
    booking = charge.booking_id
    (row,) = await counter.box.rows("SELECT trip_id FROM ticket WHERE booking_id = %s AND seat = '1A'", booking)
    seat = Part(seats=frozenset({(row["trip_id"], "1A")}))
    async with counter.box.db.pool.connection() as inspector, inspector.transaction():
        await inspector.execute(
            "UPDATE ticket SET state = 'used', used_at = kiti_now() WHERE booking_id = %s AND seat = '1A'", (booking,)
        )
        if part:
            cancelling = asyncio.create_task(cancel_part(counter.house, booking=booking, part=seat, actor="guest"))
        else:
            cancelling = asyncio.create_task(cancel_booking(counter.house, booking=booking, actor="guest"))
        await counter.somebody_waits()
    with pytest.raises(TicketsUsed):
        await cancelling
    assert await counter.box.value("SELECT count(*) FROM refund") == 0
    assert await counter.box.value("SELECT count(*) FROM ticket WHERE state = 'void'") == 0


@pytest.mark.parametrize(
    ("authorises", "told", "state"),
    [
        (Money(STANDARD_UGX, "UGX"), ["capture"], "captured"),
        (Money(STANDARD_UGX - 1, "UGX"), ["cancel"], "failed"),
        (Money(STANDARD_UGX, "KES"), ["cancel"], "failed"),
    ],
    ids=["all of it", "too little", "another currency"],
)
async def test_an_authorisation_of_what_is_not_due_is_let_go(
    box: Box, fresh_url: str, *, authorises: Money, told: list[str], state: str
) -> None:
    trips = await Network().build(box.db)
    gateway = Holding(authorises)
    async with another_house(fresh_url, gateway) as house:
        booking = (await reserve(house, Reservation(items=(Item(trip=trips.bus(), seats=("1A",)),)))).booking
        opened = (await initiate(house, Intent(booking=booking))).payment
        assert (await settle_payment(house, opened.id)).state == state
        assert gateway.told == told
        assert await box.value("SELECT count(*) FROM charge") == (state == "captured")
