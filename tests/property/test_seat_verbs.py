"""Each verb of seats, and each sweep of bookings, does what it promises whatever it finds: one property for each.

An example draws who has which seat-leg until when, and what is asked for. Then one verb runs on a real PostgreSQL
whose clock stands still at an instant, and all rows must be as a model of a few lines says. Nothing is committed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from tests.conftest import fresh_database
from tests.examples import examples
from tests.stage import Stage

from kiti.bookings import actions as bookings
from kiti.core.errors import NotFound
from kiti.core.ids import new_id
from kiti.db import Database, Transaction
from kiti.seats import actions as seats
from kiti.seats import reads as seat_reads
from kiti.seats.actions import SeatsOccupied
from kiti.seats.model import Claimed, Lost, Want

TRIPS = (UUID(int=0xA1), UUID(int=0xA2))
SEATS = ("1A", "1B", "2A")
LEGS = 4
OWNERS = tuple(UUID(int=0xB0 + number) for number in range(4))
NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
FOR_EVER = None
PLACES = [(trip, seat) for trip in TRIPS for seat in SEATS]

# Trip, seat, leg.
Key = tuple[UUID, str, int]
# Owner, claimed at, expires at.
Row = tuple[UUID, datetime, datetime | None]
Rows = dict[Key, Row]

EXAMPLES = settings(max_examples=examples(80), deadline=timedelta(seconds=60))

INSERT_CLAIM = "INSERT INTO seat_claim VALUES (%s, %s, %s, %s, %s, coalesce(%s::timestamptz, 'infinity'))"
CLAIMS = "SELECT trip_id, seat, leg, owner_id, claimed_at, nullif(expires_at, 'infinity') AS expires_at FROM seat_claim"
INSERT_BOOKING = """
    INSERT INTO booking (
        id, reference, state, currency, amount, created_at, hold_until, hold_expires_at, hold_cap_at, confirmed_at,
        arrives_at
    ) VALUES (%(id)s, 'ABCDEF', %(state)s, 'UGX', 1, %(at)s, %(until)s, %(until)s, %(until)s, %(at)s, %(arrives)s)
"""
INSERT_LINE = "INSERT INTO booking_seat VALUES (%s, %s, %s, %s, %s, %s, %s, 'STANDARD', 1)"


class World(Stage):
    """A migrated database with a clock that stands at NOW."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.db = Database(url, minimum=1, maximum=2)
        self.stack.push_async_callback(self.db.close)
        self.run(self._open())

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[Transaction]:
        """A transaction that never happened."""
        async with self.db.transaction() as tx:
            yield tx
            raise psycopg.Rollback

    async def _open(self) -> None:
        await self.db.open()
        async with self.db.pool.connection() as connection:
            await connection.execute(
                "CREATE OR REPLACE FUNCTION kiti_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE"
                f" AS $$ SELECT timestamptz '{NOW.isoformat()}' $$"
            )


@pytest.fixture(scope="module")
def world(server_url: str, template: str) -> Iterator[World]:
    with fresh_database(server_url, template) as url:
        there = World(url)
        yield there
        there.close()


# ------------------------------------------------------------------ what is drawn

# Expired long ago, just now (an end is no part of what it ends), in a moment, later, never.
ends = st.sampled_from([-600, -1, 0, 1, 600, FOR_EVER]).map(
    lambda seconds: None if seconds is None else NOW + timedelta(seconds=seconds)
)
row_or_none = st.none() | st.tuples(st.sampled_from(OWNERS), st.just(LONG_AGO), ends)
tables: st.SearchStrategy[Rows] = st.lists(
    st.lists(row_or_none, min_size=LEGS, max_size=LEGS), min_size=len(PLACES), max_size=len(PLACES)
).map(
    lambda drawn: {
        (*place, leg): row
        for place, rows in zip(PLACES, drawn, strict=True)
        for leg, row in enumerate(rows)
        if row is not None
    }
)
segments = st.tuples(st.integers(0, LEGS), st.integers(0, LEGS)).filter(lambda pair: pair[0] < pair[1])
any_wants = st.lists(
    st.builds(
        lambda owner, place, segment: Want(
            owner=owner, trip=place[0], seat=place[1], from_seq=segment[0], to_seq=segment[1]
        ),
        st.sampled_from(OWNERS),
        st.sampled_from(PLACES),
        segments,
    ),
    max_size=8,
)


@st.composite
def disjoint_wants(draw: st.DrawFn) -> list[Want]:
    """No two of them share a seat-leg, whoever's they are: what a batch is made of. In any order."""
    wants: list[Want] = []
    for trip, seat in PLACES:
        stops = draw(st.lists(st.integers(0, LEGS), max_size=3, unique=True).map(sorted))
        for start, end in pairwise(stops):
            owner = draw(st.none() | st.sampled_from(OWNERS))
            if owner is not None:
                wants.append(Want(owner=owner, trip=trip, seat=seat, from_seq=start, to_seq=end))
    return draw(st.permutations(wants))


