"""Where books differ, for whoever looks into it: the queue, one break with all sides next to each other, its end.

Breaks hold bookings of every operator, so they are for staff of the platform: `payments.review`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import get_args
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit import reads as audit_reads
from kiti.audit.model import Event, Recorded
from kiti.banking import reads as banking_reads
from kiti.banking.model import BankLine, Settlement
from kiti.banking.reads import SettledLine
from kiti.bookings import reads as booking_reads
from kiti.core.errors import InvalidInput, KitiError
from kiti.db import Reader, Transaction
from kiti.flows.changes import reason_of
from kiti.flows.house import House
from kiti.flows.office import days_of
from kiti.flows.settle import settle_payment
from kiti.flows.staff import require
from kiti.gateways.gateway import Authorised, Captured, Declined, Missing, Pending, Truth, Unknown, UnreadableAmount
from kiti.ledger import reads as ledger_reads
from kiti.ledger.model import Below
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import BreakKind, Charge, OpenBreak, Payment, Run
from kiti.people.model import Staff

KINDS: tuple[BreakKind, ...] = get_args(BreakKind)
PAGE_LINES = 500
EXPORT_LINES = 10_000
LAST_RUNS = 5
LONGEST_DAYS = 730
USUAL_DAYS = 180
SETTLEMENT = "settlement "


class NothingToSettle(KitiError):
    """The break is about no transaction, or about none that a payment of ours could be laid to."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which breaks: of one gateway and kind or all, about transactions of these days; "" is all of them."""

    gateway: str
    kind: str
    since: date
    until: date
    is_open: bool


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """A break, and what each book has of what it is about; None and empty where a book has nothing."""

    break_: OpenBreak
    reference: str
    charge: Charge | None
    posted: Sequence[Below]
    told: Truth | None
    told_wrong: str
    settled: Sequence[SettledLine]
    settlement: Settlement | None
    bank: Sequence[BankLine]
    history: Sequence[Recorded]


def filter_of(house: House, *, gateway: str, kind: str, since: str, until: str, state: str) -> Filter:
    """A filter as it was typed, "" for the usual; raises InvalidInput."""
    if gateway not in {"", *house.gateways}:
        raise InvalidInput("gateway", "There is no such gateway.")
    if kind not in {"", *KINDS}:
        raise InvalidInput("kind", "There is no such kind of break.")
    if state not in {"", "open", "all"}:
        raise InvalidInput("state", "Show open ones, or all.")
    today = datetime.now(UTC).date()
    first, last = days_of(since, until, today=today, usual=USUAL_DAYS, longest=LONGEST_DAYS)
    return Filter(gateway=gateway, kind=kind, since=first, until=last, is_open=state != "all")


async def breaks(house: House, *, staff: Staff, wanted: Filter, limit: int = PAGE_LINES) -> list[OpenBreak]:
    """Breaks that the filter lets through, the oldest first. Raises NotAllowed."""
    require(staff, "payments.review")
    async with house.db.reader() as reader:
        return await payment_reads.breaks_like(
            reader,
            gateways=[wanted.gateway] if wanted.gateway else list(house.gateways),
            kinds=[kind for kind in KINDS if wanted.kind in {"", kind}],
            since=wanted.since,
            until=wanted.until,
            is_open=wanted.is_open,
            limit=limit,
        )


async def last_runs(house: House) -> list[Run]:
    """The last comparisons, the newest first."""
    async with house.db.reader() as reader:
        return await payment_reads.runs(reader, limit=LAST_RUNS)


async def sides_of(house: House, *, staff: Staff, break_: UUID) -> Sides:
    """One break with all its sides; the gateway is asked now. Raises NotAllowed, NotFound."""
    require(staff, "payments.review")
    async with house.db.reader() as reader:
        found = await payment_reads.break_by_id(reader, break_=break_)
        gateway, transaction = found.gateway, found.transaction_id
        charge = await payment_reads.charge_by_transaction(reader, gateway=gateway, transaction_id=transaction)
        posted = [] if charge is None else await ledger_reads.posted_below(reader, booking=charge.booking_id)
        settled = await banking_reads.lines_of(reader, gateway=gateway, transaction_id=transaction)
        of = settled[0].settlement_id if settled else _settlement_of(found)
        settlement = await banking_reads.settlement(reader, gateway=gateway, settlement_id=of)
        bank = await banking_reads.bank_lines_of(reader, gateway=gateway, settlement_id=of)
        reference = await _reference(reader, charge)
        history = await audit_reads.of_subject(reader, subject=found.id)
    told, told_wrong = await _told(house, found)
    return Sides(
        break_=found,
        reference=reference,
        charge=charge,
        posted=posted,
        told=told,
        told_wrong=told_wrong,
        settled=settled,
        settlement=settlement,
        bank=bank,
        history=history,
    )


