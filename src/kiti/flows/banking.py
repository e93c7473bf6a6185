"""What a gateway paid into our bank account: its settlements, fetched again and again, posted to the ledger once.

A settlement is posted line by line below the bookings, a page of lines in each transaction, and what is of no booking
below the settlement itself, last. Each line that is ours leaves nothing of its transaction in `gateway_clearing`. Who
is killed in the middle runs again: what is posted is written in `settled_item`, whose keys refuse it a second time.

A transaction, refund or dispute that became known only after its settlement was posted is posted then, and taken out
of what stands below the settlement.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from kiti.banking import actions as banking
from kiti.banking import reads as banking_reads
from kiti.banking.model import (
    Candidate,
    Item,
    Line,
    NewSettlement,
    Settlement,
    figures,
    held_back_by,
)
from kiti.core.errors import KitiError
from kiti.core.money import round_to_minor
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.progress import advance
from kiti.gateways.gateway import GatewaySettlement, Settlements, Unknown
from kiti.ledger import actions as ledger
from kiti.ledger.model import Entry, Posting, bank, gateway_fee, gateway_settled, settlement_rest

LINES_AT_ONCE = 500
# How long a refund or a dispute may wait until a settlement holds it back.
CANDIDATE_DAYS = 120
MOST_CANDIDATES = 5000


class SettlementsSilent(KitiError):
    """The gateway did not tell what it paid into the bank."""


async def import_settlements(house: House, name: str, gateway: Settlements, *, first: date, last: date) -> int:
    """Fetch the settlements of these days and post those that are paid; how many there are.

    Raises SettlementsSilent. Twice at once does no harm.
    """
    told = await gateway.settlements_between(first, last)
    if isinstance(told, Unknown):
        raise SettlementsSilent(told.reason)
    for one in told:
        await take_settlement(house, name, one)
        advance(processed=1)
    return len(told)


async def take_settlement(house: House, name: str, told: GatewaySettlement) -> None:
    """Write one settlement down; once it is paid, post whatever of it is not posted yet."""
    new = NewSettlement(
        settlement_id=told.settlement_id,
        gateway=name,
        day=told.day,
        currency=told.currency,
        gross_exact=told.gross_exact,
        fee_exact=told.fee_exact,
        refund_exact=told.refund_exact,
        chargeback_exact=told.chargeback_exact,
        cost_exact=told.cost_exact,
        payout_exact=told.payout_exact,
        net_exact=told.net_exact,
        is_paid=told.is_paid,
    )
    lines = _lines(told)
    pages = [lines[start : start + LINES_AT_ONCE] for start in range(0, len(lines), LINES_AT_ONCE)]
    await house.db.run(lambda tx: banking.put_settlement(tx, settlement=new))
    for page in pages:
        await _take_page(house, new, page)
    if told.is_paid:
        await house.db.run(lambda tx: _post_rest(tx, new, told, lines))


def _lines(told: GatewaySettlement) -> list[Line]:
    """Each transaction once: a gateway that lists one twice in a settlement has paid both parts."""
    found: dict[str, Line] = {}
    for one in told.lines:
        line = Line(
            transaction_id=one.transaction_id,
            reference=one.reference,
            gross_exact=one.gross_exact,
            fee_exact=one.fee_exact,
        )
        before = found.get(line.transaction_id)
        if before is not None:
            line = Line(
                transaction_id=line.transaction_id,
                reference=line.reference,
                gross_exact=before.gross_exact + line.gross_exact,
                fee_exact=before.fee_exact + line.fee_exact,
            )
        found[line.transaction_id] = line
    return [found[transaction] for transaction in sorted(found)]


async def _take_page(house: House, new: NewSettlement, lines: Sequence[Line]) -> None:
    async def work(tx: Transaction) -> None:
        await banking.put_lines(tx, settlement=new, lines=lines)
        if new.is_paid:
            await _post_lines(tx, new, lines)

    await house.db.run(work)


async def _post_lines(tx: Transaction, new: NewSettlement, lines: Sequence[Line]) -> None:
    settlement = await banking.lock_settlement(tx, gateway=new.gateway, settlement_id=new.settlement_id)
    by_transaction = {line.transaction_id: line for line in lines}
    charges = await banking_reads.charges_to_settle(tx, settlement=settlement, transactions=list(by_transaction))
    items, postings = [], []
    for charge in charges:
        line = by_transaction[charge.transaction_id]
        event = f"gateway_settled:{new.gateway}:{new.settlement_id}:{charge.transaction_id}"
        entries = gateway_settled(new.gateway, net=line.net, borne=_borne(line, charge.amount))
        items.append(Item(booking=charge.booking_id, kind="charge", item_id=charge.transaction_id, amount=line.net))
        postings += _below(settlement, charge.booking_id, event, entries, moved=line.net)
    await _post(tx, settlement, items, postings)


def _borne(line: Line, amount: int) -> int:
    """A fee that the traveller paid on top of the amount, and so was no cost of ours."""
    return round_to_minor(line.fee_exact) if line.fee_exact and line.gross_exact == amount + line.fee_exact else 0


async def _post_rest(tx: Transaction, new: NewSettlement, told: GatewaySettlement, lines: Sequence[Line]) -> None:
    """What the settlement has held back, and what of it is nobody's; with that it is posted."""
    await banking.serialise_attribution(tx, gateway=new.gateway)
    settlement = await banking.lock_settlement(tx, gateway=new.gateway, settlement_id=new.settlement_id)
    parts = figures(settlement, lines)
    refund_rest, dispute_rest = parts.refunds, parts.chargebacks
    if settlement.is_posted:
        refund_rest, dispute_rest = settlement.refund_rest, settlement.dispute_rest
        if not refund_rest and not dispute_rest:
            return
    refunds = held_back_by(
        refund_rest, await _candidates(tx, settlement, banking_reads.unsettled_refunds), named=told.refund_ids
    )
    disputes = held_back_by(
        dispute_rest, await _candidates(tx, settlement, banking_reads.unsettled_disputes), named=told.dispute_ids
    )
    items, postings = [], []
    for one in (*refunds, *disputes):
        net = -one.held_back
        entries = gateway_settled(new.gateway, net=net)
        items.append(Item(booking=one.booking_id, kind=one.kind, item_id=one.item_id, amount=net))
        postings += _below(settlement, one.booking_id, f"{one.kind}_settled:{one.item_id}", entries, moved=net)
    await _post(tx, settlement, items, postings)
    refund_rest -= sum(one.held_back for one in refunds)
    dispute_rest -= sum(one.held_back for one in disputes)
    if not settlement.is_posted:
        ours = sum((await banking_reads.settled_in(tx, settlement=settlement)).values())
        unknown = parts.lines - ours - refund_rest - dispute_rest + parts.contradiction
        entries = [
            *settlement_rest(new.gateway, unknown=unknown, fraction=parts.rounding),
            *_costs(new.gateway, parts.costs),
        ]
        event = f"gateway_settled:{new.gateway}:{new.settlement_id}"
        await _post(tx, settlement, [], _below(settlement, settlement.id, event, entries))
    await banking.mark_posted(
        tx,
        settlement=settlement,
        refund_rest=refund_rest,
        dispute_rest=dispute_rest,
        contradiction=parts.contradiction,
    )


