"""Deliver what is due: a lane for each endpoint takes some, sends them, writes down what was answered, and goes on.

Several may do this at once: a delivery is taken by a guarded update, and only who took it sends it. Who dies between
sending and writing down leaves one that is sent again under the same id, so endpoints hear of each event at least
once. An endpoint that is slow or dead keeps its own lane busy and nobody else's: those that fail have few of the
lanes, get one delivery at a time, and are left alone for the rest of a pass in which nothing got through to them.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import structlog

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.core.encryption import EncryptedOtherwise
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.progress import advance
from kiti.gateways.hooks import Answered, Line, NotAnswered
from kiti.hooks import actions as hooks
from kiti.hooks import reads as hook_reads
from kiti.hooks.model import Delivery, Listener, Outcome, answered, body_of, headers_of, not_answered
from kiti.hooks.reads import keys_of

log = structlog.get_logger(__name__)

LANES = 64
FAILING_LANES = 16
# To one endpoint at once, by all processes together.
AT_ONCE = 16
PASS_LIMIT = 20_000
PASS_SECONDS = 45.0
LOOK_AGAIN_SECONDS = 1.0
FORGET_BATCH = 1000
FORGET_BATCHES = 200


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass has done: deliveries that got through, and attempts that did not."""

    delivered: int
    not_delivered: int


async def deliver_due(house: House, *, only: UUID | None = None) -> Delivered:
    """Deliver what is due, to one endpoint or to all; nothing is begun after PASS_SECONDS. Safe beside itself."""
    await house.db.run(lambda tx: hooks.recover(tx, limit=PASS_LIMIT))
    this = _Pass(house, only=only)
    await this.run()
    return Delivered(delivered=this.delivered, not_delivered=this.not_delivered)


async def forget_old_events(house: House) -> int:
    """Delete events of long ago and the log of their deliveries, in bounded batches; how many events."""
    forgotten = 0
    for _ in range(FORGET_BATCHES):
        batch = await house.db.run(lambda tx: hooks.forget(tx, limit=FORGET_BATCH))
        forgotten += batch
        advance(processed=batch)
        if batch < FORGET_BATCH:
            break
    return forgotten


class _Taken(msgspec.Struct, frozen=True):
    listener: Listener
    keys: Sequence[str]
    deliveries: Sequence[Delivery]