async def settle_now(house: House, *, staff: Staff, break_: UUID) -> Payment:
    """Ask the gateway about the break's transaction, and take over what it says.

    A transaction that we missed is so closed at once; everything else by the next comparison. Raises NotAllowed,
    NotFound, NothingToSettle.
    """
    require(staff, "payments.review")
    async with house.db.reader() as reader:
        found = await payment_reads.break_by_id(reader, break_=break_)
        charge = await payment_reads.charge_by_transaction(
            reader, gateway=found.gateway, transaction_id=found.transaction_id
        )
    payment = await _payment_of(house, found) if charge is None else charge.payment_id
    settled = await settle_payment(house, payment, transaction_id=found.transaction_id)
    async with house.db.reader() as reader:
        taken = await payment_reads.charge_by_transaction(
            reader, gateway=found.gateway, transaction_id=found.transaction_id
        )

    async def work(tx: Transaction) -> None:
        await _note(tx, found.id, staff, "break.settled", {"payment": str(payment), "state": settled.state})
        now = await payment_reads.break_by_id(tx, break_=found.id)
        if now.kind == "missing_ours" and now.resolved_at is None and taken is not None:
            why = f"Settled: payment {payment} is {settled.state}."
            await payments.close_break(tx, break_=found.id, actor=staff.actor, resolution=why)

    await house.db.run(work)
    return settled


async def note(house: House, *, staff: Staff, break_: UUID, text: str) -> None:
    """Write down what somebody has found out. Raises NotAllowed, NotFound, InvalidInput."""
    require(staff, "payments.review")
    why = reason_of(text)

    async def work(tx: Transaction) -> None:
        found = await payment_reads.break_by_id(tx, break_=break_)
        await _note(tx, found.id, staff, "break.noted", {"note": why})

    await house.db.run(work)


async def take_on(house: House, *, staff: Staff, break_: UUID, give_back: bool = False) -> None:
    """Say who looks into it, or that nobody does any more. Raises NotAllowed, NotFound, BreakChanged."""
    require(staff, "payments.review")

    async def work(tx: Transaction) -> None:
        found = await payment_reads.break_by_id(tx, break_=break_)
        to = "" if give_back else staff.name
        await payments.assign_break(tx, break_=found, to=to)
        await _note(tx, found.id, staff, "break.assigned", {"to": to})

    await house.db.run(work)


async def close(house: House, *, staff: Staff, break_: UUID, resolution: str) -> None:
    """Close a break by hand; it stays closed unless it is told differently. Raises NotAllowed, NotFound, BreakChanged.

    Raises InvalidInput without a reason.
    """
    require(staff, "payments.review")
    why = reason_of(resolution)

    async def work(tx: Transaction) -> None:
        found = await payment_reads.break_by_id(tx, break_=break_)
        await payments.close_break(tx, break_=found.id, actor=staff.actor, resolution=why)
        await _note(tx, found.id, staff, "break.closed", {"reason": why})

    await house.db.run(work)


async def _told(house: House, found: OpenBreak) -> tuple[Truth | None, str]:
    """What the gateway says of the transaction now."""
    gateway = house.gateways.get(found.gateway)
    if gateway is None or found.transaction_id.startswith(SETTLEMENT):
        return None, ""
    try:
        return await gateway.verify(found.transaction_id), ""
    except UnreadableAmount as error:
        return None, str(error)


async def _payment_of(house: House, found: OpenBreak) -> UUID:
    """The payment that the gateway lays the transaction to; raises NothingToSettle."""
    told, wrong = await _told(house, found)
    match told:
        case None:
            raise NothingToSettle(wrong or "There is no single transaction to settle here.")
        case Missing():
            raise NothingToSettle("The gateway does not know this transaction.")
        case Unknown(reason=reason):
            raise NothingToSettle(f"The gateway did not answer: {reason}")
        case (
            Captured(reference=reference)
            | Authorised(reference=reference)
            | Declined(reference=reference)
            | Pending(reference=reference)
        ):
            try:
                return UUID(reference)
            except ValueError:
                raise NothingToSettle(f"{reference!r} is no payment of ours.") from None


async def _reference(reader: Reader, charge: Charge | None) -> str:
    if charge is None:
        return ""
    return (await booking_reads.by_id(reader, booking=charge.booking_id)).reference


def _settlement_of(found: OpenBreak) -> str:
    return found.transaction_id.removeprefix(SETTLEMENT) if found.transaction_id.startswith(SETTLEMENT) else ""


async def _note(tx: Transaction, break_: UUID, staff: Staff, action: str, detail: Mapping[str, str]) -> None:
    event = Event(subject=break_, actor=staff.actor, action=action, detail={**detail, "by": staff.name})
    await audit.record(tx, events=[event])
