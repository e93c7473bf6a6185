"""Reading the ledger."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from kiti.db import Reader, load
from kiti.ledger.model import Balance, Below, Overdrawn, UncoveredCharge
from kiti.ledger.standing import Line

sql = load("kiti.ledger")

_FIRST = UUID(int=0)


class Posted(Line, frozen=True, kw_only=True):
    """A row of the ledger, with its number within the event and its time."""

    posted_at: datetime
    line: int


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """The times of the first and the last entry; None while there is none."""

    first_at: datetime | None
    last_at: datetime | None


async def balances(reader: Reader) -> list[Balance]:
    """Every account's balance."""
    return await reader.many(sql.balances, Balance)


async def uncovered_charges(reader: Reader) -> list[UncoveredCharge]:
    """Up to 100 charges that the ledger tells differently; there should be none."""
    return await reader.many(sql.uncovered_charges, UncoveredCharge)


async def lines_of(reader: Reader, *, bookings: Sequence[UUID]) -> dict[UUID, list[Line]]:
    """All entries below these bookings, in the order in which they were written; a dozen or so each."""
    found: dict[UUID, list[Line]] = {booking: [] for booking in bookings}
    for line in await reader.many(sql.lines_of, Line, bookings=list(bookings)):
        found[line.booking_id].append(line)
    return found


async def posted_between(
    reader: Reader, *, since: datetime, until: datetime, after: Posted | None, limit: int
) -> list[Posted]:
    """A page of what was posted from `since` to before `until`, behind an entry of the page before."""
    return await reader.many(
        sql.posted_between,
        Posted,
        since=since,
        until=until,
        after_at=since if after is None else after.posted_at,
        after=_FIRST if after is None else after.booking_id,
        after_event="" if after is None else after.event,
        after_line=0 if after is None else after.line,
        limit=limit,
    )


async def balances_before(reader: Reader, *, moment: datetime) -> list[Balance]:
    """Every account's balance at a moment, those that were nothing left out."""
    return await reader.many(sql.balances_before, Balance, moment=moment)


async def posted_extent(reader: Reader) -> Extent:
    """When the first and the last entry were posted."""
    return await reader.one(sql.posted_extent, Extent)


async def posted_below(reader: Reader, *, booking: UUID) -> list[Below]:
    """The first 200 entries below a booking, the oldest first."""
    return await reader.many(sql.posted_below, Below, booking=booking)


async def overdrawn(reader: Reader) -> list[Overdrawn]:
    """Up to 100 operators whose liability below a booking is less than nothing; there should be none."""
    return await reader.many(sql.overdrawn, Overdrawn)
