"""Writing verbs of bookings."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from kiti.bookings.model import TRANSITIONS, Booking, Contact, Due, NewBooking, State
from kiti.core.errors import KitiError, NotFound
from kiti.db import Transaction, load

sql = load("kiti.bookings")


class ReferenceTaken(KitiError):
    """A freshly drawn reference exists already: one in 887 million; draw again."""


class WrongState(KitiError):
    """The booking is not in a state in which this can be done."""


async def open_bookings(tx: Transaction, *, bookings: Sequence[NewBooking]) -> None:
    """Insert bookings with their seats, all in state held; raises ReferenceTaken.

    Three statements whatever the number of bookings.
    """
    fresh = await tx.execute(
        sql.open_references,
        references=[b.reference for b in bookings],
        bookings=[b.id for b in bookings],
    )
    if fresh != len(bookings):
        raise ReferenceTaken("A booking reference was drawn twice; try again.")
    await tx.execute(
        sql.open_bookings,
        ids=[b.id for b in bookings],
        references=[b.reference for b in bookings],
        currencies=[b.currency for b in bookings],
        amounts=[b.amount for b in bookings],
        names=[b.contact.name for b in bookings],
        emails=[b.contact.email for b in bookings],
        phones=[b.contact.phone for b in bookings],
        languages=[b.language for b in bookings],
        held_ats=[b.held_at for b in bookings],
        hold_expires_ats=[b.hold_expires_at for b in bookings],
        hold_cap_ats=[b.hold_cap_at for b in bookings],
    )
    lines = [(b.id, position, seat) for b in bookings for position, seat in enumerate(b.seats, 1)]
    await tx.execute(
        sql.open_seats,
        bookings=[booking for booking, _, _ in lines],
        trips=[seat.trip for _, _, seat in lines],
        seats=[seat.seat for _, _, seat in lines],
        from_seqs=[seat.from_seq for _, _, seat in lines],
        to_seqs=[seat.to_seq for _, _, seat in lines],
        positions=[position for _, position, _ in lines],
        operators=[seat.operator for _, _, seat in lines],
        classes=[seat.seat_class for _, _, seat in lines],
        fares=[seat.fare for _, _, seat in lines],
        passenger_names=[seat.passenger_name for _, _, seat in lines],
    )


async def lock(tx: Transaction, *, booking: UUID) -> Booking:
    """The booking, locked until the transaction ends; raises NotFound."""
    found = await tx.maybe(sql.lock_by_id, Booking, id=booking)
    if found is None:
        raise NotFound("There is no such booking.")
    return found


async def move(tx: Transaction, *, booking: Booking, to: State) -> Booking:
    """Change the state by one of TRANSITIONS; raises WrongState where the table or the row forbids it."""
    if to not in TRANSITIONS[booking.state]:
        raise WrongState(f"A booking that is {booking.state} cannot become {to}.")
    changed = await tx.execute(sql.move, id=booking.id, from_state=booking.state, to_state=to)
    if changed != 1:
        raise WrongState(f"The booking is no longer {booking.state}.")
    return msgspec.structs.replace(booking, state=to)


async def set_hold(tx: Transaction, *, booking: UUID, expires_at: datetime, is_asked_for: bool) -> None:
    """Say until when the seats are held; raises WrongState unless the booking is still unpaid."""
    if await tx.execute(sql.set_hold, id=booking, expires_at=expires_at, asked=is_asked_for) != 1:
        raise WrongState("The booking holds no seats that could be extended.")


async def set_contact(tx: Transaction, *, booking: UUID, contact: Contact) -> None:
    """Whom to reach."""
    await tx.execute(sql.set_contact, id=booking, name=contact.name, email=contact.email, phone=contact.phone)


async def name_passenger(tx: Transaction, *, booking: UUID, trip: UUID, seat: str, name: str) -> None:
    """Who sits there; raises NotFound where the booking has no such seat."""
    if await tx.execute(sql.set_passenger, booking=booking, trip=trip, seat=seat, name=name) != 1:
        raise NotFound(f"The booking has no seat {seat} on that trip.")


async def expire_due(tx: Transaction, *, limit: int) -> list[UUID]:
    """Mark up to `limit` bookings whose hold is over as expired; their ids."""
    return [row.id for row in await tx.many(sql.expire_due, Due, limit=limit)]


async def complete_arrived(tx: Transaction, *, limit: int) -> list[UUID]:
    """Mark up to `limit` confirmed bookings whose last trip has arrived as completed; their ids."""
    return [row.id for row in await tx.many(sql.complete_arrived, Due, limit=limit)]
