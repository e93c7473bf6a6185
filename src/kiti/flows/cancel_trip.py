"""An operator cancels a trip: nobody can buy it any more, and everybody who has gets their fares back, once.

The trip is closed first, in a transaction of its own. Then each booking is dealt with in one: its seats on that trip
are given up, its tickets for it void, its fares refunded in full, and that is noted under booking and trip. Who is
killed in the middle runs again and finds what is left.
"""

import time
from collections import Counter
from typing import Literal
from uuid import UUID

import msgspec
import structlog

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat, Booking
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.fees import reads as fee_reads
from kiti.flows import holds
from kiti.flows.announce import announce, announce_cancelled_trip, of_booking
from kiti.flows.changes import reason_of
from kiti.flows.holds import wants_of
from kiti.flows.house import House
from kiti.flows.letters import occasions
from kiti.flows.passes import PASS_SECONDS, each
from kiti.flows.prices import on_top_of
from kiti.flows.progress import advance
from kiti.flows.refunds import request_refund
from kiti.ledger.model import PLATFORM, Owner
from kiti.network import actions as network
from kiti.network.actions import TripNotScheduled
from kiti.network.model import TripDetail
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.seats import actions as seats
from kiti.tickets import actions as tickets

log = structlog.get_logger(__name__)

PAGE = 200
CANCELLED = "The trip was cancelled."
MOST_PAGES = 500
# Of cancelled trips' bookings in one run of the job.
MOST_OWED = 2000
AT_ONCE = 4
FIRST = UUID(int=0)
Done = Literal["refunded", "released", "before", "failed"]


class TripCancelled(msgspec.Struct, frozen=True, kw_only=True):
    """How many bookings were given their money back now, how many holds given up, how many were dealt with before.

    `failed`: so many could not be dealt with now. They stay owed; the job refund-cancelled-trips tries them again.
    """

    refunded: int
    released: int
    before: int
    failed: int


async def cancel_trip(house: House, *, trip: UUID, reason: str, actor: str) -> TripCancelled:
    """Cancel a trip and give everybody their fares back; raises NotFound, TripNotScheduled for one that is no more.

    Run it again after a crash, or while it runs: what is done is not done twice. A booking that fails stops no other.
    """
    why = reason_of(reason)
    detail = await house.catalogue.trip(trip)
    if detail.trip.state != "cancelled":
        await _close(house, detail, why, actor)
    counts: Counter[Done] = Counter()

    async def one(booking: UUID) -> None:
        counts[await _guarded(house, booking, trip, why, actor)] += 1

    after = FIRST
    for _ in range(MOST_PAGES):
        async with house.db.reader() as reader:
            page = await booking_reads.on_trip(reader, trip=trip, after=after, limit=PAGE)
        await each(page, one, at_once=AT_ONCE)
        if len(page) < PAGE:
            break
        after = page[-1]
    return TripCancelled(
        refunded=counts["refunded"],
        released=counts["released"],
        before=counts["before"],
        failed=counts["failed"],
    )


async def _close(house: House, detail: TripDetail, reason: str, actor: str) -> None:
    trip = detail.trip.id

    async def work(tx: Transaction) -> None:
        tx.changed.add(trip)
        await network.cancel_trip(tx, trip=trip)
        why = {"reason": reason}
        await audit.record(tx, events=[Event(subject=trip, actor=actor, action="trip.cancelled", detail=why)])
        await announce_cancelled_trip(tx, detail, reason=reason)

    try:
        await house.db.run(work)
    except TripNotScheduled:
        # It was cancelled before, by a run that did not come to its end: this one goes on.
        house.catalogue.forget(trip)
        if (await house.catalogue.trip(trip)).trip.state != "cancelled":
            raise
    house.catalogue.forget(trip)


async def finish_cancelled_trips(house: House, *, most: int = MOST_OWED, page_size: int = PAGE) -> tuple[int, int]:
    """Give back what cancelled trips still owe: after a run that was cut short, or for money that came in beside it.

    How many were dealt with, and how many could not be now. About `most` in one run at most; the next one goes on.
    What fails is passed by and takes nobody's place; a run ends in time all the same.
    """
    counts: Counter[Done] = Counter()
    until = time.monotonic() + PASS_SECONDS

    async def one(owed: tuple[UUID, UUID]) -> None:
        if time.monotonic() >= until:
            return
        booking, trip = owed
        counts[await _guarded(house, booking, trip, CANCELLED, "system")] += 1

    after = (FIRST, FIRST)
    while counts.total() - counts["failed"] < most and time.monotonic() < until:
        async with house.db.reader() as reader:
            page = await payment_reads.owed_for_trips(reader, after=after, limit=page_size)
        await each(page, one, at_once=AT_ONCE)
        if len(page) < page_size:
            break
        after = page[-1]
    return counts.total() - counts["failed"], counts["failed"]


