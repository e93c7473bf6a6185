"""Group commit: many callers, few transactions, and to each their own answer."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from tests.box import Box
from tests.network import Network

from kiti.bookings.model import Contact, NewSeat
from kiti.core.errors import Overloaded
from kiti.core.ids import new_id
from kiti.db import Query, Transaction
from kiti.flows.commit import Reserved, group_reservations
from kiti.flows.grouping import GroupCommit
from kiti.flows.plan import Plan, SeatsTaken, TripNotOnSale
from kiti.seats.model import Want


@pytest.fixture
async def network(box: Box) -> Network:
    return await Network().build(box.db)


def plan(trip: UUID, *seats: str, leg: int = 0, name: str = "") -> Plan:
    booking = new_id()
    return Plan(
        booking=booking,
        contact=Contact(name=name),
        language="en",
        actor="guest",
        hold_seconds=900,
        currency="UGX",
        amount=1000 * len(seats),
        seats=tuple(
            NewSeat(
                trip=trip, operator=uuid4(), seat=seat, seat_class="STANDARD", from_seq=leg, to_seq=leg + 1, fare=1000
            )
            for seat in seats
        ),
        wants=tuple(Want(owner=booking, trip=trip, seat=seat, from_seq=leg, to_seq=leg + 1) for seat in seats),
        journeys=(),
        boards_at=((trip, datetime.now(UTC) + timedelta(days=1)),),
    )


async def transactions(box: Box) -> int:
    await box.rows("SELECT pg_stat_force_next_flush()")
    count: int = await box.value("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    return count


async def test_requests_that_arrive_together_share_transactions(box: Box, network: Network) -> None:
    commits = group_reservations(box.db, lanes=1)
    plans = [plan(network.bus(), "1A") for _ in range(40)]
    before = await transactions(box)
    outcomes = await asyncio.gather(*(commits.submit(each) for each in plans))
    assert all(isinstance(outcome, Reserved) for outcome in outcomes)
    # The first goes alone because the server was idle; the other 39 wait for it and go together.
    audited = await box.value("SELECT count(DISTINCT xmin::text) FROM audit_event")
    assert audited <= 3
    assert await transactions(box) - before < 40


async def test_of_two_in_the_queue_the_earlier_gets_the_seat(box: Box, network: Network) -> None:
    commits = group_reservations(box.db)
    trip = network.bus()
    outcomes = await asyncio.gather(*(commits.submit(plan(trip, "1A")) for _ in range(30)))
    assert isinstance(outcomes[0], Reserved)
    assert all(isinstance(outcome, SeatsTaken) and outcome.seats == ["1A"] for outcome in outcomes[1:])


async def test_who_lost_only_to_a_loser_gets_the_seat(box: Box, network: Network) -> None:
    commits = group_reservations(box.db, lanes=1)
    trip = network.bus()
    await commits.submit(plan(trip, "1A"))
    loser, heir = await asyncio.gather(commits.submit(plan(trip, "1A", "1B")), commits.submit(plan(trip, "1B")))
    assert isinstance(loser, SeatsTaken)
    assert loser.seats == ["1A"]
    assert isinstance(heir, Reserved)


async def test_a_poisonous_request_does_not_spoil_its_batch(box: Box, network: Network) -> None:
    commits = group_reservations(box.db, lanes=1)
    poison = plan(network.bus(), "1A", name="a NUL \x00 that PostgreSQL refuses")
    plans = [plan(network.bus(), "1A") for _ in range(20)]
    plans.insert(10, poison)
    outcomes = await asyncio.gather(*(commits.submit(each) for each in plans), return_exceptions=True)
    assert isinstance(outcomes.pop(10), Exception)
    assert all(isinstance(outcome, Reserved) for outcome in outcomes)


async def test_a_request_that_postgresql_gives_up_on_does_not_spoil_its_batch(box: Box) -> None:
    """A cancelled statement is an OperationalError, and yet the connection is well."""
    await box.rows(
        "CREATE FUNCTION give_up() RETURNS integer LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'enough' USING ERRCODE = 'query_canceled'; END $$"
    )
    giving_up = Query("give_up", "many", "SELECT give_up()", "SELECT give_up()")

    async def commit(tx: Transaction, batch: Sequence[int]) -> list[int]:
        if 7 in batch:
            await tx.many(giving_up, tuple)
        return [number * 2 for number in batch]

    group = GroupCommit(box.db, commit, keys=lambda number: frozenset([number]), lanes=1)
    outcomes = await asyncio.gather(*(group.submit(number) for number in range(20)), return_exceptions=True)
    assert isinstance(outcomes.pop(7), psycopg.OperationalError)
    assert outcomes == [number * 2 for number in range(20) if number != 7]


async def test_a_full_queue_says_so_at_once(box: Box, network: Network) -> None:
    commits = group_reservations(box.db, lanes=1, max_queue=5)
    waiting = [asyncio.create_task(commits.submit(plan(network.bus(), "1A"))) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refusal:
        await commits.submit(plan(network.bus(), "1A"))
    assert refusal.value.retry_after_seconds >= 1
    assert all(isinstance(outcome, Reserved) for outcome in await asyncio.gather(*waiting))


async def test_a_cancelled_trip_in_a_batch_is_refused_alone(box: Box, network: Network) -> None:
    commits = group_reservations(box.db, lanes=1)
    gone, running = network.bus(), network.bus()
    await box.rows("UPDATE trip SET state = 'cancelled' WHERE id = %s", gone)
    first, second = await asyncio.gather(commits.submit(plan(gone, "1A")), commits.submit(plan(running, "1A")))
    assert isinstance(first, TripNotOnSale)
    assert isinstance(second, Reserved)


async def test_a_caller_who_has_gone_holds_no_seat_if_not_yet_committed(box: Box, network: Network) -> None:
    commits = group_reservations(box.db, lanes=1)
    trip = network.bus()
    busy = asyncio.create_task(commits.submit(plan(network.bus(), "1A")))
    await asyncio.sleep(0)
    gone = asyncio.create_task(commits.submit(plan(trip, "1A")))
    await asyncio.sleep(0)
    gone.cancel()
    await busy
    assert isinstance(await commits.submit(plan(trip, "1A")), Reserved)
