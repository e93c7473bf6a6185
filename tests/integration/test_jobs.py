"""The jobs of the timetable: quick enough, bounded, resumable, safe twice at once, and they say how far they are."""

import os
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.conftest import fresh_database
from tests.works import WORK, Work, Works, open_works, twice_at_once

from kiti.flows.progress import watched
from kiti.flows.upkeep import JOBS, Tally

ITEMS = 200
ITEMS_AT_ONCE = 40
EVERY = pytest.mark.parametrize("work", WORK, ids=[work.job for work in WORK])
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
async def works(server_url: str, template: str) -> AsyncIterator[Works]:
    """One for all tests of this file: each takes trips and bookings of its own."""
    with fresh_database(server_url, template) as url:
        async with open_works(url) as there:
            yield there


class Pace(msgspec.Struct, frozen=True):
    """What a job has done, in how many advances, and the seconds of processor that it cost: ours and PostgreSQL's."""

    tally: Tally
    advances: list[tuple[int, int]]
    ours: float
    theirs: float
    wall: float


async def measure(works: Works, job: str) -> Pace:
    advances: list[tuple[int, int]] = []
    theirs, ours, wall = await _database_seconds(works), time.process_time(), time.perf_counter()
    with watched(lambda processed, failed: advances.append((processed, failed))):
        tally = await JOBS[job](works.house)
    ours, wall = time.process_time() - ours, time.perf_counter() - wall
    return Pace(tally, advances, ours, await _database_seconds(works) - theirs, wall)


async def _database_seconds(works: Works) -> float:
    """What the processes of our database have used so far; nothing where PostgreSQL is not on this machine."""
    spent = 0
    for row in await works.box.rows("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"):
        try:
            with open(f"/proc/{row['pid']}/stat") as file:
                spent += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
        except FileNotFoundError:
            continue
    return spent / TICKS


@EVERY
async def test_pace(works: Works, work: Work) -> None:
    await work.prepare(works, ITEMS)
    pace = await measure(works, work.job)
    n = pace.tally.processed
    print(
        f"\n{work.job}: {n} {pace.tally.failed} advances {len(pace.advances)} ours {n / pace.ours:.0f}/s both {n / (pace.ours + pace.theirs):.0f}/s wall {n / pace.wall:.0f}/s"
    )
    assert pace.tally.failed == 0
    await work.is_done_once(works)


@EVERY
async def test_twice_at_once(works: Works, work: Work) -> None:
    await work.prepare(works, ITEMS_AT_ONCE)
    print(work.job, await twice_at_once(works, work.job))
    await work.is_done_once(works)