# ------------------------------------------------------------------ what must be


def is_live(row: Row) -> bool:
    return row[2] is None or row[2] > NOW


def live(rows: Rows) -> Rows:
    return {key: row for key, row in rows.items() if is_live(row)}


def keys_of(want: Want) -> list[Key]:
    return [(want.trip, want.seat, leg) for leg in want.legs]


def after_claiming(
    before: Rows, wants: Sequence[Want], ends_at: Mapping[UUID, datetime | None]
) -> tuple[Rows, dict[UUID, Claimed | Lost]]:
    """Each owner has everything, or nothing of what they wanted and the rest as before."""
    after = dict(before)
    outcome: dict[UUID, Claimed | Lost] = {}
    for owner in {want.owner for want in wants}:
        theirs = [want for want in wants if want.owner == owner]
        others = {key for key, row in before.items() if is_live(row) and row[0] != owner}
        missing = {
            (want.trip, want.seat): None for want in theirs if not others.isdisjoint(keys_of(want))
        }  # each once, in order
        for key in (key for want in theirs for key in keys_of(want)):
            if not missing:
                after[key] = (owner, NOW, ends_at[owner])
            elif key not in others:
                after.pop(key, None)
        outcome[owner] = Lost(seats=tuple(missing)) if missing else Claimed(claimed_at=NOW, expires_at=ends_at[owner])
    return after, outcome


async def put(tx: Transaction, rows: Rows) -> None:
    async with tx.connection.cursor() as cursor:
        await cursor.executemany(INSERT_CLAIM, [(*key, *row) for key, row in rows.items()])


async def everything(tx: Transaction) -> Rows:
    return {
        (row["trip_id"], row["seat"], row["leg"]): (row["owner_id"], row["claimed_at"], row["expires_at"])
        for row in await ask(tx.connection, CLAIMS)
    }


async def ask(connection: psycopg.AsyncConnection[Any], statement: str, *params: Any) -> list[dict[str, Any]]:
    cursor = await connection.cursor(row_factory=dict_row).execute(statement, params)
    return await cursor.fetchall()


def everybody_concerned_is_told(tx: Transaction, before: Rows, after: Rows) -> None:
    """Copies of what is free are made anew for each trip on which it has changed."""
    old = {(key, row[0]) for key, row in live(before).items()}
    new = {(key, row[0]) for key, row in live(after).items()}
    assert {key[0] for key, _ in old ^ new} <= tx.changed


# ------------------------------------------------------------------ seats


@EXAMPLES
@given(before=tables, wants=disjoint_wants(), ttls=st.tuples(*[st.integers(1, 3600)] * len(OWNERS)))
def test_claim_gives_each_owner_everything_or_nothing(
    world: World, before: Rows, wants: list[Want], ttls: tuple[int, ...]
) -> None:
    async def example() -> None:
        async with world.undone() as tx:
            await put(tx, before)
            seconds = dict(zip(OWNERS, ttls, strict=True))
            ends_at = {owner: NOW + timedelta(seconds=seconds[owner]) for owner in OWNERS}
            expected, outcome = after_claiming(before, wants, ends_at)
            assert await seats.claim(tx, wants=wants, ttl_seconds=seconds) == outcome
            assert await everything(tx) == expected
            everybody_concerned_is_told(tx, before, expected)

    world.run(example())


@EXAMPLES
@given(before=tables, wants=disjoint_wants())
def test_confirm_takes_for_ever_what_is_free_expired_or_ones_own_and_nothing_else(
    world: World, before: Rows, wants: list[Want]
) -> None:
    async def example() -> None:
        async with world.undone() as tx:
            await put(tx, before)
            expected, outcome = after_claiming(before, wants, dict.fromkeys(OWNERS, FOR_EVER))
            assert await seats.confirm(tx, wants=wants) == outcome
            assert await everything(tx) == expected
            everybody_concerned_is_told(tx, before, expected)

    world.run(example())


@EXAMPLES
@given(before=tables, wants=any_wants)
def test_release_gives_up_ones_own_and_never_what_others_have(world: World, before: Rows, wants: list[Want]) -> None:
    """Also when the same is released twice in one call, or by two who both think that it is theirs."""

    async def example() -> None:
        async with world.undone() as tx:
            await put(tx, before)
            given_up = {(key, want.owner) for want in wants for key in keys_of(want)}
            expected = {key: row for key, row in before.items() if (key, row[0]) not in given_up}
            assert await seats.release(tx, wants=wants) == len(before) - len(expected)
            assert await everything(tx) == expected
            everybody_concerned_is_told(tx, before, expected)

    world.run(example())


