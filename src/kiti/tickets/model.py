"""Tickets: states, what is printed on one, and what an inspector is told. Pure."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

import msgspec
from babel.dates import format_date

from kiti.core.clock import local
from kiti.core.ids import REFERENCE_ALPHABET, REFERENCE_LENGTH
from kiti.core.money import Money

_CODE = re.compile(rf"([{REFERENCE_ALPHABET}]{{{REFERENCE_LENGTH}}})[-\s]*([A-Z0-9]{{1,8}})", re.ASCII)
# The day in full and in short, in the order of English, French and Swahili readers alike.
_DAY = "EEEE d MMMM y"
_SHORT_DAY = "EEE d MMM"


class TicketState(StrEnum):
    """A ticket is good for one boarding."""

    VALID = "valid"
    USED = "used"
    VOID = "void"


TRANSITIONS: dict[TicketState, frozenset[TicketState]] = {
    TicketState.VALID: frozenset({TicketState.USED, TicketState.VOID}),
    TicketState.USED: frozenset(),
    TicketState.VOID: frozenset(),
}


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """One seat of one booking on one trip. `token` is signed; it is what the QR code holds."""

    booking_id: UUID
    id: UUID
    trip_id: UUID
    seat: str
    state: TicketState
    token: str
    issued_at: datetime
    used_at: datetime | None
    used_where: str | None
    void_reason: str | None


class TicketPage(msgspec.Struct, frozen=True, kw_only=True):
    """All that a ticket's page, its PDF and an inspector's screen show.

    Times are instants in UTC; `departure` and `arrival` put them on the clocks of their stops. `deck_count` says
    whether naming the deck helps anybody. `fare` is in minor units of `currency`.
    """

    booking_id: UUID
    id: UUID
    reference: str
    language: str
    trip_id: UUID
    seat: str
    seat_class: str
    deck: int
    deck_count: int
    passenger_name: str
    state: TicketState
    token: str
    issued_at: datetime
    used_at: datetime | None
    used_where: str | None
    void_reason: str | None
    operator_name: str
    support_phone: str
    route_code: str
    route_name: str
    from_code: str
    from_name: str
    from_city: str
    from_timezone: str
    departs_at: datetime
    to_code: str
    to_name: str
    to_city: str
    to_timezone: str
    arrives_at: datetime
    vehicle_kind: str
    vehicle_name: str
    vehicle_registration: str
    fare: int
    currency: str

    @property
    def code(self) -> str:
        """What a person reads aloud when the QR code cannot be scanned: "K7MPQR-12A"."""
        return f"{self.reference}-{self.seat}"

    @property
    def price(self) -> Money:
        """The fare of this seat."""
        return Money(self.fare, self.currency)

    @property
    def departure(self) -> datetime:
        """On the clock of the stop where the traveller gets on."""
        return local(self.departs_at, timezone=self.from_timezone)

    @property
    def arrival(self) -> datetime:
        """On the clock of the stop where the traveller gets off."""
        return local(self.arrives_at, timezone=self.to_timezone)

    @property
    def nights(self) -> int:
        """How many local dates after its departure the journey ends."""
        return (self.arrival.date() - self.departure.date()).days


class Code(msgspec.Struct, frozen=True):
    """A ticket named by hand: the booking's reference and the seat."""

    reference: str
    seat: str


class Valid(msgspec.Struct, frozen=True):
    """Let them board. After `verify_and_use` the ticket in here has become used, just now."""

    ticket: Ticket


class AlreadyUsed(msgspec.Struct, frozen=True):
    """Somebody boarded with it before: when, and where."""

    ticket: Ticket
    at: datetime
    where: str


class Voided(msgspec.Struct, frozen=True):
    """It was cancelled, refunded or replaced; the reason says which."""

    ticket: Ticket
    reason: str


class WrongTrip(msgspec.Struct, frozen=True):
    """A genuine ticket, for another trip: `ticket.trip_id`."""

    ticket: Ticket


class Unknown(msgspec.Struct, frozen=True):
    """No ticket of ours: the signature is not ours, the text is no ticket at all, or there is no such ticket."""

    cause: Literal["forged", "malformed", "not_found"]


Verdict = Valid | AlreadyUsed | Voided | WrongTrip | Unknown


def parse_code(text: str) -> Code | None:
    """The code in what an inspector typed: case, spaces and a missing hyphen do not matter. None if it is none."""
    found = _CODE.fullmatch(text.strip().upper())
    return Code(found[1], found[2]) if found else None


def check(ticket: Ticket | None, *, trip: UUID | None) -> Verdict:
    """What the inspector of `trip` is told about a ticket as the database has it; None: any trip is right."""
    if ticket is None:
        return Unknown("not_found")
    if trip is not None and ticket.trip_id != trip:
        return WrongTrip(ticket)
    match ticket.state:
        case TicketState.VALID:
            return Valid(ticket)
        case TicketState.USED:
            assert ticket.used_at is not None, "the database's CHECK ties the time to the state"
            return AlreadyUsed(ticket, at=ticket.used_at, where=ticket.used_where or "")
        case TicketState.VOID:
            return Voided(ticket, reason=ticket.void_reason or "")


def day(moment: datetime, *, locale: str) -> str:
    """A local date in full: "Tuesday 3 March 2026", "mardi 3 mars 2026", "Jumanne 3 Machi 2026"."""
    return format_date(moment.date(), format=_DAY, locale=locale)


def short_day(moment: datetime, *, locale: str) -> str:
    """A local date for a stub: "Tue 3 Mar"."""
    return format_date(moment.date(), format=_SHORT_DAY, locale=locale)


def clock(moment: datetime) -> str:
    """A local time, 24 hours, alike in every language: "07:30"."""
    return f"{moment:%H:%M}"
