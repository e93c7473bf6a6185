"""Reading messages."""

from datetime import datetime
from uuid import UUID

from kiti.db import Reader, load
from kiti.messages.model import Parked, ParkedLine

sql = load("kiti.messages")

MOST_PARKED = 100


async def parked(reader: Reader) -> list[Parked]:
    """Up to MOST_PARKED messages of the last seven days that were given up, the latest first."""
    return await reader.many(sql.parked, Parked, limit=MOST_PARKED)


async def parked_like(
    reader: Reader, *, operator: UUID | None, code: str, channel: str, since: datetime, until: datetime, limit: int
) -> list[ParkedLine]:
    """Messages that were given up, queued from `since` until before `until`, the latest first.

    Of bookings with seats of `operator` (None: of whomever) and of the operator with that code; `code` and `channel` ""
    are all of them.
    """
    return await reader.many(
        sql.parked_like,
        ParkedLine,
        operator=operator,
        code=code,
        channel=channel,
        since=since,
        until=until,
        limit=limit,
    )


async def parked_by_id(reader: Reader, *, message: UUID) -> ParkedLine | None:
    """A message, if it is parked now."""
    return await reader.maybe(sql.parked_by_id, ParkedLine, id=message)
