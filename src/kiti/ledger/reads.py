"""Reading the ledger."""

from uuid import UUID

from kiti.db import Reader, load
from kiti.ledger.model import Balance, Posted, UncoveredCharge

sql = load("kiti.ledger")


async def of_booking(reader: Reader, *, booking: UUID) -> list[Posted]:
    """The transfers below a booking, oldest first."""
    return await reader.many(sql.of_booking, Posted, booking=booking)


async def balances(reader: Reader) -> list[Balance]:
    """Every account's balance."""
    return await reader.many(sql.balances, Balance)


async def uncovered_charges(reader: Reader) -> list[UncoveredCharge]:
    """Up to 100 charges that the ledger tells differently; there should be none."""
    return await reader.many(sql.uncovered_charges, UncoveredCharge)
