"""Reading what bookings cost besides their fares, and by which rules."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from kiti.db import Reader, load
from kiti.fees.model import FeeRule, ListedRule, Part

sql = load("kiti.fees")


class _Clock(msgspec.Struct, frozen=True):
    now: datetime


async def of_bookings(reader: Reader, *, bookings: Sequence[UUID]) -> list[Part]:
    """The parts of these bookings as the attempt that paid was told, or the newest one; none where no fee applies."""
    return await reader.many(sql.of_bookings, Part, bookings=list(bookings))


async def of_payments(
    reader: Reader, *, bookings: Sequence[UUID], payments: Sequence[UUID]
) -> Callable[[], Awaitable[dict[UUID, list[Part]]]]:
    """Ask for the parts of attempts of these bookings; each attempt's own, when called for."""

    def row(payment_id: UUID, **part: Any) -> tuple[UUID, Part]:
        return payment_id, Part(**part)

    asked = await reader.ask(sql.of_payments, row, bookings=list(bookings), payments=list(payments))

    async def found() -> dict[UUID, list[Part]]:
        parts: dict[UUID, list[Part]] = {payment: [] for payment in payments}
        for payment, part in await asked():
            parts[payment].append(part)
        return parts

    return found


async def rules(reader: Reader) -> tuple[FeeRule, ...]:
    """Every rule that counts now or will, and those that have ended within a day."""
    return tuple(await reader.many(sql.rules, FeeRule))


async def listed(reader: Reader) -> list[ListedRule]:
    """The same as staff see them, and with them every rule that has ended."""

    def row(operator: str, **rule: Any) -> ListedRule:
        return ListedRule(rule=FeeRule(**rule), operator=operator)

    return await reader.many(sql.listed, row)


async def clock(reader: Reader) -> datetime:
    """The database's clock, by which rules begin and end."""
    return (await reader.one(sql.clock, _Clock)).now
