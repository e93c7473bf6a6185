"""The jobs of the timetable: quick, bounded, resumable, safe twice at once, and they say how far they have come."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import msgspec
import pytest
from tests.box import Box
from tests.conftest import fresh_database
from tests.network import Network
from tests.pace import Effort, effort
from tests.works import WORK, Work, Works, add_schedules, each_departure_is_there_once, open_works, twice_at_once

from kiti.core.ids import new_id
from kiti.db import Reader, Transaction
from kiti.flows import passes
from kiti.flows.cancel_trip import finish_cancelled_trips
from kiti.flows.passes import work_off
from kiti.flows.progress import watched
from kiti.flows.timetable import MOST_TRIPS, generate_coming_trips
from kiti.flows.upkeep import JOBS, TIMETABLE_DAYS, Tally

ITEMS_AT_ONCE = 24
EACH_JOB = pytest.mark.parametrize("work", WORK, ids=[work.job for work in WORK])
LEAST_A_SECOND = 100
# The best so many in a row say what a job can do; the others, how busy the machine is with something else.
IN_A_ROW = 50
SAMPLE_EACH = 10
TRIES = 4


@pytest.fixture(scope="module")
async def works(server_url: str, template: str) -> AsyncIterator[Works]:
    """One for all tests of this file: each takes trips and bookings of its own."""
    with fresh_database(server_url, template) as url:
        async with open_works(url) as there:
            yield there


# ------------------------------------------------------------------ pace and progress


class Sample(msgspec.Struct, frozen=True):
    """How many items are done, and the seconds of processor so far: this process's, and those of our database."""

    done: int
    ours: float
    theirs: float


class Watch:
    """Samples a job on its way."""

    def __init__(self, spent: Effort) -> None:
        self.advances: list[int] = []
        self.samples: list[Sample] = []
        self._spent = spent
        self._look()

    def __call__(self, processed: int, failed: int) -> None:
        assert failed == 0
        self.advances += [processed] if processed else []
        if sum(self.advances) - self.samples[-1].done >= SAMPLE_EACH:
            self._look()

    @property
    def pace(self) -> float:
        """Items a second, where we have one core for ourselves and PostgreSQL another."""
        best = 0.0
        for at, first in enumerate(self.samples):
            last = next((one for one in self.samples[at:] if one.done - first.done >= IN_A_ROW), None)
            if last is not None:
                spent = max(last.ours - first.ours, last.theirs - first.theirs)
                best = max(best, (last.done - first.done) / spent)
        return best

    def _look(self) -> None:
        self.samples.append(Sample(sum(self.advances), self._spent.ours, self._spent.theirs))


@EACH_JOB
async def test_a_job_does_a_hundred_a_second_and_tells_how_far_it_has_come(works: Works, work: Work) -> None:
    watches: list[Watch] = []
    # Who shares the caches and the locks of a processor with many others needs more seconds of it for the same.
    while not watches or (watches[-1].pace < LEAST_A_SECOND and len(watches) < TRIES):
        await work.prepare(works, work.items)
        watches.append(watch := Watch(await effort(works.house.db)))
        with watched(watch):
            tally = await JOBS[work.job](works.house)
        assert tally.failed == 0
        assert tally.processed >= work.items
        assert sum(watch.advances) == tally.processed
        assert len(watch.advances) > 1, "it is told on the way, not in the end"
        await work.is_done_once(works)
    assert watches[-1].pace >= LEAST_A_SECOND, [watch.samples for watch in watches]


# ------------------------------------------------------------------ twice at once


@EACH_JOB
async def test_in_two_processes_at_once_each_is_done_once(works: Works, work: Work) -> None:
    await work.prepare(works, ITEMS_AT_ONCE)
    processed, failed = await twice_at_once(works, work.job)
    assert (processed >= ITEMS_AT_ONCE, failed) == (True, 0)
    await work.is_done_once(works)


# ------------------------------------------------------------------ bounds


class Due:
    """Items that are due until somebody does them, or puts them off."""

    def __init__(self, number: int) -> None:
        self.items = [new_id() for _ in range(number)]
        self.asked = 0
        self.done: list[UUID] = []
        self.put_off: list[UUID] = []

    async def due(self, reader: Reader, *, limit: int) -> list[UUID]:
        assert isinstance(reader, Reader)
        self.asked += 1
        return self.items[:limit]

    async def do(self, item: UUID) -> None:
        await asyncio.sleep(0)
        self.items.remove(item)
        self.done.append(item)

    async def postpone(self, tx: Transaction, *, item: UUID, seconds: int) -> None:
        assert isinstance(tx, Transaction)
        assert seconds == passes.POSTPONE_SECONDS
        self.items.remove(item)
        self.put_off.append(item)


