"""Statements: made for every period that has ended, looked at by people, approved.

Who may do what to one, so that no money goes out by one person alone:

- the system makes drafts;
- whoever approves a draft approves the amount and where it goes, and is not who said where it goes;
- whoever has it paid (`kiti.flows.payouts`) is not who approved it. Where the money goes was fixed by the approval, so
  terms that are changed afterwards count from the next approval on.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID

import msgspec
import structlog

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.core.errors import InvalidInput, NotAllowed
from kiti.core.ids import new_id
from kiti.core.money import exponent
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.progress import advance
from kiti.flows.staff import require
from kiti.people.model import Staff
from kiti.settlements import actions as settlements
from kiti.settlements import reads
from kiti.settlements.model import (
    NewSettlement,
    Payout,
    Settlement,
    State,
    StatementLine,
    Terms,
    Unsettled,
    next_period,
)

log = structlog.get_logger(__name__)

MOST_STATEMENTS = 1000
PAGE = 50
# Revenue of the last minutes of a period is in the books long before this.
AFTER_THE_END = timedelta(hours=1)


class Page(msgspec.Struct, frozen=True):
    """Statements, the newest first; `next_before` is the cursor of the page after, None if there is none."""

    settlements: Sequence[Settlement]
    next_before: UUID | None


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement with a page of its lines and its payouts."""

    settlement: Settlement
    lines: Sequence[StatementLine]
    next_after: tuple[UUID, UUID] | None
    payouts: Sequence[Payout]


async def calculate_settlements(house: House, *, most: int = MOST_STATEMENTS) -> tuple[int, int]:
    """Make the statements of all periods that have ended: how many were made, and how many could not be now.

    Each is a transaction of its own, and the earliest period of an operator comes first. Safe side by side, again, and
    after a crash: no entry of the ledger can be in two statements.
    """
    made = failed = 0
    while made + failed < most:
        async with house.db.reader() as reader:
            waiting = await reads.unsettled(reader)
        due = [one for one in waiting if next_period(one)[1] + AFTER_THE_END <= one.now]
        before = made
        for unsettled in due[: most - made]:
            try:
                new = await house.db.run(lambda tx, one=unsettled: _make(tx, one))  # type: ignore[misc]
                made += new
                advance(processed=new)
            except Exception:
                # One operator's trouble is not another's; the next run tries again.
                failed += 1
                advance(failed=1)
                log.exception("a statement could not be made", operator=str(unsettled.operator_id))
        if made == before:
            break
    return made, failed


async def set_terms(house: House, *, terms: Terms, staff: Staff) -> None:
    """Say how an operator is settled with, and where money goes from the next approval on.

    Raises NotAllowed, InvalidInput.
    """
    require(staff, "settlements.approve")
    exponent(terms.currency)
    house.gateway(terms.gateway)
    if not terms.destination.account.strip() or not terms.destination.name.strip():
        raise InvalidInput("account", "Say which account the money goes to, and whose it is.")

    async def work(tx: Transaction) -> None:
        await settlements.put_terms(tx, terms=msgspec.structs.replace(terms, set_by=staff.actor))
        detail = {
            "currency": terms.currency,
            "period": terms.period,
            "minimum": terms.minimum_payout,
            "gateway": terms.gateway,
            "account": terms.destination.account[-4:],
        }
        event = Event(subject=terms.operator_id, actor=staff.actor, action="settlement.terms", detail=detail)
        await audit.record(tx, events=[event])

    await house.db.run(work)


async def approve(house: House, *, settlement: UUID, staff: Staff) -> Settlement:
    """A person has looked at a draft. Raises NotAllowed, NotFound, SettlementChanged, InvalidInput without terms."""
    require(staff, "settlements.approve")

    async def work(tx: Transaction) -> None:
        found = await reads.by_id(tx, settlement=settlement)
        require(staff, "settlements.approve", operator=found.operator_id)
        of_operator = await reads.terms_of(tx, operator=found.operator_id)
        terms = next((one for one in of_operator if one.currency == found.currency), None)
        if terms is None:
            raise InvalidInput("terms", f"Say first where {found.operator_name}'s {found.currency} go.")
        if terms.set_by == staff.actor:
            raise NotAllowed("You said where this money goes, so somebody else has to approve it.")
        await settlements.approve(tx, settlement=found, terms=terms, by=staff.actor)
        detail = {"net": found.net, "currency": found.currency, "account": terms.destination.account[-4:]}
        event = Event(subject=settlement, actor=staff.actor, action="settlement.approved", detail=detail)
        await audit.record(tx, events=[event])

    await house.db.run(work)
    async with house.db.reader() as reader:
        return await reads.by_id(reader, settlement=settlement)


async def list_settlements(
    house: House,
    *,
    staff: Staff,
    code: str = "",
    state: State | None = None,
    before: UUID | None = None,
    limit: int = PAGE,
    since: date | None = None,
    until: date | None = None,
) -> Page:
    """A page of the statements that somebody may see, with a day from `since` to `until` in them. Raises NotAllowed."""
    require(staff, "settlements.see")
    async with house.db.reader() as reader:
        found = await reads.page(
            reader,
            operator=staff.bound,
            code=code,
            state=state,
            before=before,
            since=since,
            until=until,
            limit=limit + 1,
        )
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


async def show_statement(
    house: House, *, settlement: UUID, staff: Staff, after: tuple[UUID, UUID] | None = None, limit: int = 200
) -> Statement:
    """A statement with lines from behind the cursor on. Raises NotAllowed, NotFound."""
    require(staff, "settlements.see")
    async with house.db.reader() as reader:
        found = await reads.by_id(reader, settlement=settlement)
        require(staff, "settlements.see", operator=found.operator_id)
        lines = await reads.lines(
            reader, settlement=settlement, after=after or (reads.FIRST, reads.FIRST), limit=limit + 1
        )
        payouts = await reads.payouts_of(reader, settlement=settlement)
    cursor = reads.cursor_of(lines[limit - 1]) if len(lines) > limit else None
    return Statement(settlement=found, lines=lines[:limit], next_after=cursor, payouts=payouts)


async def _make(tx: Transaction, unsettled: Unsettled) -> int:
    """One statement; none where somebody else has made it meanwhile."""
    until = await settlements.settled_until(tx, operator=unsettled.operator_id, currency=unsettled.currency)
    if until != unsettled.settled_until:
        return 0
    starts_at, ends_at = next_period(unsettled)
    new = NewSettlement(
        id=new_id(),
        operator_id=unsettled.operator_id,
        currency=unsettled.currency,
        period=unsettled.period,
        starts_at=starts_at,
        ends_at=ends_at,
        timezone=unsettled.timezone,
    )
    totals = await settlements.make(tx, settlement=new, since=until, minimum_payout=unsettled.minimum_payout)
    detail = {"operator": str(new.operator_id), "currency": new.currency, "net": totals.net}
    await audit.record(tx, events=[Event(subject=new.id, actor="system", action="settlement.made", detail=detail)])
    return 1
