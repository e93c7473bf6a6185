"""Tickets for pages, PDFs, inspectors; the keys that prove them."""

from typing import Any
from uuid import UUID

import msgspec

from kiti.db import Reader, load
from kiti.tickets import signing
from kiti.tickets.model import Ticket, TicketPage, TicketState, Unknown, Verdict, check, parse_code
from kiti.tickets.signing import Forged, Jwk, Malformed, PublicKeys

sql = load("kiti.tickets")


class _PublishedKey(msgspec.Struct, frozen=True):
    kid: str
    public_key: str


async def of_booking(reader: Reader, *, booking: UUID) -> list[Ticket]:
    """Every ticket of a booking in the order of its seats; tickets of seats given up come last."""
    return await reader.many(sql.tickets_of_booking, ticket_row, booking=booking)


async def one(reader: Reader, *, booking: UUID, ticket: UUID) -> Ticket | None:
    """A ticket by its ids."""
    return await reader.maybe(sql.ticket, ticket_row, booking=booking, ticket=ticket)


async def pages(reader: Reader, *, booking: UUID) -> list[TicketPage]:
    """What the ticket page and the PDF show, by departure, then by seat; seats given up have no page."""
    return await reader.many(sql.pages, _page, booking=booking, ticket=None)


async def page(reader: Reader, *, booking: UUID, ticket: UUID) -> TicketPage | None:
    """The same for one ticket, such as the one just scanned."""
    found = await reader.many(sql.pages, _page, booking=booking, ticket=ticket)
    return found[0] if found else None


async def public_keys(reader: Reader) -> PublicKeys:
    """Every key that ever signed a ticket, by kid, the newest first; `signing.jwks(keys.values())` publishes them."""
    rows = await reader.many(sql.public_keys, _PublishedKey)
    return {row.kid: signing.public_key(msgspec.json.decode(row.public_key, type=Jwk)) for row in rows}


async def verify(reader: Reader, *, token_or_code: str, trip: UUID | None, keys: PublicKeys) -> Verdict:
    """Judge what an inspector of `trip` scanned or typed, and change nothing."""
    text = token_or_code.strip()
    code = parse_code(text)
    if code is not None:
        found = await reader.maybe(sql.ticket_by_code, ticket_row, reference=code.reference, seat=code.seat, trip=trip)
        return check(found, trip=trip)
    try:
        claims = signing.verify(text, keys=keys)
    except Malformed:
        return Unknown("malformed")
    except Forged:
        return Unknown("forged")
    return check(await one(reader, booking=claims.booking, ticket=claims.ticket), trip=trip)


def ticket_row(*, state: str, **columns: Any) -> Ticket:
    """A row of `ticket` as a struct."""
    return Ticket(state=TicketState(state), **columns)


def _page(*, state: str, **columns: Any) -> TicketPage:
    return TicketPage(state=TicketState(state), **columns)
