"""All refunds as staff see them: by state and day, an operator its own part of each."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Literal, get_args
from uuid import UUID

import msgspec

from kiti.core.clock import instant
from kiti.core.errors import InvalidInput
from kiti.flows.house import House
from kiti.flows.office import PAGE_LINES, filter_of, timezone_of
from kiti.flows.staff import require
from kiti.payments import reads as payment_reads
from kiti.payments.model import RefundState
from kiti.payments.reads import RefundRow
from kiti.people.model import Staff

Status = Literal["under way", "paid back", "needs attention"]
STATES: Mapping[Status, tuple[RefundState, ...]] = {
    "under way": ("requested", "submitting", "unknown", "pending"),
    "paid back": ("succeeded",),
    "needs attention": ("failed", "needs_attention"),
}
STATUS_OF: Mapping[RefundState, Status] = {state: status for status, states in STATES.items() for state in states}
FIRST = UUID(int=0)

# A refund and the moment it was asked for: where the next page begins.
Cursor = tuple[datetime, UUID]


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which refunds: of one status or all, asked for on the days from `since` to `until`, both included."""

    status: Status | None
    since: date
    until: date


class Lines(msgspec.Struct, frozen=True):
    """Refunds, the newest first; `next_before` is the cursor of the page after, None if there is none."""

    refunds: Sequence[RefundRow]
    next_before: Cursor | None


def refund_filter(staff: Staff, *, status: str, since: str, until: str) -> Filter:
    """A filter as it was typed, "" for the usual; raises InvalidInput."""
    if status not in {"", *get_args(Status)}:
        raise InvalidInput("status", "There is no such status.")
    days = filter_of(staff, status="", since=since, until=until)
    return Filter(status=status or None, since=days.since, until=days.until)  # type: ignore[arg-type] # looked up above


async def refunds(
    house: House, *, staff: Staff, wanted: Filter, before: Cursor | None = None, limit: int = PAGE_LINES
) -> Lines:
    """A page of refunds, from the cursor on. Raises NotAllowed."""
    require(staff, "refunds.see")
    timezone = timezone_of(staff)
    end = (instant(wanted.until + timedelta(days=1), time(), timezone=timezone), FIRST)
    async with house.db.reader() as reader:
        found = await payment_reads.refund_lines(
            reader,
            operator=staff.bound,
            states=[state for state, status in STATUS_OF.items() if wanted.status in {None, status}],
            since=instant(wanted.since, time(), timezone=timezone),
            before=end if before is None else min(before, end),
            limit=limit + 1,
        )
    last = found[limit - 1] if len(found) > limit else None
    return Lines(found[:limit], None if last is None else (last.created_at, last.id))
