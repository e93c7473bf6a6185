"""Writing down what a booking costs besides its fares."""

from collections.abc import Sequence
from uuid import UUID

from kiti.db import Transaction, load
from kiti.fees.model import Part

sql = load("kiti.fees")


async def put(tx: Transaction, *, booking: UUID, parts: Sequence[Part]) -> None:
    """Put these parts in the place of those that the booking had."""
    await tx.execute(sql.drop, booking=booking)
    await tx.execute(
        sql.put,
        bookings=[part.booking_id for part in parts],
        operators=[part.operator_id for part in parts],
        kinds=[part.kind for part in parts],
        bearers=[part.borne_by for part in parts],
        amounts=[part.amount for part in parts],
    )
