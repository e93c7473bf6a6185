"""Reconciliation: a gateway's list of what it took, day by day, against what we wrote down, and what it settled.

A webhook may be lost for good, and a second transaction under one reference is found by nothing else. What the gateway
has and we have not is settled like any other payment, so it becomes a ticket or a refund. Whatever still differs is
written down with a name and an age, and is over when a later comparison does not find it any more. Settlements and
the bank's lines are compared in `flows.three_way`, disputes in `flows.disputes`; both are part of each run.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import msgspec
import structlog

from kiti.core.errors import KitiError, NotFound
from kiti.core.money import Money
from kiti.flows.banking import SettlementsSilent
from kiti.flows.disputes import find_disputes
from kiti.flows.house import House
from kiti.flows.passes import each
from kiti.flows.progress import advance
from kiti.flows.settle import settle_payment
from kiti.flows.three_way import compare_settlements
from kiti.gateways.gateway import (
    Authorised,
    Captured,
    Declined,
    Gateway,
    Missing,
    Pending,
    Settlements,
    Unknown,
    Unreadable,
    UnreadableAmount,
)
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import Break, BreakKind, Charge, OpenBreak, Payment

log = structlog.get_logger(__name__)

USUAL_DAYS = 3
MOST_DAYS = 62
MOST_SINGLE_QUESTIONS = 500
MOST_BREAKS_SHOWN = 1000

Theirs = Captured | Unreadable


class GatewaySilent(KitiError):
    """The gateway did not tell what it took on a day; nothing was compared for it."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """How many transactions were looked at, taken over by us, and differ still; days that could not be compared.

    `settlements` and `disputes` were looked at too; what a gateway did not tell of counts as a silent day.
    """

    transactions: int
    settlements: int
    disputes: int
    repaired: int
    differing: int
    silent: int


async def reconcile(house: House, *, days: int = USUAL_DAYS) -> Compared:
    """Compare the last days, today included, with every gateway. Running it twice at once does no harm.

    Days of which something is open still are compared again, however old.
    """
    assert 1 <= days <= MOST_DAYS
    began_at = datetime.now(UTC)
    total: Counter[str] = Counter()
    found = await find_disputes(house)
    total["silent"] += found.silent
    total["differing"] += found.unknown
    for name, gateway in house.gateways.items():
        for day in await _days(house, name, days):
            try:
                total.update(await _compare(house, name, gateway, day))
            except GatewaySilent as error:
                log.warning("a day could not be compared", gateway=name, day=day.isoformat(), error=str(error))
                total["silent"] += 1
        if isinstance(gateway, Settlements):
            total.update(await _compare_settled(house, name, gateway, days))
    compared = Compared(
        transactions=total["transactions"],
        settlements=total["settlements"],
        disputes=found.told,
        repaired=total["repaired"],
        differing=total["differing"],
        silent=total["silent"],
    )
    await house.db.run(
        lambda tx: payments.note_run(
            tx,
            began_at=began_at,
            days=days,
            transactions=compared.transactions,
            settlements=compared.settlements,
            repaired=compared.repaired,
            silent=compared.silent,
        )
    )
    return compared


async def open_breaks(house: House) -> list[OpenBreak]:
    """Where books differ still, the oldest first."""
    async with house.db.reader() as reader:
        return await payment_reads.open_breaks(reader, limit=MOST_BREAKS_SHOWN)


async def _days(house: House, name: str, days: int) -> list[date]:
    """The last days, and older ones of which something is open, the oldest first."""
    today = datetime.now(UTC).date()
    async with house.db.reader() as reader:
        bound = today - timedelta(days=MOST_DAYS)
        still_open = await payment_reads.days_with_breaks(reader, gateway=name, sides=["ledger_gateway"], first=bound)
    return sorted({today - timedelta(days=back) for back in range(days)} | set(still_open))


async def _compare_settled(house: House, name: str, gateway: Settlements, days: int) -> dict[str, int]:
    try:
        settlements, differing = await compare_settlements(house, name, gateway, days=days)
    except SettlementsSilent as error:
        log.warning("settlements could not be compared", gateway=name, error=str(error))
        return {"silent": 1}
    return {"settlements": settlements, "differing": differing}


async def _compare(house: House, name: str, gateway: Gateway, day: date) -> dict[str, int]:
    """One day of one gateway; raises GatewaySilent."""
    theirs = await gateway.captured_on(day)
    if isinstance(theirs, Unknown):
        raise GatewaySilent(theirs.reason)
    midnight = datetime.combine(day, time(), UTC)
    async with house.db.reader() as reader:
        near = await payment_reads.charges_between(
            reader, gateway=name, since=midnight - timedelta(days=1), until=midnight + timedelta(days=2)
        )
    ours = {charge.transaction_id: charge for charge in near}
    breaks: list[Break] = []
    repaired = 0

    async def one(told: Theirs) -> None:
        nonlocal repaired
        known = ours.get(told.transaction_id)
        if known is None:
            known, was_repaired = await _take_over(house, told)
            repaired += was_repaired
        breaks.extend(_missing_ours(told, day) if known is None else _difference(told, known, day))
        advance(processed=1)

    await each(theirs, one)
    of_day = [charge for charge in near if midnight <= charge.captured_at < midnight + timedelta(days=1)]
    breaks += await _unheard_of(gateway, of_day, {told.transaction_id for told in theirs}, day)
    breaks += [
        _duplicate(charge, day) for charge in of_day if charge.purpose == "surplus" and not charge.refund_reserved
    ]
    await house.db.run(lambda tx: payments.put_breaks(tx, gateway=name, day=day, breaks=breaks))
    return {"transactions": len(theirs), "repaired": repaired, "differing": len(breaks)}


async def _take_over(house: House, told: Theirs) -> tuple[Charge | None, bool]:
    """Our charge for what the gateway took, settled now if it was not before; None where it belongs to nothing."""
    payment = await _payment_of(house, told.reference)
    if payment is None:
        return None, False
    known = await _charge(house, payment, told.transaction_id)
    if known is not None:
        return known, False
    try:
        await settle_payment(house, payment.id, transaction_id=told.transaction_id)
    except KitiError as error:
        log.warning("a transaction could not be settled", transaction=told.transaction_id, error=str(error))
    except Exception:
        # One transaction's trouble is not another's: it stays a break, and the rest of the day is compared.
        log.exception("a transaction could not be settled", transaction=told.transaction_id)
    taken = await _charge(house, payment, told.transaction_id)
    return taken, taken is not None


async def _payment_of(house: House, reference: str) -> Payment | None:
    try:
        payment = UUID(reference)
        async with house.db.reader() as reader:
            return await payment_reads.by_id(reader, payment=payment)
    except (ValueError, NotFound):
        return None


async def _charge(house: House, payment: Payment, transaction_id: str) -> Charge | None:
    async with house.db.reader() as reader:
        return await payment_reads.charge(
            reader, booking=payment.booking_id, gateway=payment.gateway, transaction_id=transaction_id
        )


def _missing_ours(told: Theirs, day: date) -> list[Break]:
    if isinstance(told, Unreadable):
        return [Break(transaction_id=told.transaction_id, kind="amount", day=day, booking_id=None, detail=told.reason)]
    detail = f"The gateway took {told.amount.amount} {told.amount.currency} for {told.reference!r}; we have no charge."
    return [Break(transaction_id=told.transaction_id, kind="missing_ours", day=day, booking_id=None, detail=detail)]


def _difference(told: Theirs, charge: Charge, day: date) -> list[Break]:
    """Where both have the transaction and tell it differently."""
    if isinstance(told, Unreadable):
        return [_break(charge, day, "amount", told.reason)]
    found = []
    ours = Money(charge.amount, charge.currency)
    if told.amount != ours:
        found.append(
            _break(
                charge,
                day,
                "amount",
                f"The gateway tells {told.amount.amount} {told.amount.currency}, we {ours.amount} {ours.currency}.",
            )
        )
    if told.fee_exact != charge.fee_exact:
        detail = f"The gateway kept {told.fee_exact}, we wrote down {charge.fee_exact}."
        found.append(_break(charge, day, "fee", detail))
    return found


async def _unheard_of(gateway: Gateway, charges: Sequence[Charge], listed: set[str], day: date) -> list[Break]:
    """Charges of ours that the day's list lacks. Calendars differ, so each is asked for before it is missed."""
    found: list[Break] = []
    silent: list[Unknown] = []

    async def ask(charge: Charge) -> None:
        told = [] if silent else await _asked(gateway, charge, day)
        if isinstance(told, Unknown):
            silent.append(told)
        else:
            found.extend(told)

    questions = [charge for charge in charges if charge.transaction_id not in listed]
    await each(questions[:MOST_SINGLE_QUESTIONS], ask)
    if silent:
        raise GatewaySilent(silent[0].reason)
    return found


async def _asked(gateway: Gateway, charge: Charge, day: date) -> list[Break] | Unknown:
    """Where the gateway, asked about one charge, tells it differently."""
    try:
        truth = await gateway.verify(charge.transaction_id)
    except UnreadableAmount as error:
        return [_break(charge, day, "amount", str(error))]
    match truth:
        case Captured():
            return _difference(truth, charge, day)
        case Missing():
            return [_break(charge, day, "missing_theirs", "The gateway does not know this transaction.")]
        case Authorised() | Declined() | Pending():
            return [_break(charge, day, "status", "The gateway has not taken this money, or not any more.")]
        case Unknown():
            return truth


def _duplicate(charge: Charge, day: date) -> Break:
    detail = f"{charge.amount} {charge.currency} were paid for a booking that was paid before, and do not go back."
    return _break(charge, day, "duplicate", detail)


def _break(charge: Charge, day: date, kind: BreakKind, detail: str) -> Break:
    return Break(
        transaction_id=charge.transaction_id,
        kind=kind,
        day=day,
        booking_id=charge.booking_id,
        detail=detail,
    )