async def test_a_pass_goes_on_page_after_page_until_nothing_is_due(box: Box) -> None:
    due = Due(passes.PAGE * 2 + 1)
    assert await work_off(box.db, due.due, due.do, due.postpone) == (passes.PAGE * 2 + 1, 0)
    assert (due.items, due.asked) == ([], 3)


async def test_a_pass_is_bounded_and_the_next_one_goes_on(box: Box) -> None:
    due = Due(passes.MOST_ITEMS + 5)
    assert await work_off(box.db, due.due, due.do, due.postpone) == (passes.MOST_ITEMS, 0)
    assert await work_off(box.db, due.due, due.do, due.postpone) == (5, 0)


async def test_what_fails_is_put_off_and_keeps_nobody_waiting(box: Box) -> None:
    due = Due(8)
    bad = set(due.items[:3])

    async def do(item: UUID) -> None:
        if item in bad:
            raise RuntimeError("not this one")
        await due.do(item)

    assert await work_off(box.db, due.due, do, due.postpone) == (5, 3)
    assert set(due.put_off) == bad


async def test_what_stays_due_because_somebody_else_is_at_it_does_not_keep_a_pass_busy(box: Box) -> None:
    due = Due(passes.PAGE)
    tried: list[UUID] = []

    async def do(item: UUID) -> None:
        tried.append(item)

    await work_off(box.db, due.due, do, due.postpone)
    assert sorted(tried) == sorted(due.items)


async def test_trips_are_made_within_a_bound_and_the_next_run_goes_on(works: Works) -> None:
    await add_schedules(works, 31 * 4)
    made: list[int] = []
    while not made or made[-1]:
        new, failed = await generate_coming_trips(works.house.db, days=TIMETABLE_DAYS, most=40)
        assert (failed, new < 40 + 31) == (0, True)
        made.append(new)
    assert len(made) > 2
    await each_departure_is_there_once(works)
    assert MOST_TRIPS < 40_000


async def test_making_trips_that_is_cut_short_anywhere_is_finished_by_the_next_run(works: Works) -> None:
    await generate_coming_trips(works.house.db, days=TIMETABLE_DAYS)
    await add_schedules(works, 31 * 6)
    seen = 0

    def cut(processed: int, failed: int) -> None:
        nonlocal seen
        del failed
        seen += processed
        if seen > 31 * 2:
            raise asyncio.CancelledError

    with watched(cut), pytest.raises(asyncio.CancelledError):
        await generate_coming_trips(works.house.db, days=TIMETABLE_DAYS)
    new, failed = await generate_coming_trips(works.house.db, days=TIMETABLE_DAYS)
    assert (new, failed) == (31 * 6 - seen, 0)
    await each_departure_is_there_once(works)


async def test_a_schedule_in_trouble_makes_no_trips_and_all_others_do(box: Box) -> None:
    line = (await Network().build(box.db)).bus_line
    route = uuid4()
    await box.rows("INSERT INTO route (id, operator_id, code, name) VALUES (%s, %s, 'x', 'x')", route, line.operator.id)
    await box.rows("UPDATE schedule SET route_id = %s WHERE id = %s", route, line.schedule.id)
    new, failed = await generate_coming_trips(box.db, days=TIMETABLE_DAYS)
    assert (new, failed) == (3 * 2, 1), "today's and tomorrow's of the three other lines"


async def test_bookings_whose_money_cannot_go_back_now_keep_no_others_waiting(works: Works) -> None:
    """The first ones are of a gateway that is gone; those behind them are given back in the same run."""
    await works.paid(3)
    await works.cancel_trips()
    stuck = min(works.bookings)
    await works.box.rows("UPDATE charge SET purpose = 'surplus' WHERE booking_id = %s", stuck)
    assert await finish_cancelled_trips(works.house) == (2, 1)
    await works.box.rows("UPDATE charge SET purpose = 'fulfils' WHERE booking_id = %s", stuck)
    assert await finish_cancelled_trips(works.house) == (1, 0)


def test_every_job_of_the_timetable_is_tried_here_or_has_a_test_of_its_own() -> None:
    elsewhere = {"send-notifications", "deliver-webhooks", "recognise-revenue", "calculate-settlements"}
    assert {work.job for work in WORK} | elsewhere == set(JOBS)
    assert Tally(processed=0).failed == 0
