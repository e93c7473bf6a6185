"""Group commit: requests that arrive while a batch is being committed join the next one.

An idle server adds no wait: the first request is a batch of its own. Under load a batch carries many, and all of
them share one set of statements and one commit. Every caller gets their own answer, as if alone:

- Of two requests in the queue for the same thing (a seat-leg, a booking) the earlier goes first; the later waits for
  its outcome.
- What a batch has found out may answer others who wait: `foresee`.
- A request that breaks its batch is found by halving; the others do not notice.
- A batch is bounded in size and the queue in length; whoever comes when it is full hears so at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

import msgspec
import psycopg
from psycopg import errors

from kiti.core.errors import Overloaded
from kiti.db import Database, DatabaseUnavailable, Transaction

MAX_BATCH = 128
MAX_QUEUE = 4096
# How far behind a blocked request others are looked for, so that taking a batch stays cheap.
MAX_SCAN = 4 * MAX_BATCH
# Batches under way at once. The second begins only where the first takes long, waiting for a lock or a slow disk:
# side by side they would be smaller, and a batch costs the same whatever its size.
LANES = 2
PATIENCE_SECONDS = 0.05
HURRIED_LOCK_TIMEOUT_MS = 200
REPEATS = 5
RETRY_AFTER_SECONDS = 1

W = TypeVar("W")
A = TypeVar("A")

# From a request that waits, and whether it was there before the batch was begun, to its answer if that is known now.
Verdict = Callable[[W, bool], A | None]


def _nothing(_: Sequence[tuple[W, A]]) -> None:
    """A batch says nothing about others."""


class _Entry(msgspec.Struct, Generic[W, A], eq=False):
    work: W
    keys: frozenset[Hashable]
    arrival: int
    answer: asyncio.Future[A]


class GroupCommit(Generic[W, A]):
    """Commits work in batches, some batches side by side, never two that have a key in common.

    `commit` gives the answers in the order of its batch. `keys` says what a piece of work must not share with
    another of its batch. `foresee` makes of a committed batch what it tells about others. An error that `is_chance`
    is gone when the batch is tried again.
    """

    def __init__(
        self,
        db: Database,
        commit: Callable[[Transaction, Sequence[W]], Awaitable[Sequence[A]]],
        *,
        keys: Callable[[W], frozenset[Hashable]],
        foresee: Callable[[Sequence[tuple[W, A]]], Verdict[W, A] | None] = _nothing,
        is_chance: Callable[[Exception], bool] = lambda _: False,
        lanes: int = LANES,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
    ) -> None:
        self._db = db
        self._work = commit
        self._keys = keys
        self._foresee = foresee
        self._is_chance = is_chance
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._idle_lanes = lanes
        self._arrivals = 0
        self._waiting: deque[_Entry[W, A]] = deque()
        self._in_flight: set[Hashable] = set()
        self._lanes = lanes
        self._began_at = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, work: W) -> A:
        """The work's own answer once its batch is committed; raises Overloaded when the queue is full."""
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(
                "Too many people are asking for the same right now. Try again in a moment.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._arrivals += 1
        entry: _Entry[W, A] = _Entry(work, self._keys(work), self._arrivals, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._wake_lane()
        return await entry.answer

    def _wake_lane(self) -> None:
        """Begin a batch, at once if none is under way, and beside others only where those take long."""
        if self._idle_lanes == 0:
            return
        if self._idle_lanes < self._lanes:
            if self._alarm is not None:
                return
            loop = asyncio.get_running_loop()
            left_seconds = self._began_at + PATIENCE_SECONDS - loop.time()
            if left_seconds > 0:
                self._alarm = loop.call_later(left_seconds, self._look_again)
                return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._idle_lanes -= 1
        task = asyncio.create_task(self._drain())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _look_again(self) -> None:
        self._alarm = None
        if self._waiting:
            self._wake_lane()

    async def _drain(self) -> None:
        """Commit batch after batch until nothing that this lane may take is waiting."""
        try:
            while batch := self._take_batch():
                self._began_at = asyncio.get_running_loop().time()
                keys = frozenset().union(*(entry.keys for entry in batch))
                self._in_flight |= keys
                try:
                    await self._commit(batch)
                finally:
                    self._in_flight -= keys
        finally:
            self._idle_lanes += 1

    def _take_batch(self) -> list[_Entry[W, A]]:
        """The longest waiting requests of which no two, and none with one under way, want the same seat-leg."""
        batch: list[_Entry[W, A]] = []
        blocked = set(self._in_flight)
        passed: list[_Entry[W, A]] = []
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

    async def _commit(self, batch: Sequence[_Entry[W, A]], *, lock_timeout_ms: int | None = None) -> None:
        before = self._arrivals
        try:
            answers = await self._in_one_transaction([entry.work for entry in batch], lock_timeout_ms)
        except errors.LockNotAvailable as error:
            # Somebody's row is locked for long: who does not want it must not wait for it at each halving.
            await self._without_the_culprit(batch, error, lock_timeout_ms=HURRIED_LOCK_TIMEOUT_MS)
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes to a caller
            if _is_outage(error):
                # Nobody knows more than that, and asking again for each would only queue up.
                _fail(batch, DatabaseUnavailable("The database did not answer. Try again in a moment."), cause=error)
            else:
                await self._without_the_culprit(batch, error)
        else:
            for entry, answer in zip(batch, answers, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(answer)
            if self._waiting:
                verdict = self._foresee([(entry.work, answer) for entry, answer in zip(batch, answers, strict=True)])
                if verdict is not None:
                    self._answer_foreseen(verdict, before=before)

    async def _without_the_culprit(
        self, batch: Sequence[_Entry[W, A]], error: Exception, *, lock_timeout_ms: int | None = None
    ) -> None:
        """Halve the batch until the request that breaks it stands alone; it gets the error, the others theirs."""
        if len(batch) == 1:
            _fail(batch, error)
            return
        middle = len(batch) // 2
        await self._commit(batch[:middle], lock_timeout_ms=lock_timeout_ms)
        await self._commit(batch[middle:], lock_timeout_ms=lock_timeout_ms)

    async def _in_one_transaction(self, batch: Sequence[W], lock_timeout_ms: int | None) -> Sequence[A]:
        async def work(tx: Transaction) -> Sequence[A]:
            if lock_timeout_ms is not None:
                await tx.wait_for_locks(lock_timeout_ms)
            return await self._work(tx, batch)

        for _ in range(REPEATS - 1):
            try:
                return await self._db.run(work, pipelined=True)
            except psycopg.Error as error:
                if not self._is_chance(error):
                    raise
        return await self._db.run(work, pipelined=True)

    def _answer_foreseen(self, verdict: Verdict[W, A], *, before: int) -> None:
        """Whose outcome is settled by what the batch has found out need not ask the database."""
        still: deque[_Entry[W, A]] = deque()
        for entry in self._waiting:
            answer = verdict(entry.work, entry.arrival <= before)
            if answer is None:
                still.append(entry)
            elif not entry.answer.done():
                entry.answer.set_result(answer)
        self._waiting = still


def _is_outage(error: Exception) -> bool:
    """Whether the database is out of reach or out of resources, rather than one request being at fault.

    PostgreSQL's error codes, appendix A: classes 08, 53 and 57P; without a code the connection has been lost.
    """
    if isinstance(error, DatabaseUnavailable):
        return True
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08").startswith(("08", "53", "57P"))


def _fail(batch: Sequence[_Entry[W, A]], error: Exception, *, cause: Exception | None = None) -> None:
    error.__cause__ = cause
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_exception(error)
