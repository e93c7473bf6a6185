"""Group commit: reservations that arrive while a batch is being committed join the next one.

An idle server adds no wait: the first request is a batch of its own. Under load a batch carries many, and all of
them share one claim, one set of inserts and one commit. Every caller gets their own answer, as if alone:

- Of two requests in the queue for the same seat-leg the earlier goes first; the later waits for its outcome. If
  the earlier one wins, the later has lost without asking the database; if it loses, the later gets its turn.
- If it loses a seat that somebody has from before, so has everyone who had already asked for the same part of the
  way when its batch began: a trip that is sold out refuses its crowd with one statement.
- A request that breaks its batch is found by halving; the others do not notice.
- A batch is bounded in size and the queue in length; whoever comes when it is full hears so at once.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from uuid import UUID

import msgspec
import psycopg
from psycopg import errors

from kiti.bookings.actions import ReferenceTaken
from kiti.core.errors import Overloaded
from kiti.db import Database, DatabaseUnavailable
from kiti.flows.commit import Outcome, Reserved, commit_plans
from kiti.flows.plan import Plan, SeatsTaken

MAX_BATCH = 128
MAX_QUEUE = 4096
# How far behind a blocked request others are looked for, so that taking a batch stays cheap.
MAX_SCAN = 4 * MAX_BATCH
# Batches under way at once: while one waits for its commit the next one is claimed.
LANES = 2
REFERENCE_ATTEMPTS = 5
RETRY_AFTER_SECONDS = 1

# Trip, seat, leg. The trip as a number: it is hashed again and again, and a UUID does that in Python.
Key = tuple[int, str, int]
# Trip, seat, from stop, to stop.
Part = tuple[int, str, int, int]


class _Entry(msgspec.Struct, eq=False):
    plan: Plan
    keys: frozenset[Key]
    parts: frozenset[Part]
    arrival: int
    answer: asyncio.Future[Outcome]


class GroupCommit:
    """Commits plans in batches, some batches side by side, never two that want the same seat-leg."""

    def __init__(
        self, db: Database, *, lanes: int = LANES, max_batch: int = MAX_BATCH, max_queue: int = MAX_QUEUE
    ) -> None:
        self._db = db
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._idle_lanes = lanes
        self._arrivals = 0
        self._waiting: deque[_Entry] = deque()
        self._in_flight: set[Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, plan: Plan) -> Outcome:
        """The plan's own answer once its batch is committed; raises Overloaded when the queue is full."""
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(
                "Too many people are reserving right now. Try again in a moment.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        keys = frozenset((want.trip.int, want.seat, leg) for want in plan.wants for leg in want.legs)
        parts = frozenset((want.trip.int, want.seat, want.from_seq, want.to_seq) for want in plan.wants)
        self._arrivals += 1
        entry = _Entry(plan, keys, parts, self._arrivals, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._wake_lane()
        return await entry.answer

    def _wake_lane(self) -> None:
        if self._idle_lanes > 0:
            self._idle_lanes -= 1
            task = asyncio.create_task(self._drain())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        """Commit batch after batch until nothing that this lane may take is waiting."""
        try:
            while batch := self._take_batch():
                keys = frozenset().union(*(entry.keys for entry in batch))
                self._in_flight |= keys
                try:
                    await self._commit(batch)
                finally:
                    self._in_flight -= keys
        finally:
            self._idle_lanes += 1

    def _take_batch(self) -> list[_Entry]:
        """The longest waiting requests of which no two, and none with one under way, want the same seat-leg."""
        batch: list[_Entry] = []
        blocked = set(self._in_flight)
        passed: list[_Entry] = []
        for _ in range(min(len(self._waiting), MAX_SCAN)):
            if len(batch) == self._max_batch:
                break
            entry = self._waiting.popleft()
            if entry.answer.done():
                continue  # the caller has gone
            if blocked.isdisjoint(entry.keys):
                batch.append(entry)
            else:
                passed.append(entry)
            blocked |= entry.keys
        self._waiting.extendleft(reversed(passed))
        return batch

    async def _commit(self, batch: Sequence[_Entry]) -> None:
        before = self._arrivals
        try:
            outcomes = await self._in_one_transaction([entry.plan for entry in batch])
        except errors.LockNotAvailable as error:
            await self._without_the_culprit(batch, error)
        except (DatabaseUnavailable, psycopg.OperationalError) as error:
            # The connection is gone: nobody knows more than that, and asking again for each would only queue up.
            _fail(batch, DatabaseUnavailable("The database did not answer. Try again in a moment."), cause=error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to one request and goes to its caller
            await self._without_the_culprit(batch, error)
        else:
            won: set[Key] = set()
            gone: set[Part] = set()
            for entry in batch:
                outcome = outcomes[entry.plan.booking]
                if isinstance(outcome, Reserved):
                    won |= entry.keys
                elif isinstance(outcome, SeatsTaken) and len(entry.plan.boards_at) == 1:
                    gone.update(part for part in entry.parts if part[1] in outcome.seats)
                if not entry.answer.done():
                    entry.answer.set_result(outcome)
            self._refuse_beaten(won, gone, before=before)

    async def _without_the_culprit(self, batch: Sequence[_Entry], error: Exception) -> None:
        """Halve the batch until the request that breaks it stands alone; it gets the error, the others theirs."""
        if len(batch) == 1:
            _fail(batch, error)
            return
        middle = len(batch) // 2
        await self._commit(batch[:middle])
        await self._commit(batch[middle:])

    async def _in_one_transaction(self, plans: Sequence[Plan]) -> dict[UUID, Outcome]:
        for _ in range(REFERENCE_ATTEMPTS - 1):
            try:
                return await self._db.run(lambda tx: commit_plans(tx, plans))
            except ReferenceTaken:
                continue  # new references are drawn each time
        return await self._db.run(lambda tx: commit_plans(tx, plans))

    def _refuse_beaten(self, won: set[Key], gone: set[Part], *, before: int) -> None:
        """Whoever waits for a seat-leg that has just been won has lost it.

        So has who waits for a part of the way that was found taken, if they asked `before` the database was: for a
        later request it might have been given up meanwhile.
        """
        still: deque[_Entry] = deque()
        for entry in self._waiting:
            beaten = {seat for _, seat, _ in entry.keys & won}
            if entry.arrival <= before:
                beaten |= {seat for _, seat, _, _ in entry.parts & gone}
            if not beaten:
                still.append(entry)
            elif not entry.answer.done():
                entry.answer.set_result(SeatsTaken(sorted(beaten)))
        self._waiting = still


def _fail(batch: Sequence[_Entry], error: Exception, *, cause: Exception | None = None) -> None:
    error.__cause__ = cause
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_exception(error)
