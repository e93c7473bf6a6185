"""What is free and what is not."""

from uuid import UUID

from kiti.db import Reader, load
from kiti.seats.model import Block, HeldSeat, Taken

sql = load("kiti.seats")


async def taken(reader: Reader, *, trip: UUID, from_seq: int, to_seq: int) -> list[Taken]:
    """The seats that somebody holds or has bought on any leg between two stops of a trip."""
    return await reader.many(sql.taken, Taken, trip=trip, from_seq=from_seq, to_seq=to_seq)


async def held(reader: Reader, *, trip: UUID) -> list[HeldSeat]:
    """Every seat-leg of a trip that somebody has, and who."""
    return await reader.many(sql.held_on_trip, HeldSeat, trip=trip)


async def blocks(reader: Reader, *, trip: UUID) -> list[Block]:
    """What staff have taken off sale on a trip and not put back, the oldest first."""
    return await reader.many(sql.blocks_on_trip, Block, trip=trip)
