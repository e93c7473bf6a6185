"""Tickets: for their holder, for the inspector, and the keys that prove them offline."""

from typing import Any, Literal
from uuid import UUID

from litestar import Controller, Request, Response, get, post

from kiti.api import wire
from kiti.api.access import check_booking, staff_of
from kiti.api.auth import STAFF_ONLY
from kiti.api.idempotency import keeping
from kiti.bookings import reads as booking_reads
from kiti.core import text
from kiti.core.errors import InvalidInput
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.inspect import inspect
from kiti.tickets import qr
from kiti.tickets import reads as ticket_reads
from kiti.tickets.model import AlreadyUsed, TicketPage, Unknown, Valid, Verdict, Voided, WrongTrip
from kiti.tickets.signing import jwks

Result = Literal["VALID", "ALREADY_USED", "VOID", "UNKNOWN", "WRONG_TRIP"]
KEYS_KEPT_SECONDS = 3600


class Tickets(Controller):
    """`/api/bookings/{id}/tickets` and `/api/tickets/verify`."""

    path = "/"
    tags = ("Tickets",)

    @get("/api/bookings/{booking_id:uuid}/tickets", summary="The tickets of a booking")
    async def of_booking(self, house: House, request: Request[Any, Any, Any], booking_id: UUID) -> wire.TicketsShape:
        """Empty until the booking is confirmed."""
        check_booking(request, booking_id, house.settings)
        async with house.db.reader() as reader:
            booking = await booking_reads.by_id(reader, booking=booking_id)
            pages = await ticket_reads.pages(reader, booking=booking_id)
        return wire.TicketsShape(
            booking_id=booking_id, reference=booking.reference, tickets=[_ticket(page) for page in pages]
        )

    @post("/api/tickets/verify", summary="Check a ticket at the door", status_code=200, security=STAFF_ONLY)
    async def verify(self, house: House, request: Request[Any, Any, Any], data: wire.VerifyBody) -> wire.VerdictShape:
        """Tells valid, already used (when, where), void, unknown, wrong trip; marks a valid one used.

        For staff of the trip's operator, or of the platform.
        """
        staff = await staff_of(request, house)
        scanned = data.token or data.code
        if not scanned.strip():
            raise InvalidInput("token", "Give the token of the QR code, or the code below it.")
        where = text.clean(data.where, field="where", length=120)

        async def told(_: Transaction, verdict: Verdict) -> wire.VerdictShape:
            return _verdict(verdict)

        verdict = await inspect(
            house,
            scanned=scanned,
            trip=data.trip_id,
            where=where,
            use=data.use,
            staff=staff,
            keep=keeping(request, told),
        )
        return _verdict(verdict)

    @get("/.well-known/kiti-ticket-keys.json", summary="The public keys that prove tickets offline")
    async def keys(self, house: House) -> Response[dict[str, Any]]:
        """A JWK set; a scanner keeps it and needs no network."""
        async with house.db.reader() as reader:
            keys = await ticket_reads.public_keys(reader)
        return Response(jwks(keys.values()), headers={"Cache-Control": f"public, max-age={KEYS_KEPT_SECONDS}"})


def _ticket(page: TicketPage) -> wire.TicketShape:
    return wire.TicketShape(
        ticket_id=page.id,
        code=page.code,
        status=page.state.value.upper(),  # type: ignore[arg-type] # the states in capitals
        trip_id=page.trip_id,
        seat_number=page.seat,
        seat_class=page.seat_class,
        passenger_name=page.passenger_name,
        from_=page.from_code,
        to=page.to_code,
        departure_at=page.departs_at,
        arrival_at=page.arrives_at,
        timezone=page.from_timezone,
        operator=page.operator_name,
        token=page.token,
        qr=qr.svg(page.token, title=page.code),
    )


def _verdict(verdict: Verdict) -> wire.VerdictShape:
    match verdict:
        case Valid(ticket=ticket):
            return _told("VALID", "Valid. Let them board.", ticket)
        case AlreadyUsed(ticket=ticket, at=at, where=where):
            place = f" at {where}" if where else ""
            return _told("ALREADY_USED", f"Already used {at:%Y-%m-%d %H:%M} UTC{place}.", ticket)
        case Voided(ticket=ticket, reason=reason):
            return _told("VOID", f"Void: {reason}" if reason else "Void.", ticket)
        case WrongTrip(ticket=ticket):
            return _told("WRONG_TRIP", "A genuine ticket, for another trip.", ticket)
        case Unknown(cause=cause):
            return wire.VerdictShape(
                result="UNKNOWN", valid=False, message=f"No ticket of ours ({cause.replace('_', ' ')})."
            )


def _told(result: Result, message: str, ticket: Any) -> wire.VerdictShape:
    return wire.VerdictShape(
        result=result,
        valid=result == "VALID",
        message=message,
        ticket_id=ticket.id,
        trip_id=ticket.trip_id,
        seat_number=ticket.seat,
        used_at=ticket.used_at if result == "ALREADY_USED" else None,
        used_where=ticket.used_where if result == "ALREADY_USED" else None,
    )
