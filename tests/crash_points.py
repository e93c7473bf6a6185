"""Stories that are told again and again, each time with a process that dies at another point, and always end alike.

    story = Story(begins=held_seat, steps=(Ours(ask_to_pay), Theirs(pay), Ours(poll)))
    await ends_alike(stage, story)

What Kiti does in a story is told once in a process whose commits and requests to gateways are counted. Then, for each
of these points, it is told anew up to there, and a process of its own is killed at the point. Time passes, and the
product's own jobs carry on; who had asked and heard nothing asks again; and the story goes on to its end.
Bookings, seats, money, tickets, messages and both sides' books must then be what they are without a death.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
from psycopg.rows import dict_row

from kiti.app import open_house
from kiti.bookings.model import Contact
from kiti.core.settings import DEMO_DEFAULTS, load
from kiti.flows.house import House
from kiti.flows.plan import Item, Passenger, Reservation
from kiti.flows.reserve import reserve
from kiti.flows.upkeep import JOBS
from kiti.flows.wellbeing import examine
from kiti.people import reads as people
from kiti.people.model import Staff
from tests import crash_acts
from tests.box import Box
from tests.crash_acts import Act, Case, silence_timetable
from tests.crash_worker import Order, Said
from tests.house import Program, Sim, until
from tests.network import Network
from tests.receiver import Receiver, always
from tests.simulated import free_port
from tests.staff import employ
from tests.wiretap import Wiretap

ROOT = Path(__file__).parents[1]
# Longer than a request of a dead process may be believed to be on its way.
ROUND_SECONDS = 61
MOST_ROUNDS = 6
# What the timetable brings round that stories may need.
TIMETABLE = ("poll-payments", "process-refunds", "refund-cancelled-trips", "payouts", "send-notifications")
# Stories of travellers are about trips of this day and later, so that those of payouts may let months pass.
FIRST_TRIP = 200
FIRST_LAKE_TRIP = 90

UNDER_WAY = """
SELECT
    EXISTS (SELECT 1 FROM payment WHERE state IN ('submitting', 'unknown', 'authorised'))
    OR EXISTS (SELECT 1 FROM refund WHERE state IN ('requested', 'submitting', 'unknown', 'pending'))
    OR EXISTS (SELECT 1 FROM payout WHERE state IN ('requested', 'submitting', 'unknown', 'pending'))
    OR EXISTS (SELECT 1 FROM webhook_delivery WHERE processed_at IS NULL)
    OR EXISTS (SELECT 1 FROM message WHERE act_after IS NOT NULL)
    OR EXISTS (SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))
