"""The life of a hold after it was reserved: extend it, give it up, sweep up what has lapsed.

Extensions and releases go in batches, as reservations do: all bookings of a batch are locked in the order of their
ids, then seats are claimed or given up in key order, so that batches of several processes take turns. How many round
trips that takes does not depend on how many they are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat, Booking
from kiti.core.errors import KitiError, NotFound
from kiti.db import Database, Transaction
from kiti.flows.announce import announce, listened_to, of_booking
from kiti.flows.grouping import LANES, MAX_QUEUE, GroupCommit
from kiti.flows.house import House
from kiti.flows.plan import SeatsTaken
from kiti.flows.progress import advance
from kiti.flows.queued import Extension, Extensions, Release, Releases
from kiti.network import reads as network
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import WAITING, Payment
from kiti.seats import actions as seats
from kiti.seats.model import Lost, Want

# Small enough that whoever wants a swept seat does not wait for long. Two lanes: while one waits for the disk, the
# other works.
SWEEP_BATCH = 200
SWEEP_BATCHES = 500
SWEEP_LANES = 2


class HoldLapsed(WrongState):
    """The hold is over; the seats may be with somebody else."""


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep did."""

    expired: int
    completed: int


async def extend(house: House, *, booking: UUID, minutes: int, actor: str) -> Booking:
    """Hold on for `minutes` from now, never beyond the cap.

    Raises HoldLapsed, WrongState, NotFound, SeatsTaken, and what `GroupCommit.submit` raises.
    """
    return _granted(await house.extensions.submit(Extension(booking=booking, minutes=minutes, actor=actor)))


async def release(house: House, *, booking: UUID, actor: str) -> Booking:
    """Give the seats back at once; raises WrongState once paid, NotFound. Releasing twice is fine.

    An attempt that is still open is not forgotten: should its money come, it finds the booking cancelled and
    goes back to the traveller.
    """
    return _granted(await house.releases.submit(Release(booking=booking, actor=actor)))


def group_extensions(db: Database, *, lanes: int = LANES, max_queue: int = MAX_QUEUE) -> Extensions:
    """Extensions in batches."""
    return GroupCommit(db, extend_batch, keys=_key, lanes=lanes, max_queue=max_queue)


def group_releases(db: Database, *, lanes: int = LANES, max_queue: int = MAX_QUEUE) -> Releases:
    """Releases in batches."""
    return GroupCommit(db, release_batch, keys=_key, lanes=lanes, max_queue=max_queue)


async def extend_batch(tx: Transaction, extensions: Sequence[Extension]) -> list[Booking | KitiError]:
    """Extend many holds, each of another booking; each extension gets its own answer, in their order.

    Three round trips and the commit, and one more where somebody has lost a seat.
    """
    ids = [extension.booking for extension in extensions]
    locked = await bookings.lock_many(tx, bookings=ids)
    lines = await _lines_of(tx, ids)
    standing = await locked()
    answers = {wish.booking: _extended(wish, standing.get(wish.booking)) for wish in extensions}
    longer = {
        booking: answer
        for booking, answer in answers.items()
        if isinstance(answer, Booking) and answer.hold_expires_at > standing[booking].hold_expires_at
    }
    if not longer:
        return list(answers.values())
    claims = await seats.claim(
        tx,
        wants=wants_of([line for booking in longer for line in lines[booking]]),
        ttl_seconds={booking: _seconds_until(answer.hold_expires_at, answer) for booking, answer in longer.items()},
    )
    until: dict[UUID, datetime] = {}
    for booking, claim in claims.items():
        if isinstance(claim, Lost):
            # Possible only where the hold ended between the lock and the claim: what was given up had lapsed too.
            answers[booking] = SeatsTaken([seat for _, seat in claim.seats])
        else:
            assert claim.expires_at is not None, "a hold ends"
            until[booking] = claim.expires_at
            answers[booking] = msgspec.structs.replace(longer[booking], hold_expires_at=claim.expires_at)
    if until:
        events = [_extension(wish, until[wish.booking]) for wish in extensions if wish.booking in until]
        await audit.record(tx, events=events)
        await bookings.set_holds(tx, until=until, is_asked_for=True)
    return list(answers.values())


async def release_batch(tx: Transaction, releases: Sequence[Release]) -> list[Booking | KitiError]:
    """Release many bookings; each release gets its own answer, in their order. Two round trips and the commit."""
    ids = [release.booking for release in releases]
    locked = await bookings.lock_many(tx, bookings=ids)
    attempts = await payment_reads.of_bookings(tx, bookings=ids)
    lines = await _lines_of(tx, ids)
    standing = await locked()
    answers = {wish.booking: _releasable(standing.get(wish.booking)) for wish in releases}
    giving_up = [wish for wish in releases if _holds_seats(answers[wish.booking])]
    if not giving_up:
        return list(answers.values())
    theirs = await attempts()
    open_pages = [attempt for wish in giving_up for attempt in theirs[wish.booking] if attempt.state in WAITING]
    moved = await bookings.move_many(tx, bookings=[standing[wish.booking] for wish in giving_up], to="cancelled")
    closed = await call_off(tx, attempts=open_pages, reason="The booking was released.")
    events = [Event(subject=wish.booking, actor=wish.actor, action="hold.released") for wish in giving_up]
    await audit.record(tx, events=events)
    await seats.release(tx, wants=wants_of([line for wish in giving_up for line in lines[wish.booking]]))
    await closed()
    answers.update({booking.id: booking for booking in await moved()})
    return list(answers.values())


