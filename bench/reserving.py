"""Reserve over HTTP: against single transactions, against what most teams would write, and when nobody else asks."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import psycopg
from bench.load import GeneratorMissing, Load, pgbench, wrk
from bench.report import Finding, Options, alternate, at_least, at_most, noted
from bench.stage import HERE, BenchFailed, Network, Server, Stage, clear_sales, free_port, run, stop, trip_id, value
from psycopg.types.array import ListBinaryDumper

from kiti.core.ids import new_id, new_reference
from kiti.db import Query, load

NETWORK = Network()
IDLE_TRIPS = 100
BASELINE_TABLES = "baseline.booking, baseline.booking_seat, baseline.audit_log"
REFUSED_AT_MOST = 0.001


def against_pgbench(stage: Stage, options: Options) -> list[Finding]:
    """128 connections over HTTP against pgbench calling one SQL function, 16 clients, prepared."""
    url = stage.database("reserve", NETWORK)
    loads: list[Load] = []
    with stage.kiti(url) as server:
        warm(server, url)

        def ours() -> float:
            clear_sales(url, server)
            loads.append(reserve(server, options))
            return loads[-1].per_second

        def baseline() -> float:
            clear_sales(url, server)
            run(url, "ALTER SEQUENCE bench_number RESTART")
            return pgbench(url, "reserve.pgbench", seconds=options.seconds).per_second

        compared = alternate("reserve over HTTP against pgbench", options, ours, baseline)
        memory = server.peak_mb
    p50 = median(one.p50_us for one in loads) / 1000
    p99 = median(one.p99_us for one in loads) / 1000
    return [
        at_least("reserve over HTTP ÷ pgbench single reservations", compared.ratio, 2.0),
        at_most("p99 of reserve at 128 connections", p99, 60, unit="ms"),
        at_most("p99 ÷ median of reserve at 128 connections", p99 / p50, 3.0),
        at_most("resident memory of a server process, 128 connections", memory, 150, unit="MB"),
        noted("reservations over HTTP (context)", median(compared.ours), unit="/s"),
        noted("pgbench single reservations (context)", median(compared.baseline), unit="/s"),
    ]


def against_fastapi(stage: Stage, options: Options) -> list[Finding]:
    """The same requests to FastAPI + SQLAlchemy + SELECT ... FOR UPDATE, one process as ours."""
    url = _with_baseline(stage, "fastapi")
    with stage.kiti(url) as server, _uvicorn(stage, "fastapi_sqlalchemy", url) as other:
        ratio = _compare(url, server, other, options, "reserve against FastAPI + SQLAlchemy")
    return [at_least("reserve over HTTP ÷ FastAPI + SQLAlchemy", ratio, 4.0)]


def against_redis(stage: Stage, options: Options) -> list[Finding]:
    """The same requests to a Redis SET NX EX lock in front of PostgreSQL."""
    url = _with_baseline(stage, "redis")
    with (
        _redis(stage) as redis_url,
        stage.kiti(url) as server,
        _uvicorn(stage, "redis_lock", url, REDIS_URL=redis_url) as other,
    ):
        ratio = _compare(url, server, other, options, "reserve against a Redis lock", redis_url=redis_url)
    return [noted("reserve over HTTP ÷ Redis lock + PostgreSQL", ratio)]


def when_idle(stage: Stage, options: Options) -> list[Finding]:
    """One client over HTTP against one transaction of the same statements from psycopg; medians of latencies."""
    url = stage.database("idle", NETWORK)
    with stage.kiti(url) as server, psycopg.connect(url, autocommit=True) as connection:
        connection.adapters.register_dumper(list, ListBinaryDumper)
        warm(server, url)

        def ours() -> float:
            clear_sales(url, server)
            wrk(server.url, "reserve.lua", [IDLE_TRIPS, 0], seconds=1, connections=1)  # its trips into the catalogue
            clear_sales(url, server)
            seconds = min(options.seconds, 3.0)
            return float(wrk(server.url, "reserve.lua", [IDLE_TRIPS, 0], seconds=seconds, connections=1).p50_us)

        def baseline() -> float:
            clear_sales(url, server)
            return _bare_transaction_us(connection, min(options.seconds, 3.0))

        compared = alternate("idle reserve against a bare transaction", options, ours, baseline, unit=" µs")
    return [at_most("idle reserve latency ÷ bare transaction from psycopg", compared.ratio, 2.0)]


def reserve(server: Server, options: Options, *, network: Network = NETWORK) -> Load:
    """One round: every request another seat, over the whole way."""
    load = wrk(server.url, "reserve.lua", [network.trips, 0], seconds=options.seconds)
    if load.errors or load.refused > load.requests * REFUSED_AT_MOST:
        raise BenchFailed(f"{load.refused} of {load.requests} reservations were refused, {load.errors} not answered.")
    return load


def warm(server: Server, url: str) -> None:
    """Statements are prepared and the catalogue is read before the first round counts."""
    wrk(server.url, "reserve.lua", [NETWORK.trips, 0], seconds=2)
    clear_sales(url, server)


def _compare(
    url: str, server: Server, other: Server, options: Options, title: str, *, redis_url: str | None = None
) -> float:
    def cleared() -> None:
        clear_sales(url, server, other)
        clear_sales(url, tables=BASELINE_TABLES)
        run(
            url,
            "UPDATE baseline.seat_leg SET status = 'available', booking_id = NULL, held_until = NULL"
            " WHERE status <> 'available'",
        )
        run(url, "VACUUM baseline.seat_leg")
        if redis_url is not None:
            _flush(redis_url)

    def round_of(which: Server) -> float:
        cleared()
        return reserve(which, options).per_second

    for which in (server, other):
        cleared()
        wrk(which.url, "reserve.lua", [NETWORK.trips, 0], seconds=2)
    return alternate(title, options, lambda: round_of(server), lambda: round_of(other)).ratio


def _with_baseline(stage: Stage, name: str) -> str:
    url = stage.database(name, NETWORK)
    with psycopg.connect(url) as connection:
        connection.execute((HERE / "baseline" / "schema.sql").read_bytes())
    run(url, "VACUUM ANALYZE")
    return url


@contextmanager
def _uvicorn(stage: Stage, module: str, url: str, **environment: str) -> Iterator[Server]:
    port = free_port()
    arguments = ["-m", "uvicorn", f"bench.baseline.{module}:app", "--port", str(port)]
    arguments += ["--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools"]
    with stage.program(module, arguments, port=port, ready="/livez", DATABASE_URL=url, **environment) as server:
        yield server


@contextmanager
def _redis(stage: Stage) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise GeneratorMissing("redis-server is not installed (Debian: apt-get install redis-server).")
    port = free_port()
    directory = stage.directory / "redis"
    directory.mkdir()
    # As Debian ships it but for durability, which this pattern does without: the lock is gone after a crash.
    arguments = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(directory)]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}"
    try:
        time.sleep(0.5)
        _flush(url)
        yield url
    finally:
        stop(process)


def _flush(url: str) -> None:
    import redis  # noqa: PLC0415 - of the bench group; the other scenarios do without

    with redis.Redis.from_url(url) as client:
        client.flushall()


def _bare_transaction_us(connection: psycopg.Connection[Any], seconds: float) -> float:
    """The median of a reservation's statements, one after the other, in a transaction."""
    took = []
    until = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < until:
        began = time.perf_counter()
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            for query, parameters in _statements(number):
                cursor.execute(query.text.encode(), parameters)
                if query.kind == "many":
                    cursor.fetchall()
        took.append(time.perf_counter() - began)
        number += 1
    return median(took) * 1e6