"""

# What must be the same in the end. Attempts that took no money are left out: a death may cost a traveller one, and
# then a message that says so; and whoever holds seats for longer is reminded of them.
ENDS = {
    "booking": "SELECT state, amount FROM booking WHERE id = ANY(%(about)s) ORDER BY id",
    "claims": """
        SELECT seat, leg, expires_at = 'infinity' AS is_sold FROM seat_claim
        WHERE owner_id = ANY(%(about)s) AND expires_at > kiti_now() ORDER BY seat, leg""",
    "seats": "SELECT seat, fare FROM booking_seat WHERE booking_id = ANY(%(about)s) ORDER BY seat",
    "seats_given_up": "SELECT seat, percent, refunded FROM cancelled_seat WHERE booking_id = ANY(%(about)s)",
    "payments": """
        SELECT state, amount, fee FROM payment
        WHERE booking_id = ANY(%(about)s) AND state IN ('authorised', 'captured', 'review')""",
    "charges": """
        SELECT purpose, amount, fee_exact, refund_reserved FROM charge
        WHERE booking_id = ANY(%(about)s) ORDER BY purpose""",
    "refunds": "SELECT state, amount FROM refund WHERE booking_id = ANY(%(about)s) ORDER BY amount",
    "trips_given_back": """
        SELECT refund_id IS NOT NULL AS is_refunded FROM trip_refund WHERE booking_id = ANY(%(about)s)""",
    "receipts": "SELECT amount FROM cash_receipt WHERE booking_id = ANY(%(about)s)",
    "tickets": "SELECT seat, state FROM ticket WHERE booking_id = ANY(%(about)s) ORDER BY seat",
    "statement": "SELECT state, net FROM settlement WHERE id = ANY(%(about)s)",
    "payouts": "SELECT state, amount, fee_exact FROM payout WHERE settlement_id = ANY(%(about)s)",
    "balances": """
        SELECT account, sum(amount) AS amount
        FROM (
            SELECT debit AS account, amount FROM transfer WHERE booking_id = ANY(%(about)s)
            UNION ALL SELECT credit, -amount FROM transfer WHERE booking_id = ANY(%(about)s)
        ) AS side
        GROUP BY account ORDER BY account""",
    "postings": """
        SELECT split_part(event, ':', 1) AS kind, count(*) AS lines FROM transfer
        WHERE booking_id = ANY(%(about)s) GROUP BY kind ORDER BY kind""",
    "messages": """
        SELECT split_part(event, ':', 1) AS kind, channel, state, attempts FROM message
        WHERE booking_id = ANY(%(about)s) AND event !~ '^(failed|held)' ORDER BY kind, channel""",
}
END = "SELECT " + ", ".join(
    f"(SELECT coalesce(jsonb_agg(to_jsonb(found)), '[]') FROM ({query}) AS found) AS {name}"
    for name, query in ENDS.items()
)


class Ours(msgspec.Struct, frozen=True):
    """A step that Kiti takes."""

    act: Act

    async def take(self, stage: "Stage", case: Case) -> None:
        await self.act(stage.house, case)


class Theirs(msgspec.Struct, frozen=True):
    """A step that the world takes."""

    act: Callable[["Stage", Case], Awaitable[None]]

    async def take(self, stage: "Stage", case: Case) -> None:
        await self.act(stage, case)


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """How it begins, each time with things of its own, and what happens then."""

    begins: Callable[["Stage"], Awaitable[Case]]
    steps: tuple[Ours | Theirs, ...]


class Performed(msgspec.Struct, frozen=True):
    """What became of an order: the points that were passed, the case unless the process was killed."""

    points: list[str]
    case: Case | None


class Worker:
    """tests/crash_worker.py: one fork at a time, on the wire."""

    def __init__(self, process: asyncio.subprocess.Process, wire: Wiretap, log: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._wire = wire
        self._log = log

    async def perform(self, act: Act, case: Case, *, fatal: int | None = None) -> Performed:
        """Let a process do it, and die at its point of that number."""
        points = self._wire.fresh()
        self._tell(msgspec.json.encode(Order(act=act.__name__, case=case)))
        said = await self._hear()
        assert said.ready, self._words()
        points.watch(said.ready, fatal=fatal)
        self._tell(b"begin")
        said = await self._hear()
        done = said.done
        if done is not None:
            points.rest()
            said = await self._hear()
        await self._wire.until_silent()
        expected = 0 if fatal is None else -signal.SIGKILL
        assert said.ended == expected, f"ended with {said.ended} after {points.passed}\n{self._words()}"
        return Performed(points.passed, done)

    def _tell(self, line: bytes) -> None:
        self._stdin.write(line + b"\n")

    async def _hear(self) -> Said:
        line = await self._stdout.readline()
        assert line, self._words()
        return msgspec.json.decode(line, type=Said)

    def _words(self) -> str:
        return self._log.read_text()[-6000:]


class Stage:
    """A house in this process, a simulated gateway, and processes to kill; `inbox` takes what the gateway posts."""

    def __init__(self, house: House, network: Network, sim: Sim, worker: Worker, inbox: Receiver, staff: Staff) -> None:
        self.house = house
        self.network = network
        self.box = Box(house.db)
        self.sim = sim
        self.worker = worker
        self.inbox = inbox
        self.staff = staff

    async def hold(self, trip: UUID, *seats: str) -> tuple[UUID, int, str]:
        """A booking that nobody has paid for yet, what is due, and its currency."""
        reservation = Reservation(
            items=(Item(trip=trip, seats=seats),),
            passengers=tuple(Passenger(name=name) for name in ("Amina", "Baraka")[: len(seats)]),
            contact=Contact(name="Amina", phone="+256772123456"),
        )
        booking = (await reserve(self.house, reservation)).booking
        due = (await self.box.rows("SELECT amount, currency FROM booking WHERE id = %s", booking))[0]
        return booking, due["amount"], due["currency"]

    async def let_time_pass(self) -> None:
        """Until nothing is under way, or only what waits for somebody: jobs of the dead are taken over, rounds come."""
        await self.box.rows("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '2 minutes'")
        for _ in range(MOST_ROUNDS):
            await self.box.rows("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo'")
            await self.house.queue.app.tasks["retry-stalled"].defer_async(timestamp=0)
            await crash_acts.work(self.house, Case(gateway=""))
            for name in TIMETABLE:
                tally = await JOBS[name](self.house)
                assert tally.failed == 0, name
            if not await self.box.value(UNDER_WAY):
                return
            await self.box.travel(seconds=ROUND_SECONDS)

    async def put_jobs_aside(self) -> None:
        """What one story has left in the queue is not for the process that dies in the next one."""
        await self.box.rows(
            "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour' WHERE status = 'todo'"
        )

    async def end(self, case: Case) -> dict[str, Any]:
        """What has become of everything that the story is about, here and at the gateway."""
        about = [*case.bookings, *([] if case.settlement is None else [case.settlement])]
        async with self.box.db.pool.connection() as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(END, {"about": about})
            (found,) = await cursor.fetchall()
        return {**found, "at the gateway": await self.at_gateway(case)}

    async def at_gateway(self, case: Case) -> list[tuple[str, str, str]]:
        """All money that moved there, whatever it is thought of here: kind, status, amount."""
        attempts = await self.box.rows("SELECT id FROM payment WHERE booking_id = ANY(%s)", case.bookings)
        moved = []
        for attempt in attempts:
            state = await self.sim.state(str(attempt["id"]))
            kinds = {**state, "stripe refunds": state["stripe"]["refunds"], "intents": state["stripe"]["intents"]}
            for kind in ("transactions", "refunds", "stripe refunds", "intents"):
                moved += [_money(kind, row) for row in kinds[kind]]
        if case.payout is not None:
            state = await self.sim.state()
            rows = [*state["transfers"], *state["stripe"]["transfers"]]
            moved += [_money("transfer", row) for row in rows if str(case.payout) in str(row)]
        return sorted(one for one in moved if one != ("transactions", "pending", one[2]))

    async def is_well(self) -> None:
        """The doctor finds nothing."""
        findings = [finding for finding in await examine(self.house) if not finding.ok]
        assert not findings, findings


def _money(kind: str, row: dict[str, Any]) -> tuple[str, str, str]:
    return kind, row.get("status", "succeeded"), str(row.get("amount", row.get("amount_refunded")))


async def ends_alike(stage: Stage, story: Story) -> dict[str, Any]:
    """Tell it whole, then with a death at each of its points; how it ends."""
    whole = await story.begins(stage)
    points: list[list[str]] = []
    for step in story.steps:
        if isinstance(step, Ours):
            performed = await stage.worker.perform(step.act, whole)
            assert performed.case is not None, "nobody was to die"
            whole = performed.case
            points.append(performed.points)
        else:
            await step.take(stage, whole)
            points.append([])
    await stage.let_time_pass()
    end = await stage.end(whole)
    for at, passed in enumerate(points):
        cases = [await _killed(stage, story, at, fatal) for fatal in range(len(passed))]
        await stage.let_time_pass()
        for case in cases:
            for step in story.steps[at:]:
                await step.take(stage, case)
        await stage.let_time_pass()
        for case, point in zip(cases, passed, strict=True):
            step = story.steps[at]
            found = await stage.end(case)
            differing = {name: (told, end[name]) for name, told in found.items() if told != end[name]}
            assert not differing, f"killed {point} in {step.act.__name__} ({passed}): {differing}"
    await stage.is_well()
    return end


async def _killed(stage: Stage, story: Story, at: int, fatal: int) -> Case:
    """Told up to a step of ours, in which a process dies."""
    case = await story.begins(stage)
    for before in story.steps[:at]:
        await before.take(stage, case)
    step = story.steps[at]
    await stage.worker.perform(step.act, case, fatal=fatal)  # type: ignore[arg-type] # a step of ours has points
    await stage.put_jobs_aside()
    return case


@asynccontextmanager
async def open_stage(url: str, logs: Path) -> AsyncIterator[Stage]:
    """On a fresh database."""
    async with Receiver(always(200)).listening() as inbox:
        port = free_port()
        around = _around(url, f"http://127.0.0.1:{port}", logs)
        arguments = [
            "kiti.simulator",
            "--port",
            str(port),
            "--webhook-url",
            f"http://127.0.0.1:{inbox.port}/flutterwave",
        ]
        simulator = Program("simulator", arguments, around, logs / "simulator.log")
        simulator.start()
        sim = Sim(f"http://127.0.0.1:{port}")
        try:
            async with (
                Wiretap(url, f"http://127.0.0.1:{port}").listening() as wire,
                _open_worker(wire, _around(wire.database_url, wire.gateways_url, logs), logs / "worker.log") as worker,
                open_house(load(around)) as house,
            ):
                silence_timetable(house)
                network = await Network().build(house.db)
                _skip(network)
                staff = await _employ(house)
                await until(lambda: _is_up(sim), bool)
                await sim.config(refund_delay_seconds=0, transfer_delay_seconds=0)
                yield Stage(house, network, sim, worker, inbox, staff)
        finally:
            await sim.http.aclose()
            simulator.stop()


@asynccontextmanager
async def _open_worker(wire: Wiretap, around: dict[str, str], log: Path) -> AsyncIterator[Worker]:
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.crash_worker"),
            cwd=ROOT,
            env={**os.environ, "NO_COLOR": "1", **around},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield Worker(process, wire, log)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def _around(database_url: str, gateways_url: str, logs: Path) -> dict[str, str]:
    """The environment of whoever reaches the world at these addresses."""
    return {
        **DEMO_DEFAULTS,
        "KITI_DEMO": "1",
        "KITI_DATA_DIR": str(logs / "data"),
        "DATABASE_URL": database_url,
        "FLUTTERWAVE_BASE_URL": f"{gateways_url}/v3",
        "STRIPE_API_BASE": gateways_url,
        "FLUTTERWAVE_V4_BASE_URL": f"{gateways_url}/v4",
        "FLUTTERWAVE_V4_TOKEN_URL": f"{gateways_url}/idp/realms/flutterwave/protocol/openid-connect/token",
    }


def _skip(network: Network) -> None:
    for _ in range(FIRST_TRIP):
        network.bus()
    for _ in range(FIRST_LAKE_TRIP):
        network.lake()


async def _employ(house: House) -> Staff:
    """Somebody who may do everything."""
    employee = await employ(house.db, "platform_admin")
    async with house.db.reader() as reader:
        (account,) = await people.accounts(reader, email=employee.email)
    return account.staff


async def _is_up(sim: Sim) -> bool:
    try:
        return (await sim.http.get("/_sim/health")).is_success
    except httpx.TransportError:
        return False