async def expire_seats(db: Database) -> Swept:
    """Mark lapsed bookings as expired and remove their claims, in bounded batches; safe beside itself.

    Nothing depends on it: a lapsed claim is free without a cleaner. It keeps tables small and states plain.
    """
    return Swept(expired=await _in_batches(db, _expire_batch), completed=await _in_batches(db, _complete_batch))


async def can_board(tx: Transaction, *, booking: Booking, lines: Sequence[BookedSeat]) -> bool:
    """Whether every trip of a booking is still to run and has not left the stop where its travellers get on."""
    return is_in_time(booking, lines, await network.boarding(tx, trips=[line.trip_id for line in lines]))


def is_in_time(booking: Booking, lines: Sequence[BookedSeat], boarding: Mapping[tuple[UUID, int], datetime]) -> bool:
    """The same where `boarding` is known: when trips that are still to run leave each of their stops."""
    return all(boarding.get((line.trip_id, line.from_seq), booking.now) > booking.now for line in lines)


async def hold_until(tx: Transaction, *, booking: Booking, until: datetime, is_asked_for: bool = False) -> None:
    """Set the end of a hold, of the booking and of its claims alike; raises SeatsTaken if a seat is gone.

    What the traveller asked for stays when a payment fails; what a payment added does not.
    """
    lines = await booking_reads.seats_of(tx, bookings=[booking.id])
    ttl_seconds = {booking.id: _seconds_until(until, booking)}
    claims = await seats.claim(tx, wants=wants_of(lines), ttl_seconds=ttl_seconds)
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


async def call_off(
    tx: Transaction, *, attempts: Sequence[Payment], reason: str
) -> Callable[[], Awaitable[list[Payment]]]:
    """Nothing is due any more: the poller closes the pages of these attempts at once. Raises as `move_many` does."""
    reasons = [reason for _ in attempts]
    return await payments.move_many(tx, payments=attempts, to="cancelled", reasons=reasons, ask_again_seconds=0)


async def _in_batches(db: Database, sweep: Callable[[Transaction], Awaitable[int]]) -> int:
    """Sweep in lanes, each batch in a transaction of its own, until one is not full; how many in all.

    A failure ends its lane; it is raised once the others are at their end.
    """

    async def lane() -> int:
        swept = 0
        for _ in range(SWEEP_BATCHES):
            batch = await db.run(sweep, pipelined=True)
            swept += batch
            advance(processed=batch)
            if batch < SWEEP_BATCH:
                break
        return swept

    ended = await asyncio.gather(*(lane() for _ in range(SWEEP_LANES)), return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, BaseException):
            raise outcome
    return sum(outcome for outcome in ended if isinstance(outcome, int))


async def _expire_batch(tx: Transaction) -> int:
    is_heard = await listened_to(tx, "booking.expired")
    ids = await bookings.expire_due(tx, limit=SWEEP_BATCH)
    if ids:
        await seats.release_bookings(tx, bookings=ids)
        await audit.record(tx, events=[Event(subject=id_, actor="sweeper", action="booking.expired") for id_ in ids])
        if await is_heard():
            await announce(tx, *(of_booking("booking.expired", id_) for id_ in ids))
    return len(ids)


async def _complete_batch(tx: Transaction) -> int:
    return len(await bookings.complete_arrived(tx, limit=SWEEP_BATCH))


def _key(wish: Extension | Release) -> frozenset[UUID]:
    return frozenset([wish.booking])


def _granted(answer: Booking | KitiError) -> Booking:
    if isinstance(answer, KitiError):
        raise answer
    return answer


async def _lines_of(tx: Transaction, booking_ids: Sequence[UUID]) -> dict[UUID, list[BookedSeat]]:
    lines: dict[UUID, list[BookedSeat]] = {booking: [] for booking in booking_ids}
    for line in await booking_reads.seats_of(tx, bookings=booking_ids):
        lines[line.booking_id].append(line)
    return lines


def _extended(wish: Extension, found: Booking | None) -> Booking | KitiError:
    """The booking as the extension wants it, or why not."""
    if found is None:
        return NotFound("There is no such booking.")
    if found.is_lapsed:
        return HoldLapsed("The hold is over. Search again: the seats may still be free.")
    if not found.is_holding:
        return WrongState(f"A booking that is {found.state} holds no seats to extend.")
    until = min(found.now + timedelta(minutes=wish.minutes), found.hold_cap_at)
    return msgspec.structs.replace(found, hold_expires_at=max(until, found.hold_expires_at))


def _seconds_until(until: datetime, booking: Booking) -> int:
    return max(0, round((until - booking.now).total_seconds()))


def _extension(wish: Extension, until: datetime) -> Event:
    return Event(subject=wish.booking, actor=wish.actor, action="hold.extended", detail={"until": until.isoformat()})


def _releasable(found: Booking | None) -> Booking | KitiError:
    if found is None:
        return NotFound("There is no such booking.")
    if found.state in {"held", "awaiting_payment", "cancelled", "expired"}:
        return found
    return WrongState(f"A booking that is {found.state} cannot be released; cancel it instead.")


def _holds_seats(answer: Booking | KitiError) -> bool:
    return isinstance(answer, Booking) and answer.state in {"held", "awaiting_payment"}