@EXAMPLES
@given(before=tables, wants=any_wants, chosen=st.lists(st.sampled_from(OWNERS), max_size=4))
def test_release_bookings_gives_up_all_that_they_still_have_and_nothing_of_others(
    world: World, before: Rows, wants: list[Want], chosen: list[UUID]
) -> None:
    """Bookings have claims on their own seats only; some of those were taken over by others meanwhile."""
    lines = {(want.owner, want.trip, want.seat): want for want in wants}.values()
    theirs = {(key, line.owner) for line in lines for key in keys_of(line)}
    strangers = dict(zip(OWNERS, (UUID(int=0xC0 + number) for number in range(len(OWNERS))), strict=True))
    before = {key: row if (key, row[0]) in theirs else (strangers[row[0]], *row[1:]) for key, row in before.items()}

    async def example() -> None:
        async with world.undone() as tx:
            for owner in OWNERS:
                await open_booking(tx.connection, Swept(id=owner, state="expired"))
            for position, line in enumerate(lines):
                values = (line.owner, line.trip, line.seat, line.from_seq, line.to_seq, position, OWNERS[0])
                await tx.connection.execute(INSERT_LINE, values)
            await put(tx, before)
            await seats.release_bookings(tx, bookings=chosen)
            assert await everything(tx) == {key: row for key, row in before.items() if row[0] not in chosen}

    world.run(example())


@EXAMPLES
@given(before=tables)
def test_held_tells_every_seat_leg_that_somebody_has_now(world: World, before: Rows) -> None:
    async def example() -> None:
        async with world.undone() as tx:
            await put(tx, before)
            for trip in TRIPS:
                found = await seat_reads.held(tx, trip=trip)
                assert [(leg.seat, leg.leg) for leg in found] == sorted((leg.seat, leg.leg) for leg in found)
                assert {
                    (leg.trip_id, leg.seat, leg.leg): (leg.owner_id, leg.claimed_at, leg.expires_at) for leg in found
                } == {key: row for key, row in live(before).items() if key[0] == trip}

    world.run(example())


@EXAMPLES
@given(before=tables, segment=segments, blocks=st.sets(st.sampled_from(OWNERS)))
def test_taken_tells_what_is_not_free_between_two_stops_and_why(
    world: World, before: Rows, segment: tuple[int, int], blocks: set[UUID]
) -> None:
    async def example() -> None:
        async with world.undone() as tx:
            await put(tx, before)
            for trip in TRIPS:
                for owner in blocks:
                    values = (trip, owner, "wet", "test", NOW)
                    await tx.connection.execute("INSERT INTO seat_block VALUES (%s, %s, %s, %s, %s)", values)
                there: dict[str, list[Row]] = {}
                for key, row in live(before).items():
                    if key[0] == trip and segment[0] <= key[2] < segment[1]:
                        there.setdefault(key[1], []).append(row)
                found = await seat_reads.taken(tx, trip=trip, from_seq=segment[0], to_seq=segment[1])
                assert [seat.seat for seat in found] == sorted(there)
                for seat in found:
                    rows = there[seat.seat]
                    assert seat.sold == any(row[2] is FOR_EVER for row in rows)
                    assert seat.blocked == any(row[0] in blocks for row in rows)
                    assert seat.status == ("BLOCKED" if seat.blocked else "BOOKED" if seat.sold else "HELD")

    world.run(example())


some_seats = st.lists(st.sampled_from(SEATS), min_size=1, unique=True)


async def block(tx: Transaction, numbers: Sequence[str], segment: tuple[int, int]) -> UUID:
    return await seats.block(
        tx, trip=TRIPS[0], seats=numbers, from_seq=segment[0], to_seq=segment[1], reason="wet", actor="test"
    )


@EXAMPLES
@given(before=tables, numbers=some_seats, segment=segments)
def test_block_takes_free_seats_for_ever_or_names_those_that_somebody_has(
    world: World, before: Rows, numbers: list[str], segment: tuple[int, int]
) -> None:
    wanted = [(TRIPS[0], seat, leg) for seat in numbers for leg in range(*segment)]
    occupied = {key[1] for key in live(before) if key in wanted}

    async def example() -> None:
        async with world.undone() as tx:
            await put(tx, before)
            if occupied:
                with pytest.raises(SeatsOccupied) as refusal:
                    await block(tx, numbers, segment)
                assert refusal.value.seats == [seat for seat in numbers if seat in occupied]
                assert live(await everything(tx)) == live(before)
                assert await seat_reads.blocks(tx, trip=TRIPS[0]) == []
                return
            blocked = await block(tx, numbers, segment)
            assert await everything(tx) == before | dict.fromkeys(wanted, (blocked, NOW, FOR_EVER))
            assert TRIPS[0] in tx.changed
            (told,) = await seat_reads.blocks(tx, trip=TRIPS[0])
            assert (told.id, told.seats, told.from_seq, told.to_seq) == (blocked, sorted(numbers), *segment)

    world.run(example())


