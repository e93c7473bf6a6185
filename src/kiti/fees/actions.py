"""Writing down what bookings cost besides their fares, and what is asked from now on."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kiti.core.errors import NotFound
from kiti.db import Transaction, load
from kiti.fees.model import FeeRule, InvalidRule, Part, check

sql = load("kiti.fees")


async def put(tx: Transaction, *, payment: UUID, parts: Sequence[Part]) -> None:
    """Write down what an attempt to pay was told to cost; once, and for good."""
    if not parts:
        return
    await tx.execute(
        sql.put,
        payment=payment,
        bookings=[part.booking_id for part in parts],
        operators=[part.operator_id for part in parts],
        kinds=[part.kind for part in parts],
        bearers=[part.borne_by for part in parts],
        amounts=[part.amount for part in parts],
        basis_points=[part.basis_points for part in parts],
    )


async def set_rule(tx: Transaction, *, rule: FeeRule) -> None:
    """Let a rule count from its `valid_from` on; the one of the same sort that goes on ends then.

    What was booked before is not touched. Raises InvalidRule, also where another of its sort begins later.
    """
    check(rule)
    await tx.execute(sql.take_turns)
    before = await tx.maybe(
        sql.going_on, FeeRule, kind=rule.kind, currency=rule.currency, operator=rule.operator_id, method=rule.method
    )
    if before is not None:
        if before.valid_from > rule.valid_from:
            raise InvalidRule("A rule of this sort begins later than this one. End it first.")
        await tx.execute(sql.finish, id=before.id, at=rule.valid_from)
    await tx.execute(
        sql.add,
        id=rule.id,
        operator=rule.operator_id,
        kind=rule.kind,
        borne_by=rule.borne_by,
        currency=rule.currency,
        method=rule.method,
        basis_points=rule.basis_points,
        fixed=rule.fixed,
        minimum=rule.minimum,
        maximum=rule.maximum,
        per=rule.per,
        valid_from=rule.valid_from,
        valid_until=rule.valid_until,
    )


async def end_rule(tx: Transaction, *, rule: UUID, at: datetime) -> None:
    """Let a rule count no longer than until then; raises NotFound where it does not anyway."""
    if await tx.execute(sql.finish, id=rule, at=at) != 1:
        raise NotFound("There is no such rule, or it ends before that.")
