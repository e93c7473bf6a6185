"""Trips of the coming days, made from their schedules."""

from datetime import UTC, date, datetime
from uuid import UUID

from kiti.db import Database
from kiti.network import actions as network
from kiti.network import reads as network_reads

PAGE = 100


async def generate_coming_trips(db: Database, *, days: int, today: date | None = None) -> int:
    """Make the trips of today (UTC) and the `days` after it that are not there yet; how many that were.

    One transaction for each schedule. Two that run at once make every trip once, and an interrupted run is
    finished by the next.
    """
    start = today or datetime.now(UTC).date()
    made = 0
    after = UUID(int=0)
    while True:
        async with db.reader() as reader:
            schedules = await network_reads.schedules_after(reader, after=after, day=start, limit=PAGE)
        for schedule in schedules:
            async with db.transaction() as tx:
                made += await network.generate_trips(tx, schedule=schedule, from_date=start, days=days + 1)
        if len(schedules) < PAGE:
            return made
        after = schedules[-1]
