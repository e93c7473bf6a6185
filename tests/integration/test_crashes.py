"""kill -9 between any two steps: after a restart every payment ends as a ticket or as a refund, without a person.

A trap is a trigger that waits for a lock which the test holds. Inside a statement the process dies before its
transaction; inside COMMIT (a deferred trigger) PostgreSQL completes what the process never hears of.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from tests.cluster import Cluster
from tests.house import JsonObject, RunningHouse, holder, until

pytestmark = pytest.mark.storm

TRAP_LOCK = 7_357_001
WAITING = f"""
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND objid = {TRAP_LOCK} AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# Longer than a caller should wait for an answer that a dead process owes.
CONVERGE_SECONDS = 60.0


class Trap:
    """`table` and `change` say where a process hangs, `when` (over NEW or OLD) on which rows."""

    def __init__(self, table: str, change: str, when: str = "true") -> None:
        self.table = table
        self.change = change
        self.when = when

    def __str__(self) -> str:
        return f"{self.change.lower()} of {self.table}" + ("" if self.when == "true" else f" with {self.when}")


# The last change of each transaction that a purchase goes through, if it is paid twice.
PURCHASE = [
    Trap("booking_seat", "INSERT"),
    Trap("payment", "INSERT"),
    Trap("payment", "UPDATE", "NEW.state = 'pending'"),
    Trap("webhook_delivery", "INSERT"),
    Trap("ticket", "INSERT"),
    Trap("webhook_delivery", "UPDATE", "NEW.processed_at IS NOT NULL"),
    Trap("refund", "UPDATE", "NEW.state = 'submitting'"),
    Trap("refund", "UPDATE", "NEW.state = 'pending'"),
    Trap("transfer", "INSERT", "NEW.event LIKE 'refund_done:%'"),
]


@pytest.fixture(scope="module")
async def crash_house(
    server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningHouse]:
    from tests.conftest import fresh_database

    with fresh_database(server_url, template) as url:
        running = RunningHouse(url, tmp_path_factory.mktemp("crashes"))
        try:
            yield await running.start()
        finally:
            await running.stop()


@asynccontextmanager
async def armed(house: RunningHouse, trap: Trap, *, in_commit: bool) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """The trap is set as long as this lasts; what it yields holds the lock."""
    async with await psycopg.AsyncConnection.connect(house.database_url, autocommit=True) as connection:
        await connection.execute(f"SELECT pg_advisory_lock({TRAP_LOCK})")
        await connection.execute(
            "CREATE OR REPLACE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_advisory_xact_lock({TRAP_LOCK}); RETURN NULL; END $$"
        )
        kind = "CONSTRAINT TRIGGER" if in_commit else "TRIGGER"
        deferred = "DEFERRABLE INITIALLY DEFERRED" if in_commit else ""
        await connection.execute(
            f"CREATE {kind} trap AFTER {trap.change} ON {trap.table} {deferred}"
            f" FOR EACH ROW WHEN ({trap.when}) EXECUTE FUNCTION trap()"
        )
        yield connection


async def kill_in(house: RunningHouse, trap: Trap, holding: psycopg.AsyncConnection[Any], *, in_commit: bool) -> None:
    """Wait until the server hangs in the trap, kill it, let PostgreSQL complete or undo, take the trap away."""
    await until(lambda: house.box.rows(WAITING), bool)
    house.kill9()
    caught = [row["pid"] for row in await house.box.rows(WAITING)]
    if not in_commit:
        await house.box.rows("SELECT pg_terminate_backend(pid) FROM unnest(%s::integer[]) AS pid", caught)
    else:
        await holding.execute(f"SELECT pg_advisory_unlock({TRAP_LOCK})")
    await until(
        lambda: house.box.value("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", caught),
        lambda left: left == 0,
    )
    await holding.execute(f"DROP TRIGGER trap ON {trap.table}")


