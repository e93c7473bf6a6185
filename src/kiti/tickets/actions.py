"""Issuing tickets, taking them at the door, voiding them."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from kiti.core.errors import KitiError, NotFound
from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.tickets import reads, signing
from kiti.tickets.model import Ticket, TicketState, Valid, Verdict, check
from kiti.tickets.signing import Claims, PublicKeys, SealedByAnotherSecret, SigningKey

sql = load("kiti.tickets")


class NothingToTicket(KitiError):
    """The booking is not confirmed, or has no seats."""


class TicketNotValid(KitiError):
    """The ticket is used or void, so nobody can board with it."""

    def __init__(self, state: TicketState) -> None:
        super().__init__(f"The ticket is {state}.")
        self.state = state


class TicketsUsed(KitiError):
    """Somebody has boarded with these tickets, so nothing about them can be changed."""

    def __init__(self, seats: Sequence[str]) -> None:
        super().__init__(f"Somebody has boarded with the ticket for {', '.join(seats)}; it can no longer be changed.")
        self.seats = list(seats)


class _SealedKey(msgspec.Struct, frozen=True):
    kid: str
    public_key: str
    private_key: bytes


class _Boarded(msgspec.Struct, frozen=True):
    seat: str


class _Seat(msgspec.Struct, frozen=True):
    booking_id: UUID
    trip_id: UUID
    seat: str
    passenger_name: str
    from_code: str
    to_code: str
    departs_at: datetime


async def ensure_key(tx: Transaction, *, secret: str) -> SigningKey:
    """The newest signing key that `secret` opens; a new one if there is none.

    Keys of an earlier secret stay published, so the tickets they signed stay good. Processes that start together
    wait for one another here and end up with the same key.
    """
    found = await _newest_key(tx, secret=secret)
    if found is not None:
        return found
    await tx.execute(sql.serialise_key_making)
    found = await _newest_key(tx, secret=secret)
    if found is not None:
        return found
    key = signing.new_key()
    published = msgspec.json.encode(signing.jwk(key.public)).decode()
    await tx.execute(sql.add_key, kid=key.kid, public_key=published, private_key=signing.seal(key, secret=secret))
    return key


async def issue(
    tx: Transaction, *, booking: UUID, key: SigningKey, only: Collection[tuple[UUID, str]] | None = None
) -> list[Ticket]:
    """One ticket for each seat of a confirmed booking; those that exist already and are not void stay as they are.

    Call it after the booking was confirmed, in the same transaction; with `only` some trips and seats, after these
    have changed. Gives all tickets of the booking, in the order of its seats. Raises NothingToTicket.
    """
    seats = await tx.many(sql.seats_to_ticket, _Seat, bookings=[booking])
    if only is not None:
        seats = [seat for seat in seats if (seat.trip_id, seat.seat) in only]
    if not seats:
        raise NothingToTicket("Only a confirmed booking has tickets.")
    await _issue(tx, seats, key)
    return await reads.of_booking(tx, booking=booking)


async def issue_many(tx: Transaction, *, bookings: Sequence[UUID], key: SigningKey) -> None:
    """The same for every seat of many bookings; nobody has to hear of the tickets. Raises NothingToTicket."""
    seats = await tx.many(sql.seats_to_ticket, _Seat, bookings=list(bookings))
    if {seat.booking_id for seat in seats} != set(bookings):
        raise NothingToTicket("Only a confirmed booking has tickets.")
    await _issue(tx, seats, key)


async def mark_used(tx: Transaction, *, booking: UUID, ticket: UUID, where: str) -> Ticket:
    """Take the ticket at the door. Of two inspectors only one succeeds; raises TicketNotValid or NotFound."""
    used = await tx.maybe(sql.mark_used, reads.ticket_row, booking=booking, ticket=ticket, place=where)
    if used is not None:
        return used
    there = await reads.one(tx, booking=booking, ticket=ticket)
    if there is None:
        raise NotFound("There is no such ticket.")
    raise TicketNotValid(there.state)


async def void(tx: Transaction, *, booking: UUID, reason: str, trip: UUID | None = None) -> list[Ticket]:
    """Void the valid tickets of a booking, or only those for `trip`; gives the ones voided now.

    Used tickets stay used: that journey took place. Voiding again finds nothing left to void.
    """
    return await tx.many(sql.void, reads.ticket_row, booking=booking, trip=trip, reason=reason)


async def void_seats(tx: Transaction, *, booking: UUID, trip: UUID, seats: Sequence[str], reason: str) -> list[Ticket]:
    """Void the tickets of some seats of a booking; gives the ones voided now. Raises TicketsUsed."""
    voided = await tx.many(
        sql.void_seats, reads.ticket_row, booking=booking, trip=trip, seats=list(seats), reason=reason
    )
    # Asked afterwards: an inspector who was quicker has committed by now, who comes later finds them void.
    boarded = await tx.many(sql.boarded, _Boarded, booking=booking, trip=trip, seats=list(seats))
    if boarded:
        raise TicketsUsed([row.seat for row in boarded])
    return voided


async def verify_and_use(
    tx: Transaction, *, token_or_code: str, trip: UUID | None, where: str, keys: PublicKeys
) -> Verdict:
    """Judge what an inspector of `trip` scanned or typed, and take the ticket if it is valid.

    `token_or_code` is the QR code's token or the ticket's code, such as "K7MPQR-12A". Without a `trip` any will do,
    and a code that fits two of them means the one whose departure is nearest. Of two scans of one ticket
    exactly one is told Valid, however close together; the other learns when and where the first was.
    """
    verdict = await reads.verify(tx, token_or_code=token_or_code, trip=trip, keys=keys)
    if not isinstance(verdict, Valid):
        return verdict
    booking, ticket = verdict.ticket.booking_id, verdict.ticket.id
    try:
        return Valid(await mark_used(tx, booking=booking, ticket=ticket, where=where))
    except TicketNotValid:
        # Another scan, or a cancellation, came between the reading and the writing.
        return check(await reads.one(tx, booking=booking, ticket=ticket), trip=trip)


async def _issue(tx: Transaction, seats: Sequence[_Seat], key: SigningKey) -> None:
    ids = [new_id() for _ in seats]
    await tx.send(
        sql.issue,
        bookings=[seat.booking_id for seat in seats],
        ids=ids,
        trips=[seat.trip_id for seat in seats],
        seats=[seat.seat for seat in seats],
        tokens=[signing.sign(_claims(seat, ticket), key=key) for seat, ticket in zip(seats, ids, strict=True)],
    )


async def _newest_key(tx: Transaction, *, secret: str) -> SigningKey | None:
    for row in await tx.many(sql.signing_keys, _SealedKey):
        try:
            return signing.unseal(row.private_key, kid=row.kid, secret=secret)
        except SealedByAnotherSecret:
            continue  # an older key may still open
    return None


def _claims(seat: _Seat, ticket: UUID) -> Claims:
    return Claims(
        ticket=ticket,
        booking=seat.booking_id,
        trip=seat.trip_id,
        seat=seat.seat,
        from_code=seat.from_code,
        to_code=seat.to_code,
        departs_at=int(seat.departs_at.timestamp()),
        initials=signing.initials(seat.passenger_name),
    )
