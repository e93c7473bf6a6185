"""Reading bookings."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from kiti.bookings.model import BookedSeat, Booking, BookingName, CancelledSeat, Due, PaidSeat, Replacement
from kiti.core.errors import NotFound
from kiti.db import Reader, load

sql = load("kiti.bookings")


class Stray(msgspec.Struct, frozen=True, kw_only=True):
    """A seat where booking and claim disagree; there should be none."""

    booking_id: UUID
    trip_id: UUID
    seat: str


async def by_id(reader: Reader, *, booking: UUID) -> Booking:
    """The booking; raises NotFound."""
    found = await reader.maybe(sql.by_id, Booking, id=booking)
    if found is None:
        raise NotFound("There is no such booking.")
    return found


async def seats_of(reader: Reader, *, bookings: Sequence[UUID]) -> list[BookedSeat]:
    """The seat lines of bookings, each booking's in the traveller's order; those that were cancelled are none."""
    return await reader.many(sql.seats_of, BookedSeat, bookings=list(bookings))


async def cancelled_seats(reader: Reader, *, booking: UUID) -> list[CancelledSeat]:
    """What was cancelled of a booking while the rest of it stayed, in the order in which that was done."""
    return await reader.many(sql.cancelled_seats, CancelledSeat, booking=booking)


async def every_seat_of(reader: Reader, *, bookings: Sequence[UUID]) -> list[PaidSeat]:
    """Every seat that these bookings were paid for, those that were cancelled since among them."""
    return await reader.many(sql.every_seat_of, PaidSeat, bookings=list(bookings))


async def operators_of(reader: Reader, *, booking: UUID) -> set[UUID]:
    """Whose seats a booking was made for, cancelled ones included."""
    return {row.id for row in await reader.many(sql.operators_of, Due, booking=booking)}


async def replacements(reader: Reader, *, booking: UUID) -> list[Replacement]:
    """The seats that a booking got instead of lost ones; nearly always none."""
    return await reader.many(sql.replacements, Replacement, booking=booking)


async def by_reference_and_phone(reader: Reader, *, reference: str, phone: str) -> UUID:
    """The id of the booking with that reference and E.164 phone number; raises NotFound."""
    found = await reader.maybe(sql.by_reference_and_phone, Due, reference=reference, phone=phone)
    if found is None:
        raise NotFound("No booking has that reference and phone number. Check both and try again.")
    return found.id


async def by_reference(reader: Reader, *, reference: str) -> UUID:
    """The id of the booking with that reference, for staff: a reference alone is no right. Raises NotFound."""
    found = await reader.maybe(sql.by_reference, Due, reference=reference)
    if found is None:
        raise NotFound(f"No booking has the reference {reference}.")
    return found.id


async def names_of(reader: Reader, *, bookings: Sequence[UUID]) -> dict[UUID, BookingName]:
    """Reference and state of those of these ids that are bookings."""
    return {row.id: row for row in await reader.many(sql.names_of, BookingName, bookings=list(bookings))}


async def confirmed_without_claims(reader: Reader) -> list[Stray]:
    """Up to 100 seats of confirmed bookings that they do not own."""
    return await reader.many(sql.confirmed_without_claims, Stray)


async def claims_without_owner(reader: Reader) -> list[Stray]:
    """Up to 100 claims whose owner is no booking that may have them."""
    return await reader.many(sql.claims_without_owner, Stray)


async def on_trip(reader: Reader, *, trip: UUID, after: UUID, limit: int) -> list[UUID]:
    """Bookings with seats on a trip that are paid for, or may yet be; those behind `after`, by id."""
    return [row.id for row in await reader.many(sql.on_trip, Due, trip=trip, after=after, limit=limit)]


async def boarded_unrecognised(reader: Reader, *, trip: UUID, after: UUID, limit: int) -> list[UUID]:
    """Paid bookings that have boarded a trip without revenue for it; those behind `after`, by id."""
    return [row.id for row in await reader.many(sql.boarded_unrecognised, Due, trip=trip, after=after, limit=limit)]


async def unreminded(reader: Reader, *, first: UUID, last: UUID, limit: int) -> list[Booking]:
    """Bookings with ids from `first` to before `last` whose holders have not paid, nor been told how to."""
    return await reader.many(sql.unreminded, Booking, first=first, last=last, limit=limit)
