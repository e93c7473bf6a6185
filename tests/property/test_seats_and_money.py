"""Whatever people do, in whatever order: a seat-leg has one owner, a free one is never refused, money has an end.

A state machine drives the real flows over committed data: overlapping reservations on several trips, extensions,
releases, payments on time and late, sweeps, and a clock that moves. A model says who must own what; after each
step the database must agree.
"""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from tests.box import Box
from tests.examples import TIMES, examples
from tests.simulated import SECRET_KEY, WEBHOOK_HASH, Simulator, free_port
from tests.stage import OnStage, Stage, copy_trip, play

from kiti.app import open_house
from kiti.bookings.actions import WrongState
from kiti.core.settings import Settings, load
from kiti.db import Database
from kiti.flows import holds, show
from kiti.flows.checkout import Intent, initiate
from kiti.flows.house import House
from kiti.flows.plan import Item, Reservation, SeatsTaken
from kiti.flows.refunds import process_refund
from kiti.flows.reserve import reserve
from kiti.flows.seed_demo import seed_demo
from kiti.flows.settle import settle_payment
from kiti.flows.wellbeing import examine
from kiti.payments import reads as payment_reads

STOPS = ("KLA", "MBR", "KBL", "KGL")
SEATS = ("1A", "1B", "1C")
Key = tuple[UUID, str, int]


class Held(msgspec.Struct):
    """A booking as the model knows it."""

    id: UUID
    keys: frozenset[Key]
    expires_at: float
    cap_at: float
    state: str
    payment: UUID | None = None


