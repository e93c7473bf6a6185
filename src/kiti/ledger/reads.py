"""Reading the ledger."""

from collections.abc import Sequence
from uuid import UUID

from kiti.db import Reader, load
from kiti.ledger.model import Balance, Overdrawn, UncoveredCharge
from kiti.ledger.standing import Line

sql = load("kiti.ledger")


async def balances(reader: Reader) -> list[Balance]:
    """Every account's balance."""
    return await reader.many(sql.balances, Balance)


async def uncovered_charges(reader: Reader) -> list[UncoveredCharge]:
    """Up to 100 charges that the ledger tells differently; there should be none."""
    return await reader.many(sql.uncovered_charges, UncoveredCharge)


async def lines_of(reader: Reader, *, bookings: Sequence[UUID]) -> dict[UUID, list[Line]]:
    """All entries below these bookings, in the order in which they were written; a dozen or so each."""
    found: dict[UUID, list[Line]] = {booking: [] for booking in bookings}
    for line in await reader.many(sql.lines_of, Line, bookings=list(bookings)):
        found[line.booking_id].append(line)
    return found


async def overdrawn(reader: Reader) -> list[Overdrawn]:
    """Up to 100 operators whose liability below a booking is less than nothing; there should be none."""
    return await reader.many(sql.overdrawn, Overdrawn)