class _Pass:
    """Lanes under way, and endpoints that are left alone until the next pass."""

    def __init__(self, house: House, *, only: UUID | None) -> None:
        self._house = house
        self._only = only
        self._until = time.monotonic() + PASS_SECONDS
        self._lanes: dict[UUID, asyncio.Task[None]] = {}
        self._failing: set[UUID] = set()
        self._left_alone: set[UUID] = set()
        self.delivered = 0
        self.not_delivered = 0

    @property
    def _may_begin(self) -> bool:
        return time.monotonic() < self._until and self.delivered + self.not_delivered < PASS_LIMIT

    async def run(self) -> None:
        """Open lanes for whoever has something due, until nobody has and every lane is empty.

        While a slow endpoint is waited for, others that get something to hear are served.
        """
        async with asyncio.TaskGroup() as group:
            while True:
                if self._may_begin:
                    await self._open_lanes(group)
                if not self._lanes:
                    break
                done, _ = await asyncio.wait(
                    self._lanes.values(), timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                self._lanes = {endpoint: lane for endpoint, lane in self._lanes.items() if lane not in done}
                self._failing &= self._lanes.keys()

    async def _open_lanes(self, group: asyncio.TaskGroup) -> None:
        async with self._house.db.reader() as reader:
            found = await hook_reads.due(
                reader, but=[*self._lanes, *self._left_alone], only=self._only, limit=LANES - len(self._lanes)
            )
        for due in found:
            if due.is_failing:
                if len(self._failing) >= FAILING_LANES:
                    break
                self._failing.add(due.id)
            self._lanes[due.id] = group.create_task(self._lane(due.id))

    async def _lane(self, endpoint: UUID) -> None:
        """Chunk after chunk until nothing is due; a bug in it is nobody else's trouble."""
        try:
            await self._deliver(endpoint)
        except EncryptedOtherwise as error:
            self._left_alone.add(endpoint)
            self.not_delivered += 1
            log.error("an endpoint is told nothing: rotate its secret", endpoint=str(endpoint), reason=str(error))  # noqa: TRY400 - the sentence says it
        except Exception:
            self._left_alone.add(endpoint)
            self.not_delivered += 1
            log.exception("webhooks could not be delivered", endpoint=str(endpoint))

    async def _deliver(self, endpoint: UUID) -> None:
        line: Line | NotAnswered | None = None
        secret = self._house.settings.jwt_secret
        try:
            while self._may_begin:
                taken = await self._house.db.run(lambda tx: _take(tx, endpoint, secret))
                if taken is None:
                    if line is None:
                        # Others have as much of it under way as there may be.
                        self._left_alone.add(endpoint)
                    return
                if line is None:
                    line = await self._house.caller.reach(taken.listener.url)
                outcomes = await _send(taken, line)
                if not await self._finish(endpoint, outcomes):
                    self._left_alone.add(endpoint)
                    return
        finally:
            if isinstance(line, Line):
                await line.close()

    async def _finish(self, endpoint: UUID, outcomes: Sequence[Outcome]) -> bool:
        """Write down what came of a chunk; whether to go on."""

        async def work(tx: Transaction) -> tuple[int, str | None]:
            told = await hooks.finish(tx, endpoint=endpoint, outcomes=outcomes)
            disabled = await hooks.judge(tx, endpoint=endpoint, outcomes=outcomes)
            if disabled is not None:
                event = Event(subject=endpoint, actor="system", action="hook.disabled", detail={"reason": disabled})
                await audit.record(tx, events=[event])
            return told, disabled

        told, disabled = await self._house.db.run(work)
        if told < len(outcomes):
            log.warning("deliveries took so long that somebody else was given them", number=len(outcomes) - told)
        if disabled is not None:
            log.warning("an endpoint is disabled", endpoint=str(endpoint), reason=disabled)
        through = sum(outcome.state == "delivered" for outcome in outcomes)
        self.delivered += through
        self.not_delivered += len(outcomes) - through
        advance(processed=through, failed=len(outcomes) - through)
        return through > 0 and disabled is None


async def _take(tx: Transaction, endpoint: UUID, secret: str) -> _Taken | None:
    """Some that are due; None for none. Raises EncryptedOtherwise, and then nothing was taken."""
    taken = await hooks.take(tx, endpoint=endpoint, at_once=AT_ONCE)
    if taken is None:
        return None
    listener, deliveries = taken
    return _Taken(listener, keys_of(listener, secret=secret), deliveries) if deliveries else None


async def _send(taken: _Taken, line: Line | NotAnswered) -> list[Outcome]:
    if isinstance(line, NotAnswered):
        return [not_answered(delivery, reason=line.reason) for delivery in taken.deliveries]
    return await asyncio.gather(*(_send_one(taken, line, delivery) for delivery in taken.deliveries))


async def _send_one(taken: _Taken, line: Line, delivery: Delivery) -> Outcome:
    body = body_of(
        type_=delivery.type,
        created_at=delivery.created_at,
        is_shared=delivery.is_shared,
        data=delivery.data,
        operator=taken.listener.operator,
    )
    headers = headers_of(event=delivery.event_id, body=body, keys=taken.keys, now=datetime.now(UTC))
    match await line.post(headers=headers, body=body):
        case Answered(status=status, snippet=snippet, retry_after_seconds=retry_after):
            return answered(delivery, status=status, snippet=snippet, retry_after_seconds=retry_after)
        case NotAnswered(reason=reason):
            return not_answered(delivery, reason=reason)
