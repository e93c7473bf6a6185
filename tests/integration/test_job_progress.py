"""What `kiti jobs run` shows while a job is at work, on a terminal and in a log."""

import asyncio
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import time as clock
from uuid import UUID

import msgspec
import pytest
from tests.box import Box
from tests.house import until
from tests.network import Network

from kiti.core.ids import new_id
from kiti.network import actions as network

LOCK = 4712
SCHEDULES = 5
TRIPS = SCHEDULES * 31
SO_FAR = re.compile(r"generate-trips: (\d+) processed, 0 failed, \d+ a second")
WAIT_FOR_LAST = f"""
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared({LOCK}); RETURN NEW; END $$;
CREATE TRIGGER trips_wait BEFORE INSERT ON trip
FOR EACH ROW WHEN (NEW.schedule_id = '%s') EXECUTE FUNCTION wait_for_test();
"""
WAITING = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK} AND NOT granted"


@asynccontextmanager
async def held_up(box: Box, schedule: UUID) -> AsyncIterator[None]:
    """Who makes trips of this schedule waits meanwhile."""
    async with box.db.pool.connection() as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        await box.rows(WAIT_FOR_LAST % schedule)
        yield
        await connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


@pytest.fixture
async def schedules(box: Box) -> list[UUID]:
    """Nothing is to be made but the trips of these, in this order."""
    line = (await Network().build(box.db)).bus_line
    await box.rows("UPDATE schedule SET valid_until = valid_from")
    ids = sorted(new_id() for _ in range(SCHEDULES))
    async with box.db.transaction() as tx:
        for hour, id_ in enumerate(ids):
            one = msgspec.structs.replace(line.schedule, id=id_, departs_local=clock(12 + hour))
            await network.add_schedule(tx, schedule=one)
    return ids


def run(url: str, output: int, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kiti", "jobs", "run", "generate-trips"]
    known = {**os.environ, "KITI_DEMO": "1", "DATABASE_URL": url, "TERM": "xterm", "COLUMNS": "120", **environment}
    return subprocess.Popen(command, env=known, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


async def test_a_terminal_shows_how_far_a_job_has_come(box: Box, fresh_url: str, schedules: list[UUID]) -> None:
    master, slave = pty.openpty()
    shown = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(master, lambda: shown.extend(os.read(master, 65536)))
    try:
        async with held_up(box, schedules[-1]):
            process = run(fresh_url, slave)
            some = f"{TRIPS - 31} processed, 0 failed".encode()
            await until(lambda: _true(some in shown), bool)
            assert process.poll() is None, "it is at work still"
        assert await asyncio.to_thread(process.wait, 20) == 0
        await until(lambda: _true(f"{TRIPS} processed, 0 failed".encode() in shown), bool)
    finally:
        loop.remove_reader(master)
        os.close(slave)
        os.close(master)


async def test_a_log_gets_a_line_each_second(box: Box, fresh_url: str, schedules: list[UUID]) -> None:
    reading, writing = os.pipe()
    async with held_up(box, schedules[2]):
        process = run(fresh_url, writing)
        os.close(writing)
        await until(lambda: box.value(WAITING), bool)
        time.sleep(1.05)  # noqa: ASYNC251 - a second is what passes between lines
    output = (await asyncio.to_thread(_all_of, reading)).decode()
    assert await asyncio.to_thread(process.wait, 20) == 0, output
    told = [int(number) for number in SO_FAR.findall(output)]
    assert told, output
    assert all(0 < number <= TRIPS for number in told)
    assert f"generate-trips: {TRIPS} processed, 0 failed" in output.splitlines()[-1]


async def _true(found: bool) -> bool:  # noqa: FBT001 - what `until` looks at
    return found


def _all_of(reading: int) -> bytes:
    with os.fdopen(reading, "rb") as file:
        return file.read()
