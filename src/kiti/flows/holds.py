"""The life of a hold after it was reserved: extend it, give it up, sweep up what has lapsed."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat, Booking
from kiti.db import Database, Transaction
from kiti.flows.plan import SeatsTaken
from kiti.network import reads as network
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.seats import actions as seats
from kiti.seats.model import Lost, Want

SWEEP_BATCH = 200
SWEEP_BATCHES = 500


class HoldLapsed(WrongState):
    """The hold is over; the seats may be with somebody else."""


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep did."""

    expired: int
    completed: int


async def extend(db: Database, *, booking: UUID, minutes: int, actor: str) -> Booking:
    """Hold on for `minutes` from now, never beyond the cap; raises HoldLapsed, WrongState, NotFound."""

    async def work(tx: Transaction) -> Booking:
        found = await bookings.lock(tx, booking=booking)
        if found.is_lapsed:
            raise HoldLapsed("The hold is over. Search again: the seats may still be free.")
        if not found.is_holding:
            raise WrongState(f"A booking that is {found.state} holds no seats to extend.")
        until = min(found.now + timedelta(minutes=minutes), found.hold_cap_at)
        if until <= found.hold_expires_at:
            return found
        await hold_until(tx, booking=found, until=until, is_asked_for=True)
        await audit.record(
            tx,
            events=[Event(subject=booking, actor=actor, action="hold.extended", detail={"until": until.isoformat()})],
        )
        return msgspec.structs.replace(found, hold_expires_at=until)

    return await db.run(work)


async def release(db: Database, *, booking: UUID, actor: str) -> Booking:
    """Give the seats back at once; raises WrongState once paid, NotFound. Releasing twice is fine.

    An attempt that is still open is not forgotten: should its money come, it finds the booking cancelled and
    goes back to the traveller.
    """

    async def work(tx: Transaction) -> Booking:
        found = await bookings.lock(tx, booking=booking)
        if found.state in {"cancelled", "expired"}:
            return found
        if found.state not in {"held", "awaiting_payment"}:
            raise WrongState(f"A booking that is {found.state} cannot be released; cancel it instead.")
        released = await bookings.move(tx, booking=found, to="cancelled")
        await seats.release(tx, wants=wants_of(await booking_reads.seats_of(tx, bookings=[booking])))
        attempt = await payment_reads.newest_of_booking(tx, booking=booking)
        if attempt is not None and attempt.state == "pending":
            await payments.move(tx, payment=attempt, to="cancelled", reason="The booking was released.")
            await payments.poll_later(tx, payment=attempt, seconds=0)  # the poller closes its page
        await audit.record(tx, events=[Event(subject=booking, actor=actor, action="hold.released")])
        return released

    return await db.run(work)


async def expire_seats(db: Database) -> Swept:
    """Mark lapsed bookings as expired and remove their claims, in bounded batches; safe beside itself.

    Nothing depends on it: a lapsed claim is free without a cleaner. It keeps tables small and states plain.
    """
    return Swept(expired=await _in_batches(db, _expire_batch), completed=await _in_batches(db, _complete_batch))


async def can_board(tx: Transaction, *, booking: Booking, lines: Sequence[BookedSeat]) -> bool:
    """Whether every trip of a booking is still to run and has not left the stop where its travellers get on."""
    boarding = await network.boarding(tx, trips=[line.trip_id for line in lines])
    return all(boarding.get((line.trip_id, line.from_seq), booking.now) > booking.now for line in lines)


async def hold_until(tx: Transaction, *, booking: Booking, until: datetime, is_asked_for: bool = False) -> None:
    """Set the end of a hold, of the booking and of its claims alike; raises SeatsTaken if a seat is gone.

    What the traveller asked for stays when a payment fails; what a payment added does not.
    """
    lines = await booking_reads.seats_of(tx, bookings=[booking.id])
    ttl_seconds = max(0, round((until - booking.now).total_seconds()))
    claims = await seats.claim(tx, wants=wants_of(lines), ttl_seconds={booking.id: ttl_seconds})
    outcome = claims[booking.id]
    if isinstance(outcome, Lost):
        raise SeatsTaken([seat for _, seat in outcome.seats])
    assert outcome.expires_at is not None, "a hold ends"
    await bookings.set_hold(tx, booking=booking.id, expires_at=outcome.expires_at, is_asked_for=is_asked_for)


def wants_of(lines: Sequence[BookedSeat]) -> list[Want]:
    """The seat-legs that belong to seat lines."""
    return [
        Want(
            owner=line.booking_id,
            trip=line.trip_id,
            seat=line.seat,
            from_seq=line.from_seq,
            to_seq=line.to_seq,
        )
        for line in lines
    ]


async def _in_batches(db: Database, sweep: Callable[[Transaction], Awaitable[int]]) -> int:
    """Sweep, each batch in a transaction of its own, until one is not full; how many in all."""
    swept = 0
    for _ in range(SWEEP_BATCHES):
        batch = await db.run(sweep)
        swept += batch
        if batch < SWEEP_BATCH:
            break
    return swept


async def _expire_batch(tx: Transaction) -> int:
    ids = await bookings.expire_due(tx, limit=SWEEP_BATCH)
    if ids:
        await seats.release_bookings(tx, bookings=ids)
        await audit.record(tx, events=[Event(subject=id_, actor="sweeper", action="booking.expired") for id_ in ids])
    return len(ids)


async def _complete_batch(tx: Transaction) -> int:
    return len(await bookings.complete_arrived(tx, limit=SWEEP_BATCH))
