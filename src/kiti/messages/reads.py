"""Reading messages."""

from kiti.db import Reader, load
from kiti.messages.model import Parked

sql = load("kiti.messages")

MOST_PARKED = 100


async def parked(reader: Reader) -> list[Parked]:
    """Up to MOST_PARKED messages of the last seven days that were given up, the latest first."""
    return await reader.many(sql.parked, Parked, limit=MOST_PARKED)