async def _guarded(house: House, booking: UUID, trip: UUID, reason: str, actor: str) -> Done:
    """What became of a booking. One that cannot be dealt with stays owed: the job and doctor find it again."""
    try:
        done = await _give_back(house, booking, trip, reason, actor)
    except Exception:
        log.exception("a cancelled trip could not be given back", booking=str(booking), trip=str(trip))
        advance(failed=1)
        return "failed"
    advance(processed=1)
    return done


async def _give_back(house: House, booking: UUID, trip: UUID, reason: str, actor: str) -> Done:
    async with house.db.reader() as reader:
        found = await booking_reads.by_id(reader, booking=booking)
    if found.state in {"held", "awaiting_payment"}:
        try:
            # Nobody can board, so nobody shall pay; money that is on its way finds it cancelled and goes back.
            await holds.release(house, booking=booking, actor=actor)
        except WrongState:
            pass  # it was paid for this instant: it gets its money back like the others
        else:
            return "released"
    return await house.db.run(lambda tx: _refund(tx, house, booking, trip, reason, actor))


async def _refund(tx: Transaction, house: House, booking_id: UUID, trip: UUID, reason: str, actor: str) -> Done:
    booking = await bookings.lock(tx, booking=booking_id)
    over = await payment_reads.trips_refunded(tx, booking=booking_id)
    if booking.state not in {"confirmed", "completed"} or trip in over:
        return "before"
    lines = await booking_reads.seats_of(tx, bookings=[booking_id])
    mine = [line for line in lines if line.trip_id == trip]
    if not mine:
        return "before"  # it was moved to another trip meanwhile
    is_over = {line.trip_id for line in lines} <= over | {trip}
    await seats.release(tx, wants=wants_of(mine))
    await tickets.void(tx, booking=booking_id, trip=trip, reason=reason)
    refund = await _request(tx, house, booking, lines, trip, reason, is_over=is_over)
    await payments.note_trip_refund(tx, booking=booking_id, trip=trip, refund=refund)
    if is_over and booking.state == "confirmed":
        await bookings.move(tx, booking=booking, to="cancelled")
    detail = {"trip": str(trip), "refund": None if refund is None else str(refund), "reason": reason}
    event = Event(subject=booking_id, actor=actor, action="booking.trip_cancelled", detail=detail)
    await audit.record(tx, events=[event])
    await occasions.trip_cancelled(tx, booking=booking, trip=trip, channels=house.settings.message_channels)
    is_cancelled = is_over and booking.state == "confirmed"
    await announce(tx, of_booking("booking.cancelled" if is_cancelled else "booking.changed", booking_id))
    return "refunded"


async def _request(
    tx: Transaction, house: House, booking: Booking, lines: list[BookedSeat], trip: UUID, reason: str, *, is_over: bool
) -> UUID | None:
    """Ask for the fares of the trip with what came on top, and for what was paid beyond if nothing is left of `lines`.

    Or for what is left of the payment, if staff have given back some before.
    """
    mine = [line for line in lines if line.trip_id == trip]
    parts = await fee_reads.of_bookings(tx, bookings=[booking.id])
    gone = await booking_reads.cancelled_seats(tx, booking=booking.id)
    beside = on_top_of(mine, lines=[*lines, *gone], parts=parts)
    charges = await payment_reads.charges_of(tx, booking=booking.id)
    charge = next(one for one in charges if one.purpose == "fulfils")
    excess = charge.excess_left if is_over else 0
    price = sum(line.fare for line in mine) + sum(tax + charged for tax, charged in beside)
    of_price = min(price, charge.left - charge.excess_left)
    if of_price + excess == 0:
        return None
    # A trip belongs to one operator; what the platform asked for it goes back as well.
    charged = min(of_price, sum(charged for _, charged in beside))
    preferred: dict[Owner, int] = {mine[0].operator_id: of_price - charged, PLATFORM: charged}
    return await request_refund(
        tx,
        house,
        booking=booking.id,
        gateway=charge.gateway,
        transaction_id=charge.transaction_id,
        amount=Money(of_price + excess, booking.currency),
        preferred=preferred,
        reason=reason,
        of_excess=excess,
    )
