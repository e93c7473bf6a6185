"""What a reservation costs when a network is ten times as large."""

import psycopg
from bench.load import wrk
from bench.report import Finding, Options, alternate, noted
from bench.stage import BenchFailed, Network, Stage, clear_sales, run

SMALL = Network(routes=10, departures=10, days=10)
LEGS = 3


def growth(stage: Stage, options: Options) -> list[Finding]:
    """Reservations/s over three legs: ten times as many trips, stops of a trip, or holds already there."""
    more_trips = Network(routes=10, departures=100, days=10)
    more_stops = Network(routes=10, departures=10, days=10, stops=SMALL.stops * 10)
    return [
        noted("reserve: ten times the trips ÷ without", _compare(stage, "trips", more_trips, options)),
        noted("reserve: ten times the stops of a trip ÷ without", _compare(stage, "stops", more_stops, options)),
        noted("reserve: 100,000 live holds ÷ 10,000", _compare(stage, "holds", SMALL, options, holds=True)),
    ]


def _compare(stage: Stage, name: str, large: Network, options: Options, *, holds: bool = False) -> float:
    """The same trips are sold in both; the larger network only has more around them."""
    urls = [stage.database(f"{name}_small", SMALL), stage.database(f"{name}_large", large)]
    with stage.kiti(urls[0]) as small_server, stage.kiti(urls[1]) as large_server:

        def rate(which: int, seconds: float) -> float:
            server, network = [(small_server, SMALL), (large_server, large)][which]
            clear_sales(urls[which], small_server, large_server)
            if holds:
                _standing_holds(urls[which], 100_000 if which else 10_000)
            way = [SMALL.trips, 0, network.departures, network.routes, network.stops, LEGS]
            load = wrk(server.url, "reserve.lua", way, seconds=seconds)
            if load.errors or load.refused > load.requests // 1000:
                raise BenchFailed(f"{load.refused} of {load.requests} reservations were refused.")
            return load.per_second

        rate(0, 2)
        rate(1, 2)
        return alternate(
            f"10 times {name}", options, lambda: rate(1, options.seconds), lambda: rate(0, options.seconds)
        ).ratio


def _standing_holds(url: str, holds: int) -> None:
    """Claims of seats that nobody asks for, on the trips that are sold."""
    with psycopg.connect(url) as connection:
        connection.execute(
            """
            INSERT INTO seat_claim (trip_id, seat, leg, owner_id, claimed_at, expires_at)
            SELECT
                bench_id(0, n %% %(trips)s + 1), 'H' || n / %(trips)s, 0, bench_id(8, n),
                kiti_now(), kiti_now() + interval '1 day'
            FROM generate_series(0, %(holds)s - 1) AS n
            """,
            {"trips": SMALL.trips, "holds": holds},
        )
    run(url, "VACUUM ANALYZE seat_claim")
    run(url, "CHECKPOINT")
