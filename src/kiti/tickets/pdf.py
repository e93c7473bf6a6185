"""Tickets as PDF: one page each, drawn by typst from `ticket.typ`."""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from kiti.tickets import qr
from kiti.tickets.model import TicketPage, TicketState, clock, day, short_day

if TYPE_CHECKING:
    import typst

# The words on the page, in English; a caller passes translations under the same names.
ENGLISH = {
    "ticket": "Ticket",
    "from": "From",
    "to": "To",
    "departs": "Departs",
    "seat": "Seat",
    "passenger": "Passenger",
    "deck": "Deck",
    "route": "Route",
    "fare": "Fare",
    "code": "Ticket code",
    "scan": "Code to scan at boarding",
    "show": "Show this page at boarding, on paper or on a screen.",
    "support": "Help",
    "used": "Used",
    "void": "Not valid",
}

_LONGEST_TEXT = 80
# Joiners are part of how some scripts are written; every other invisible character could only mislead.
_JOINERS = {"\u200c", "\u200d"}


class _Call(msgspec.Struct):
    time: str
    nights: int
    city: str
    name: str


class _Face(msgspec.Struct, rename={"from_": "from", "seat_class": "class"}):
    """One page of `ticket.typ`: every string is ready to be set."""

    operator: str
    vehicle: str
    day: str
    from_: _Call
    to: _Call
    seat: str
    seat_class: str
    passenger: str
    route: str
    fare: str
    code: str
    departs: str
    state: str
    support: str
    qr: str


def render(tickets: Sequence[TicketPage], *, locale: str, labels: Mapping[str, str] = ENGLISH) -> bytes:
    """The PDF of these tickets; the same tickets always give the same bytes.

    `locale` is en, fr or sw and decides dates and money; `labels` has the keys of ENGLISH. This computes for some
    50 ms a page (the first time longer: fonts are read), so a coroutine calls it with asyncio.to_thread; any
    number of threads may. Scripts that the built-in fonts lack are set in a system font, if there is one.
    """
    import typst  # noqa: PLC0415 - seven megabytes that only whoever draws needs

    assert tickets, "a PDF has at least one page"
    assert labels.keys() >= ENGLISH.keys(), "a label is missing"
    data = {
        "title": f"{labels['ticket']} {tickets[0].code if len(tickets) == 1 else tickets[0].reference}",
        "lang": locale.partition("_")[0],
        "labels": {name: _plain(labels[name]) for name in ENGLISH},
        "tickets": [_face(ticket, locale=locale, labels=labels) for ticket in tickets],
    }
    return typst.compile(
        _template(),
        format="pdf",
        font_paths=_fonts(),
        sys_inputs={"data": msgspec.json.encode(data).decode()},
        timestamp=int(max(ticket.issued_at for ticket in tickets).timestamp()),
    )


def _face(ticket: TicketPage, *, locale: str, labels: Mapping[str, str]) -> _Face:
    deck = f", {labels['deck']} {ticket.deck}" if ticket.deck_count > 1 else ""
    support = f"{labels['support']}: {ticket.support_phone}" if ticket.support_phone else ""
    return _Face(
        operator=_plain(ticket.operator_name),
        vehicle=_plain(f"{ticket.vehicle_name} {ticket.vehicle_registration}"),
        day=day(ticket.departure, locale=locale),
        from_=_Call(clock(ticket.departure), 0, _plain(ticket.from_city), _plain(ticket.from_name)),
        to=_Call(clock(ticket.arrival), ticket.nights, _plain(ticket.to_city), _plain(ticket.to_name)),
        seat=_plain(ticket.seat),
        seat_class=_plain(f"{ticket.seat_class.capitalize()}{deck}"),
        passenger=_plain(ticket.passenger_name) or "-",
        route=_plain(f"{ticket.route_code} {ticket.route_name}"),
        fare=ticket.price.format(locale),
        code=ticket.code,
        departs=f"{short_day(ticket.departure, locale=locale)}, {clock(ticket.departure)}",
        state=_state(ticket.state, labels=labels),
        support=_plain(support),
        qr=qr.svg(ticket.token, title=ticket.code),
    )


def _state(state: TicketState, *, labels: Mapping[str, str]) -> str:
    match state:
        case TicketState.VALID:
            return ""
        case TicketState.USED:
            return labels["used"]
        case TicketState.VOID:
            return labels["void"]


def _plain(text: str) -> str:
    """The text on one line, without control, direction and other invisible characters, and not endless."""
    visible = "".join(
        character if character in _JOINERS or not unicodedata.category(character).startswith("C") else " "
        for character in text
    )
    line = " ".join(visible.split())
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"


@cache
def _template() -> bytes:
    return resources.files("kiti.tickets").joinpath("ticket.typ").read_bytes()


@cache
def _fonts() -> "typst.Fonts":
    """Libertinus Serif and DejaVu Sans Mono come in the wheel; system fonts only fill in what they lack."""
    import typst  # noqa: PLC0415

    return typst.Fonts(include_system_fonts=True)
