"""The third and the fourth book: what gateways settled and what the bank says of it, against the ledger.

`flows.reconcile` compares charge by charge with the gateway's own list. Here each charge must also be in a settlement,
once, with the same amount and fee; what a settlement pays must be ours; a settlement must reach the bank; and a settled
transaction must leave nothing in `gateway_clearing`. Everything that is not so is a named break.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import msgspec

from kiti.banking import reads as banking_reads
from kiti.banking.reads import Clearing, DifferingLine, SettledTwice, Standing, UnknownLine, Unsettled
from kiti.core.money import round_to_minor
from kiti.db import Reader
from kiti.flows.bank_statements import REACHES_BANK_DAYS, match_bank_lines
from kiti.flows.banking import import_settlements
from kiti.flows.house import House
from kiti.gateways.gateway import Settlements
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import Break, BreakKind, Sides

SIDES: tuple[Sides, ...] = ("ledger_settlement", "settlement_bank")
# Gateways settle within some working days; what is older is missed.
UNSETTLED_DAYS = 7
# Settlements are fetched this far back at least: one that was promised is paid some days later.
USUAL_DAYS = 14
MOST_DAYS = 180
MOST_OF_A_KIND = 1000


async def compare_settlements(house: House, name: str, gateway: Settlements, *, days: int) -> tuple[int, int]:
    """Fetch, post and compare what a gateway settled in the last days; how many settlements, and how many breaks.

    Days of which something is open are looked at again, however old. Raises SettlementsSilent: then nothing is closed.
    """
    today = datetime.now(UTC).date()
    async with house.db.reader() as reader:
        bound = today - timedelta(days=MOST_DAYS)
        still_open = await payment_reads.days_with_breaks(reader, gateway=name, sides=SIDES, first=bound)
    first = min([today - timedelta(days=max(days, USUAL_DAYS)), *still_open])
    number = await import_settlements(house, name, gateway, first=first, last=today)
    await match_bank_lines(house, gateway=name, first=first)
    async with house.db.reader() as reader:
        found = await find_breaks(reader, gateway=name, first=first, today=today)
    if found.is_all:
        await house.db.run(lambda tx: payments.put_breaks_of_sides(tx, gateway=name, sides=SIDES, breaks=found.breaks))
    else:
        await house.db.run(lambda tx: payments.add_breaks(tx, gateway=name, breaks=found.breaks))
    return number, len(found.breaks)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison has found; `is_all` False: there may be more, so none of those known may be closed."""

    breaks: Sequence[Break]
    is_all: bool


async def find_breaks(reader: Reader, *, gateway: str, first: date, today: date) -> Found:
    """Where ledger, settlements and bank differ about what was settled since a day, or should have been."""
    most = MOST_OF_A_KIND
    unknown = await banking_reads.unknown_lines(reader, gateway=gateway, first=first, limit=most)
    differing = await banking_reads.differing_lines(reader, gateway=gateway, first=first, limit=most)
    twice = await banking_reads.settled_twice(reader, gateway=gateway, first=first, limit=most)
    missing = await banking_reads.unsettled_charges(
        reader,
        gateway=gateway,
        since=datetime.combine(first, time(), UTC),
        until=datetime.combine(today - timedelta(days=UNSETTLED_DAYS), time(), UTC),
        limit=most,
    )
    uncleared = await banking_reads.clearing(reader, gateway=gateway, first=first, limit=most)
    standings = await banking_reads.standings(reader, gateway=gateway, first=first, limit=most)
    breaks = [
        *map(_unknown, unknown),
        *(found for one in differing for found in _differing(one)),
        *map(_twice, twice),
        *map(_unsettled, missing),
        *(found for one in standings for found in _about_settlement(one, today)),
    ]
    named = {one.transaction_id for one in breaks}
    late = today - timedelta(days=USUAL_DAYS)
    breaks += [_uncleared(one) for one in uncleared if one.transaction_id not in named and _is_uncleared(one, late)]
    lists = (unknown, differing, twice, missing, uncleared, standings)
    return Found(breaks=breaks, is_all=all(len(rows) < most for rows in lists))


def _unknown(one: UnknownLine) -> Break:
    detail = (
        f"Settlement {one.settlement_id} pays {one.gross_exact} {one.currency} (minor units) for {one.reference!r};"
        " we have no charge."
    )
    return Break(
        transaction_id=one.transaction_id,
        kind="missing_ours",
        sides="ledger_settlement",
        day=one.day,
        booking_id=None,
        detail=detail,
    )