class World(Stage):
    """A house, with trips enough for each example to have fresh ones."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.simulator = Simulator(port=free_port(), webhook_url="http://127.0.0.1:9/", state=None)
        self.stack.push_async_callback(self.simulator.http.aclose)
        self.stack.callback(self.simulator.stop)
        self.run(self.simulator.start())
        self.settings = _settings(url, self.simulator.port)
        self.house: House = self.enter(open_house(self.settings))
        self.box = Box(self.house.db)
        self.pattern: UUID = self.run(self._make_network())

    async def fresh_trip(self) -> UUID:
        """A trip like the pattern that nobody has ever booked."""
        return await copy_trip(self.house.db, self.pattern)

    async def _make_network(self) -> UUID:
        db: Database = self.house.db
        await seed_demo(db, days=60)
        found: UUID = await self.box.value(
            "SELECT trip.id FROM trip JOIN route ON route.id = trip.route_id"
            " WHERE (SELECT array_agg(stop.code ORDER BY seq)"
            " FROM route_stop JOIN stop ON stop.id = stop_id WHERE route_id = route.id) = %s"
            " ORDER BY departs_at DESC LIMIT 1",
            list(STOPS),
        )
        return found


def _settings(url: str, port: int) -> Settings:
    return load(
        {
            "KITI_DEMO": "1",
            "DATABASE_URL": url,
            "FLUTTERWAVE_BASE_URL": f"http://127.0.0.1:{port}/v3",
            "FLUTTERWAVE_SECRET_KEY": SECRET_KEY,
            "FLUTTERWAVE_WEBHOOK_HASH": WEBHOOK_HASH,
        }
    )


segments = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(lambda pair: pair[0] < pair[1])
seat_choices = st.lists(st.sampled_from(SEATS), min_size=1, max_size=3, unique=True)
items = st.lists(st.tuples(st.integers(0, 1), seat_choices, segments), min_size=1, max_size=2, unique_by=lambda i: i[0])


class Sale(OnStage[World]):
    """One example: two fresh trips, three seats, three legs."""

    def __init__(self) -> None:
        super().__init__()
        self.trips = [self.run(self.stage.fresh_trip()), self.run(self.stage.fresh_trip())]
        self.bookings: list[Held] = []

    def now(self) -> float:
        return time.time() + self.stage.box.travelled_seconds

    def owners(self) -> dict[Key, UUID]:
        """Who must own what now."""
        return {
            key: held.id
            for held in self.bookings
            if held.state == "confirmed" or (held.state == "held" and held.expires_at > self.now())
            for key in held.keys
        }

    @rule(wanted=items, minutes=st.integers(1, 30))
    def reserve(self, wanted: list[Any], minutes: int) -> None:
        keys = frozenset(
            (self.trips[trip], seat, leg) for trip, seats, (a, b) in wanted for seat in seats for leg in range(a, b)
        )
        taken = {seat for _, seat, _ in keys & self.owners().keys()}
        reservation = Reservation(
            items=tuple(
                Item(trip=self.trips[trip], seats=tuple(seats), from_code=STOPS[a], to_code=STOPS[b])
                for trip, seats, (a, b) in wanted
            ),
            hold_minutes=minutes,
        )
        if taken:
            with pytest.raises(SeatsTaken) as refusal:
                self.run(reserve(self.stage.house, reservation))
            assert set(refusal.value.seats) == taken
            return
        reserved = self.run(reserve(self.stage.house, reservation))  # a free seat is never refused
        at = self.now()
        self.bookings.append(Held(reserved.plan.booking, keys, at + minutes * 60, at + 3600, "held"))

    @precondition(lambda self: self.bookings)
    @rule(pick=st.integers(0, 99), minutes=st.integers(1, 30))
    def extend(self, pick: int, minutes: int) -> None:
        held = self._pick(pick)
        alive = held.state == "held" and held.expires_at > self.now()
        try:
            self.run(holds.extend(self.stage.house, booking=held.id, minutes=minutes, actor="test"))
        except WrongState:
            assert not alive
            return
        assert alive
        held.expires_at = max(held.expires_at, min(self.now() + minutes * 60, held.cap_at))

    @precondition(lambda self: self.bookings)
    @rule(pick=st.integers(0, 99))
    def release(self, pick: int) -> None:
        held = self._pick(pick)
        try:
            self.run(holds.release(self.stage.house, booking=held.id, actor="test"))
        except WrongState:
            assert held.state == "confirmed"
            return
        assert held.state != "confirmed"
        if held.state == "held":
            held.state = "cancelled" if not self._was_swept(held) else "expired"

    @precondition(lambda self: self.bookings)
    @rule(pick=st.integers(0, 99))
    def start_to_pay(self, pick: int) -> None:
        held = self._pick(pick)
        alive = held.state == "held" and held.expires_at > self.now()
        if held.payment is not None and self.run(self._is_open(held.payment)):
            return
        try:
            opened = self.run(initiate(self.stage.house, Intent(booking=held.id)))
        except WrongState:
            assert not alive
            return
        assert alive
        held.payment = opened.payment.id
        held.expires_at = max(held.expires_at, min(self.now() + 20 * 60, held.cap_at))

    @precondition(lambda self: any(held.payment for held in self.bookings))
    @rule(pick=st.integers(0, 99), twice=st.booleans())
    def pay(self, pick: int, twice: bool) -> None:  # noqa: FBT001 - a strategy's value
        payable = [held for held in self.bookings if held.payment is not None]
        held = payable[pick % len(payable)]
        assert held.payment is not None
        owners = self.owners()
        free = all(owners.get(key, held.id) == held.id for key in held.keys)
        action = "pay-twice" if twice else "pay"
        answer = self.run(self.stage.simulator.pay(str(held.payment), action, force=True))
        for transaction in answer.get("transaction_ids", []):
            self.run(settle_payment(self.stage.house, held.payment, transaction_id=str(transaction)))
        if answer.get("transaction_ids") and held.state in {"held", "expired"} and free:
            held.state = "confirmed"

    @rule(minutes=st.sampled_from([0.5, 3.5, 11.5, 40.5]))
    def time_passes(self, minutes: float) -> None:
        self.run(self.stage.box.travel(minutes=minutes))

    @rule()
    def sweep(self) -> None:
        self.run(holds.expire_seats(self.stage.house.db))

    @invariant()
    def the_database_agrees(self) -> None:
        rows = self.run(
            self.stage.box.rows(
                "SELECT trip_id, seat, leg, owner_id FROM seat_claim"
                " WHERE trip_id = ANY(%s) AND expires_at > kiti_now()",
                self.trips,
            )
        )
        assert {(r["trip_id"], r["seat"], r["leg"]): r["owner_id"] for r in rows} == self.owners()

    def teardown(self) -> None:
        self.run(self._end())

    def _pick(self, pick: int) -> Held:
        return self.bookings[pick % len(self.bookings)]

    def _was_swept(self, held: Held) -> bool:
        view = self.run(show.booking(self.stage.house, held.id))
        return view.booking.state == "expired"

    async def _is_open(self, payment: UUID) -> bool:
        return (await show.payment(self.stage.house, payment)).payment.is_open

    async def _end(self) -> None:
        """Let refunds come to their end; then everything that the doctor looks at must hold."""
        house = self.stage.house
        for held in self.bookings:
            async with house.db.reader() as reader:
                refunds = await payment_reads.refunds_of(reader, booking=held.id)
                charges = await payment_reads.charges_of(reader, booking=held.id)
            for refund in refunds:
                if refund.state == "requested":
                    await process_refund(house, refund.id)
            fulfilling = [charge for charge in charges if charge.purpose == "fulfils"]
            assert len(fulfilling) == (held.state == "confirmed")
            for charge in charges:
                gone_back = sum(r.amount for r in refunds if r.transaction_id == charge.transaction_id)
                assert gone_back == (0 if charge.purpose == "fulfils" else charge.amount)
        findings = [finding for finding in await examine(house) if finding.check != "jobs"]
        assert all(finding.ok for finding in findings), findings


@pytest.fixture
def world(fresh_url: str) -> Iterator[World]:
    there = World(fresh_url)
    yield there
    there.close()


@pytest.mark.timeout(600 * TIMES)
def test_a_seat_leg_has_one_owner_and_money_has_an_end(world: World) -> None:
    play(Sale, on=world, examples=examples(40), steps=25)
