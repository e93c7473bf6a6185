"""Whatever is done to seats: a seat-leg has one owner, bookings and claims agree, and a refusal changes nothing.

A state machine drives every verb of a seat's life over committed data: reserve, extend, confirm, release, swap, move,
block, unblock, expire, and a clock that moves. A model says which verb must be refused and why, and who must own
what; after each step the database must agree.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.box import Box
from tests.examples import TIMES, examples
from tests.network import FIRST_DAY, FIRST_LEG_UGX, SECOND_LEG_UGX, STANDARD_UGX, VIP_UGX, Network
from tests.stage import OnStage, Stage, play

from kiti.app import open_house
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat
from kiti.core.errors import InvalidInput, KitiError, NotFound
from kiti.core.settings import load
from kiti.db import Transaction
from kiti.flows import holds
from kiti.flows.blocks import block_seats, held_seats, unblock_seats
from kiti.flows.changes import FareDiffers, move_booking, swap_seats
from kiti.flows.holds import wants_of
from kiti.flows.house import House
from kiti.flows.plan import Item, NotEnoughSeats, Reservation, SeatsTaken
from kiti.flows.reserve import reserve
from kiti.flows.wellbeing import examine
from kiti.seats import actions as seats
from kiti.seats.actions import SeatsOccupied
from kiti.seats.model import Claimed
from kiti.tickets import actions as tickets

T = TypeVar("T")

STOPS = ("KLA", "MBR", "KGL")
VIP = ("1A", "1B", "1C", "1D")
# Two classes, and few enough that people meet.
SEATS = ("1A", "1B", "2A", "2B", "2C", "3A", "3B")
FARES = {
    ("STANDARD", 0, 2): STANDARD_UGX,
    ("STANDARD", 0, 1): FIRST_LEG_UGX,
    ("STANDARD", 1, 2): SECOND_LEG_UGX,
    ("VIP", 0, 2): VIP_UGX,
    ("VIP", 0, 1): 45_000,
}
Key = tuple[UUID, str, int]

SALES = ("ticket", "seat_claim", "seat_block", "booking_seat", "booking_reference", "booking", "audit_event")
OWNERS = "SELECT trip_id, seat, leg, owner_id FROM seat_claim WHERE expires_at > kiti_now()"
LINES = "SELECT booking_id, trip_id, seat, from_seq, to_seq, fare FROM booking_seat ORDER BY booking_id, position"
TICKETS = "SELECT booking_id, trip_id, seat FROM ticket WHERE state <> 'void'"
UNEVEN_HOLDS = (
    "SELECT booking.id FROM booking INNER JOIN seat_claim ON owner_id = booking.id"
    " WHERE state IN ('held', 'awaiting_payment') AND hold_expires_at <> expires_at"
)
# But for lapsed claims: who reserves may clear them away and still lose another seat.
EVERYTHING = " UNION ALL ".join(
    f"SELECT {table}::text AS row FROM {table}" + (" WHERE expires_at > kiti_now()" if table == "seat_claim" else "")
    for table in SALES
)


class Line(msgspec.Struct, frozen=True):
    """A seat of a booking as the model knows it."""

    trip: UUID
    seat: str
    from_seq: int
    to_seq: int
    fare: int

    @property
    def keys(self) -> list[Key]:
        return [(self.trip, self.seat, leg) for leg in range(self.from_seq, self.to_seq)]


class Held(msgspec.Struct):
    """A booking as the model knows it."""

    id: UUID
    lines: list[Line]
    expires_at: float
    cap_at: float
    state: str

    def on(self, trip: UUID) -> list[Line]:
        return [line for line in self.lines if line.trip == trip]


class World(Stage):
    """A house with two double-deckers that are emptied before each example."""

    def __init__(self, url: str) -> None:
        super().__init__()
        settings = load({"KITI_DEMO": "1", "DATABASE_URL": url, "FLUTTERWAVE_BASE_URL": "http://127.0.0.1:9/v3"})
        self.house: House = self.enter(open_house(settings))
        self.box = Box(self.house.db)
        network: Network = self.run(Network().build(self.house.db))
        # Far ahead: an example may let many hours pass.
        self.trips = [network.double_line.trip_on(FIRST_DAY + timedelta(days=ahead)) for ahead in (100, 101)]

    async def empty(self) -> None:
        for table in SALES:
            await self.box.rows(f"DELETE FROM {table}")
        await self.box.travel(seconds=-self.box.travelled_seconds)

    async def everything(self) -> list[str]:
        return sorted(row["row"] for row in await self.box.rows(EVERYTHING))


def class_of(seat: str) -> str:
    return "VIP" if seat in VIP else "STANDARD"


segments = st.sampled_from([(0, 1), (0, 2), (1, 2)])
seat_choices = st.lists(st.sampled_from(SEATS), min_size=1, max_size=3, unique=True)
swappings = st.lists(st.tuples(st.integers(0, 8), st.sampled_from(SEATS)), max_size=3, unique_by=lambda s: s[1])
items = st.lists(st.tuples(st.integers(0, 1), seat_choices, segments), min_size=1, max_size=2, unique_by=lambda i: i[0])
picks = st.integers(0, 99)


class Life(OnStage[World]):
    """One example: two trips of two legs, some seats of two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.run(self.stage.empty())
        self.house = self.stage.house
        self.trips = self.stage.trips
        self.bookings: list[Held] = []
        self.blocks: list[tuple[UUID, UUID, frozenset[Key]]] = []
        self.lifted: list[tuple[UUID, UUID]] = []

    def now(self) -> float:
        return time.time() + self.stage.box.travelled_seconds

    def is_alive(self, held: Held) -> bool:
        return held.state == "confirmed" or (held.state == "held" and held.expires_at > self.now())

    def owners(self) -> dict[Key, UUID]:
        """Who must own what now."""
        owned = {key: block for block, _, keys in self.blocks for key in keys}
        for held in self.bookings:
            if self.is_alive(held):
                owned |= {key: held.id for line in held.lines for key in line.keys}
        return owned

    def taken(self, lines: Sequence[Line], *, but: UUID | None = None) -> set[str]:
        owners = self.owners()
        return {line.seat for line in lines for key in line.keys if owners.get(key, but) != but}

    def attempt(self, expected: type[KitiError] | None, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do it; or be refused as expected, without anything having changed."""
        if expected is None:
            return self.run(work())
        before = self.run(self.stage.everything())
        with pytest.raises(expected):
            self.run(work())
        assert self.run(self.stage.everything()) == before
        return None

    # ---------------------------------------------------------------- the verbs

    @initialize(wanted=st.lists(items, min_size=2, max_size=4))
    def some_have_reserved(self, wanted: list[list[Any]]) -> None:
        for one in wanted:
            self.reserve(one, 30)

    @rule(wanted=items, minutes=st.integers(1, 30))
    def reserve(self, wanted: list[Any], minutes: int) -> None:
        lines = [
            Line(self.trips[trip], seat, a, b, FARES.get((class_of(seat), a, b), 0))
            for trip, chosen, (a, b) in wanted
            for seat in chosen
        ]
        expected: type[KitiError] | None = None
        if not all(line.fare for line in lines):
            expected = InvalidInput
        elif self.taken(lines):
            expected = SeatsTaken
        reservation = Reservation(
            items=tuple(
                Item(trip=self.trips[trip], seats=tuple(chosen), from_code=STOPS[a], to_code=STOPS[b])
                for trip, chosen, (a, b) in wanted
            ),
            hold_minutes=minutes,
        )
        reserved = self.attempt(expected, lambda: reserve(self.house, reservation))
        if reserved is not None:
            at = self.now()
            self.bookings.append(Held(reserved.booking, lines, at + minutes * 60, at + 3600, "held"))

    @precondition(lambda self: self.bookings)
    @rule(pick=picks, minutes=st.integers(1, 30))
    def extend(self, pick: int, minutes: int) -> None:
        held = self._pick(pick)
        is_holding = held.state == "held" and self.is_alive(held)
        self.attempt(
            None if is_holding else WrongState,
            lambda: holds.extend(self.house, booking=held.id, minutes=minutes, actor="test"),
        )
        if is_holding:
            held.expires_at = max(held.expires_at, min(self.now() + minutes * 60, held.cap_at))

    @precondition(lambda self: self.bookings)
    @rule(pick=picks)
    def confirm(self, pick: int) -> None:
        """As a payment does, on time or late: whoever finds the seats free gets them."""
        held = self._pick(pick)
        expected: type[KitiError] | None = None
        if held.state != "held":
            expected = WrongState
        elif self.taken(held.lines, but=held.id):
            expected = SeatsTaken
        self.attempt(expected, lambda: self.house.db.run(lambda tx: self._confirm(tx, held.id)))
        if expected is None:
            held.state = "confirmed"

    @precondition(lambda self: self.bookings)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        held = self._pick(pick)
        expected = WrongState if held.state == "confirmed" else None
        answer = self.attempt(expected, lambda: holds.release(self.house, booking=held.id, actor="test"))
        if answer is not None and answer.state == "cancelled":  # one that was swept before stays expired
            held.state = "cancelled"

    @precondition(lambda self: self.bookings)
    @rule(pick=picks, trip=st.integers(0, 1), wanted=swappings)
    def swap(self, pick: int, trip: int, wanted: list[tuple[int, str]]) -> None:
        held = self._pick(pick)
        mine = {line.seat: line for line in held.on(self.trips[trip])}
        # Nearly always seats of this booking, now and then another one.
        olds = [*mine, *mine, "4A"]
        self._swap(held, trip, {olds[number % len(olds)]: seat for number, seat in wanted})

    @precondition(lambda self: any(self.is_alive(held) for held in self.bookings))
    @rule(pick=picks, order=st.permutations(SEATS))
    def swap_for_free_ones(self, pick: int, order: list[str]) -> None:
        """As people do who look at the seat map first: each traveller to a free seat of the class, or to a fellow's."""
        held = self._pick(pick)
        trip = held.lines[0].trip
        mine = held.on(trip)
        swaps: dict[str, str] = {}
        for line in mine:
            fellows = {other.seat for other in mine}
            fitting = [
                seat
                for seat in order
                if class_of(seat) == class_of(line.seat)
                and seat not in swaps.values()
                and (seat in fellows or not self.taken([msgspec.structs.replace(line, seat=seat)]))
            ]
            swaps[line.seat] = fitting[0] if fitting else line.seat
        self._swap(held, self.trips.index(trip), {old: new for old, new in swaps.items() if old != new})

    def _swap(self, held: Held, trip: int, swaps: dict[str, str]) -> None:
        mine = {line.seat: line for line in held.on(self.trips[trip])}
        expected = self._objection_to_swap(held, mine, swaps)
        answer = self.attempt(
            expected,
            lambda: swap_seats(self.house, booking=held.id, swaps=swaps, trip=self.trips[trip], actor="test"),
        )
        if answer is not None:
            held.lines = [
                msgspec.structs.replace(line, seat=swaps[line.seat])
                if line.trip == self.trips[trip] and line.seat in swaps
                else line
                for line in held.lines
            ]

    @precondition(lambda self: self.bookings)
    @rule(pick=picks, is_astray=st.integers(0, 4).map(lambda n: n == 4), chosen=st.none() | seat_choices)
    def move(self, pick: int, is_astray: bool, chosen: list[str] | None) -> None:  # noqa: FBT001 - a strategy's value
        held = self._pick(pick)
        left = held.lines[0].trip
        left, entered = (self._other(left), left) if is_astray else (left, self._other(left))
        old = held.on(left)
        if chosen is not None and len(chosen) > len(old) > 0:
            chosen = chosen[: len(old)]
        new = [msgspec.structs.replace(line, trip=entered) for line in old]
        if chosen is not None and len(chosen) == len(old):
            new = [msgspec.structs.replace(line, seat=seat) for line, seat in zip(new, chosen, strict=True)]
        expected = self._objection_to_move(held, old, new, entered, chosen)
        answer = self.attempt(
            expected,
            lambda: move_booking(
                self.house,
                booking=held.id,
                from_trip=left,
                to_trip=entered,
                seats=chosen,
                reason="moved",
                actor="test",
            ),
        )
        if answer is not None:
            self._moved(held, new, answer, chosen)

    @precondition(lambda self: len(self.blocks) < 2)
    @rule(trip=st.integers(0, 1), chosen=seat_choices, segment=segments)
    def block(self, trip: int, chosen: list[str], segment: tuple[int, int]) -> None:
        lines = [Line(self.trips[trip], seat, *segment, 0) for seat in chosen]
        blocked = self.attempt(
            SeatsOccupied if self.taken(lines) else None,
            lambda: block_seats(
                self.house,
                trip=self.trips[trip],
                numbers=chosen,
                reason="broken",
                from_code=STOPS[segment[0]],
                to_code=STOPS[segment[1]],
                actor="test",
            ),
        )
        if blocked is not None:
            self.blocks.append((blocked, self.trips[trip], frozenset(key for line in lines for key in line.keys)))

    @precondition(lambda self: self.blocks or self.lifted)
    @rule(pick=picks, again=st.booleans())
    def unblock(self, pick: int, again: bool) -> None:  # noqa: FBT001 - a strategy's value
        if self.lifted and (again or not self.blocks):
            block, trip = self.lifted[pick % len(self.lifted)]
            self.attempt(NotFound, lambda: unblock_seats(self.house, trip=trip, block=block, actor="test"))
            return
        block, trip, keys = self.blocks.pop(pick % len(self.blocks))
        self.lifted.append((block, trip))
        assert self.run(unblock_seats(self.house, trip=trip, block=block, actor="test")) == len(keys)

    @rule()
    def expire(self) -> None:
        self.run(holds.expire_seats(self.house.db))

    @rule(minutes=st.sampled_from([0.5, 3.5, 11.5]))
    def travel(self, minutes: float) -> None:
        self.run(self.stage.box.travel(minutes=minutes))

    # ---------------------------------------------------------------- what must hold

    @invariant()
    def every_seat_leg_has_the_owner_that_it_must_have(self) -> None:
        rows = self.run(self.stage.box.rows(OWNERS))
        assert {(r["trip_id"], r["seat"], r["leg"]): r["owner_id"] for r in rows} == self.owners()
        assert self.run(self.stage.box.rows(UNEVEN_HOLDS)) == []

    @invariant()
    def every_booking_has_the_lines_and_the_tickets_that_it_must_have(self) -> None:
        found: dict[UUID, list[Line]] = {}
        for row in self.run(self.stage.box.rows(LINES)):
            found.setdefault(row.pop("booking_id"), []).append(Line(*row.values()))
        assert found == {held.id: held.lines for held in self.bookings}
        good = [tuple(row.values()) for row in self.run(self.stage.box.rows(TICKETS))]
        confirmed = [held for held in self.bookings if held.state == "confirmed"]
        assert sorted(good) == sorted((held.id, line.trip, line.seat) for held in confirmed for line in held.lines)

    def teardown(self) -> None:
        """Staff see the same owners; and the doctor finds nothing."""
        owners = self.owners()
        told = {
            (trip, held.seat, leg)
            for trip in self.trips
            for held in self.run(held_seats(self.house, trip=trip))
            for leg in range(STOPS.index(held.from_code), STOPS.index(held.to_code))
        }
        assert told == owners.keys()
        findings = [finding for finding in self.run(examine(self.house)) if not finding.ok]
        assert not findings, findings

    # ---------------------------------------------------------------- the model

    def _pick(self, pick: int) -> Held:
        """Mostly one that lives."""
        alive = [held for held in self.bookings if self.is_alive(held)]
        among = self.bookings if pick % 5 == 0 or not alive else alive
        return among[pick % len(among)]

    async def _confirm(self, tx: Transaction, booking: UUID) -> None:
        found = await bookings.lock(tx, booking=booking)
        if found.state not in {"held", "expired"}:
            raise WrongState("It cannot be paid for.")
        wants = wants_of(await booking_reads.seats_of(tx, bookings=[booking]))
        if not isinstance((await seats.confirm(tx, wants=wants))[booking], Claimed):
            raise SeatsTaken(["some"])
        await bookings.move(tx, booking=found, to="confirmed")
        await tickets.issue(tx, booking=booking, key=self.house.ticket_key)

    def _objection_to_swap(self, held: Held, mine: dict[str, Line], swaps: dict[str, str]) -> type[KitiError] | None:
        if not swaps or len(set(swaps.values())) != len(swaps):
            return InvalidInput
        if not self.is_alive(held):
            return WrongState
        new = []
        for old, seat in swaps.items():
            line = mine.get(old)
            if line is None or seat == old or (seat in mine and seat not in swaps):
                return InvalidInput
            if class_of(seat) != class_of(old):
                return FareDiffers if (class_of(seat), line.from_seq, line.to_seq) in FARES else InvalidInput
            new.append(msgspec.structs.replace(line, seat=seat))
        return SeatsTaken if self.taken(new, but=held.id) else None

    def _objection_to_move(
        self, held: Held, old: list[Line], new: list[Line], entered: UUID, chosen: list[str] | None
    ) -> type[KitiError] | None:
        if not self.is_alive(held):
            return WrongState
        if not old or held.on(entered):
            return InvalidInput
        if chosen is None:
            return NotEnoughSeats if self._lacks_seats(old, entered) else None
        if len(chosen) != len(old):
            return InvalidInput
        for line in new:
            fare = FARES.get((class_of(line.seat), line.from_seq, line.to_seq))
            if fare != line.fare:
                return InvalidInput if fare is None else FareDiffers
        return SeatsTaken if self.taken(new) else None

    def _lacks_seats(self, old: list[Line], entered: UUID) -> bool:
        """Whether too few VIP seats are free; of the others there are always enough."""
        wanted = [line for line in old if line.seat in VIP]
        if not wanted:
            return False
        every = [msgspec.structs.replace(wanted[0], trip=entered, seat=seat) for seat in VIP]
        return len(wanted) > len(VIP) - len(self.taken(every))

    def _moved(self, held: Held, new: list[Line], answer: list[BookedSeat], chosen: list[str] | None) -> None:
        """Take over which seats were picked: free ones, of the same classes."""
        if chosen is None:
            picked = [line.seat for line in answer if line.trip_id == new[0].trip]
            assert [class_of(seat) for seat in picked] == [class_of(line.seat) for line in new]
            new = [msgspec.structs.replace(line, seat=seat) for line, seat in zip(new, picked, strict=True)]
            assert not self.taken(new)
        fresh = iter(new)
        held.lines = [line if line.trip != self._other(new[0].trip) else next(fresh) for line in held.lines]

    def _other(self, trip: UUID) -> UUID:
        return self.trips[1 - self.trips.index(trip)]


@pytest.fixture
def world(fresh_url: str) -> Iterator[World]:
    there = World(fresh_url)
    yield there
    there.close()


@pytest.mark.timeout(600 * TIMES)
def test_seats_are_changed_in_any_order_and_nobody_ever_shares_one(world: World) -> None:
    play(Life, on=world, examples=examples(40), steps=30)