def _costs(gateway: str, amount: int) -> list[Entry]:
    """What the gateway kept for no payment; below zero: it gave some of that back. Payouts are in the books already."""
    if amount < 0:
        return [Entry(debit=bank(gateway), credit=gateway_fee(gateway), amount=-amount)]
    return [Entry(debit=gateway_fee(gateway), credit=bank(gateway), amount=amount)] if amount else []


async def _candidates(
    tx: Transaction, settlement: Settlement, ask: Callable[..., Awaitable[list[Candidate]]]
) -> list[Candidate]:
    since = datetime.combine(settlement.day, time(), UTC) - timedelta(days=CANDIDATE_DAYS)
    return await ask(tx, gateway=settlement.gateway, currency=settlement.currency, since=since, limit=MOST_CANDIDATES)


def _below(
    settlement: Settlement, booking: UUID, event: str, entries: Sequence[Entry], *, moved: int = 0
) -> list[Posting]:
    """The posting, if there is anything to post; and what it takes out of a settlement that is posted already."""
    postings = [Posting(booking=booking, event=event, currency=settlement.currency, entries=entries)]
    if settlement.is_posted:
        taken = gateway_settled(settlement.gateway, net=-moved)
        postings.append(Posting(booking=settlement.id, event=event, currency=settlement.currency, entries=taken))
    return [posting for posting in postings if posting.entries]


async def _post(tx: Transaction, settlement: Settlement, items: Sequence[Item], postings: Sequence[Posting]) -> None:
    if items:
        await banking.settle_items(tx, settlement=settlement, items=items)
    if postings:
        await ledger.post_many(tx, postings=postings)
