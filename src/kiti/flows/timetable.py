"""Trips of the coming days, made from their schedules."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import structlog

from kiti.db import Database
from kiti.flows.progress import advance
from kiti.network import actions as network
from kiti.network import reads as network_reads
from kiti.network.model import service_dates

log = structlog.get_logger(__name__)

PAGE = 100
MOST_TRIPS = 20_000


async def generate_coming_trips(
    db: Database, *, days: int, today: date | None = None, most: int = MOST_TRIPS
) -> tuple[int, int]:
    """Make the trips of today (UTC) and the `days` after it that are not there yet.

    How many were made, and how many schedules made none because of an error: it is logged, and theirs alone. One
    transaction for each schedule that lacks some, and none is begun once `most` are made: the next run goes on. Two
    that run at once make every trip once, and an interrupted run is finished by the next.
    """
    start = today or datetime.now(UTC).date()
    last = start + timedelta(days=days)
    made = failed = 0
    after = UUID(int=0)
    while made < most:
        async with db.reader() as reader:
            page = await network_reads.schedules_after(reader, after=after, first=start, last=last, limit=PAGE)
        for schedule, there in page:
            lacks_some = not there.issuperset(service_dates(schedule, from_date=start, days=days + 1))
            if not lacks_some or made >= most:
                continue
            try:
                new = await _make(db, schedule.id, start, days + 1)
            except Exception:
                failed += 1
                advance(failed=1)
                log.exception("trips could not be made", schedule=str(schedule.id))
            else:
                made += new
                advance(processed=new)
        if len(page) < PAGE:
            break
        after = page[-1][0].id
    return made, failed


async def _make(db: Database, schedule: UUID, start: date, days: int) -> int:
    return await db.run(lambda tx: network.generate_trips(tx, schedule=schedule, from_date=start, days=days))
