"""What Stripe paid into our bank account: payouts, and the balance transactions that went out with each.

Source: docs.stripe.com/payouts/reconciliation and the references of payouts and balance transactions. Amounts are
signed: a refund is below zero, a payout has a balance transaction of its own that is the whole below zero. Only for
payouts that Stripe makes by its schedule does it tell the transactions, and all of them once `reconciliation_status` is
`completed`; one that was made by hand has no lines here. A payment may be settled in another currency than it was made
in; the figures are in that of the payout.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import msgspec

from kiti.core.money import UnknownCurrency
from kiti.gateways.gateway import GatewaySettlement, SettlementLine, Unknown
from kiti.gateways.reading import printable
from kiti.gateways.stripe import wire
from kiti.gateways.stripe.api import Api, Silence

PAYOUT = re.compile(r"po_[A-Za-z0-9_]{1,200}", re.ASCII)
SOURCE = "source"
MOST_PAGES = 50
MOST_PAGES_OF_A_PAYOUT = 5000

# docs.stripe.com/reports/balance-transaction-types. What is in none of these counts as nothing here, so that the net
# amount contradicts the parts, and a person looks at it.
TAKEN = {"charge", "payment"}
REFUNDED = {"refund", "payment_refund", "refund_failure", "payment_failure_refund"}
KEPT = {"stripe_fee", "stripe_fx_fee", "tax_fee"}
DISPUTE = "dispute"
TRANSFER = "transfer"


class Payout(msgspec.Struct, frozen=True, kw_only=True):
    """Money that went to our bank account; below zero: Stripe took it from there."""

    id: str
    amount: int
    currency: str
    arrival_date: int
    status: str
    automatic: bool = True
    reconciliation_status: str = "completed"

    def is_whole(self) -> bool:
        """Whether it is in the bank, and all that went out with it is told."""
        return self.status == "paid" and self.reconciliation_status != "in_progress"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What moved the balance: a charge, a refund, a dispute, a transfer, a payout."""

    id: str
    object: str
    payment_intent: str | None = None
    metadata: dict[str, str] | None = None


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """A balance transaction with its source expanded; `net` is `amount` less `fee`."""

    id: str
    type: str
    amount: int
    fee: int
    net: int
    currency: str
    source: Source | str | None = None

    def of(self, kind: str) -> bool:
        """Whether it is about an object of this kind."""
        return isinstance(self.source, Source) and self.source.object == kind


async def settlements_between(api: Api, arrival: Mapping[str, int]) -> list[GatewaySettlement] | Unknown:
    """All payouts that arrive in a span of days, with their payments; one that cannot be read spoils the answer."""
    payouts = await api.rows(api.v1.payouts.list_async, {"arrival_date": dict(arrival)}, Payout, most_pages=MOST_PAGES)
    if isinstance(payouts, Silence):
        return payouts.unknown()
    found = []
    for payout in payouts:
        movements = await _movements(api, payout)
        told = movements if isinstance(movements, Unknown) else _settlement(payout, movements)
        if isinstance(told, Unknown):
            return told
        found.append(told)
    return found


async def _movements(api: Api, payout: Payout) -> list[Movement] | Unknown:
    if PAYOUT.fullmatch(payout.id) is None:
        return Unknown(reason="a payout whose id is none of Stripe's")
    if not payout.automatic:
        return []
    asked = {"payout": payout.id, "expand": [f"data.{SOURCE}"]}
    rows = await api.rows(api.v1.balance_transactions.list_async, asked, Movement, most_pages=MOST_PAGES_OF_A_PAYOUT)
    return rows.unknown() if isinstance(rows, Silence) else rows


def _settlement(payout: Payout, movements: Sequence[Movement]) -> GatewaySettlement | Unknown:
    currency = payout.currency
    taken = [row for row in movements if row.type in TAKEN]
    refunded = [row for row in movements if row.type in REFUNDED]
    disputed = [row for row in movements if row.type == "adjustment" and row.of(DISPUTE)]
    kept = [row for row in movements if row.type in KEPT]
    try:
        return GatewaySettlement(
            settlement_id=payout.id,
            day=datetime.fromtimestamp(payout.arrival_date, UTC).date(),
            currency=currency.upper(),
            gross_exact=_sum(taken, "amount", currency),
            fee_exact=_sum(taken, "fee", currency),
            refund_exact=-_sum(refunded, "amount", currency),
            chargeback_exact=-_sum(disputed, "amount", currency),
            cost_exact=_sum([*refunded, *disputed], "fee", currency) - _sum(kept, "net", currency),
            payout_exact=-_sum([row for row in movements if _is_our_transfer(row)], "net", currency),
            net_exact=wire.signed_exact(payout.amount, currency),
            is_paid=payout.is_whole(),
            lines=tuple(_line(row) for row in taken),
            refund_ids=_held_back(refunded),
            dispute_ids=_held_back(disputed),
        )
    except (ValueError, UnknownCurrency, OverflowError) as error:
        return Unknown(reason=f"payout {payout.id}: {printable(str(error))}")


def _line(row: Movement) -> SettlementLine:
    source = row.source
    if not isinstance(source, Source) or not source.payment_intent:
        raise ValueError(f"{row.id} does not tell its payment")
    return SettlementLine(
        transaction_id=source.payment_intent,
        reference=printable((source.metadata or {}).get(wire.REFERENCE, "")),
        gross_exact=wire.signed_exact(row.amount, row.currency),
        fee_exact=wire.signed_exact(row.fee, row.currency),
    )


def _is_our_transfer(row: Movement) -> bool:
    """A payout of ours to a connected account, which is in our books; one that was made by hand is not."""
    source = row.source
    is_ours = isinstance(source, Source) and bool((source.metadata or {}).get(wire.REFERENCE))
    return row.type == TRANSFER and is_ours


def _held_back(rows: Sequence[Movement]) -> tuple[str, ...]:
    """The refunds or disputes that moved the balance, less those that came back in the same payout."""
    moved: dict[str, int] = defaultdict(int)
    for row in rows:
        moved[row.source.id if isinstance(row.source, Source) else str(row.source)] += row.amount
    return tuple(identity for identity, amount in moved.items() if amount)


def _sum(rows: Sequence[Movement], name: Literal["amount", "fee", "net"], currency: str) -> Decimal:
    """In minor units; raises ValueError for what is not in the payout's currency."""
    strange = next((row for row in rows if row.currency != currency), None)
    if strange is not None:
        raise ValueError(f"{strange.id} is in {strange.currency}")
    return wire.signed_exact(sum(getattr(row, name) for row in rows), currency)
