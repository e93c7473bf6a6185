"""Who travels on which seat of a booking, and whom to reach about it."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat, Contact
from kiti.core.errors import InvalidInput
from kiti.db import Database
from kiti.flows.holds import HoldLapsed


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A name for a seat. `trip` may be None where the booking has that seat on one trip only."""

    seat: str
    name: str
    trip: UUID | None = None


async def name_travellers(
    db: Database, *, booking: UUID, named: Sequence[Named], contact: Contact | None, actor: str
) -> None:
    """Put names to seats and, if given, a contact to the booking; all or nothing.

    Raises HoldLapsed, WrongState once it is paid, InvalidInput for a seat that is not in it, NotFound.
    """
    async with db.transaction() as tx:
        found = await bookings.lock(tx, booking=booking)
        if found.is_lapsed:
            raise HoldLapsed("The hold is over. Search again: the seats may still be free.")
        if not found.is_holding:
            raise WrongState(f"A booking that is {found.standing} keeps its passengers' names.")
        lines = await booking_reads.seats_of(tx, bookings=[booking])
        for traveller in named:
            line = _line_of(lines, traveller)
            await bookings.name_passenger(tx, booking=booking, trip=line.trip_id, seat=line.seat, name=traveller.name)
        if contact is not None:
            await bookings.set_contact(tx, booking=booking, contact=contact)
        await audit.record(tx, events=[Event(subject=booking, actor=actor, action="booking.passengers")])


def _line_of(lines: Sequence[BookedSeat], named: Named) -> BookedSeat:
    fitting = [line for line in lines if line.seat == named.seat and named.trip in {None, line.trip_id}]
    if len(fitting) != 1:
        problem = "is on several trips: say which by tripId" if fitting else "is not in this booking"
        raise InvalidInput("passengers", f"Seat {named.seat} {problem}.")
    return fitting[0]
