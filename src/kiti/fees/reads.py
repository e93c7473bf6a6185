"""Reading what bookings cost besides their fares."""

from collections.abc import Sequence
from uuid import UUID

from kiti.db import Reader, load
from kiti.fees.model import Part

sql = load("kiti.fees")


async def of_bookings(reader: Reader, *, bookings: Sequence[UUID]) -> list[Part]:
    """The parts of these bookings; none for a booking that no fee applies to."""
    return await reader.many(sql.of_bookings, Part, bookings=bookings)
