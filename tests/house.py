"""The real thing as processes of its own: gateway simulator, one or more servers, a database; and verbs for it.

    async def test_a_seat_is_sold(house: RunningHouse) -> None:
        booking = await house.reserve(house.network.bus(), ["1A"])
        payment = await house.initiate(booking)
        await house.sim.pay(payment)
        await house.booking_until(booking, "CONFIRMED")

Everything listens on free loopback ports. What the processes print goes to files, shown when a test fails. A
process that a test killed or forgot ends with the test run, however that ends.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import httpx

from kiti.core.settings import DEMO_DEFAULTS, load
from kiti.db import Database
from tests import nursery
from tests.box import Box
from tests.network import Network
from tests.simulated import PATIENCE_SECONDS, START_TIMEOUT_SECONDS, free_port

T = TypeVar("T")

STOP_TIMEOUT_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.03
LOG_TAIL_BYTES = 6_000
JOB_SECRET = DEMO_DEFAULTS["JOB_SECRET_KEY"]
WEBHOOK_HASH = DEMO_DEFAULTS["FLUTTERWAVE_WEBHOOK_HASH"]
WEBHOOK_PATH = "/api/payments/webhook/flutterwave"

# What tests compare to see that nothing has changed. The queue is left out: its timetable never rests.
BUSINESS_TABLES = (
    "booking",
    "booking_reference",
    "booking_seat",
    "cancelled_seat",
    "seat_replacement",
    "seat_claim",
    "payment",
    "payment_history",
    "charge",
    "refund",
    "refund_history",
    "transfer",
    "ticket",
    "webhook_delivery",
    "cash_receipt",
    "cash_handout",
)

JsonObject = dict[str, Any]


class Program:
    """`python -m …` as a process of its own. Its output is appended to a file."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._arguments = list(arguments)
        self._environment = {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", **environment}
        self._process: nursery.Process | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; it may take a while until it listens."""
        assert not self.is_running, f"{self.name} runs already"
        with self.log.open("ab") as output:
            self._process = nursery.start(self._arguments, self._environment, stdout=output, stderr=output)

    def stop(self) -> int:
        """SIGTERM, and SIGKILL for one that does not listen; the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill9()
        return self._process.wait()

    def kill9(self) -> None:
        """SIGKILL: no instruction more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT_SECONDS)

    def tail(self) -> str:
        """The end of what it has printed."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace")


class Sim:
    """The simulator's control API; see `kiti.simulator`."""

    def __init__(self, url: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=30.0, verify=False)  # no TLS: no certificates to read

    async def pay(self, payment: Any, action: str = "pay", **options: Any) -> JsonObject:
        """Press a button of the hosted page: `payment` is a reference, or what initiate answered."""
        reference = payment["paymentId"] if isinstance(payment, dict) else str(payment)
        return await self._post("/_sim/pay", {"tx_ref": reference, "action": action, **options})

    async def api_fault(self, **fault: Any) -> None:
        """Let a call to the gateway go wrong; see `kiti.simulator.faults.ApiFault`."""
        await self._post("/_sim/faults", {"api": fault})

    async def webhook_fault(self, **fault: Any) -> None:
        """Let a webhook go wrong; see `kiti.simulator.faults.WebhookFault`."""
        await self._post("/_sim/faults", {"webhooks": fault})

    async def behave(self) -> None:
        """Forget every fault."""
        (await self.http.delete("/_sim/faults")).raise_for_status()

    async def config(self, **changes: Any) -> JsonObject:
        """Change the configuration; see `kiti.simulator.machine.Config`."""
        return await self._post("/_sim/config", changes)

    async def state(self, payment: Any = None) -> JsonObject:
        """Everything the gateway knows, or what it knows of one payment."""
        query = {} if payment is None else {"tx_ref": payment["paymentId"] if isinstance(payment, dict) else payment}
        answer: JsonObject = (await self.http.get("/_sim/state", params=query)).raise_for_status().json()
        return answer

    async def replay(self, transaction: int | str, *, copies: int = 1, concurrency: int = 1) -> list[int]:
        """Post the bytes of a transaction's last webhook again; the statuses, 0 for no answer."""
        order = {"transaction_id": transaction, "copies": copies, "concurrency": concurrency}
        return list((await self._post("/_sim/webhooks/replay", order))["statuses"])

    async def send(self, body: Any, **options: Any) -> list[int]:
        """Post any JSON as a webhook; the statuses."""
        return list((await self._post("/_sim/webhooks/send", {"body": body, **options}))["statuses"])

    async def _post(self, path: str, body: Any) -> JsonObject:
        answer = await self.http.post(path, json=body)
        assert answer.is_success, f"simulator: {answer.status_code} {answer.text}"
        found: JsonObject = answer.json()
        return found


