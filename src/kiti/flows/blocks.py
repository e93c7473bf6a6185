"""Staff and the seats of one trip: take some off sale, put them on sale again, see who has which."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookingName
from kiti.core.errors import InvalidInput
from kiti.db import Transaction
from kiti.flows.changes import reason_of
from kiti.flows.house import House
from kiti.network.model import TripDetail
from kiti.seats import actions as seats
from kiti.seats import reads as seat_reads
from kiti.seats.model import Block, HeldSeat


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A seat that somebody has between two stops: a booking or a block. `expires_at` None: for ever."""

    seat: str
    from_code: str
    to_code: str
    expires_at: datetime | None
    booking: BookingName | None
    block: Block | None


async def block_seats(
    house: House,
    *,
    trip: UUID,
    numbers: Sequence[str],
    reason: str,
    from_code: str | None = None,
    to_code: str | None = None,
    actor: str,
) -> UUID:
    """Take seats off sale between two stops (None: the trip's end) until the block is lifted; its id.

    Raises SeatsOccupied where somebody has one of them, InvalidInput, NotFound.
    """
    why = reason_of(reason)
    detail = await house.catalogue.trip(trip)
    boards, alights = detail.segment(from_code, to_code)
    _check_seats(detail, numbers)

    async def work(tx: Transaction) -> UUID:
        blocked = await seats.block(
            tx, trip=trip, seats=numbers, from_seq=boards.seq, to_seq=alights.seq, reason=why, actor=actor
        )
        detail = {
            "block": str(blocked), "seats": list(numbers), "from": boards.code, "to": alights.code, "reason": why,
        }  # fmt: skip
        await audit.record(tx, events=[Event(subject=trip, actor=actor, action="seats.blocked", detail=detail)])
        return blocked

    return await house.db.run(work)


async def unblock_seats(house: House, *, trip: UUID, block: UUID, actor: str) -> int:
    """Put a block's seats on sale again; how many seat-legs. Raises NotFound for a block that is not in force."""

    async def work(tx: Transaction) -> int:
        freed = await seats.unblock(tx, trip=trip, block=block)
        event = Event(subject=trip, actor=actor, action="seats.unblocked", detail={"block": str(block)})
        await audit.record(tx, events=[event])
        return freed

    return await house.db.run(work)


async def blocks(house: House, *, trip: UUID) -> list[Block]:
    """What is blocked on a trip; raises NotFound."""
    await house.catalogue.trip(trip)
    async with house.db.reader() as reader:
        return await seat_reads.blocks(reader, trip=trip)


async def held_seats(house: House, *, trip: UUID) -> list[Holding]:
    """Every seat of a trip that somebody has, with its stretch and its owner, in order; raises NotFound."""
    detail = await house.catalogue.trip(trip)
    async with house.db.reader() as reader:
        held = await seat_reads.held(reader, trip=trip)
        blocked = {block.id: block for block in await seat_reads.blocks(reader, trip=trip)}
        owners = sorted({leg.owner_id for leg in held} - blocked.keys())
        names = await booking_reads.names_of(reader, bookings=owners)
    stretches = [list(legs) for _, legs in groupby(held, key=lambda leg: (leg.seat, leg.owner_id))]
    return [_holding(detail, legs, names, blocked) for legs in stretches]


def _check_seats(trip: TripDetail, numbers: Sequence[str]) -> None:
    if not numbers:
        raise InvalidInput("seats", "Name at least one seat.")
    if len(set(numbers)) != len(numbers):
        raise InvalidInput("seats", "The same seat stands twice.")
    for number in numbers:
        if number not in trip.layout.by_number:
            raise InvalidInput("seats", f"This vehicle has no seat {number}. See its seat map.")


def _holding(
    trip: TripDetail, legs: Sequence[HeldSeat], names: dict[UUID, BookingName], blocked: dict[UUID, Block]
) -> Holding:
    first, last = legs[0], legs[-1]
    return Holding(
        seat=first.seat,
        from_code=trip.stops[first.leg].code,
        to_code=trip.stops[last.leg + 1].code,
        expires_at=first.expires_at,
        booking=names.get(first.owner_id),
        block=blocked.get(first.owner_id),
    )
