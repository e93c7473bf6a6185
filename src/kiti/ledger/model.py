"""Accounts and entries. An account is `name:owner`; an entry is one debit and one credit of one amount."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import msgspec

from kiti.core.money import Whose, round_to_minor, share_out

# Whose money it is: an operator's, by its id, the platform's own, or a traveller's that has bought nothing.
Owner = UUID | Literal["platform", "unspent"]
PLATFORM: Literal["platform"] = "platform"
UNSPENT: Literal["unspent"] = "unspent"
Shares = Mapping[UUID, int] | Mapping[Owner, int]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Move `amount` minor units from the account credited to the account debited."""

    debit: str
    credit: str
    amount: int


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of one event, below a booking or a settlement."""

    booking: UUID
    event: str
    currency: str
    entries: Sequence[Entry]


class Below(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it stands below a booking."""

    event: str
    debit: str
    credit: str
    amount: int
    currency: str
    posted_at: datetime


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """Debits minus credits of an account, in minor units."""

    account: str
    currency: str
    balance: int


class UncoveredCharge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge of which the ledger tells another amount."""

    booking_id: UUID
    transaction_id: str
    amount: int
    posted: int


class Overdrawn(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's liability below a booking that is less than nothing."""

    booking_id: UUID
    account: str
    currency: str
    amount: int


def gateway_clearing(gateway: str) -> str:
    """What a gateway owes us until it settles."""
    return f"gateway_clearing:{gateway}"


def gateway_fee(gateway: str) -> str:
    """What a gateway keeps for its service."""
    return f"gateway_fee:{gateway}"


def refund_clearing(gateway: str) -> str:
    """What is on its way back to travellers."""
    return f"refund_clearing:{gateway}"


def ticket_liability(owner: Owner | str) -> str:
    """What we owe travellers for trips of an operator that have not departed; the platform, for its fees of them.

    UNSPENT is what they paid beyond a price, twice, or for seats that they did not get: nobody's to earn.
    """
    return f"ticket_liability:{owner}"


def capture(gateway: str, *, shares: Shares, fee_exact: Decimal) -> list[Entry]:
    """A capture: the gateway owes us the gross, the traveller is owed the trips, the gateway keeps its fee.

    `shares` are the operators' and the platform's parts of the gross in minor units. A fee with a fraction of a minor
    unit is posted rounded half to even; what the gateway really keeps stays with the charge as an exact decimal.
    """
    entries = [
        Entry(debit=gateway_clearing(gateway), credit=ticket_liability(owner), amount=amount)
        for owner, amount in shares.items()
        if amount > 0
    ]
    fee = round_to_minor(fee_exact)
    if fee > 0:
        entries.append(Entry(debit=gateway_fee(gateway), credit=gateway_clearing(gateway), amount=fee))
    return entries


def accepted(*, shares: Shares) -> list[Entry]:
    """Money that had bought nothing fulfils its booking after all: a person has taken it for all that is due."""
    return [
        Entry(debit=ticket_liability(UNSPENT), credit=ticket_liability(owner), amount=amount)
        for owner, amount in shares.items()
        if amount > 0
    ]


def refund_done(gateway: str, *, amount: int) -> list[Entry]:
    """The gateway has paid the traveller back."""
    return [Entry(debit=refund_clearing(gateway), credit=gateway_clearing(gateway), amount=amount)]


def bank(gateway: str) -> str:
    """Our account that a gateway settles into and sends payouts from."""
    return f"bank:{gateway}"


def rounding(gateway: str) -> str:
    """Fractions of minor units that a gateway counts and nobody can pay."""
    return f"rounding:{gateway}"


def dispute_hold(gateway: str) -> str:
    """What a gateway holds back until a dispute is decided."""
    return f"dispute_hold:{gateway}"


def operator_payable(owner: Owner | str) -> str:
    """What we owe an operator for trips that have departed."""
    return f"operator_payable:{owner}"


def loss(gateway: str) -> str:
    """What nobody else bears."""
    return f"loss:{gateway}"


def gateway_settled(gateway: str, *, net: int, borne: int = 0) -> list[Entry]:
    """The gateway has paid `net` into the bank; below zero: it has held so much back.

    `borne` is a fee that the traveller paid on top: the capture took it for a cost of ours, and it is none.
    """
    entries = _moved(debit=bank(gateway), credit=gateway_clearing(gateway), amount=net)
    if borne > 0:
        entries.append(Entry(debit=gateway_clearing(gateway), credit=gateway_fee(gateway), amount=borne))
    return entries


def settlement_rest(gateway: str, *, unknown: int, fraction: int) -> list[Entry]:
    """What a settlement has paid for nothing that we know, and the fractions of minor units; both may be negative."""
    return [
        *_moved(debit=bank(gateway), credit=gateway_clearing(gateway), amount=unknown),
        *_moved(debit=bank(gateway), credit=rounding(gateway), amount=fraction),
    ]


def dispute_opened(gateway: str, *, amount: int) -> list[Entry]:
    """The gateway holds the amount back."""
    return [Entry(debit=dispute_hold(gateway), credit=gateway_clearing(gateway), amount=amount)]


def dispute_won(gateway: str, *, amount: int) -> list[Entry]:
    """The gateway owes us the amount again."""
    return [Entry(debit=gateway_clearing(gateway), credit=dispute_hold(gateway), amount=amount)]


def _moved(*, debit: str, credit: str, amount: int) -> list[Entry]:
    """One entry, the other way round for a negative amount, none for nothing."""
    if amount < 0:
        debit, credit = credit, debit
    return [Entry(debit=debit, credit=credit, amount=abs(amount))] if amount else []


def split_refund(amount: int, *, preferred: Mapping[Whose, int], left: Mapping[Whose, int]) -> dict[Whose, int]:
    """What each owner gives back of `amount`: as `preferred`, but nobody more than is `left` of theirs.

    What does not fit goes to those who have more left, in proportion. Requires amount <= sum(left).
    """
    assert 0 < amount <= sum(left.values()), "more would go back than is owed"
    shares: dict[Whose, int] = {owner: min(wanted, left.get(owner, 0)) for owner, wanted in preferred.items()}
    if sum(shares.values()) > amount:
        shares = share_out(amount, weights=shares)
    rest = amount - sum(shares.values())
    if rest:
        room = {owner: most - shares.get(owner, 0) for owner, most in left.items()}
        for owner, more in share_out(rest, weights=room).items():
            shares[owner] = shares.get(owner, 0) + more
    return {owner: share for owner, share in shares.items() if share}


def bear(amount: int, *, of_unspent: int, preferred: Mapping[str, int], left: Mapping[str, int]) -> dict[str, int]:
    """Who bears what goes back of a payment, by refund or by dispute: nobody more than is `left` of theirs.

    `of_unspent` of it has bought nothing and is nobody's but the traveller's; the rest is as `preferred`. What nobody
    has left is in nobody's share.
    """
    unspent = min(of_unspent, left.get(UNSPENT, 0))
    others = {owner: most for owner, most in left.items() if owner != UNSPENT}
    rest = min(amount - unspent, sum(others.values()))
    shares = split_refund(rest, preferred=preferred, left=others) if rest else {}
    return {**shares, UNSPENT: unspent} if unspent else shares