class RunningHouse:
    """Simulator, servers and database of one system under test.

    `api` speaks to the first server, `servers` are all; `box` asks the database and moves its clock.
    """

    running: ClassVar[list["RunningHouse"]] = []

    def __init__(self, database_url: str, logs: Path, *, servers: int = 1, **environment: str) -> None:
        self.database_url = database_url
        self.network = Network()
        self.box = Box(Database(database_url, minimum=1, maximum=6))
        self.ports = [free_port() for _ in range(servers)]
        sim_port = free_port()
        sim_url = f"http://127.0.0.1:{sim_port}"
        self.base_url = f"http://127.0.0.1:{self.ports[0]}"
        self.environment = {
            **DEMO_DEFAULTS,
            "KITI_DEMO": "1",
            "KITI_LIMITS": "off",
            "KITI_HOOKS_ALLOW_PRIVATE": "1",
            "KITI_BASE_URL": self.base_url,
            "KITI_DATA_DIR": str(logs / "data"),
            "DATABASE_URL": database_url,
            "FLUTTERWAVE_BASE_URL": f"{sim_url}/v3",
            "STRIPE_API_BASE": sim_url,
            "FLUTTERWAVE_V4_BASE_URL": f"{sim_url}/v4",
            "FLUTTERWAVE_V4_TOKEN_URL": f"{sim_url}/idp/realms/flutterwave/protocol/openid-connect/token",
            **environment,
        }
        webhook_url = f"{self.base_url}{WEBHOOK_PATH}"
        simulator = ["kiti.simulator", "--port", str(sim_port), "--webhook-url", webhook_url, "--retry-seconds", "0.3"]
        logs.mkdir(parents=True, exist_ok=True)
        self.simulator = Program("simulator", simulator, self.environment, logs / "simulator.log")
        self.servers = [
            Program(
                f"server {number}",
                ["kiti", "serve"],
                {**self.environment, "KITI_PORT": str(port)},
                logs / f"server-{number}.log",
            )
            for number, port in enumerate(self.ports, 1)
        ]
        self.clients = [
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                timeout=60.0,
                verify=False,
                limits=httpx.Limits(max_connections=400, max_keepalive_connections=100),
            )
            for port in self.ports
        ]
        self.api = self.clients[0]
        self.sim = Sim(sim_url)

    # ---------------------------------------------------------------- processes

    async def start(self, *, with_network: bool = True) -> "RunningHouse":
        """Start everything and wait until it answers."""
        RunningHouse.running.append(self)
        for program in (self.simulator, *self.servers):
            program.start()
        await self.box.db.open()
        if with_network:
            await self.network.build(self.box.db)
        await self.until_ready()
        # A few more attempts than Flutterwave's three, a moment apart: servers restart while webhooks are on their way.
        await self.sim.config(max_retries=40, refund_delay_seconds=0.1)
        return self

    async def stop(self) -> None:
        """Stop everything that still runs."""
        RunningHouse.running.remove(self)
        for client in (*self.clients, self.sim.http):
            await client.aclose()
        running = [program for program in (*self.servers, self.simulator) if program.is_running]
        await asyncio.gather(*(asyncio.to_thread(program.stop) for program in running))
        await self.box.db.close()

    def kill9(self, server: int = 0) -> None:
        """End a server at whatever instruction it is."""
        self.servers[server].kill9()

    async def restart(self, server: int = 0) -> None:
        """Start a server that was killed or stopped, and wait until it answers."""
        if self.servers[server].is_running:
            await asyncio.to_thread(self.servers[server].stop)
        if not any(program.is_running for program in self.servers):
            # Two minutes pass: jobs of killed workers count as stalled, requests of killed servers as ended.
            await self.box.rows("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '2 minutes'")
            await self.box.rows("UPDATE refund SET act_after = kiti_now() WHERE state = 'submitting'")
            await self.box.rows(
                "UPDATE payment SET created_at = created_at - interval '2 minutes' WHERE state = 'submitting'"
            )
        self.servers[server].start()
        await self.until_ready()

    async def until_ready(self) -> None:
        """Wait until the simulator and every started server answer."""
        waits = [_answers(self.simulator, self.sim.http, "/_sim/health")]
        waits += [
            _answers(server, client, "/readyz")
            for server, client in zip(self.servers, self.clients, strict=True)
            if server.is_running
        ]
        await asyncio.gather(*waits)

    def words(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {p.name} ({p.log.name})\n{p.tail()}" for p in (self.simulator, *self.servers))

    async def kiti(self, *arguments: str, stdin: str = "") -> tuple[int, str]:
        """Run a `kiti` command against the same database; exit code and output."""
        environment = {**os.environ, "NO_COLOR": "1", **self.environment}
        ended = await asyncio.to_thread(nursery.run, ["kiti", *arguments], environment, stdin=stdin)
        return ended.returncode, ended.stdout + ended.stderr

    # ---------------------------------------------------------------- buying

    async def ask_to_reserve(self, trip: UUID, seats: Sequence[str] | int, **more: Any) -> httpx.Response:
        """POST a reservation of seats, or of so many seats; whatever the answer."""
        chosen = {"seatCount": seats} if isinstance(seats, int) else {"seatNumbers": list(seats)}
        return await self.api.post("/api/bookings/reserve", json={"tripId": str(trip), **chosen, **more})

    async def reserve(self, trip: UUID, seats: Sequence[str] | int, **more: Any) -> JsonObject:
        """A reservation that succeeds: what the API answered."""
        answer = await self.ask_to_reserve(trip, seats, **more)
        assert answer.status_code == 201, answer.text
        found: JsonObject = answer.json()
        return found

    async def ask_to_pay(self, booking: JsonObject, **more: Any) -> httpx.Response:
        """POST the start of a payment; whatever the answer."""
        body = {"bookingId": booking["bookingId"], "paymentMethod": "CARD", **more}
        return await self.api.post("/api/payments/initiate", json=body, headers=holder(booking))

    async def initiate(self, booking: JsonObject, **more: Any) -> JsonObject:
        """A payment that can begin: what the API answered."""
        answer = await self.ask_to_pay(booking, **more)
        assert answer.status_code in {200, 201}, answer.text
        found: JsonObject = answer.json()
        return found

    async def buy(self, trip: UUID, seats: Sequence[str] | int, **more: Any) -> tuple[JsonObject, JsonObject]:
        """Reserve, pay, wait for the confirmation: booking and payment."""
        booking = await self.reserve(trip, seats, **more)
        payment = await self.initiate(booking)
        await self.sim.pay(payment)
        await self.booking_until(booking, "CONFIRMED")
        return booking, payment

    async def booking(self, booking: JsonObject) -> JsonObject:
        """GET a booking as its holder."""
        return await self._get(f"/api/bookings/{booking['bookingId']}", headers=holder(booking))

    async def tickets(self, booking: JsonObject) -> list[JsonObject]:
        """The tickets of a booking."""
        found = await self._get(f"/api/bookings/{booking['bookingId']}/tickets", headers=holder(booking))
        return list(found["tickets"])

    async def payment(self, payment: JsonObject) -> JsonObject:
        """GET how far a payment has come."""
        return await self._get("/api/payments/status", params={"paymentId": payment["paymentId"]})

    async def booking_until(self, booking: JsonObject, *statuses: str) -> JsonObject:
        """The booking, once its status is one of these."""
        return await until(lambda: self.booking(booking), lambda found: found["status"] in statuses)

    async def payment_until(self, payment: JsonObject, *statuses: str) -> JsonObject:
        """The payment, once its status is one of these."""
        return await until(lambda: self.payment(payment), lambda found: found["status"] in statuses)

    # ---------------------------------------------------------------- jobs and time

    async def job(self, name: str) -> JsonObject:
        """Run a job now, as the scheduler does."""
        answer = await self.api.post(f"/api/jobs/{name}", headers={"x-job-secret": JOB_SECRET})
        assert answer.status_code == 200, answer.text
        found: JsonObject = answer.json()
        return found

    async def poll(self, *payments: JsonObject) -> JsonObject:
        """Make the open questions about these payments to the gateway due, and ask."""
        await self.box.rows(
            "UPDATE payment SET poll_after = kiti_now() WHERE poll_after IS NOT NULL AND id = ANY(%s)",
            [payment["paymentId"] for payment in payments],
        )
        return await self.job("poll-payments")

    async def follow_refunds(self) -> JsonObject:
        """Make every refund that is not finished due, and take it one step on.

        But not one that is being asked for right now: the minute that its request may take has not passed.
        """
        await self.box.rows(
            "UPDATE refund SET act_after = kiti_now() WHERE act_after IS NOT NULL AND state <> 'submitting'"
        )
        return await self.job("process-refunds")

    async def refunds_until(self, booking: JsonObject, *states: str, count: int = 1) -> list[JsonObject]:
        """The refunds of a booking, once there are so many and all are in one of these states."""

        async def look() -> list[JsonObject]:
            found = await self.refunds(booking)
            if len(found) < count or not all(refund["state"] in states for refund in found):
                await self.follow_refunds()
            return await self.refunds(booking)

        return await until(
            look,
            lambda found: len(found) >= count and all(refund["state"] in states for refund in found),
            every_seconds=0.15,
        )

    async def refunds(self, booking: JsonObject) -> list[JsonObject]:
        """The refunds of a booking as the database has them."""
        return await self.box.rows("SELECT * FROM refund WHERE booking_id = %s ORDER BY id", booking["bookingId"])

    async def charges(self, booking: JsonObject) -> list[JsonObject]:
        """The money taken for a booking as the database has it."""
        return await self.box.rows(
            "SELECT * FROM charge WHERE booking_id = %s ORDER BY captured_at, transaction_id", booking["bookingId"]
        )

    async def ledger(self, booking: JsonObject) -> dict[str, int]:
        """How often each kind of event (capture, refund_requested, refund_done) was posted below a booking."""
        rows = await self.box.rows(
            "SELECT split_part(event, ':', 1) AS kind, count(DISTINCT event) AS times"
            " FROM transfer WHERE booking_id = %s GROUP BY 1",
            booking["bookingId"],
        )
        return {row["kind"]: row["times"] for row in rows}

    async def counts(self) -> dict[str, int]:
        """Rows of every business table."""
        return {table: await self.box.value(f"SELECT count(*) FROM {table}") for table in BUSINESS_TABLES}

    async def revive_jobs(self) -> None:
        """Run the jobs of killed workers again, as the timetable does every minute."""
        await self.box.rows(
            "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW("
            "'default', 'retry-stalled', 0, NULL, NULL, '{\"timestamp\": 0}', NULL"
            ")::procrastinate_job_to_defer_v1])"
        )

    async def queue_is_empty(self) -> None:
        """Wait until no event is left for the worker."""
        await until(
            lambda: self.box.rows(
                "SELECT id, task_name, status, attempts, scheduled_at, lock, worker_id FROM procrastinate_jobs"
                " WHERE status IN ('todo', 'doing') AND task_name IN ('process_webhook', 'process_refund')"
            ),
            lambda waiting: not waiting,
        )

    async def doctor(self) -> None:
        """`kiti doctor`, as a process, finds nothing."""
        code, output = await self.kiti("doctor")
        assert code == 0, output

    async def is_well(self) -> None:
        """The doctor's findings, without the process."""
        # Here, so that tests which start no house do not need the whole program.
        from kiti.app import open_house
        from kiti.flows.wellbeing import examine

        async with open_house(load({**self.environment, "DATABASE_URL": self.database_url})) as opened:
            findings = await examine(opened)
        assert not [finding for finding in findings if not finding.ok], findings

    async def _get(self, path: str, **options: Any) -> JsonObject:
        answer = await self.api.get(path, **options)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        found: JsonObject = answer.json()
        return found


def holder(booking: JsonObject) -> dict[str, str]:
    """The header that is the right to a booking."""
    return {"authorization": f"Hold {booking['holdToken']}"}


async def until(
    ask: Callable[[], Awaitable[T]],
    is_enough: Callable[[T], bool],
    *,
    within_seconds: float = PATIENCE_SECONDS,
    every_seconds: float = LOOK_AGAIN_SECONDS,
) -> T:
    """Ask again and again until the answer is enough; fails with the last answer."""
    last: T | None = None
    try:
        async with asyncio.timeout(within_seconds):
            while True:
                last = await ask()
                if is_enough(last):
                    return last
                await asyncio.sleep(every_seconds)
    except TimeoutError:
        raise AssertionError(f"not within {within_seconds:g} seconds; the last answer was {last!r}") from None


async def _answers(program: Program, client: httpx.AsyncClient, path: str) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            while True:
                try:
                    if (await client.get(path)).is_success:
                        return
                except httpx.TransportError:
                    assert program.is_running, f"{program.name} has ended:\n{program.tail()}"
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{program.name} does not answer:\n{program.tail()}") from None
