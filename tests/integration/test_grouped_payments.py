"""Captured payments in batches: the plain ones together, the odd ones each by itself, and nothing is paid twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from tests.integration.test_grouped_holds import POISON, count_round_trips
from tests.obliging import Obliging, another_house, with_gateway
from tests.office import Held, Office, open_office

from kiti.core.errors import Overloaded
from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.flows import holds
from kiti.flows.capture import group_captures
from kiti.flows.checkout import Intent, initiate
from kiti.flows.grouping import GroupCommit
from kiti.flows.house import House
from kiti.flows.queued import Alone, Capture, Captures
from kiti.flows.settle import settle_payment
from kiti.payments.model import Payment


class Till:
    """An office whose gateway takes everything."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.gateway = Obliging()
        self.house = with_gateway(office.house, self.gateway)
        self.box = office.box

    async def opened(self, *chosen: str, trip: UUID | None = None, minutes: int = 15) -> tuple[Held, Payment]:
        """A booking with a page to pay on."""
        held = await self.office.hold(trip or self.office.network.bus(), *chosen, minutes=minutes)
        return held, (await initiate(self.house, Intent(booking=held.booking))).payment

    def captures(self, **more: Any) -> Captures:
        return group_captures(self.house.db, key=self.house.ticket_key, lanes=1, **more)

    def capture(self, payment: Payment, **more: Any) -> Capture:
        truth = self.gateway.truth(str(payment.id), **more)
        return Capture(payment=payment.id, booking=payment.booking_id, truth=truth)

    async def states(self, payment: Payment) -> tuple[str, str]:
        """Of the payment and of its booking."""
        rows = await self.box.rows(
            "SELECT payment.state, booking.state AS booking FROM payment JOIN booking ON booking.id = booking_id"
            " WHERE payment.id = %s",
            payment.id,
        )
        return rows[0]["state"], rows[0]["booking"]

    async def traces(self, booking: UUID) -> dict[str, list[str]]:
        """All that was written for a booking, without ids, moments and signatures."""
        found = {}
        for table, key, ignored in TRACES:
            rows = await self.box.rows(f"SELECT to_jsonb({table}) AS row FROM {table} WHERE {key} = %s", booking)
            found[table] = sorted(
                str({name: _unnamed(value) for name, value in row["row"].items() if name not in ignored})
                for row in rows
            )
        return found


MOMENTS = {"at", "created_at", "hold_until", "hold_expires_at", "hold_cap_at", "confirmed_at", "claimed_at",
           "expires_at", "polled_at", "captured_at", "posted_at", "issued_at"}  # fmt: skip
TRACES: Sequence[tuple[str, str, set[str]]] = (
    ("booking", "id", {"id", "reference", "arrives_at", *MOMENTS}),
    ("seat_claim", "owner_id", {"trip_id", "owner_id", "claimed_at"}),
    ("payment", "booking_id", {"booking_id", "id", "checkout_url", *MOMENTS}),
    ("payment_history", "booking_id", {"booking_id", "payment_id", "id", "reason", *MOMENTS}),
    ("charge", "booking_id", {"booking_id", "transaction_id", "payment_id", *MOMENTS}),
    ("transfer", "booking_id", {"booking_id", "id", "event", *MOMENTS}),
    ("ticket", "booking_id", {"booking_id", "id", "trip_id", "token", *MOMENTS}),
    ("audit_event", "subject_id", {"subject_id", "id", *MOMENTS}),
)


def _unnamed(value: Any) -> Any:
    """Details name payments and transactions of their own."""
    if isinstance(value, dict):
        return {name: "..." if name in {"payment", "transaction", "reference"} else of for name, of in value.items()}
    return value


@pytest.fixture
async def till(fresh_url: str) -> AsyncIterator[Till]:
    async with open_office(fresh_url) as office:
        yield Till(office)


