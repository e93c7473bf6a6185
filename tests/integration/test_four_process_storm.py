"""Four servers, a crowd that does everything at once, and kill -9 for servers and for PostgreSQL in the middle of it.

Afterwards the database is asked, in SQL, whether every promise was kept: tests/promises.py.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.cluster import Cluster
from tests.house import JsonObject, RunningHouse, holder, until
from tests.promises import STOPS, Promise, broken, evidence, promise_of

pytestmark = pytest.mark.storm

SEED = 20_261_124
SERVERS = 4
CLIENTS = 40
# Trips that are put on sale before each stroke, so that there is always something to win.
FRESH_TRIPS = 4
# How often each server must have sold something before the next stroke.
SALES_BETWEEN_STROKES = 8
LONGEST_THOUGHT_SECONDS = 0.8
ATTEMPTS = 30
PATIENCE_SECONDS = 60.0

SEGMENTS = (("KLA", "KGL"), ("KLA", "MBR"), ("MBR", "KGL"))

# What a client may hear while everything around it dies; never 500. 503 is a server whose database went away in the
# middle of it. 409 says of seats that somebody has them, and of a booking that it was paid or given up meanwhile:
# people pay and regret at the same moment. 504 is a payment whose page a killed server had asked for: nobody knows,
# ask later.
# 404 would be a promise that is lost; 402 and 422 have no cause, for nobody is declined and all bodies are valid.
ALLOWED = {
    "reserve": {201, 409, 503},
    "extend": {200, 409, 503},
    "release": {200, 409, 503},
    "initiate": {200, 201, 409, 503, 504},
    "pay": {200, 409},  # the simulator's: its page was closed because the booking had been given up
}

# ------------------------------------------------------------------ the crowd


class Storm:
    """What the crowd may buy, and what it has seen."""

    def __init__(self, house: RunningHouse) -> None:
        self.house = house
        self.trips: list[UUID] = []
        self.promises: list[Promise] = []
        self.pressed: list[JsonObject] = []
        self.seen: Counter[tuple[str, int]] = Counter()
        self.sold: Counter[int] = Counter()  # by server
        self.unheard: Counter[int] = Counter()  # requests that met a dead server, by server
        self.is_over = asyncio.Event()

    @property
    def unavailable(self) -> int:
        """How often somebody was told that there is no database."""
        return sum(times for (_, status), times in self.seen.items() if status == 503)

    def told(self) -> str:
        """For whoever has to find out what was wrong."""
        return f"heard {dict(self.seen)}, sold {dict(self.sold)}, heard nothing {dict(self.unheard)}"

    def put_on_sale(self, count: int) -> None:
        self.trips += [self.house.network.bus() for _ in range(count)]

    async def client(self, number: int) -> None:
        """Buys, and does with what it got whatever comes to its mind, until the storm is over."""
        dice = random.Random(f"{SEED} {number}")
        while not self.is_over.is_set():
            await self._think(dice)
            body = self._wish(dice)
            answer = await self.ask(dice, "reserve", "POST", "/api/bookings/reserve", json=body)
            if answer is None or answer.status_code != 201:
                continue
            booking = answer.json()
            promise = promise_of(booking)
            _is_what_was_asked_for(promise, body)
            self.promises.append(promise)
            await self._think(dice)
            await self._go_on(dice, booking, promise)

    async def ask(
        self, dice: random.Random, verb: str, method: str, path: str, **options: Any
    ) -> httpx.Response | None:
        """Ask a random server, and others when it is dead or has no database; None when nobody answers at all."""
        for _ in range(ATTEMPTS):
            server = dice.randrange(SERVERS)
            try:
                answer = await self.house.clients[server].request(method, path, **options)
            except httpx.TransportError:
                self.unheard[server] += 1
            else:
                self._note(verb, answer)
                if answer.status_code != 503:
                    self.sold[server] += answer.status_code == 201 and verb == "reserve"
                    return answer
            await self._think(dice)
        return None

    async def _go_on(self, dice: random.Random, booking: JsonObject, promise: Promise) -> None:
        match dice.choices(["extend", "release", "pay", "pay-twice", "regret", "leave"], [3, 4, 4, 2, 2, 2])[0]:
            case "extend":
                minutes = {"holdDurationMinutes": dice.randint(1, 30)}
                path = f"/api/bookings/{booking['bookingId']}/extend"
                await self.ask(dice, "extend", "POST", path, json=minutes, headers=holder(booking))
            case "release":
                await self._release(dice, booking, promise)
            case "regret":
                await asyncio.gather(self._pay(dice, booking, "pay"), self._release(dice, booking, promise))
            case "pay" | "pay-twice" as action:
                await self._pay(dice, booking, action)
            case _:
                return  # leaves, and lets the hold run out

    async def _release(self, dice: random.Random, booking: JsonObject, promise: Promise) -> None:
        promise.was_given_up = True
        path = f"/api/bookings/{booking['bookingId']}/hold"
        await self.ask(dice, "release", "DELETE", path, headers=holder(booking))

    async def _pay(self, dice: random.Random, booking: JsonObject, action: str) -> None:
        body = {"bookingId": booking["bookingId"], "paymentMethod": "CARD"}
        answer = await self.ask(dice, "initiate", "POST", "/api/payments/initiate", json=body, headers=holder(booking))
        if answer is None or not answer.is_success:
            return
        payment = answer.json()
        order = {"tx_ref": payment["paymentId"], "action": action}
        paid = await self.house.sim.http.post("/_sim/pay", json=order)
        self._note("pay", paid)
        if paid.is_success:
            self.pressed.append(payment)

    def _wish(self, dice: random.Random) -> JsonObject:
        if dice.random() < 0.2:
            return {"items": [self._item(dice, trip) for trip in dice.sample(self.trips, 2)]}
        return self._item(dice, dice.choice(self.trips))

    def _item(self, dice: random.Random, trip: UUID) -> JsonObject:
        start, end = dice.choice(SEGMENTS)
        count = dice.randint(1, 3)
        wanted: JsonObject = {"tripId": str(trip), "from": start, "to": end}
        if dice.random() < 0.25:
            return wanted | {"seatCount": count}
        return wanted | {"seatNumbers": dice.sample(self.house.network.bus_line.seats, count)}

    def _note(self, verb: str, answer: httpx.Response) -> None:
        assert answer.status_code in ALLOWED[verb], f"{verb}: {answer.status_code} {answer.text}"
        self.seen[verb, answer.status_code] += 1

    @staticmethod
    async def _think(dice: random.Random) -> None:
        await asyncio.sleep(dice.uniform(0, LONGEST_THOUGHT_SECONDS))


def _is_what_was_asked_for(promise: Promise, body: JsonObject) -> None:
    got = Counter((trip, start, end) for trip, _, start, end in promise.lines)
    items = body.get("items", [body])
    assert got == {
        (item["tripId"], STOPS[item["from"]], STOPS[item["to"]]): item.get("seatCount") or len(item["seatNumbers"])
        for item in items
    }
    named = {(item["tripId"], seat) for item in items for seat in item.get("seatNumbers", ())}
    assert named <= {(trip, seat) for trip, seat, _, _ in promise.lines}


# ------------------------------------------------------------------ the strokes


async def rage(storm: Storm) -> None:
    """Go on until each server has sold something to somebody since this began."""
    storm.put_on_sale(FRESH_TRIPS)
    before = storm.sold.copy()
    await _until(storm, lambda: all(storm.sold[n] >= before[n] + SALES_BETWEEN_STROKES for n in range(SERVERS)))


async def strike_server(storm: Storm, server: int) -> None:
    """kill -9; it comes back when some clients have met nobody there."""
    met = storm.unheard[server]
    storm.house.kill9(server)
    await _until(storm, lambda: storm.unheard[server] >= met + 5)
    await storm.house.restart(server)


async def strike_postgres(storm: Storm, cluster: Cluster) -> None:
    """kill -9; it comes back when somebody was told so."""
    told = storm.unavailable
    cluster.kill9()
    await _until(storm, lambda: storm.unavailable > told)
    await asyncio.to_thread(cluster.revive)
    await storm.house.until_ready()


async def strike_all(house: RunningHouse) -> None:
    """The last stroke: kill -9 of every server that is left; then all of them start again."""
    for server in range(SERVERS):
        house.kill9(server)
    await house.restart(0)
    for program in house.servers[1:]:
        program.start()
    await house.until_ready()


async def _until(storm: Storm, is_enough: Callable[[], bool]) -> None:
    async def look() -> str:
        return storm.told()

    await until(look, lambda _: is_enough(), within_seconds=PATIENCE_SECONDS)


async def until_money_has_an_end(house: RunningHouse, pressed: list[JsonObject], known: dict[str, list[Any]]) -> None:
    """Let time pass for jobs, polls and refunds until everything that was paid is a charge and no refund is open."""
    await house.revive_jobs()

    async def open_ends() -> list[JsonObject]:
        await house.box.rows(
            "UPDATE procrastinate_jobs SET scheduled_at = now() WHERE status = 'todo' AND scheduled_at > now()"
        )
        await house.poll(*pressed)
        await house.follow_refunds()
        return await house.box.rows(
            "SELECT 'transaction' AS what, told.id FROM unnest(%s::text[]) AS told (id)"
            " WHERE NOT EXISTS (SELECT FROM charge WHERE charge.transaction_id = told.id)"
            " UNION ALL SELECT 'refund ' || state, id::text FROM refund WHERE state <> 'succeeded'"
            " UNION ALL SELECT 'job ' || status, id::text FROM procrastinate_jobs"
            " WHERE status IN ('todo', 'doing') AND task_name IN ('process_webhook', 'process_refund')",
            known["transactions"],
        )

    await until(open_ends, lambda found: not found, within_seconds=PATIENCE_SECONDS, every_seconds=0.2)


def _was_a_storm(storm: Storm) -> None:
    """Floors that a healthy run passes by far."""
    seen, told = storm.seen, storm.told()
    assert seen["reserve", 201] >= 150, told
    assert seen["reserve", 409] >= 60, told
    assert storm.unheard.total() >= 20, told
    assert seen["pay", 200] >= 40, told


@pytest.fixture
async def four_servers(cluster: Cluster, tmp_path: Path) -> AsyncIterator[RunningHouse]:
    running = RunningHouse(cluster.url, tmp_path / "house", servers=SERVERS)
    try:
        await running.start()
        await running.sim.config(max_retries=1000)
        yield running
    finally:
        await running.stop()


async def test_no_seat_is_sold_twice_and_no_promise_broken_while_servers_and_postgresql_are_killed(
    four_servers: RunningHouse, cluster: Cluster
) -> None:
    house = four_servers
    dice = random.Random(SEED)
    storm = Storm(house)
    strokes: list[Callable[[], Awaitable[None]]] = [
        *(partial(strike_server, storm, server) for server in dice.sample(range(SERVERS), 2)),
        partial(strike_postgres, storm, cluster),
    ]
    dice.shuffle(strokes)
    storm.put_on_sale(FRESH_TRIPS)
    async with asyncio.TaskGroup() as crowd:
        for number in range(CLIENTS):
            crowd.create_task(storm.client(number))
        for strike in strokes:
            await rage(storm)
            await strike()
        await rage(storm)
        storm.is_over.set()
    _was_a_storm(storm)
    await strike_all(house)
    known = evidence(storm.promises, (await house.sim.state())["transactions"])
    await until_money_has_an_end(house, storm.pressed, known)
    async with house.box.db.pool.connection() as connection:
        assert await broken(connection, known) == {}
    await house.doctor()
