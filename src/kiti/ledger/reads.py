"""Reading the ledger."""

from uuid import UUID

import msgspec

from kiti.db import Reader, load
from kiti.ledger.model import Balance, Overdrawn, Posted, UncoveredCharge

sql = load("kiti.ledger")


async def balances(reader: Reader) -> list[Balance]:
    """Every account's balance."""
    return await reader.many(sql.balances, Balance)


async def uncovered_charges(reader: Reader) -> list[UncoveredCharge]:
    """Up to 100 charges that the ledger tells differently; there should be none."""
    return await reader.many(sql.uncovered_charges, UncoveredCharge)


class _Liability(msgspec.Struct, frozen=True):
    account: str
    amount: int


async def liabilities(reader: Reader, *, booking: UUID, currency: str) -> dict[UUID, int]:
    """What is still owed to the travellers of a booking in a currency, by operator, in minor units."""
    rows = await reader.many(sql.liabilities, _Liability, booking=booking, currency=currency)
    return {UUID(row.account.partition(":")[2]): row.amount for row in rows}


async def posted_below(reader: Reader, *, booking: UUID) -> list[Posted]:
    """The first 200 entries below a booking, the oldest first."""
    return await reader.many(sql.posted_below, Posted, booking=booking)


class _Owed(msgspec.Struct, frozen=True):
    account: str
    amount: int


async def owed_below(reader: Reader, *, booking: UUID, currency: str) -> dict[str, int]:
    """What is owed below a booking, by account: to travellers as trips to come, to operators for departed ones."""
    rows = await reader.many(sql.owed_below, _Owed, booking=booking, currency=currency)
    return {row.account: row.amount for row in rows}


async def overdrawn(reader: Reader) -> list[Overdrawn]:
    """Up to 100 operators whose liability below a booking is less than nothing; there should be none."""
    return await reader.many(sql.overdrawn, Overdrawn)