def _differing(one: DifferingLine) -> list[Break]:
    found = []
    if one.is_amount:
        told = f"{one.gross_exact} {one.told_currency}"
        detail = f"Settlement {one.settlement_id} tells {told}, we {one.amount} {one.currency} (minor units)."
        found.append(_of_charge(one, "amount", detail))
    if one.told_fee != one.fee_exact:
        detail = f"Settlement {one.settlement_id} takes a fee of {one.told_fee}, we wrote down {one.fee_exact}."
        found.append(_of_charge(one, "fee", detail))
    return found


def _twice(one: SettledTwice) -> Break:
    return _of_charge(one, "duplicate", f"It is in several settlements: {one.settlements}.")


def _unsettled(one: Unsettled) -> Break:
    day = one.captured_at.date()
    return Break(
        transaction_id=one.transaction_id,
        kind="missing_theirs",
        sides="ledger_settlement",
        day=day,
        booking_id=one.booking_id,
        detail=f"Unsettled: taken on {day}, and in no settlement after {UNSETTLED_DAYS} days.",
    )


def _is_uncleared(one: Clearing, late: date) -> bool:
    """Whether more or less stands in clearing than a coming settlement will take, or it should have come by now."""
    return one.clearing != one.on_the_way or one.day < late


def _uncleared(one: Clearing) -> Break:
    if one.clearing == one.on_the_way:
        detail = f"{one.clearing} {one.currency} (minor units) of refunds and disputes are in no settlement."
        return _of_charge(one, "missing_theirs", detail)
    detail = f"It was settled, and {one.clearing} {one.currency} (minor units) stand in gateway_clearing still."
    return _of_charge(one, "amount", detail)


def _about_settlement(one: Standing, today: date) -> list[Break]:
    net = round_to_minor(one.net_exact)
    found: list[Break] = []
    if one.contradiction:
        detail = f"Its own figures differ from one another by {one.contradiction} {one.currency} (minor units)."
        found.append(_of_settlement(one, "amount", "ledger_settlement", detail))
    elif one.refund_rest or one.dispute_rest:
        detail = (
            f"It holds back {one.refund_rest} for refunds and {one.dispute_rest} for disputes that are none of ours"
            f" ({one.currency}, minor units)."
        )
        found.append(_of_settlement(one, "amount", "ledger_settlement", detail))
    if not one.is_paid and one.day < today - timedelta(days=UNSETTLED_DAYS):
        found.append(_of_settlement(one, "status", "ledger_settlement", "The gateway has not paid it yet."))
    if one.bank_lines > 1:
        detail = f"{one.bank_lines} lines of the bank's are about it."
        found.append(_of_settlement(one, "duplicate", "settlement_bank", detail))
    elif one.bank_lines == 1 and one.bank_amount != net:
        detail = f"The bank got {one.bank_amount} {one.currency}, the gateway tells {net} (minor units)."
        found.append(_of_settlement(one, "amount", "settlement_bank", detail))
    elif one.bank_lines == 0 and _should_be_in_bank(one, net):
        detail = f"{net} {one.currency} (minor units) were paid on {one.day}, and no line of the bank's is about it."
        found.append(_of_settlement(one, "missing_theirs", "settlement_bank", detail))
    return found


def _should_be_in_bank(one: Standing, net: int) -> bool:
    """Only where the bank's lines were imported that far; and nothing to pay leaves no line."""
    reaches = one.day + timedelta(days=REACHES_BANK_DAYS)
    return one.is_paid and net > 0 and one.statement_day is not None and one.statement_day >= reaches


def _of_charge(one: DifferingLine | SettledTwice | Clearing, kind: BreakKind, detail: str) -> Break:
    return Break(
        transaction_id=one.transaction_id,
        kind=kind,
        sides="ledger_settlement",
        day=one.day,
        booking_id=one.booking_id,
        detail=detail,
    )


def _of_settlement(one: Standing, kind: BreakKind, sides: Sides, detail: str) -> Break:
    return Break(
        transaction_id=f"settlement {one.settlement_id}",
        kind=kind,
        sides=sides,
        day=one.day,
        booking_id=None,
        detail=detail,
    )
