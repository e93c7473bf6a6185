"""Reading settlements and bank statements, and where they differ from our books."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from kiti.banking.model import BankLine, Candidate, Settlement
from kiti.db import Reader, load

sql = load("kiti.banking")


class ToSettle(msgspec.Struct, frozen=True, kw_only=True):
    """A charge of ours that a settlement has paid, and that is not posted yet."""

    booking_id: UUID
    transaction_id: str
    amount: int


class UnknownLine(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that was paid into the bank and is none of our charges."""

    transaction_id: str
    settlement_id: str
    day: date
    currency: str
    reference: str
    gross_exact: Decimal


class DifferingLine(msgspec.Struct, frozen=True, kw_only=True):
    """A charge of which a settlement tells another amount, currency or fee; minor units."""

    transaction_id: str
    settlement_id: str
    day: date
    told_currency: str
    booking_id: UUID
    currency: str
    gross_exact: Decimal
    amount: int
    told_fee: Decimal
    fee_exact: Decimal

    @property
    def is_amount(self) -> bool:
        """Whether it is the amount that differs: more than a fee that the traveller has borne."""
        is_told_so = self.gross_exact in {Decimal(self.amount), self.amount + self.told_fee}
        return not is_told_so or self.told_currency != self.currency


class SettledTwice(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction in several settlements."""

    transaction_id: str
    booking_id: UUID | None
    day: date
    settlements: str


class Unsettled(msgspec.Struct, frozen=True, kw_only=True):
    """A charge in no settlement."""

    transaction_id: str
    booking_id: UUID
    captured_at: datetime


class Clearing(msgspec.Struct, frozen=True, kw_only=True):
    """What a settled transaction still has in gateway_clearing, and what of it a coming settlement will take away."""

    booking_id: UUID
    transaction_id: str
    day: date
    currency: str
    clearing: int
    on_the_way: int


class Standing(Settlement, frozen=True, kw_only=True):
    """A settlement and what the bank says of it; `statement_day` is the newest day that any bank line is of."""

    bank_lines: int
    bank_amount: int
    statement_day: date | None


class SettledLine(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction as a settlement tells it."""

    transaction_id: str
    settlement_id: str
    day: date
    currency: str
    is_paid: bool
    gross_exact: Decimal
    fee_exact: Decimal


class _Settled(msgspec.Struct, frozen=True):
    item_id: str
    amount: int


async def settlement(reader: Reader, *, gateway: str, settlement_id: str) -> Settlement | None:
    """A settlement by the gateway's id."""
    return await reader.maybe(sql.settlement, Settlement, gateway=gateway, settlement_id=settlement_id)


async def settlements_since(reader: Reader, *, gateway: str, first: date, limit: int) -> list[Settlement]:
    """Settlements of a gateway from a day on, the oldest first."""
    return await reader.many(sql.settlements_since, Settlement, gateway=gateway, first=first, limit=limit)


async def settled_in(reader: Reader, *, settlement: Settlement) -> dict[str, int]:
    """What was posted for each transaction of ours in a settlement."""
    rows = await reader.many(
        sql.settled_in, _Settled, gateway=settlement.gateway, settlement_id=settlement.settlement_id
    )
    return {row.item_id: row.amount for row in rows}


async def charges_to_settle(reader: Reader, *, settlement: Settlement, transactions: Sequence[str]) -> list[ToSettle]:
    """Our charges among these transactions that this settlement has not settled yet."""
    return await reader.many(
        sql.charges_to_settle,
        ToSettle,
        gateway=settlement.gateway,
        settlement_id=settlement.settlement_id,
        currency=settlement.currency,
        transactions=list(transactions),
    )


async def unsettled_refunds(
    reader: Reader, *, gateway: str, currency: str, since: datetime, limit: int
) -> list[Candidate]:
    """Refunds that a settlement may have held back, those first that are done, then the oldest."""
    return await reader.many(
        sql.unsettled_refunds, Candidate, gateway=gateway, currency=currency, since=since, limit=limit
    )


async def unsettled_disputes(
    reader: Reader, *, gateway: str, currency: str, since: datetime, limit: int
) -> list[Candidate]:
    """The same for disputes: amounts held back, and amounts won that come back; the oldest first."""
    return await reader.many(
        sql.unsettled_disputes, Candidate, gateway=gateway, currency=currency, since=since, limit=limit
    )


async def unknown_lines(reader: Reader, *, gateway: str, first: date, limit: int) -> list[UnknownLine]:
    """What was paid into the bank since a day for nothing of ours."""
    return await reader.many(sql.unknown_lines, UnknownLine, gateway=gateway, first=first, limit=limit)


async def differing_lines(reader: Reader, *, gateway: str, first: date, limit: int) -> list[DifferingLine]:
    """Charges that settlements since a day tell differently."""
    return await reader.many(sql.differing_lines, DifferingLine, gateway=gateway, first=first, limit=limit)


async def settled_twice(reader: Reader, *, gateway: str, first: date, limit: int) -> list[SettledTwice]:
    """Transactions in several settlements, the last of them since a day."""
    return await reader.many(sql.settled_twice, SettledTwice, gateway=gateway, first=first, limit=limit)


async def unsettled_charges(
    reader: Reader, *, gateway: str, since: datetime, until: datetime, limit: int
) -> list[Unsettled]:
    """Charges from `since` until before `until` that are in no settlement."""
    return await reader.many(sql.unsettled_charges, Unsettled, gateway=gateway, since=since, until=until, limit=limit)


async def clearing(reader: Reader, *, gateway: str, first: date, limit: int) -> list[Clearing]:
    """Transactions settled since a day that still have, or should have, something in gateway_clearing."""
    return await reader.many(sql.clearing, Clearing, gateway=gateway, first=first, limit=limit)


async def standings(reader: Reader, *, gateway: str, first: date, limit: int) -> list[Standing]:
    """Settlements since a day beside what the bank says of them."""
    return await reader.many(sql.standings, Standing, gateway=gateway, first=first, limit=limit)


async def lines_of(reader: Reader, *, gateway: str, transaction_id: str) -> list[SettledLine]:
    """The settlements that a transaction is in, up to 20."""
    return await reader.many(sql.lines_of, SettledLine, gateway=gateway, transaction_id=transaction_id)


async def unmatched_lines(reader: Reader, *, first: date, limit: int) -> list[BankLine]:
    """Money that came into the bank since a day and is no settlement's yet, the oldest first."""
    return await reader.many(sql.unmatched_lines, BankLine, first=first, limit=limit)


async def bank_lines_of(reader: Reader, *, gateway: str, settlement_id: str) -> list[BankLine]:
    """The bank's lines about a settlement, up to 20."""
    return await reader.many(sql.bank_lines_of, BankLine, gateway=gateway, settlement_id=settlement_id)
