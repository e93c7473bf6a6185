"""Reading the ledger."""

from kiti.db import Reader, load
from kiti.ledger.model import Balance, UncoveredCharge

sql = load("kiti.ledger")


async def balances(reader: Reader) -> list[Balance]:
    """Every account's balance."""
    return await reader.many(sql.balances, Balance)


async def uncovered_charges(reader: Reader) -> list[UncoveredCharge]:
    """Up to 100 charges that the ledger tells differently; there should be none."""
    return await reader.many(sql.uncovered_charges, UncoveredCharge)
