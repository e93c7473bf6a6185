"""An operator cancels a trip: nobody can buy it any more, and everybody who has gets their fares back, once.

The trip is closed first, in a transaction of its own. Then each booking is dealt with in one: its seats on that trip
are given up, its tickets for it void, its fares refunded in full, and that is noted under booking and trip. Who is
killed in the middle runs again and finds what is left.
"""

from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, Booking
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.flows import holds
from kiti.flows.changes import reason_of
from kiti.flows.holds import wants_of
from kiti.flows.house import House
from kiti.flows.letters import occasions
from kiti.flows.refunds import request_refund
from kiti.network import actions as network
from kiti.network.actions import TripNotScheduled
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.seats import actions as seats
from kiti.tickets import actions as tickets

PAGE = 200
MOST_PAGES = 500
FIRST = UUID(int=0)


class TripCancelled(msgspec.Struct, frozen=True, kw_only=True):
    """How many bookings were given their money back now, how many holds given up, how many were dealt with before."""

    refunded: int
    released: int
    before: int


async def cancel_trip(house: House, *, trip: UUID, reason: str, actor: str) -> TripCancelled:
    """Cancel a trip and give everybody their fares back; raises NotFound, TripNotScheduled for one that is no more.

    Run it again after a crash, or while it runs: what is done is not done twice.
    """
    why = reason_of(reason)
    detail = await house.catalogue.trip(trip)
    if detail.trip.state != "cancelled":
        await _close(house, trip, why, actor)
    refunded = released = before = 0
    after = FIRST
    for _ in range(MOST_PAGES):
        async with house.db.reader() as reader:
            page = await booking_reads.on_trip(reader, trip=trip, after=after, limit=PAGE)
        for booking in page:
            done = await _give_back(house, booking, trip, why, actor)
            refunded += done == "refunded"
            released += done == "released"
            before += done == "before"
        if len(page) < PAGE:
            break
        after = page[-1]
    return TripCancelled(refunded=refunded, released=released, before=before)


async def _close(house: House, trip: UUID, reason: str, actor: str) -> None:
    async def work(tx: Transaction) -> None:
        tx.changed.add(trip)
        await network.cancel_trip(tx, trip=trip)
        detail = {"reason": reason}
        await audit.record(tx, events=[Event(subject=trip, actor=actor, action="trip.cancelled", detail=detail)])

    try:
        await house.db.run(work)
    except TripNotScheduled:
        # It was cancelled before, by a run that did not come to its end: this one goes on.
        house.catalogue.forget(trip)
        if (await house.catalogue.trip(trip)).trip.state != "cancelled":
            raise
    house.catalogue.forget(trip)


async def _give_back(house: House, booking: UUID, trip: UUID, reason: str, actor: str) -> str:
    async with house.db.reader() as reader:
        found = await booking_reads.by_id(reader, booking=booking)
    if found.state in {"held", "awaiting_payment"}:
        # Nobody can board, so nobody shall pay; money that is on its way finds the booking cancelled and goes back.
        await holds.release(house, booking=booking, actor=actor)
        return "released"
    return await house.db.run(lambda tx: _refund(tx, house, booking, trip, reason, actor))


async def _refund(tx: Transaction, house: House, booking_id: UUID, trip: UUID, reason: str, actor: str) -> str:
    booking = await bookings.lock(tx, booking=booking_id)
    if booking.state != "confirmed" or await payment_reads.is_trip_refunded(tx, booking=booking_id, trip=trip):
        return "before"
    lines = await booking_reads.seats_of(tx, bookings=[booking_id])
    mine = [line for line in lines if line.trip_id == trip]
    await seats.release(tx, wants=wants_of(mine))
    await tickets.void(tx, booking=booking_id, trip=trip, reason=reason)
    refund = await _request(tx, house, booking, mine, reason)
    await payments.note_trip_refund(tx, booking=booking_id, trip=trip, refund=refund)
    if await _is_over(tx, booking, lines):
        await bookings.move(tx, booking=booking, to="cancelled")
    detail = {"trip": str(trip), "refund": None if refund is None else str(refund), "reason": reason}
    event = Event(subject=booking_id, actor=actor, action="booking.trip_cancelled", detail=detail)
    await audit.record(tx, events=[event])
    await occasions.trip_cancelled(tx, booking=booking, trip=trip, channels=house.settings.message_channels)
    return "refunded"


async def _request(
    tx: Transaction, house: House, booking: Booking, lines: list[BookedSeat], reason: str
) -> UUID | None:
    """Ask for the fares of these lines, or for what is left of the payment if staff have given back some before."""
    charges = await payment_reads.charges_of(tx, booking=booking.id)
    charge = next(one for one in charges if one.purpose == "fulfils")
    amount = min(sum(line.fare for line in lines), charge.amount - charge.refund_reserved)
    if amount <= 0:
        return None
    # A trip belongs to one operator.
    return await request_refund(
        tx,
        house,
        booking=booking.id,
        gateway=charge.gateway,
        transaction_id=charge.transaction_id,
        amount=Money(amount, booking.currency),
        shares={lines[0].operator_id: amount},
        reason=reason,
    )


async def _is_over(tx: Transaction, booking: Booking, lines: list[BookedSeat]) -> bool:
    """Whether every trip of a booking was cancelled and given back."""
    for trip in {line.trip_id for line in lines}:
        if not await payment_reads.is_trip_refunded(tx, booking=booking.id, trip=trip):
            return False
    return True