async def test_forty_payments_that_are_captured_at_once_share_transactions(till: Till) -> None:
    opened = [await till.opened("1A", "1B") for _ in range(40)]
    captures = till.captures()
    answers = await asyncio.gather(*(captures.submit(till.capture(payment)) for _, payment in opened))
    for (_, payment), answer in zip(opened, answers, strict=True):
        assert isinstance(answer, Payment)
        assert (answer.id, answer.state) == (payment.id, "captured")
        assert await till.states(payment) == ("captured", "confirmed")
    shared = "SELECT count(DISTINCT xmin::text) FROM audit_event WHERE action = 'payment.captured.fulfils'"
    assert await till.box.value(shared) <= 3
    for held, _ in opened:
        assert set(await till.office.tickets(held)) == {"1A", "1B"}
    assert await till.box.value("SELECT count(*) FROM seat_claim WHERE expires_at <> 'infinity'") == 0
    assert await till.box.value("SELECT count(*) FROM booking WHERE arrives_at IS NULL OR confirmed_at IS NULL") == 0
    assert await till.box.value("SELECT count(*) FROM payment WHERE poll_after IS NOT NULL") == 0


async def test_a_batch_of_forty_payments_takes_no_more_round_trips_than_one(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = [await till.opened("1A") for _ in range(41)]
    captures = till.captures()
    trips = count_round_trips(monkeypatch)
    await captures.submit(till.capture(opened[0][1]))
    alone = len(trips)
    trips.clear()
    await asyncio.gather(*(captures.submit(till.capture(payment)) for _, payment in opened[1:]))
    assert len(trips) == alone == 5


async def test_a_payment_in_a_batch_leaves_the_same_traces_as_one_alone(till: Till) -> None:
    async def all_alone(_: Transaction, captures: Sequence[Capture]) -> list[Payment | Alone]:
        return [Alone() for _ in captures]

    nobody: Captures = GroupCommit(till.house.db, all_alone, keys=lambda capture: frozenset([capture.booking]))
    by_itself = msgspec.structs.replace(till.house, captures=nobody)
    found = []
    for house in (till.house, by_itself):
        held, payment = await till.opened("1A", "1B", "2A")
        settled = await settle_payment(house, payment.id)
        assert (settled.state, settled.polls) == ("captured", 1)
        found.append(await till.traces(held.booking))
    assert found[0]["ticket"]
    assert found[0] == found[1]


async def test_each_payment_of_a_mixed_batch_gets_its_own_answer(till: Till) -> None:
    box, trip = till.box, till.office.network.bus()
    _, late = await till.opened("1A")
    _, beaten = await till.opened("2A", "2B")
    await box.travel(minutes=40)
    await holds.expire_seats(till.house.db)
    await till.office.hold(await _trip_of(till, beaten), "2B")
    plain, generous, short = [(await till.opened(seat, trip=trip))[1] for seat in ("3A", "4A", "5A")]
    (_, gone), (_, paid), (_, released) = [await till.opened("6A") for _ in range(3)]
    await box.rows("UPDATE trip SET state = 'cancelled' WHERE id = %s", await _trip_of(till, gone))
    await settle_payment(till.house, paid.id)
    await holds.release(till.house, booking=released.booking_id, actor="test")
    cheat = till.capture(short)
    cheat = msgspec.structs.replace(
        cheat, truth=msgspec.structs.replace(cheat.truth, amount=Money(cheat.truth.amount.amount - 1, "UGX"))
    )
    batch = [
        till.capture(plain),
        till.capture(late),
        till.capture(generous, excess=500),
        cheat,
        till.capture(beaten),
        till.capture(gone),
        till.capture(paid, transaction="a second one"),
        till.capture(released),
        msgspec.structs.replace(till.capture(plain), payment=new_id(), booking=new_id()),
    ]
    captures = till.captures()
    answers = await asyncio.gather(*(captures.submit(each) for each in batch))
    assert [isinstance(answer, Payment) for answer in answers] == [True] * 3 + [False] * 6
    for payment in (plain, late, generous):
        assert await till.states(payment) == ("captured", "confirmed")
    assert await till.states(short) == ("pending", "awaiting_payment")
    assert await till.states(beaten) == ("pending", "expired")
    assert await till.states(gone) == ("pending", "awaiting_payment")
    assert await till.states(released) == ("cancelled", "cancelled")
    assert await box.value("SELECT count(*) FROM charge") == 4
    # By themselves they end as they always have.
    assert [(await settle_payment(till.house, each.id)).state for each in (beaten, gone, released)] == ["captured"] * 3
    purposes = "SELECT purpose, refund_reserved = amount AS back FROM charge WHERE payment_id = ANY(%s)"
    rows = await box.rows(purposes, [beaten.id, gone.id, released.id])
    assert rows == [{"purpose": "unfulfillable", "back": True}] * 3


async def _trip_of(till: Till, payment: Payment) -> UUID:
    trip: UUID = await till.box.value("SELECT trip_id FROM booking_seat WHERE booking_id = %s", payment.booking_id)
    return trip


async def test_a_poisonous_payment_does_not_spoil_its_batch(till: Till) -> None:
    opened = [await till.opened("1A") for _ in range(20)]
    batch = [till.capture(payment, transaction=POISON if at == 13 else "") for at, (_, payment) in enumerate(opened)]
    captures = till.captures()
    answers = await asyncio.gather(*(captures.submit(each) for each in batch), return_exceptions=True)
    assert [at for at, answer in enumerate(answers) if not isinstance(answer, Payment)] == [13]
    assert isinstance(answers[13], Exception)
    assert await till.states(opened[13][1]) == ("pending", "awaiting_payment")
    assert await till.box.value("SELECT count(*) FROM charge") == 19


async def test_a_full_queue_of_payments_says_so_at_once_and_forgets_none(till: Till) -> None:
    opened = [await till.opened("1A") for _ in range(4)]
    captures = till.captures(max_queue=3)
    waiting = [asyncio.create_task(captures.submit(till.capture(payment))) for _, payment in opened[:3]]
    await asyncio.sleep(0)
    busy = msgspec.structs.replace(till.house, captures=captures)
    with pytest.raises(Overloaded) as refusal:
        await captures.submit(till.capture(opened[3][1]))
    assert refusal.value.retry_after_seconds >= 1
    assert all(isinstance(answer, Payment) for answer in await asyncio.gather(*waiting))
    assert (await settle_payment(busy, opened[3][1].id)).state == "captured"


async def test_one_payment_that_ten_tell_of_at_once_in_two_houses_is_captured_once(till: Till, fresh_url: str) -> None:
    held, payment = await till.opened("1A", "1B")
    async with another_house(fresh_url, till.gateway) as other:
        houses: list[House] = [till.house, other]
        settled = await asyncio.gather(
            *(settle_payment(houses[number % 2], payment.id, transaction_id=hint(payment)) for number in range(10))
        )
    assert {each.state for each in settled} == {"captured"}
    charges = await till.box.rows("SELECT purpose, fee_exact FROM charge")
    assert charges == [{"purpose": "fulfils", "fee_exact": Decimal("12.5")}]
    assert await till.box.value("SELECT count(*) FROM payment_history WHERE to_state = 'captured'") == 1
    assert await till.box.value("SELECT count(*) FROM audit_event WHERE action LIKE 'payment.captured.%%'") == 1
    assert await till.box.value("SELECT count(*) FROM refund") == 0
    assert set(await till.office.tickets(held)) == {"1A", "1B"}


def hint(payment: Payment) -> str:
    return f"t-{payment.id}"


async def test_who_waits_to_tell_of_what_was_just_written_down_is_answered_without_asking(till: Till) -> None:
    _, payment = await till.opened("1A")
    captures = till.captures()
    answers = await asyncio.gather(*(captures.submit(till.capture(payment)) for _ in range(10)))
    assert all(isinstance(answer, Payment) and answer.state == "captured" for answer in answers)
    other = await captures.submit(till.capture(payment, transaction="another"))
    assert isinstance(other, Alone)


async def test_an_attempt_that_is_still_open_is_called_off_when_an_earlier_one_is_paid(till: Till) -> None:
    held, first = await till.opened("1A")
    till.gateway.silent = True
    await till.box.rows("UPDATE payment SET expires_at = kiti_now() WHERE id = %s", first.id)
    assert (await settle_payment(till.house, first.id)).state == "expired"
    second = (await initiate(till.house, Intent(booking=held.booking))).payment
    assert second.id != first.id
    till.gateway.silent = False
    assert (await settle_payment(till.house, first.id)).state == "captured"
    assert await till.states(first) == ("captured", "confirmed")
    assert await till.states(second) == ("cancelled", "confirmed")
    rows = await till.box.rows("SELECT id FROM payment WHERE poll_after <= kiti_now()")
    assert rows == [{"id": second.id}]
