"""Accounts and entries. An account is `name:owner`; an entry is one debit and one credit of one amount."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from kiti.core.money import Whose, round_to_minor, share_out

# Whom money is owed to or by: an operator, by its id, or the platform itself.
Owner = UUID | Literal["platform"]
PLATFORM: Literal["platform"] = "platform"
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
    """What we owe travellers for trips of an operator that have not departed; the platform, for its fees of them."""
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


def refund_requested(gateway: str, *, shares: Mapping[Any, int]) -> list[Entry]:
    """What was owed as a trip is now owed as money."""
    return [
        Entry(debit=ticket_liability(owner), credit=refund_clearing(gateway), amount=amount)
        for owner, amount in shares.items()
        if amount > 0
    ]


def refund_done(gateway: str, *, amount: int) -> list[Entry]:
    """The gateway has paid the traveller back."""
    return [Entry(debit=refund_clearing(gateway), credit=gateway_clearing(gateway), amount=amount)]


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
