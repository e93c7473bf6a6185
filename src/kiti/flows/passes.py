"""A pass over what is due: page after page, some items at a time, and an end to it.

One item's trouble is never another's: it is logged, counted and put off, and the pass goes on. What is done with an
item is safe side by side and after a crash, so a pass may be cut short anywhere, and two at once do no harm.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

import structlog

from kiti.db import Database
from kiti.flows.progress import advance
from kiti.payments.actions import PaymentChanged
from kiti.settlements.actions import SettlementChanged

log = structlog.get_logger(__name__)

AT_ONCE = 8
PAGE = 200
MOST_ITEMS = 2000
# None is begun after that: the timetable comes round again, and sees what is due by then in its order.
PASS_SECONDS = 45.0
POSTPONE_SECONDS = 300

Item = TypeVar("Item")


async def each(items: Sequence[Item], one: Callable[[Item], Awaitable[None]], *, at_once: int = AT_ONCE) -> None:
    """`one` for every item, so many at a time. What it raises ends all of it, so it raises bugs only."""
    waiting = iter(items)

    async def lane() -> None:
        for item in waiting:
            await one(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(items))):
            group.create_task(lane())


async def work_off(
    db: Database,
    due: Callable[..., Awaitable[list[UUID]]],
    one: Callable[[UUID], Awaitable[object]],
    postpone: Callable[..., Awaitable[None]],
) -> tuple[int, int]:
    """Do `one` for what is due, once each, up to about MOST_ITEMS: how many were done, and how many could not be now.

    What fails is postponed and tried again later, so it neither ends the pass nor stays at the head of the queue.
    """
    processed = failed = 0
    until = time.monotonic() + PASS_SECONDS

    async def guarded(item: UUID) -> None:
        nonlocal processed, failed
        if time.monotonic() >= until:
            return
        try:
            await one(item)
        except (PaymentChanged, SettlementChanged):
            log.info("somebody else was quicker", item=str(item))
        except Exception:
            failed += 1
            advance(failed=1)
            log.exception("could not be done now", item=str(item), again_in_seconds=POSTPONE_SECONDS)
            async with db.transaction() as tx:
                await postpone(tx, item=item, seconds=POSTPONE_SECONDS)
        else:
            processed += 1
            advance(processed=1)

    seen: set[UUID] = set()
    while len(seen) < MOST_ITEMS and time.monotonic() < until:
        async with db.reader() as reader:
            page = await due(reader, limit=PAGE)
        fresh = [item for item in page if item not in seen]
        await each(fresh, guarded)
        seen.update(fresh)
        if len(page) < PAGE or not fresh:
            break
    return processed, failed
