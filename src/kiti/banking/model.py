"""Settlements, their lines, what of ours they settle, and bank statements. Pure."""

from collections.abc import Collection, Sequence
from datetime import date
from decimal import Decimal
from typing import Literal
from uuid import UUID

import msgspec

from kiti.core.money import round_to_minor

ItemKind = Literal["charge", "refund", "dispute", "dispute_return"]

# Sums that are looked at, at most, to find which refunds a settlement has held back.
MOST_SUMS = 5_000


class NewSettlement(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway tells of a settlement, in minor units and possibly fractions of one."""

    settlement_id: str
    gateway: str
    day: date
    currency: str
    gross_exact: Decimal
    fee_exact: Decimal
    refund_exact: Decimal
    chargeback_exact: Decimal
    net_exact: Decimal
    is_paid: bool
    cost_exact: Decimal = Decimal(0)
    payout_exact: Decimal = Decimal(0)


class Settlement(NewSettlement, frozen=True, kw_only=True):
    """The same as written down; the ledger posts below `id`. Rests are what was held back for nothing of ours."""

    id: UUID
    is_posted: bool
    refund_rest: int
    dispute_rest: int
    contradiction: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction within a settlement."""

    transaction_id: str
    reference: str
    gross_exact: Decimal
    fee_exact: Decimal

    @property
    def net(self) -> int:
        """What came into the bank for it, in whole minor units: each part rounded as a capture rounds it."""
        return round_to_minor(self.gross_exact) - round_to_minor(self.fee_exact)


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """Something of ours that a settlement settles; `amount` came into the bank, or went out of it if below zero."""

    booking: UUID
    kind: ItemKind
    item_id: str
    amount: int


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A refund or a dispute of ours that no settlement has settled; `held_back` is below zero for what comes back."""

    booking_id: UUID
    kind: ItemKind
    item_id: str
    gateway_id: str
    held_back: int


class BankLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a bank statement, in minor units; `digest` is the same for the same line of the same day."""

    digest: bytes
    day: date
    amount: int
    currency: str
    reference: str
    text: str


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How a settlement's net comes about, in whole minor units.

    net = lines - refunds - chargebacks - costs - payouts + contradiction + rounding. `costs` is what the gateway kept
    for no payment, `payouts` what it sent to operators; `contradiction` by how much its own figures differ from one
    another, `rounding` the fractions of minor units that nobody can pay.
    """

    net: int
    lines: int
    refunds: int
    chargebacks: int
    costs: int
    payouts: int
    contradiction: int
    rounding: int


def figures(settlement: NewSettlement, lines: Sequence[Line]) -> Figures:
    """Take a settlement apart so that its parts add up to what the bank gets."""
    of_lines = sum((line.gross_exact - line.fee_exact for line in lines), start=Decimal(0))
    less = settlement.refund_exact + settlement.chargeback_exact + settlement.cost_exact + settlement.payout_exact
    off = settlement.net_exact - (of_lines - less)
    contradiction = round_to_minor(off) if abs(off) >= 1 else 0
    net = round_to_minor(settlement.net_exact)
    whole = sum(line.net for line in lines)
    refunds, chargebacks = round_to_minor(settlement.refund_exact), round_to_minor(settlement.chargeback_exact)
    costs, payouts = round_to_minor(settlement.cost_exact), round_to_minor(settlement.payout_exact)
    return Figures(
        net=net,
        lines=whole,
        refunds=refunds,
        chargebacks=chargebacks,
        costs=costs,
        payouts=payouts,
        contradiction=contradiction,
        rounding=net - (whole - refunds - chargebacks - costs - payouts + contradiction),
    )


def held_back_by(total: int, candidates: Sequence[Candidate], *, named: Collection[str] = ()) -> list[Candidate]:
    """Which of `candidates`, the oldest first, make up what a settlement has held back.

    Those that the gateway has `named`, where it names them. Else the oldest that add up to `total`, else any that do;
    none if none are found: then a person must look. Gateways settle in order, so the oldest are nearly always the ones.
    """
    if named:
        return [one for one in candidates if one.gateway_id in named]
    if total == 0:
        return []
    reached = 0
    for number, one in enumerate(candidates, 1):
        reached += one.held_back
        if reached == total:
            return list(candidates[:number])
    sums: dict[int, tuple[Candidate, ...]] = {0: ()}
    for one in candidates:
        for made, parts in list(sums.items()):
            sums.setdefault(made + one.held_back, (*parts, one))
        if total in sums or len(sums) > MOST_SUMS:
            break
    return list(sums.get(total, ()))
