"""One trip that everybody wants, and what others notice of the sweep."""

import resource
import threading
import time
from statistics import median

import httpx
import psycopg
from bench.load import Load, wrk_as
from bench.report import Finding, Options, at_least, at_most, noted, say
from bench.reserving import sold
from bench.stage import BenchFailed, Network, Server, Stage, clear_sales, run, trip_id, value

from kiti.core.settings import DEMO_DEFAULTS

BUYERS = 2000
SPARE_FILES = 256
HOLDS = 100_000
NETWORK = Network()
SWEPT = Network(routes=20, departures=10, days=20)
# Rows 1 to 7 of the swept trips are taken by the lapsed holds.
FREE_ROW = 8


class HotLoad(Load, frozen=True, kw_only=True):
    """Answers by status."""

    won: int
    taken: int
    broken: int
    other: int


def hot_trip(stage: Stage, options: Options) -> list[Finding]:
    """2,000 buyers, each on a connection of their own, ask for seats of one trip again and again."""
    url = stage.database("hot", NETWORK)
    buyers = _as_many_files_as(BUYERS)
    rates = []
    broken = 0
    exact = True
    with stage.kiti(url) as server:
        for number in range(1, options.rounds + 1):
            clear_sales(url, server)
            load = wrk_as(HotLoad, server.url, "hot.lua", [NETWORK.rows], seconds=options.seconds, connections=buyers)
            rates.append(load.taken * 1e6 / load.duration_us)
            broken += load.broken + load.errors + load.other
            there = sold(url)
            exact = exact and load.won == there == len(NETWORK.seats)
            say(
                f"round {number}: {load.won} won, {there} seats sold of {len(NETWORK.seats)},"
                f" {rates[-1]:,.0f} refusals/s, {load.broken} of 5xx, {load.errors} without an answer",
                depth=1,
            )
        memory = server.peak_mb
    return [
        Finding(
            what=f"hot trip, {buyers:,} buyers: exactly the seats there are",
            target="yes",
            reached="yes" if exact else "no",
            met=exact,
        ),
        at_least("hot trip: refusals", median(rates), 5000, unit="/s"),
        at_most("hot trip: answers of 5xx, other, or none", broken, 0),
        at_most(f"resident memory of a server process, {buyers:,} connections", memory, 150, unit="MB"),
    ]


def sweep(stage: Stage, options: Options) -> list[Finding]:
    """expire-seats over 100,000 lapsed holds, and how long one who reserves meanwhile waits at worst."""
    url = stage.database("sweep", SWEPT)
    rates, quiet, worst = [], [], []
    with stage.kiti(url) as server:
        for number in range(1, options.rounds + 1):
            clear_sales(url, server)
            quiet.append(_slowest_ms(server, until=_after(2.0)))
            clear_sales(url, server)
            _lapsed_holds(url)
            rate, slowest = _sweep_once(server)
            rates.append(rate)
            worst.append(slowest)
            left = value(url, "SELECT count(*) FROM booking WHERE state = 'held' AND hold_expires_at <= kiti_now()")
            if left:
                raise BenchFailed(f"The sweep left {left} of {HOLDS} lapsed holds.")
            say(
                f"round {number}: {rate:,.0f} holds/s; slowest reservation {slowest:.0f} ms meanwhile,"
                f" {quiet[-1]:.0f} ms without a sweep",
                depth=1,
            )
    return [
        at_least("expire-seats over 100,000 holds", median(rates), 20_000, unit="holds/s"),
        at_most("slowest reservation during a sweep (median of rounds)", median(worst), 50, unit="ms"),
        noted("slowest reservation without a sweep (median of rounds)", median(quiet), unit="ms"),
    ]