class Buyer:
    """A client that asks again, with what it has been told, until it has been answered."""

    def __init__(self, house: RunningHouse, seat: str, trip: Any) -> None:
        self.house = house
        self.trip = trip
        self.seat = seat
        self.booking: JsonObject | None = None
        self.payment: JsonObject | None = None
        self.has_pressed = False

    async def buy(self, action: str = "pay") -> None:
        """Reserve, start to pay, pay."""
        if self.booking is None:
            await self._reserve()
        assert self.booking is not None
        if self.payment is None:
            answer = await self._patiently(lambda: self.house.ask_to_pay(self.booking or {}))
            assert answer.status_code in {200, 201}, answer.text
            self.payment = answer.json()
        if not self.has_pressed:
            self.has_pressed = True
            await self.house.sim.pay(self.payment, action)

    async def _reserve(self) -> None:
        answer = await self._patiently(lambda: self.house.ask_to_reserve(self.trip, [self.seat]))
        if answer.status_code == 409:
            # Our own first try was committed, and its answer lost with the token: that hold runs out.
            await self.house.box.rows(
                "UPDATE seat_claim SET expires_at = kiti_now() WHERE trip_id = %s AND seat = %s", self.trip, self.seat
            )
            answer = await self._patiently(lambda: self.house.ask_to_reserve(self.trip, [self.seat]))
        assert answer.status_code == 201, answer.text
        self.booking = answer.json()

    async def _patiently(self, ask: Any) -> httpx.Response:
        deadline = time.monotonic() + CONVERGE_SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer: httpx.Response = await ask()
                if answer.status_code not in {503, 504}:
                    return answer
            assert time.monotonic() < deadline, "no answer"
            await asyncio.sleep(0.1)


async def converge(house: RunningHouse, *buyers: Buyer) -> None:
    """Let time pass for jobs, polls and refunds until all money has an end; everybody has paid."""
    await house.revive_jobs()
    bookings = [buyer.booking for buyer in buyers if buyer.booking is not None]
    paid = [len((await house.sim.state(buyer.payment))["transactions"]) for buyer in buyers]

    async def ends() -> list[tuple[str, int, list[str]]]:
        await house.poll(*(buyer.payment for buyer in buyers if buyer.payment is not None))
        await house.follow_refunds()
        return [
            (
                (await house.booking(booking))["status"],
                len(await house.charges(booking)),
                [refund["state"] for refund in await house.refunds(booking)],
            )
            for booking in bookings
        ]

    expected = [("CONFIRMED", times, ["succeeded"] * (times - 1)) for times in paid]
    await until(ends, lambda found: found == expected, within_seconds=CONVERGE_SECONDS, every_seconds=0.1)
    for booking, buyer, times in zip(bookings, buyers, paid, strict=True):
        assert len(await house.tickets(booking)) == 1
        assert len((await house.sim.state(buyer.payment))["refunds"]) == times - 1
        assert (await house.ledger(booking))["capture"] == times


@pytest.mark.parametrize("in_commit", [False, True], ids=["undone", "committed unheard"])
@pytest.mark.parametrize("trap", PURCHASE, ids=str)
async def test_a_server_that_is_killed_between_two_steps_leaves_nothing_half_done(
    crash_house: RunningHouse,
    trap: Trap,
    in_commit: bool,  # noqa: FBT001 - pytest's way
) -> None:
    house = crash_house
    buyer = Buyer(house, "1A", house.network.bus())
    async with armed(house, trap, in_commit=in_commit) as holding:
        buying = asyncio.create_task(buyer.buy("pay-twice"))
        kick = asyncio.create_task(_keep_looking(house))
        await kill_in(house, trap, holding, in_commit=in_commit)
        kick.cancel()
        await asyncio.gather(kick, return_exceptions=True)
    await house.restart()
    await buying
    await converge(house, buyer)
    await house.is_well()


