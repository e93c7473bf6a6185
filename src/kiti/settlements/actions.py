"""Making statements, approving them, sending money. Every change of state is a guarded update."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec

from kiti.core.errors import KitiError
from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.settlements.model import (
    PAYOUT_TRANSITIONS,
    TRANSITIONS,
    LineKind,
    NewSettlement,
    NewSubaccount,
    Payout,
    PayoutState,
    Settlement,
    State,
    Terms,
    Totals,
)

sql = load("kiti.settlements")

PAGE_LINES = 20_000
EVER = datetime(1970, 1, 1, tzinfo=UTC)
# As far back as `unsettled` looks again.
LATE = timedelta(days=7)


class SettlementChanged(KitiError):
    """The statement or payout is not in a state in which this can be done, or somebody else was quicker."""


class _Taken(msgspec.Struct, frozen=True):
    kind: LineKind
    lines: int
    amount: int
    until: datetime


class _Net(msgspec.Struct, frozen=True):
    net: int


class _Id(msgspec.Struct, frozen=True):
    id: UUID


class _Until(msgspec.Struct, frozen=True):
    ends_at: datetime | None


async def put_terms(tx: Transaction, *, terms: Terms) -> None:
    """Say how an operator is settled with in a currency; what was said before is replaced."""
    await tx.execute(
        sql.put_terms,
        operator=terms.operator_id,
        currency=terms.currency,
        period=terms.period,
        minimum_payout=terms.minimum_payout,
        gateway=terms.gateway,
        kind=terms.destination.kind,
        country=terms.destination.country,
        bank=terms.destination.bank,
        account=terms.destination.account,
        account_name=terms.destination.name,
        set_by=terms.set_by,
    )


async def settled_until(tx: Transaction, *, operator: UUID, currency: str) -> datetime | None:
    """Where the last statement of an operator ended. Nobody else makes one of theirs until the transaction ends."""
    await tx.one(sql.lock_operator, _Id, operator=operator)
    return (await tx.one(sql.settled_until, _Until, operator=operator, currency=currency)).ends_at


async def make(tx: Transaction, *, settlement: NewSettlement, since: datetime | None, minimum_payout: int) -> Totals:
    """Write a statement of all entries posted before its end that no other has, and of what the one before left.

    `since` is where the one before ended; the operator is locked by `settled_until`. What is not to be paid, because
    the net is not above zero or below `minimum_payout`, waits for the next statement: it is `carried`.
    """
    await tx.execute(
        sql.open_settlement,
        id=settlement.id,
        operator=settlement.operator_id,
        currency=settlement.currency,
        period=settlement.period,
        starts_at=settlement.starts_at,
        ends_at=settlement.ends_at,
        timezone=settlement.timezone,
    )
    sums = await _take_lines(tx, settlement, since)
    carried = await tx.many(
        sql.carry, _Net, taker=settlement.id, operator=settlement.operator_id, currency=settlement.currency
    )
    totals = Totals(
        gross=sums["gross"],
        refunds=-sums["refund"],
        commission=-sums["commission"],
        fees=-sums["fee"],
        other=sums["other"],
        carried=sum(row.net for row in carried),
    )
    state: State = "draft" if totals.net > 0 and totals.net >= minimum_payout else "carried"
    changed = await tx.execute(
        sql.set_totals,
        id=settlement.id,
        state=state,
        gross=totals.gross,
        refunds=totals.refunds,
        commission=totals.commission,
        fees=totals.fees,
        other=totals.other,
        carried=totals.carried,
        net=totals.net,
    )
    assert changed == 1, "it was written a moment ago, in this transaction"
    return totals


async def _take_lines(tx: Transaction, settlement: NewSettlement, since: datetime | None) -> dict[LineKind, int]:
    """Pages of entries become lines until there are none left; what they come to, by kind."""
    sums: dict[LineKind, int] = {"gross": 0, "refund": 0, "commission": 0, "fee": 0, "other": 0}
    since = EVER if since is None else since - LATE
    while True:
        page = await tx.many(
            sql.take_lines,
            _Taken,
            settlement=settlement.id,
            operator=settlement.operator_id,
            currency=settlement.currency,
            since=since,
            ends_at=settlement.ends_at,
            limit=PAGE_LINES,
        )
        for taken in page:
            sums[taken.kind] += taken.amount
        if sum(taken.lines for taken in page) < PAGE_LINES:
            return sums
        since = page[0].until


async def approve(tx: Transaction, *, settlement: Settlement, terms: Terms, by: str) -> None:
    """A person has looked at a draft: it may be paid to where the terms say now. Raises SettlementChanged."""
    destination = terms.destination
    changed = await tx.execute(
        sql.approve,
        id=settlement.id,
        by=by,
        gateway=terms.gateway,
        kind=destination.kind,
        country=destination.country,
        bank=destination.bank,
        account=destination.account,
        account_name=destination.name,
    )
    if changed != 1:
        raise SettlementChanged("The statement is no draft any more.")


async def move(tx: Transaction, *, settlement: Settlement, to: State) -> None:
    """Change the state by one of TRANSITIONS; raises SettlementChanged where table or row forbid it."""
    if to not in TRANSITIONS[settlement.state]:
        raise SettlementChanged(f"A statement that is {settlement.state} cannot become {to}.")
    changed = await tx.execute(
        sql.move, id=settlement.id, from_state=settlement.state, to_state=to, attempts=settlement.attempts
    )
    if changed != 1:
        raise SettlementChanged(f"The statement is no longer {settlement.state}.")


async def open_payout(tx: Transaction, *, settlement: Settlement, by: str) -> UUID:
    """Write down that an approved statement is to be paid; the payout's id is the reference the gateway will see."""
    payout = new_id()
    assert settlement.destination is not None, "an approved statement has a destination"
    await tx.execute(
        sql.open_payout,
        id=payout,
        settlement=settlement.id,
        operator=settlement.operator_id,
        gateway=settlement.gateway,
        kind=settlement.destination.kind,
        country=settlement.destination.country,
        bank=settlement.destination.bank,
        account=settlement.destination.account,
        account_name=settlement.destination.name,
        amount=settlement.net,
        currency=settlement.currency,
        by=by,
    )
    return payout


