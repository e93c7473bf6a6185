"""Reading statements and payouts."""

from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Any
from uuid import UUID

import msgspec

from kiti.core.errors import NotFound
from kiti.core.money import EXPONENTS
from kiti.db import Reader, load
from kiti.gateways.gateway import Destination
from kiti.settlements.model import OperatorSubaccount, Payout, Settlement, State, StatementLine, Terms, Unsettled

sql = load("kiti.settlements")

PAGE_LINES = 1000
FIRST = UUID(int=0)
LAST = UUID(int=2**128 - 1)


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """How much waits for a person."""

    settlements: int
    payouts: int


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that a statement should have had; there should be none."""

    booking_id: UUID
    event: str


class _Id(msgspec.Struct, frozen=True):
    id: UUID


async def terms_of(reader: Reader, *, operator: UUID) -> list[Terms]:
    """The terms of an operator, by currency."""
    return await reader.many(sql.terms_of, _terms, operator=operator)


async def unsettled(reader: Reader) -> list[Unsettled]:
    """Operators and currencies with entries that no statement has, the earliest entry first."""
    return await reader.many(sql.unsettled, Unsettled, currencies=sorted(EXPONENTS))


async def by_id(reader: Reader, *, settlement: UUID) -> Settlement:
    """The statement; raises NotFound."""
    found = await reader.maybe(sql.by_id, Settlement, id=settlement)
    if found is None:
        raise NotFound("There is no such statement.")
    return found


async def page(
    reader: Reader,
    *,
    operator: UUID | None,
    code: str,
    state: State | None,
    before: UUID | None,
    limit: int,
    since: date | None = None,
    until: date | None = None,
) -> list[Settlement]:
    """Statements, the newest first: of one operator (None and "" for all), in one state or in any.

    Of periods with a day from `since` to `until` in them, in the operator's calendar; None: however early, or late.
    """
    return await reader.many(
        sql.page,
        Settlement,
        operator=operator,
        code=code,
        state=state or "",
        before=before or LAST,
        since=since,
        until=until,
        limit=limit,
    )


async def lines(
    reader: Reader, *, settlement: UUID, after: tuple[UUID, UUID] = (FIRST, FIRST), limit: int = PAGE_LINES
) -> list[StatementLine]:
    """A page of a statement's lines, from behind (booking, trip) on; `cursor_of` tells it of the last one."""
    return await reader.many(
        sql.statement_lines,
        StatementLine,
        settlement=settlement,
        after=after[0],
        after_trip=after[1],
        limit=limit,
    )


def cursor_of(line: StatementLine) -> tuple[UUID, UUID]:
    """Where the page after this line begins."""
    return line.subject_id, line.trip_id or FIRST


async def all_lines(reader: Reader, *, settlement: UUID) -> AsyncIterator[Sequence[StatementLine]]:
    """The pages of a statement, one after another."""
    after = (LAST, LAST)
    found = await lines(reader, settlement=settlement)
    while found:
        yield found
        after = cursor_of(found[-1])
        found = await lines(reader, settlement=settlement, after=after) if len(found) == PAGE_LINES else []


async def payout(reader: Reader, *, payout: UUID) -> Payout:
    """The payout; raises NotFound."""
    found = await reader.maybe(sql.payout_by_id, Payout, id=payout)
    if found is None:
        raise NotFound("There is no such payout.")
    return found


async def payouts_of(reader: Reader, *, settlement: UUID) -> list[Payout]:
    """The payouts of a statement, oldest first."""
    return await reader.many(sql.payouts_of, Payout, settlement=settlement)


async def due_payouts(reader: Reader, *, limit: int) -> list[UUID]:
    """Payouts that something should be done about now."""
    return [row.id for row in await reader.many(sql.due_payouts, _Id, limit=limit)]


async def waiting(reader: Reader) -> Waiting:
    """How much waits for a person."""
    return await reader.one(sql.waiting, Waiting)


async def left_out(reader: Reader) -> list[LeftOut]:
    """Up to 100 entries that no statement has although it should."""
    return await reader.many(sql.left_out, LeftOut)


def _terms(*, kind: Any, country: str, bank: str, account: str, account_name: str, **rest: Any) -> Terms:
    destination = Destination(kind=kind, country=country, bank=bank, account=account, name=account_name)
    return Terms(destination=destination, **rest)


async def subaccounts(reader: Reader, *, operator: UUID | None = None) -> list[OperatorSubaccount]:
    """Accounts of operators at gateways, of one operator or of all."""
    return await reader.many(sql.subaccounts, OperatorSubaccount, operator=operator)
