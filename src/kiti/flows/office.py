"""What staff see of money, bounded to their operator, and what they may set going again."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, get_args
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.core.clock import instant, local
from kiti.core.errors import InvalidInput
from kiti.core.ids import first_id_at
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.refunds import retry_refund
from kiti.flows.settle import settle_payment
from kiti.flows.staff import require
from kiti.payments import reads as payment_reads
from kiti.payments.model import Payment, PaymentState, Refund
from kiti.payments.reads import PaymentLine
from kiti.people.model import Staff

Status = Literal["pending", "paid", "failed", "expired", "review"]
STATES: Mapping[Status, tuple[PaymentState, ...]] = {
    "pending": ("created", "submitting", "unknown", "pending", "requires_action", "authorised"),
    "paid": ("captured",),
    "failed": ("failed", "cancelled"),
    "expired": ("expired",),
    "review": ("review",),
}
STATUS_OF: Mapping[PaymentState, Status] = {state: status for status, states in STATES.items() for state in states}

PAGE_LINES = 50
EXPORT_LINES = 10_000
USUAL_DAYS = 30
LONGEST_DAYS = 370
FIRST_YEAR, LAST_YEAR = 2000, 2100


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which payments: of one status or all, made on the days from `since` to `until`, both included."""

    status: Status | None
    since: date
    until: date


class Lines(msgspec.Struct, frozen=True):
    """Payments, the newest first; `next_before` is the cursor of the page after, None if there is none."""

    payments: Sequence[PaymentLine]
    next_before: UUID | None


def timezone_of(staff: Staff) -> str:
    """In whose time somebody thinks of days."""
    return "UTC" if staff.operator is None else staff.operator.timezone


def filter_of(staff: Staff, *, status: str, since: str, until: str) -> Filter:
    """A filter as it was typed, "" for the usual; raises InvalidInput."""
    if status not in {"", *get_args(Status)}:
        raise InvalidInput("status", "There is no such status.")
    today = local(datetime.now(UTC), timezone=timezone_of(staff)).date()
    first, last = days_of(since, until, today=today, usual=USUAL_DAYS, longest=LONGEST_DAYS)
    return Filter(status=status or None, since=first, until=last)  # type: ignore[arg-type] # looked up above


def days_of(since: str, until: str, *, today: date, usual: int, longest: int) -> tuple[date, date]:
    """The first and the last day as they were typed, "" for the usual number up to today; raises InvalidInput."""
    last = day_of(until, "until") or today
    first = day_of(since, "since") or last - timedelta(days=usual)
    if not timedelta() <= last - first <= timedelta(days=longest):
        raise InvalidInput("since", f"Choose at most {longest} days, the first one first.")
    return first, last


def day_of(typed: str, field: str) -> date | None:
    """A day as it was typed, None for ""; raises InvalidInput."""
    if not typed:
        return None
    try:
        day = date.fromisoformat(typed)
    except ValueError:
        day = None
    if day is None or not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise InvalidInput(field, "Write the day as 2026-11-24.")
    return day


async def payments(
    house: House, *, staff: Staff, wanted: Filter, before: UUID | None = None, limit: int = PAGE_LINES
) -> Lines:
    """A page of payments, from the cursor on. Raises NotAllowed."""
    require(staff, "payments.see")
    timezone = timezone_of(staff)
    end = first_id_at(instant(wanted.until + timedelta(days=1), time(), timezone=timezone))
    async with house.db.reader() as reader:
        found = await payment_reads.office_payments(
            reader,
            operator=staff.bound,
            states=[state for state, status in STATUS_OF.items() if wanted.status in {None, status}],
            first=first_id_at(instant(wanted.since, time(), timezone=timezone)),
            before=end if before is None else min(before, end),
            limit=limit + 1,
        )
    return Lines(found[:limit], found[limit - 1].id if len(found) > limit else None)


async def ask_gateway(house: House, *, staff: Staff, payment: UUID) -> Payment:
    """Ask the gateway about a payment and act on what it says. Raises NotAllowed, NotFound."""
    require(staff, "payments.review")
    settled = await settle_payment(house, payment)
    await _note(house, settled.booking_id, staff, "payment.asked", {"payment": str(payment), "state": settled.state})
    return settled


async def send_refund_again(house: House, *, staff: Staff, refund: UUID) -> Refund:
    """Send a refund that waits for a person once more. Raises NotAllowed, NotFound, PaymentChanged."""
    require(staff, "refunds.make")
    sent = await retry_refund(house, refund)
    await _note(house, sent.booking_id, staff, "refund.retried", {"refund": str(refund), "state": sent.state})
    return sent


async def _note(house: House, booking: UUID, staff: Staff, action: str, detail: dict[str, str]) -> None:
    async def work(tx: Transaction) -> None:
        await audit.record(tx, events=[Event(subject=booking, actor=staff.actor, action=action, detail=detail)])

    await house.db.run(work)