async def _keep_looking(house: RunningHouse) -> None:
    """The clock goes on while a purchase is under way: refunds are followed to their end."""
    while True:
        with contextlib.suppress(httpx.TransportError, AssertionError):
            await house.follow_refunds()
        await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("call", "counted"),
    [
        ("POST /v3/payments", "POST /v3/payments"),
        ("GET /v3/transactions/*", "GET /v3/transactions/{id}/verify"),
        ("POST /v3/transactions/*", "POST /v3/transactions/{id}/refund"),
    ],
    ids=["checkout", "verify", "refund"],
)
async def test_a_server_that_is_killed_while_the_gateway_is_at_work_looks_before_it_asks_again(
    crash_house: RunningHouse, call: str, counted: str
) -> None:
    """The gateway acts only when nobody waits for its answer any more."""
    house = crash_house
    buyer = Buyer(house, "1A", house.network.bus())
    await house.sim.api_fault(match=call, times=1, latency_ms=600)

    async def calls() -> int:
        return int((await house.sim.state("nothing"))["calls"].get(counted, 0))

    before = await calls()
    buying = asyncio.create_task(buyer.buy("pay-twice"))
    await until(calls, lambda made: made > before)
    house.kill9()
    await asyncio.sleep(0.7)
    await house.restart()
    await buying
    await converge(house, buyer)
    await house.is_well()


async def test_servers_killed_at_any_time_end_every_payment_as_a_ticket_or_a_refund(
    crash_house: RunningHouse,
) -> None:
    house = crash_house
    dice = random.Random(20_26)
    await house.sim.webhook_fault(match="charge", duplicate=1)
    for _ in range(3):
        trip = house.network.bus()
        buyers = [Buyer(house, seat, trip) for seat in house.network.bus_line.seats[:5]]
        buying = [asyncio.create_task(buyer.buy(dice.choice(["pay", "pay-twice"]))) for buyer in buyers]
        await asyncio.sleep(dice.uniform(0.02, 0.5))
        house.kill9()
        await house.restart()
        await asyncio.gather(*buying)
        await converge(house, *buyers)
    await house.sim.behave()
    await house.queue_is_empty()
    await house.doctor()


# ------------------------------------------------------------------ PostgreSQL dies


async def test_what_a_buyer_was_promised_survives_the_death_of_postgresql(cluster: Cluster, tmp_path: Path) -> None:
    house = RunningHouse(cluster.url, tmp_path / "house")
    promised: list[JsonObject] = []
    seen: Counter[int] = Counter()
    try:
        await house.start()
        trips = [house.network.bus() for _ in range(3)]
        is_over = asyncio.Event()

        async def buyer(number: int) -> None:
            dice = random.Random(number)
            while not is_over.is_set():
                seats = dice.sample(house.network.bus_line.seats, 2)
                answer = await house.ask_to_reserve(dice.choice(trips), seats)
                seen[answer.status_code] += 1
                if answer.status_code == 201:
                    promised.append(answer.json())
                await asyncio.sleep(0.1)

        buying = asyncio.gather(*(buyer(number) for number in range(12)))
        await until(lambda: _length(promised), lambda found: found >= 20)
        cluster.kill9()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(cluster.revive)
        await asyncio.sleep(0.5)
        is_over.set()
        await buying
        assert {201, 409} <= set(seen) <= {201, 409, 503}, seen
        await _promises_are_kept(house, promised)
        sold, _ = await house.buy(house.network.bus(), ["1A"])
        assert len(await house.tickets(sold)) == 1
        await house.doctor()
    finally:
        await house.stop()


async def _length(found: list[JsonObject]) -> int:
    return len(found)


async def _promises_are_kept(house: RunningHouse, promised: list[JsonObject]) -> None:
    await house.box.db.pool.check()
    for booking in promised:
        path = f"/api/bookings/{booking['bookingId']}"
        answer = await until(
            lambda path=path, booking=booking: house.api.get(path, headers=holder(booking)),  # type: ignore[misc]
            lambda answer: answer.status_code != 503,
        )
        assert (answer.status_code, answer.json()["status"]) == (200, "HELD")
    wanted = Counter(
        (booking["tripId"], seat, leg) for booking in promised for seat in booking["seatNumbers"] for leg in (0, 1)
    )
    assert not [key for key, times in wanted.items() if times > 1], "a seat-leg was promised twice"
    rows = await house.box.rows(
        "SELECT trip_id, seat, leg, owner_id FROM seat_claim WHERE owner_id = ANY(%s)",
        [booking["bookingId"] for booking in promised],
    )
    assert {(str(row["trip_id"]), row["seat"], row["leg"]) for row in rows} == set(wanted)
