"""Reads: a trip's seats while others reserve, and search as the timetable grows."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import httpx
from bench.load import Load, wrk
from bench.report import Finding, Options, alternate, at_least, at_most, noted, say
from bench.reserving import warm
from bench.stage import Network, Server, Stage, clear_sales, trip_id

NETWORK = Network()
READERS = 32
BUYERS = 4
SEARCHERS = 4
HOT_TRIPS = 20
# Trips: routes and departures of each grow alike, over thirty days.
TIMETABLES = {
    10_000: Network(routes=18, departures=19, days=30),
    100_000: Network(routes=57, departures=59, days=30),
    1_000_000: Network(routes=182, departures=184, days=30),
}


def availability(stage: Stage, options: Options) -> list[Finding]:
    """The seat map of a trip, with and without an ETag, against /livez of the same server; others reserve meanwhile."""
    url = stage.database("availability", NETWORK)
    # The buyers take other trips first, so an ETag of these stays good for most of a round.
    maps = [f"/api/bookings/reserve?tripId={trip_id(NETWORK.trips - n)}" for n in range(HOT_TRIPS)]
    trivial = _paths(stage, "trivial", ["/livez"])
    with stage.kiti(url) as server:
        warm(server, url)

        def reads(paths: Path, etag: str | None = None) -> float:
            clear_sales(url, server)
            with _buying(server, options.seconds):
                arguments = [paths] if etag is None else [paths, etag]
                load = wrk(server.url, "get.lua", arguments, seconds=options.seconds, connections=READERS)
            return load.per_second

        every = _paths(stage, "maps", maps)
        plain = alternate("seat map against /livez", options, lambda: reads(every), lambda: reads(trivial))
        one = _paths(stage, "map", maps[:1])
        etag = httpx.get(server.url + maps[0]).headers["etag"]
        known = alternate(
            "seat map with If-None-Match against /livez", options, lambda: reads(one, etag), lambda: reads(trivial)
        )
    return [
        at_least("availability ÷ trivial route of the same server", plain.ratio, 0.5),
        at_least("availability with If-None-Match ÷ trivial route", known.ratio, 0.5),
    ]


def search(stage: Stage, options: Options) -> list[Finding]:
    """Pages of a search at 10⁴, 10⁵ and 10⁶ trips; the 99th percentile over HTTP."""
    sizes = [size for size in TIMETABLES if not (options.small and size > 100_000)]
    loads: dict[int, list[Load]] = {size: [] for size in sizes}
    with ExitStack() as running:
        servers = {}
        for size in sizes:
            say(f"making {TIMETABLES[size].trips:,} trips", depth=1)
            url = stage.database(f"search{size}", TIMETABLES[size])
            servers[size] = running.enter_context(stage.kiti(url))
        paths = {size: _paths(stage, f"search{size}", _searches(TIMETABLES[size])) for size in sizes}
        for size in sizes:
            wrk(servers[size].url, "get.lua", [paths[size]], seconds=2, connections=SEARCHERS)
        for number in range(1, options.rounds + 1):
            for size in sizes:
                load = wrk(servers[size].url, "get.lua", [paths[size]], seconds=options.seconds, connections=SEARCHERS)
                loads[size].append(load)
            tails = ", ".join(f"{loads[size][-1].p99_us / 1000:.1f} ms at {size:,}" for size in sizes)
            say(f"round {number}: p99 {tails}", depth=1)
    largest = sizes[-1]
    ratio = median(big.p99_us / small.p99_us for big, small in zip(loads[largest], loads[sizes[0]], strict=True))
    what = f"search p99 at {largest:,} trips ÷ at {sizes[0]:,} trips"
    found = [at_most(what, ratio, 2.0) if largest == max(TIMETABLES) else noted(what, ratio)]
    found += [
        noted(f"search p99 at {size:,} trips (context)", median(load.p99_us for load in loads[size]) / 1000, unit="ms")
        for size in sizes
    ]
    return found


class _buying:  # noqa: N801 - read as a word: `with _buying(server, 6.0):`
    """A few buyers on connections of their own while the block runs."""

    def __init__(self, server: Server, seconds: float) -> None:
        self._thread = threading.Thread(target=_buy, args=(server, seconds))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def _buy(server: Server, seconds: float) -> None:
    wrk(server.url, "reserve.lua", [NETWORK.trips - HOT_TRIPS, 0], seconds=seconds, connections=BUYERS)


def _paths(stage: Stage, name: str, paths: list[str]) -> Path:
    file = stage.directory / f"{name}.paths"
    file.write_text("\n".join(paths) + "\n")
    return file


def _searches(network: Network) -> list[str]:
    """From the stop that all routes share to the end of a route, and between two stops of one route, on every day."""
    today = datetime.now(UTC).date()
    wanted: list[Callable[[int], tuple[int, int]]] = [
        lambda route: (0, route * (network.stops - 1)),
        lambda route: ((route - 1) * (network.stops - 1) + 1, (route - 1) * (network.stops - 1) + 2),
    ]
    return [
        "/api/trips/search?from=S{}&to=S{}&date={}".format(*between(route), today + timedelta(days=3 + number % 26))
        for number in range(997)
        for route in [number % network.routes + 1]
        for between in wanted
    ]