@EXAMPLES
@given(before=tables, numbers=some_seats, segment=segments)
def test_unblock_gives_back_exactly_what_was_blocked_and_only_once(
    world: World, before: Rows, numbers: list[str], segment: tuple[int, int]
) -> None:
    wanted = {(TRIPS[0], seat, leg) for seat in numbers for leg in range(*segment)}
    before = {key: row for key, row in before.items() if key not in wanted}

    async def example() -> None:
        async with world.undone() as tx:
            await put(tx, before)
            blocked = await block(tx, numbers, segment)
            with pytest.raises(NotFound):
                await seats.unblock(tx, trip=TRIPS[1], block=blocked)
            assert await seats.unblock(tx, trip=TRIPS[0], block=blocked) == len(wanted)
            assert await everything(tx) == before
            with pytest.raises(NotFound):
                await seats.unblock(tx, trip=TRIPS[0], block=blocked)
            assert await everything(tx) == before

    world.run(example())


# ------------------------------------------------------------------ sweeps of bookings


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """A booking that a sweep may find; `is_locked`: a payment is at work on it right now."""

    id: UUID
    state: str
    until: datetime = NOW
    arrives: datetime | None = None
    is_locked: bool = False


async def open_booking(connection: psycopg.AsyncConnection[Any], booking: Swept) -> None:
    values = {"id": booking.id, "state": booking.state, "at": NOW, "until": booking.until, "arrives": booking.arrives}
    await connection.execute(INSERT_BOOKING, values)


STATES = ("held", "awaiting_payment", "confirmed", "completed", "expired", "cancelled")
instants = st.integers(-5, 2).map(lambda seconds: NOW + timedelta(seconds=seconds))


def bookings_mostly(*states: str) -> st.SearchStrategy[list[Swept]]:
    return st.lists(
        st.builds(
            Swept,
            id=st.builds(new_id),
            state=st.one_of(st.sampled_from(states), st.sampled_from(states), st.sampled_from(STATES)),
            until=instants,
            arrives=st.one_of(instants, instants, st.none()),
            is_locked=st.sampled_from([False, False, True]),
        ),
        max_size=12,
    )


Sweep = Callable[..., Awaitable[list[UUID]]]


async def sweep_leaves(
    world: World, there: list[Swept], sweep: Sweep, limit: int, *, becomes: str, due: dict[UUID, datetime]
) -> None:
    """The longest due go first, `limit` at most; what somebody has locked is left alone, and so is everything else."""
    async with world.db.pool.connection() as other:
        await other.execute("DELETE FROM booking")
        for booking in there:
            await open_booking(other, booking)
        async with other.transaction(force_rollback=True):
            locked = [booking.id for booking in there if booking.is_locked]
            await other.execute("SELECT id FROM booking WHERE id = ANY(%s) FOR UPDATE", [locked])
            free = {id_: at for id_, at in due.items() if id_ not in locked}
            async with world.undone() as tx:
                # The order is the statement's own, not that of the index which it happens to be found by.
                await tx.connection.execute("SET LOCAL enable_indexscan = off")
                done = await sweep(tx, limit=limit)
                assert len(done) == len(set(done)) == min(limit, len(free))
                assert sorted(free[id_] for id_ in done) == sorted(free.values())[: len(done)]
                states = {row["id"]: row["state"] for row in await ask(tx.connection, "SELECT id, state FROM booking")}
                assert states == {booking.id: becomes if booking.id in done else booking.state for booking in there}


@EXAMPLES
@given(there=bookings_mostly("held", "awaiting_payment"), limit=st.integers(1, 5))
def test_expire_due_ends_holds_that_are_over_the_longest_over_first(
    world: World, there: list[Swept], limit: int
) -> None:
    due = {b.id: b.until for b in there if b.state in {"held", "awaiting_payment"} and b.until <= NOW}
    world.run(sweep_leaves(world, there, bookings.expire_due, limit, becomes="expired", due=due))


@EXAMPLES
@given(there=bookings_mostly("confirmed"), limit=st.integers(1, 5))
def test_complete_arrived_completes_confirmed_journeys_that_have_ended_the_longest_ended_first(
    world: World, there: list[Swept], limit: int
) -> None:
    due = {b.id: b.arrives for b in there if b.state == "confirmed" and b.arrives is not None and b.arrives <= NOW}
    world.run(sweep_leaves(world, there, bookings.complete_arrived, limit, becomes="completed", due=due))
