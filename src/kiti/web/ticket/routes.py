"""Tickets as a page and as a PDF."""

import asyncio
from typing import Any
from uuid import UUID

from litestar import Request, Response, get

from kiti.core.errors import NotFound
from kiti.flows.house import House
from kiti.tickets import pdf, qr
from kiti.tickets import reads as ticket_reads
from kiti.tickets.model import TicketPage
from kiti.web.booking.routes import my_booking, to_booking
from kiti.web.page import rights
from kiti.web.page.language import Words, marked
from kiti.web.page.render import page, words_of

# So many QR codes stay within the 40 KB that a page of tickets may weigh.
PER_PAGE = 6
PDF_LABELS = {
    "ticket": marked("Ticket"),
    "from": marked("From"),
    "to": marked("To"),
    "departs": marked("Departs"),
    "seat": marked("Seat"),
    "passenger": marked("Passenger"),
    "deck": marked("Deck"),
    "route": marked("Route"),
    "fare": marked("Fare"),
    "code": marked("Ticket code"),
    "scan": marked("Code to scan at boarding"),
    "show": marked("Show this page at boarding, on paper or on a screen."),
    "support": marked("Help"),
    "used": marked("Used"),
    "void": marked("Not valid"),
}


@get("/bookings/{booking_id:uuid}/ticket")
async def show_tickets(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """Some tickets of the booking, most bookings have them on one page."""
    view = await my_booking(request, house, booking_id)
    async with house.db.reader() as reader:
        tickets = await ticket_reads.pages(reader, booking=booking_id)
    if not tickets:
        return to_booking(booking_id)
    asked = request.query_params.get("part", "1")[:3]
    parts = -(-len(tickets) // PER_PAGE)
    part = min(max(int(asked), 1), parts) if asked.isdecimal() else 1
    shown = tickets[(part - 1) * PER_PAGE : part * PER_PAGE]
    return page(
        request,
        "ticket/ticket.html",
        view=view,
        booking=view.booking,
        price=view.price,
        tickets=[(ticket, qr.svg(ticket.token, title=ticket.code)) for ticket in shown],
        part=part,
        parts=parts,
    )


@get("/bookings/{booking_id:uuid}/ticket.pdf", opt={"is_compressed_already": True})
async def ticket_pdf(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[bytes]:
    """All tickets of the booking, one a page, to print or to keep."""
    rights.check(request, booking_id, house.settings)
    async with house.db.reader() as reader:
        tickets = await ticket_reads.pages(reader, booking=booking_id)
    if not tickets:
        raise NotFound("There are no tickets yet.")
    words = words_of(request)
    body = await asyncio.to_thread(_draw, tickets, words)
    name = f"kiti-{tickets[0].reference}.pdf"
    return Response(
        body, media_type="application/pdf", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _draw(tickets: list[TicketPage], words: Words) -> bytes:
    labels = {name: words.gettext(label) for name, label in PDF_LABELS.items()}
    return pdf.render(tickets, locale=words.language, labels=labels)


ROUTES = [show_tickets, ticket_pdf]
