"""`make bench`: every scenario, or those that are named, on machines and databases made for the purpose.

    make bench
    make bench BENCH="reserve hot --rounds 5 --seconds 6"

Each compares what was measured in one run with a baseline of the same run, in alternating rounds; absolute numbers
are printed for context only. The table at the end is that of docs/performance.md.
"""

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from bench import buying, growing, reading, reserving, rush
from bench.load import GeneratorMissing
from bench.report import Finding, Options, say, table
from bench.stage import BenchFailed, Stage

SCENARIOS: dict[str, Callable[[Stage, Options], list[Finding]]] = {
    "reserve": reserving.against_pgbench,
    "fastapi": reserving.against_fastapi,
    "redis": reserving.against_redis,
    "idle": reserving.when_idle,
    "hot": rush.hot_trip,
    "availability": reading.availability,
    "search": reading.search,
    "sweep": rush.sweep,
    "sale": buying.whole_sale,
    "webhooks": buying.webhooks,
    "growth": growing.growth,
}


def main() -> int:
    """Exit code 1 where a scenario could not be run; missing a target is a finding, not a failure."""
    names, options = _arguments()
    # Whoever ends the run ends what it has started as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    say(f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}")
    findings: list[Finding] = []
    failed = False
    for name in names:
        began = time.monotonic()
        say(f"\n{name}: {SCENARIOS[name].__doc__}")
        # A cluster for each, so that none inherits bloat, statistics or a full disk cache from another.
        with tempfile.TemporaryDirectory(prefix="kiti-bench-", ignore_cleanup_errors=True) as directory:
            try:
                with Stage(Path(directory)) as stage:
                    findings += SCENARIOS[name](stage, options)
            except GeneratorMissing as missing:
                say(f"skipped: {missing}", depth=1)
            except BenchFailed as error:
                failed = True
                say(f"failed: {error}", depth=1)
        say(f"{time.monotonic() - began:.0f} s", depth=1)
    say("\n" + table(findings))
    return int(failed)


def _arguments() -> tuple[list[str], Options]:
    parser = argparse.ArgumentParser(prog="make bench", description="Benchmarks, each against a baseline.")
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], help="all, if none is named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each round")
    parser.add_argument("--small", action="store_true", help="search: no more than 100,000 trips")
    given = parser.parse_args()
    options = Options(rounds=given.rounds, seconds=given.seconds, small=given.small)
    return given.scenario or list(SCENARIOS), options


if __name__ == "__main__":
    sys.exit(main())