async def move_payout(
    tx: Transaction,
    *,
    payout: Payout,
    to: PayoutState,
    act_after_seconds: int | None,
    gateway_payout_id: str | None = None,
    fee_exact: Decimal | None = None,
    failure_reason: str | None = None,
) -> None:
    """Change the state by one of PAYOUT_TRANSITIONS; raises SettlementChanged where the row has moved on."""
    assert to in PAYOUT_TRANSITIONS[payout.state], f"{payout.state} -> {to} is no transition of a payout"
    changed = await tx.execute(
        sql.move_payout,
        id=payout.id,
        from_state=payout.state,
        attempts=payout.attempts,
        to_state=to,
        gateway_payout_id=gateway_payout_id,
        fee_exact=fee_exact,
        failure_reason=failure_reason,
        act_after_seconds=act_after_seconds,
    )
    if changed != 1:
        raise SettlementChanged(f"The payout is no longer {payout.state}.")


async def payout_later(tx: Transaction, *, payout: Payout, seconds: int) -> None:
    """Look again in `seconds`, unless it has moved on meanwhile."""
    await tx.execute(sql.payout_later, id=payout.id, state=payout.state, attempts=payout.attempts, seconds=seconds)


async def postpone_payout(tx: Transaction, *, item: UUID, seconds: int) -> None:
    """Something went wrong with it: not before `seconds` have passed."""
    await tx.execute(sql.postpone_payout, id=item, seconds=seconds)


async def ask_subaccount(tx: Transaction, *, new: NewSubaccount) -> bool:
    """Write down that a gateway is about to be asked for an account; False: it was before."""
    added = await tx.execute(
        sql.ask_subaccount,
        operator=new.operator_id,
        gateway=new.gateway,
        bank=new.bank,
        account=new.account,
        country=new.country,
        name=new.name,
        percent=str(new.platform_percent),
        email=new.email,
        phone=new.phone,
    )
    return added > 0


async def subaccount_opened(tx: Transaction, *, asked: NewSubaccount, subaccount_id: str, percent: Decimal) -> bool:
    """The gateway has opened it; False: that is written down already."""
    changed = await tx.execute(
        sql.subaccount_opened,
        operator=asked.operator_id,
        gateway=asked.gateway,
        bank=asked.bank,
        account=asked.account,
        subaccount_id=subaccount_id,
        percent=str(percent),
    )
    return changed > 0


async def subaccount_refused(tx: Transaction, *, asked: NewSubaccount) -> None:
    """The gateway has certainly not opened it."""
    await tx.execute(
        sql.subaccount_refused,
        operator=asked.operator_id,
        gateway=asked.gateway,
        bank=asked.bank,
        account=asked.account,
    )