def _sweep_once(server: Server) -> tuple[float, float]:
    """Holds/s, and the longest wait of one who reserves meanwhile in milliseconds."""
    done = threading.Event()
    slowest: list[float] = []
    buyer = threading.Thread(target=lambda: slowest.append(_slowest_ms(server, until=done)))
    buyer.start()
    began = time.perf_counter()
    try:
        _run_job(server)
    finally:
        took = time.perf_counter() - began
        done.set()
        buyer.join()
    return HOLDS / took, slowest[0]


def _as_many_files_as(buyers: int) -> int:
    """Each buyer is a socket; the kernel says how many a process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = buyers + SPARE_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(buyers, soft - SPARE_FILES)


def _after(seconds: float) -> threading.Event:
    event = threading.Event()
    threading.Timer(seconds, event.set).start()
    return event


def _slowest_ms(server: Server, *, until: threading.Event) -> float:
    """One buyer, one request after the other, each for another trip; the longest wait."""
    slowest = 0.0
    with httpx.Client(base_url=server.url, timeout=30.0) as client:
        number = 0
        while not until.is_set():
            seat = SWEPT.seats[(FREE_ROW - 1) * 4 + number // SWEPT.trips]
            body = {"tripId": trip_id(number % SWEPT.trips + 1), "seatNumbers": [seat]}
            number += 1
            began = time.perf_counter()
            answer = client.post("/api/bookings/reserve", json=body)
            slowest = max(slowest, time.perf_counter() - began)
            if answer.status_code != httpx.codes.CREATED:
                raise BenchFailed(f"A reservation answered {answer.status_code}: {answer.text}")
    return slowest * 1000


def _run_job(server: Server) -> None:
    headers = {"x-job-secret": DEMO_DEFAULTS["JOB_SECRET_KEY"]}
    while True:
        answer = httpx.post(f"{server.url}/api/jobs/expire-seats", headers=headers, timeout=300.0)
        answer.raise_for_status()
        if answer.json()["processed"] < HOLDS:
            return


def _lapsed_holds(url: str) -> None:
    """100,000 holds of one seat over three legs that ended a minute ago, with all their rows."""
    with psycopg.connect(url) as connection:
        connection.execute(
            """
            CREATE TEMPORARY TABLE lapsed ON COMMIT DROP AS
            SELECT
                n, bench_id(8, n) AS booking, bench_id(0, n %% 4000 + 1) AS trip,
                (n / 4000 / 4 + 1) || chr((65 + n / 4000 %% 4)::integer) AS seat,
                kiti_now() - interval '16 minutes' AS began, kiti_now() - interval '1 minute' AS ended
            FROM generate_series(0, %s - 1) AS n
            """,
            [HOLDS],
        )
        connection.execute(
            """
            INSERT INTO booking (
                id, reference, state, currency, amount, created_at, hold_until, hold_expires_at, hold_cap_at
            )
            SELECT
                booking,
                (
                    SELECT string_agg(substr('ABCDEFGHJKMNPQRSTUVWXYZ23456789', (n / (31 ^ i)::bigint % 31)::integer + 1, 1), '')
                    FROM generate_series(0, 5) AS i
                ),
                'held', 'UGX', 30000, began, ended, ended, ended + interval '45 minutes'
            FROM lapsed
            """  # noqa: E501
        )
        connection.execute("INSERT INTO booking_reference (reference, booking_id) SELECT reference, id FROM booking")
        connection.execute(
            """
            INSERT INTO booking_seat (booking_id, trip_id, seat, from_seq, to_seq, position, operator_id, class, fare)
            SELECT booking, trip, seat, 0, 3, 1, bench_id(1, 1), 'STANDARD', 30000 FROM lapsed
            """
        )
        connection.execute(
            """
            INSERT INTO seat_claim (trip_id, seat, leg, owner_id, claimed_at, expires_at)
            SELECT trip, seat, leg, booking, began, ended FROM lapsed CROSS JOIN generate_series(0, 2) AS leg
            """
        )
    run(url, "VACUUM ANALYZE booking, booking_seat, seat_claim")
    run(url, "CHECKPOINT")