def _statements(number: int) -> list[tuple[Query, dict[str, Any]]]:
    trip = trip_id(number % IDLE_TRIPS + 1)
    seat = NETWORK.seats[number // IDLE_TRIPS % len(NETWORK.seats)]
    booking, reference = new_id(), new_reference()
    owner = {"bookings": [booking], "references": [reference]}
    opened = {
        "held_at": "2030-01-01T00:00:00Z",
        "cap_seconds": 3600,
        "ids": [booking],
        "references": [reference],
        "currencies": ["UGX"],
        "amounts": [30000],
        "names": ["Grace Achieng"],
        "emails": ["grace@example.com"],
        "phones": ["+256772000000"],
        "languages": ["en"],
        "hold_seconds": [900],
    }
    seats = {
        "bookings": [booking],
        "trips": [trip],
        "seats": [seat],
        "from_seqs": [0],
        "to_seqs": [3],
        "positions": [1],
        "operators": [new_id()],
        "classes": ["STANDARD"],
        "fares": [30000],
        "passenger_names": ["Grace Achieng"],
    }
    claim = {
        "trips": [trip],
        "seats": [seat],
        "from_seqs": [0],
        "to_seqs": [3],
        "owners": [booking],
        # Gone at once, so that the round never runs out of seats: the row is taken over, as after an expired hold.
        "ttls": [0],
    }
    event = {
        "subjects": [booking],
        "ids": [new_id()],
        "actors": ["guest"],
        "actions": ["booking.held"],
        "details": ['{"reference": "ABCDEF", "seats": ["1A"]}'],
    }
    return [
        (load("kiti.network").running, {"trips": [trip]}),
        (load("kiti.bookings").taken_references, {"references": [reference]}),
        (load("kiti.seats").claim, claim),
        (load("kiti.bookings").open_references, owner),
        (load("kiti.bookings").open_bookings, opened),
        (load("kiti.bookings").open_seats, seats),
        (load("kiti.audit").record, event),
    ]


def sold(url: str) -> int:
    """Seats that somebody has, counted in the database."""
    return int(value(url, "SELECT count(DISTINCT (trip_id, seat)) FROM seat_claim WHERE expires_at > kiti_now()"))
