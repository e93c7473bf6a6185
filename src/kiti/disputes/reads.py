"""Reading disputes."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from kiti.core.errors import NotFound
from kiti.db import Reader, load
from kiti.disputes.model import Dispute, DisputeLine, DisputeState, Step

sql = load("kiti.disputes")


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """How many disputes have no answer, until when the most urgent one needs one, and how many need a person."""

    unanswered: int
    attention: int
    answer_by: datetime | None


class _Id(msgspec.Struct, frozen=True):
    id: UUID


class _At(msgspec.Struct, frozen=True):
    at: datetime | None


async def by_id(reader: Reader, *, dispute: UUID) -> Dispute:
    """The dispute; raises NotFound."""
    found = await reader.maybe(sql.by_id, Dispute, id=dispute)
    if found is None:
        raise NotFound("There is no such dispute.")
    return found


async def of_booking(reader: Reader, *, booking: UUID) -> list[Dispute]:
    """The disputes about a booking's money, oldest first."""
    return await reader.many(sql.of_booking, Dispute, booking=booking)


async def due(reader: Reader, *, limit: int) -> list[UUID]:
    """Disputes whose answer may not have arrived."""
    return [row.id for row in await reader.many(sql.due, _Id, limit=limit)]


async def oldest_open(reader: Reader, *, gateway: str) -> datetime | None:
    """When we heard of the oldest dispute of a gateway that is open still."""
    return (await reader.one(sql.oldest_open, _At, gateway=gateway)).at


async def lines(
    reader: Reader, *, states: Collection[DisputeState], is_waiting: bool, limit: int, gateway: str = ""
) -> list[DisputeLine]:
    """Disputes in these states, of one gateway or (with "") of all, the most urgent first.

    `is_waiting` leaves out what nobody has to look at.
    """
    return await reader.many(
        sql.office_lines, _line, states=list(states), waiting=is_waiting, gateway=gateway, limit=limit
    )


async def history(reader: Reader, *, dispute: Dispute) -> list[Step]:
    """What has happened to it."""
    return await reader.many(sql.history, Step, booking=dispute.booking_id, dispute=dispute.id)


async def waiting(reader: Reader) -> Waiting:
    """How much waits for a person."""
    return await reader.one(sql.waiting, Waiting)


def _line(*, reference: str, **columns: Any) -> DisputeLine:
    return DisputeLine(dispute=Dispute(**columns), reference=reference)
