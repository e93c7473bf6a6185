"""Writing verbs of bookings."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from psycopg.errors import UniqueViolation

from kiti.bookings.model import TRANSITIONS, BookedSeat, Booking, Contact, Due, GivenBack, NewBooking, State
from kiti.core.errors import KitiError, NotFound
from kiti.core.ids import new_id, new_reference
from kiti.db import Transaction, load

sql = load("kiti.bookings")


class WrongState(KitiError):
    """The booking is not in a state in which this can be done."""


async def open_bookings(
    tx: Transaction, *, bookings: Sequence[NewBooking], held_at: datetime, cap_seconds: int
) -> None:
    """Insert bookings with their seats, all in state held from `held_at` on, extensible for `cap_seconds` at most.

    Three statements whatever the number of bookings. Where a reference exists, `is_reference_taken` tells so of the
    error that the transaction ends with.
    """
    await tx.send(
        sql.open_references,
        references=[b.reference for b in bookings],
        bookings=[b.id for b in bookings],
    )
    await tx.send(
        sql.open_bookings,
        held_at=held_at,
        cap_seconds=cap_seconds,
        ids=[b.id for b in bookings],
        references=[b.reference for b in bookings],
        currencies=[b.currency for b in bookings],
        amounts=[b.amount for b in bookings],
        names=[b.contact.name for b in bookings],
        emails=[b.contact.email for b in bookings],
        phones=[b.contact.phone for b in bookings],
        languages=[b.language for b in bookings],
        hold_seconds=[b.hold_seconds for b in bookings],
    )
    lines = [(b.id, position, seat) for b in bookings for position, seat in enumerate(b.seats, 1)]
    await tx.send(
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


async def draw_references(tx: Transaction, *, count: int) -> Callable[[], Awaitable[list[str]]]:
    """References that nobody has, when called for. Drawing one that exists becomes likely with millions of bookings.

    Between this and the commit somebody else may draw the same; `is_reference_taken` tells of it.
    """
    drawn = [new_reference() for _ in range(count)]
    taken = await tx.ask(sql.taken_references, tuple, references=drawn)

    async def free() -> list[str]:
        clashes = {reference for (reference,) in await taken()}
        return [new_reference() if reference in clashes else reference for reference in drawn] if clashes else drawn

    return free


def is_reference_taken(error: Exception) -> bool:
    """Whether a freshly drawn reference existed already, although it did not when it was drawn: draw again."""
    return isinstance(error, UniqueViolation) and error.diag.table_name == "booking_reference"


async def lock(tx: Transaction, *, booking: UUID) -> Booking:
    """The booking, locked until the transaction ends; raises NotFound."""
    found = await tx.maybe(sql.lock_by_id, Booking, id=booking)
    if found is None:
        raise NotFound("There is no such booking.")
    return found


async def lock_many(tx: Transaction, *, bookings: Sequence[UUID]) -> Callable[[], Awaitable[dict[UUID, Booking]]]:
    """Lock bookings until the transaction ends; those that there are, when called for.

    What is asked after this, though nobody has waited for it yet, sees them as they stand once they are locked.
    """
    found = await tx.ask(sql.lock_many, Booking, ids=list(bookings))

    async def locked() -> dict[UUID, Booking]:
        return {booking.id: booking for booking in await found()}

    return locked


async def move(tx: Transaction, *, booking: Booking, to: State) -> Booking:
    """Change the state by one of TRANSITIONS; raises WrongState where the table or the row forbids it."""
    (moved,) = await (await move_many(tx, bookings=[booking], to=to))()
    return moved


async def move_many(
    tx: Transaction, *, bookings: Sequence[Booking], to: State
) -> Callable[[], Awaitable[list[Booking]]]:
    """The same for many; the bookings as they then stand, when called for. Raises WrongState, then at latest.

    Whoever does not call for them does not know whether the rows were still as they had been read.
    """
    for booking in bookings:
        if to not in TRANSITIONS[booking.state]:
            raise WrongState(f"A booking that is {booking.state} cannot become {to}.")
    changed = await tx.ask(
        sql.move, Due, ids=[b.id for b in bookings], from_states=[b.state for b in bookings], to_state=to
    )

    async def moved() -> list[Booking]:
        ids = {row.id for row in await changed()}
        for booking in bookings:
            if booking.id not in ids:
                raise WrongState(f"The booking is no longer {booking.state}.")
        return [msgspec.structs.replace(booking, state=to) for booking in bookings]

    return moved


async def set_hold(tx: Transaction, *, booking: UUID, expires_at: datetime, is_asked_for: bool) -> None:
    """Say until when the seats are held; raises WrongState unless the booking is still unpaid."""
    await set_holds(tx, until={booking: expires_at}, is_asked_for=is_asked_for)


async def set_holds(tx: Transaction, *, until: Mapping[UUID, datetime], is_asked_for: bool) -> None:
    """The same for many bookings, each until its own end; raises WrongState unless all of them are still unpaid."""
    changed = await tx.many(sql.set_holds, Due, ids=list(until), expires_ats=list(until.values()), asked=is_asked_for)
    if len(changed) != len(until):
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


class _Position(msgspec.Struct, frozen=True):
    trip_id: UUID
    seat: str
    position: int


async def reseat(tx: Transaction, *, booking: UUID, changes: Sequence[tuple[BookedSeat, BookedSeat]]) -> None:
    """Put new seat lines in the places of old ones, all at once: seats may be exchanged among themselves.

    Raises NotFound where the booking has not all of the old ones.
    """
    taken = await tx.many(
        sql.take_lines,
        _Position,
        booking=booking,
        trips=[old.trip_id for old, _ in changes],
        seats=[old.seat for old, _ in changes],
    )
    if len(taken) != len(changes):
        raise NotFound("The booking has no such seats any more.")
    positions = {(row.trip_id, row.seat): row.position for row in taken}
    await tx.execute(
        sql.put_lines,
        booking=booking,
        trips=[new.trip_id for _, new in changes],
        seats=[new.seat for _, new in changes],
        from_seqs=[new.from_seq for _, new in changes],
        to_seqs=[new.to_seq for _, new in changes],
        positions=[positions[old.trip_id, old.seat] for old, _ in changes],
        operators=[new.operator_id for _, new in changes],
        classes=[new.seat_class for _, new in changes],
        fares=[new.fare for _, new in changes],
        passenger_names=[new.passenger_name for _, new in changes],
    )


async def renew_arrival(tx: Transaction, *, booking: UUID) -> None:
    """Say again when the last trip of a confirmed booking arrives; of another booking it is said later."""
    await tx.execute(sql.renew_arrival, id=booking)


async def cancel_seats(tx: Transaction, *, booking: UUID, seats: Sequence[GivenBack]) -> None:
    """Take seat lines out of a booking that keeps others, and keep what was given back for each.

    Raises NotFound where the booking has not all of them.
    """
    gone = await tx.many(
        sql.cancel_lines,
        Due,
        booking=booking,
        ids=[new_id() for _ in seats],
        trips=[seat.line.trip_id for seat in seats],
        seats=[seat.line.seat for seat in seats],
        percents=[seat.percent for seat in seats],
        fees=[seat.fee for seat in seats],
        refunded=[seat.refunded for seat in seats],
    )
    if len(gone) != len(seats):
        raise NotFound("The booking has no such seats any more.")


async def note_replacements(
    tx: Transaction, *, booking: UUID, changes: Sequence[tuple[BookedSeat, BookedSeat]], decline_until: datetime
) -> None:
    """Write down which seats a booking has got in the place of lost ones, and until when that may be declined."""
    await tx.execute(
        sql.note_replacements,
        booking=booking,
        trips=[old.trip_id for old, _ in changes],
        lost_seats=[old.seat for old, _ in changes],
        seats=[new.seat for _, new in changes],
        decline_until=decline_until,
    )
