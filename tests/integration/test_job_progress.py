"""What `kiti jobs run` shows while a job is at work, on a terminal and in a log."""

import asyncio
import os
import pty
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import time as clock
from pathlib import Path
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
# Until the command has begun, on a machine that is busy with other things.
START_SECONDS = 90.0
SO_FAR = re.compile(r"generate-trips: (\d+) processed, 0 failed, \d+ a second")
WAIT_FOR_LAST = f"""
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared({LOCK}); RETURN NEW; END $$;
CREATE TRIGGER trips_wait BEFORE INSERT ON trip
FOR EACH ROW WHEN (NEW.schedule_id = '%s') EXECUTE FUNCTION wait_for_test();
"""
# Here, and not in the database of a test beside this one.
WAITING = (
    f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK} AND NOT granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


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


@contextmanager
def running(url: str, output: int) -> Iterator[subprocess.Popen[bytes]]:
    """The command, writing to a file descriptor."""
    command = [sys.executable, "-m", "kiti", "jobs", "run", "generate-trips"]
    known = {**os.environ, "KITI_DEMO": "1", "DATABASE_URL": url, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, env=known, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_a_terminal_shows_how_far_a_job_has_come(box: Box, fresh_url: str, schedules: list[UUID]) -> None:
    master, slave = pty.openpty()
    shown = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(master, lambda: shown.extend(os.read(master, 65536)))

    async def look() -> bytes:
        return bytes(shown)

    try:
        with running(fresh_url, slave) as process:
            async with held_up(box, schedules[-1]):
                some = f"{TRIPS - 31} processed, 0 failed".encode()
                await until(look, lambda found: some in found, within_seconds=START_SECONDS)
                assert process.poll() is None, "it is at work still"
            all_ = f"{TRIPS} processed, 0 failed".encode()
            await until(look, lambda found: all_ in found)
            assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        loop.remove_reader(master)
        os.close(slave)
        os.close(master)


async def test_a_log_gets_a_line_each_second(box: Box, fresh_url: str, schedules: list[UUID], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file, running(fresh_url, file.fileno()) as process:
        async with held_up(box, schedules[2]):
            await until(lambda: box.value(WAITING), bool, within_seconds=START_SECONDS)
            await asyncio.sleep(1.05)
        assert await asyncio.to_thread(process.wait, 20) == 0
    output = log.read_text()
    told = [int(number) for number in SO_FAR.findall(output)]
    assert told, output
    assert all(0 < number <= TRIPS for number in told)
    assert output.splitlines()[-1].startswith(f"generate-trips: {TRIPS} processed, 0 failed")
