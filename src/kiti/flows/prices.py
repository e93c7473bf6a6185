"""What a booking costs in all: the fares, and what is asked beside them; and whose each coin of it is.

Before somebody pays it is computed, by the rules in force when the booking was made: a rule that changes meanwhile
changes nothing for them. When an attempt to pay is opened its parts are written down, and they count from then on.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings.model import BookedSeat, Booking, CancelledSeat
from kiti.core.money import Money, share_out
from kiti.db import Transaction
from kiti.fees import actions as fees
from kiti.fees import reads as fee_reads
from kiti.fees.model import Charge, FeeRule, Line, Part, charges_of, dearest, dues, on_top, parts_of
from kiti.flows.house import House
from kiti.ledger.model import PLATFORM, UNSPENT, Owner

# Longer than any process keeps the rules: what is shown is then never older than what is asked.
LEAD_SECONDS = 60
# A price that nobody has booked yet belongs to no booking.
NO_BOOKING = UUID(int=0)


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Fares and what comes on top of them; `charges` are the lines that say so, included taxes among them."""

    fares: Money
    total: Money
    charges: list[Charge]

    @property
    def on_top(self) -> Money:
        """What is paid beside the fares."""
        return Money(self.total.amount - self.fares.amount, self.fares.currency)


def price_of(fares: Money, parts: Sequence[Part]) -> Price:
    """The price that these fares and parts make."""
    total = Money(fares.amount + on_top(parts), fares.currency)
    return Price(fares=fares, total=total, charges=charges_of(parts))


def asking_price(rules: Sequence[FeeRule], operator: UUID, fares: Sequence[Money]) -> Price:
    """What seats of an operator cost now, at least one; by the dearest way to pay."""
    currency = fares[0].currency
    lines = [Line(operator, fare.amount) for fare in fares]
    parts = dearest(lines, rules, booking=NO_BOOKING, currency=currency, at=datetime.now(UTC))
    return price_of(Money(sum(fare.amount for fare in fares), currency), parts)


def quote(
    rules: Sequence[FeeRule], booking: Booking, lines: Iterable[BookedSeat], *, method: str | None
) -> tuple[Part, ...]:
    """The parts of a booking by a way to pay; None is the dearest, for who has not chosen yet."""
    seats, at = _lines(lines), booking.created_at
    if method is None:
        return dearest(seats, rules, booking=booking.id, currency=booking.currency, at=at)
    return parts_of(seats, rules, booking=booking.id, currency=booking.currency, at=at, method=method)


def shares_of(paid: int, lines: Sequence[BookedSeat], parts: Sequence[Part]) -> dict[Owner, int]:
    """Whose what was paid for these seats is, in minor units that add up to it.

    Of the price each owner gets what is due to them; what goes beyond has bought nothing and stays the traveller's.
    Too little is shared out by what is due.
    """
    operators, platform = dues(_lines(lines), parts)
    owners: list[Owner] = [*operators, PLATFORM]
    due = dict(zip(owners, [*operators.values(), platform], strict=True))
    excess = paid - sum(due.values())
    if excess < 0:
        return share_out(paid, weights=due)
    return {owner: amount for owner, amount in {**due, UNSPENT: excess}.items() if amount}


def on_top_of(
    some: Iterable[BookedSeat], *, lines: Sequence[BookedSeat | CancelledSeat], parts: Iterable[Part]
) -> list[tuple[int, int]]:
    """For each of `some` seats of a booking its share of the taxes on top of the fares, and of the fees.

    By the fares of the operator's seats; the shares of all `lines`, those that were cancelled among them, add up to the
    parts.
    """
    taxes: dict[tuple[UUID, str], int] = {}
    charged: dict[tuple[UUID, str], int] = {}
    for part in parts:
        if part.borne_by != "traveller":
            continue
        sums = taxes if part.kind == "tax" else charged
        theirs = sorted((line for line in lines if line.operator_id == part.operator_id), key=_seat)
        shares = share_out(part.amount, weights={_seat(line): line.fare for line in theirs})
        for seat, share in shares.items():
            sums[seat] = sums.get(seat, 0) + share
    return [(taxes.get(_seat(line), 0), charged.get(_seat(line), 0)) for line in some]


async def set_fee(house: House, *, rule: FeeRule, actor: str) -> FeeRule:
    """Let a rule count from its `valid_from` on, but never before LEAD_SECONDS from now; as it was written down.

    Raises InvalidRule. Bookings that are made before keep their price.
    """

    async def work(tx: Transaction) -> FeeRule:
        soonest = await fee_reads.clock(tx) + timedelta(seconds=LEAD_SECONDS)
        timed = msgspec.structs.replace(rule, valid_from=max(rule.valid_from, soonest))
        await fees.set_rule(tx, rule=timed)
        await audit.record(tx, events=[_event(timed, actor, "fee.set", msgspec.to_builtins(timed))])
        return timed

    return await house.db.run(work)


async def end_fee(house: House, *, rule: UUID, actor: str) -> datetime:
    """Let a rule count for nothing that is booked later than LEAD_SECONDS from now: that moment. Raises NotFound."""

    async def work(tx: Transaction) -> datetime:
        at = await fee_reads.clock(tx) + timedelta(seconds=LEAD_SECONDS)
        await fees.end_rule(tx, rule=rule, at=at)
        detail = {"rule": str(rule), "at": at.isoformat()}
        await audit.record(tx, events=[Event(subject=rule, actor=actor, action="fee.ended", detail=detail)])
        return at

    return await house.db.run(work)


def _event(rule: FeeRule, actor: str, action: str, detail: dict[str, object]) -> Event:
    return Event(subject=rule.operator_id or rule.id, actor=actor, action=action, detail=detail)


def _lines(lines: Iterable[BookedSeat]) -> list[Line]:
    return [Line(line.operator_id, line.fare) for line in lines]


def _seat(line: BookedSeat | CancelledSeat) -> tuple[UUID, str]:
    return line.trip_id, line.seat
