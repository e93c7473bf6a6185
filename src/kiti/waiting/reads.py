"""Reading waiting rooms."""

from datetime import datetime

import msgspec

from kiti.db import Reader, load
from kiti.waiting.model import Room

sql = load("kiti.waiting")


class _Now(msgspec.Struct, frozen=True):
    now: datetime


async def now(reader: Reader) -> datetime:
    """The clock that decides who is admitted."""
    return (await reader.one(sql.now, _Now)).now


async def open_rooms(reader: Reader) -> list[Room]:
    """Every open room with its trips."""
    return await reader.many(sql.open_rooms, Room)
