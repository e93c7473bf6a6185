"""What benchmarks run on: a PostgreSQL of their own with fsync on, a synthetic network, servers as processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
import psutil
import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from kiti.core.settings import DEMO_DEFAULTS
from kiti.db.embedded import EmbeddedDatabase
from kiti.db.migrate import migrate

HERE = Path(__file__).parent
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 15.0
IDLE_TIMEOUT_SECONDS = 30.0
QUIET_LOOKS = 8
SETTLE_SECONDS = 0.5
SALES_TABLES = "booking, booking_reference, booking_seat, seat_claim, audit_event, payment, charge, refund, ticket"


class BenchFailed(Exception):
    """A benchmark could not be run to its end; the sentence says why."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a synthetic network: `departures` a day of each route. Seats are 1A to <rows>D."""

    routes: int = 10
    departures: int = 10
    days: int = 20
    stops: int = 4
    rows: int = 12

    @property
    def trips(self) -> int:
        """How many."""
        return self.routes * self.departures * self.days

    @property
    def seats(self) -> list[str]:
        """Seat numbers, from the front."""
        return [f"{row}{letter}" for row in range(1, self.rows + 1) for letter in "ABCD"]


def trip_id(number: int) -> str:
    """The id of trip `number`, counted from 1."""
    return f"00000000-0000-7000-8000-{number:012x}"


class Server:
    """A server process that answers HTTP on a loopback port."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def peak_mb(self) -> float:
        """The most memory that it has had resident so far, in megabytes of 10⁶ bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(kilobytes) * 1024 / 1e6

    @property
    def cpu_seconds(self) -> float:
        """User and system time that it has taken so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def settle(self) -> None:
        """Wait until it has nothing to do: a load generator leaves without waiting for its last answers."""
        deadline = time.monotonic() + IDLE_TIMEOUT_SECONDS
        while True:
            before = self.cpu_seconds
            time.sleep(SETTLE_SECONDS)
            if self.cpu_seconds - before < SETTLE_SECONDS / 10:
                return
            if time.monotonic() > deadline:
                raise BenchFailed("A server did not become idle after a round.")


class Stage:
    """Owns everything that a run starts; leaving it stops everything."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            **DEMO_DEFAULTS,
            "KITI_DEMO": "1",
            "KITI_LIMITS": "off",
            "KITI_DATA_DIR": str(directory / "data"),
        }
        self._postgres = EmbeddedDatabase(directory / "postgres")
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        url = self._postgres.start()
        self._exit.callback(self._postgres.stop)
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if value(url, f"SHOW {setting}") != "on":
                raise BenchFailed(f"{setting} is off; these figures would be worth nothing.")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._exit.close()

    def database(self, name: str, network: Network) -> str:
        """A migrated database with a network in it; its URL."""
        url = self._postgres.start(name)
        migrate(url)
        with psycopg.connect(url) as connection:
            connection.execute(_text("network.sql"))
            connection.execute(_text("single.sql"))
            made = connection.execute(
                "SELECT bench_network(%s, %s, %s, %s, %s)",
                [network.routes, network.departures, network.days, network.stops, network.rows],
            ).fetchone()
            assert made == (network.trips,)
        run(url, "VACUUM ANALYZE")
        return url

    @contextmanager
    def kiti(self, url: str, *, with_worker: bool = False, **environment: str) -> Iterator[Server]:
        """`kiti serve` on that database."""
        port = free_port()
        command = ["-m", "kiti", "serve", "--port", str(port)]
        if not with_worker:
            command.append("--no-worker")
        own = {"DATABASE_URL": url, "KITI_BASE_URL": f"http://127.0.0.1:{port}", **environment}
        with self.program("kiti", command, port=port, ready="/readyz", **own) as server:
            yield server

    @contextmanager
    def program(
        self, name: str, arguments: Sequence[str], *, port: int, ready: str, **environment: str
    ) -> Iterator[Server]:
        """`python <arguments>`, until the block ends; it has answered on `ready` before that begins."""
        log = self.directory / f"{name}-{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env={**self.environment, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=HERE.parent,
            )
        try:
            server = Server(process, port, log)
            _wait_until_ready(server, ready)
            yield server
        finally:
            stop(process)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, wait, and insist."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(url: str, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> int:
    """One statement in a transaction of its own; the rows it touched."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode(), parameters).rowcount


def value(url: str, statement: str, parameters: Sequence[Any] | None = None) -> Any:
    """The only column of the only row."""
    with psycopg.connect(url, autocommit=True, row_factory=tuple_row) as connection:
        row = connection.execute(statement.encode(), parameters).fetchone()
    assert row is not None
    return row[0]


def clear_sales(url: str, *servers: Server, tables: str = SALES_TABLES) -> None:
    """Nothing sold, nothing asked of these servers, and nothing left to write out: each round begins alike."""
    for server in servers:
        server.settle()
    _wait_until_idle(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(tables)))
        connection.execute("CHECKPOINT")


def _wait_until_idle(url: str) -> None:
    """Whoever made the load has gone; what they had asked for may still be on its way."""
    busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'"
    deadline = time.monotonic() + IDLE_TIMEOUT_SECONDS
    quiet = 0
    while quiet < QUIET_LOOKS:
        if time.monotonic() > deadline:
            raise BenchFailed("The database did not become idle after a round.")
        quiet = quiet + 1 if value(url, busy) == 1 else 0
        time.sleep(0.05)


def _text(name: str) -> bytes:
    return (HERE / "sql" / name).read_bytes()


def _wait_until_ready(server: Server, path: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(server.url + path, timeout=2.0).is_success:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.1)
    raise BenchFailed(f"{server.url}{path} does not answer. Its log ends with:\n{server.log.read_text()[-2000:]}")
