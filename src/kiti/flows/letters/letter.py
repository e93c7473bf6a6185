"""From a message to what is read: a mail with its text and its HTML, or a text message.

For each event there is a template with the blocks `subject`, `story`, `action` and `sms`, all of them plain text.
`letter.txt` and `letter.mjml` put them together; only the latter makes HTML, and escapes all that goes into it. MJML
becomes HTML once, before any value is in it, so nothing that a person typed is ever parsed as markup.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from jinja2 import DictLoader, Environment, StrictUndefined, Template, pass_context
from jinja2.runtime import Context

from kiti.bookings.model import BookedSeat
from kiti.core.clock import local
from kiti.core.money import Money
from kiti.core.tokens import hold_token
from kiti.flows.letters.words import Words, fold, words
from kiti.gateways.mail import Letter
from kiti.messages.model import Message
from kiti.network.model import TripDetail

# So much of a city's name, and so many seats, that a text message stays one.
SMS_CITY_LENGTH = 14
SMS_SEATS = 3
HTML = "letter.html"
DASH = "\u2013"


class Ride(msgspec.Struct, frozen=True, kw_only=True):
    """One trip of a booking, in words. Times are those on the clocks of the stops."""

    boards: str
    alights: str
    boards_at: str
    alights_at: str
    day: str
    departs: str
    arrives: str
    seats: tuple[str, ...]
    seats_line: str
    operator: str
    short_departure: str


class About(msgspec.Struct, frozen=True, kw_only=True):
    """All that a letter is made of: the message, the seat lines of its booking, their trips, where we are."""

    message: Message
    lines: Sequence[BookedSeat]
    trips: Mapping[Any, TripDetail]
    base_url: str
    secret: str


def write_mail(about: About) -> Letter:
    """The message as a mail."""
    message = about.message
    said = _said(about)
    template = _texts().get_template(f"{message.kind}.txt")
    context = {
        **said,
        "subject": _line(_block(template, "subject", said)),
        "story": [line for line in _block(template, "story", said).splitlines() if line.strip()],
        "action": _line(_block(template, "action", said)),
    }
    return Letter(
        id=message.id,
        to=message.recipient,
        subject=context["subject"],
        text=_texts().get_template("letter.txt").render(context),
        html=_html().get_template(HTML).render(context),
        language=said["language"],
    )


def write_text(about: About) -> str:
    """The message as a text message: 160 characters of GSM-7 where names and our own address are not too long.

    It leads to the page where reference and number open the booking: who got it has both, and no right travels in it.
    """
    said = _said(about)
    return fold(_block(_texts().get_template(f"{about.message.kind}.txt"), "sms", said))


def _said(about: About) -> dict[str, Any]:
    """The values that templates may name."""
    message = about.message
    said = words(message.language)
    rides = _rides(about, said)
    amount = Money(int(message.data.get("amount", message.amount)), str(message.data.get("currency", message.currency)))
    boards = about.trips[about.lines[0].trip_id].stops[about.lines[0].from_seq]
    page = "/ticket" if message.kind == "ticket" else ""
    token = hold_token(message.booking_id, secret=about.secret)
    return {
        "words": said,
        "language": said.language,
        "greeting": _greeting(said, message.contact_name),
        "reference": message.reference,
        "reference_line": said.say(REFERENCE, reference=message.reference),
        "notice": said.gettext(NOTICE),
        "rides": rides,
        "route": f"{rides[0].boards} {DASH} {rides[-1].alights}",
        "ride": _short(rides),
        "until": f"{local(message.hold_expires_at, timezone=boards.timezone):%H:%M}",
        "amount": amount.format(said.language),
        "is_holding": message.is_holding,
        "is_by_operator": "trip" in message.data,
        "gone": str(message.data.get("gone", "")),
        "gone_seats": str(message.data.get("gone_seats", "")),
        "goes_back": int(message.data.get("amount", 0)) > 0,
        "lost": str(message.data.get("lost", "")),
        "decline_until": _moment(str(message.data.get("decline_until", "")), boards.timezone),
        "link": f"{about.base_url}/bookings/{message.booking_id}{page}?token={token}",
        "find": f"{about.base_url}/find",
    }


def marked(message: str) -> str:
    """The same message; the call puts it into the catalogues, for `gettext` of a variable elsewhere."""
    return message


HELLO = marked("Hello %(name)s,")
HELLO_ANYBODY = marked("Hello,")
REFERENCE = marked("Your reference is %(reference)s.")
NOTICE = marked("The button opens your booking without asking who you are. Do not pass this mail on.")
SEAT = (marked("Seat %(seats)s"), marked("Seats %(seats)s"))


def _greeting(said: Words, name: str) -> str:
    return said.say(HELLO, name=name) if name else said.gettext(HELLO_ANYBODY)


def _rides(about: About, said: Words) -> list[Ride]:
    """The seat lines grouped by trip and segment, in the traveller's order; of one trip alone where that is meant."""
    groups: dict[tuple[Any, int, int], list[BookedSeat]] = {}
    only = about.message.data.get("trip")
    for line in about.lines:
        if only is not None and str(line.trip_id) != only:
            continue
        groups.setdefault((line.trip_id, line.from_seq, line.to_seq), []).append(line)
    return [
        _ride(about.trips[trip], from_seq, to_seq, lines, said) for (trip, from_seq, to_seq), lines in groups.items()
    ]


def _ride(trip: TripDetail, from_seq: int, to_seq: int, lines: Sequence[BookedSeat], said: Words) -> Ride:
    boards, alights = trip.stops[from_seq], trip.stops[to_seq]
    departs = local(boards.departs_at, timezone=boards.timezone)
    arrives = local(alights.arrives_at, timezone=alights.timezone)
    arrival = f"{arrives:%H:%M}"
    if arrives.date() != departs.date():
        arrival = f"{said.day(arrives.date())}, {arrival}"
    seats = tuple(line.seat for line in lines)
    return Ride(
        boards=boards.city,
        alights=alights.city,
        boards_at=boards.name,
        alights_at=alights.name,
        day=said.day(departs.date()),
        departs=f"{departs:%H:%M}",
        arrives=arrival,
        seats=seats,
        seats_line=said.ngettext(*SEAT, len(seats)) % {"seats": ", ".join(seats)},
        operator=trip.trip.operator_name,
        short_departure=f"{departs:%d/%m %H:%M}",
    )


def _moment(instant: str, timezone: str) -> str:
    """24/11 06:30 by the clocks of a time zone; "" for none."""
    return f"{local(datetime.fromisoformat(instant), timezone=timezone):%d/%m %H:%M}" if instant else ""


def _short(rides: Sequence[Ride]) -> str:
    """Kampala-Mbarara 24/11 06:30, 1A 1B 1C +2."""
    first = rides[0]
    route = f"{first.boards[:SMS_CITY_LENGTH].strip()}-{rides[-1].alights[:SMS_CITY_LENGTH].strip()}"
    seats = [seat for ride in rides for seat in ride.seats]
    more = f" +{len(seats) - SMS_SEATS}" if len(seats) > SMS_SEATS else ""
    return f"{route} {first.short_departure}, {' '.join(seats[:SMS_SEATS])}{more}"


def _block(template: Template, name: str, values: dict[str, Any]) -> str:
    return "".join(template.blocks[name](template.new_context(values)))


def _line(text: str) -> str:
    return " ".join(text.split())


@cache
def _texts() -> Environment:
    """Plain text: nothing is escaped, and nothing of it is read as markup."""
    place = resources.files("kiti.flows.letters")
    files = {file.name: file.read_text() for file in place.iterdir() if file.name.endswith(".txt")}
    return _environment(files, autoescape=False)


@cache
def _html() -> Environment:
    import mrml  # noqa: PLC0415 - only whoever sends mail needs it in memory

    source = resources.files("kiti.flows.letters").joinpath("letter.mjml").read_text()
    made = mrml.to_html(source)
    assert not made.warnings, made.warnings
    return _environment({HTML: made.content}, autoescape=True)


def _environment(files: Mapping[str, str], *, autoescape: bool) -> Environment:
    found = Environment(
        loader=DictLoader(files),
        autoescape=autoescape,  # noqa: S701 - only what is sent as plain text goes without
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.install_gettext_callables(_gettext, _ngettext, newstyle=True)  # type: ignore[attr-defined]
    return found


@pass_context
def _gettext(context: Context, message: str) -> str:
    return str(context["words"].gettext(message))


@pass_context
def _ngettext(context: Context, one: str, many: str, number: int) -> str:
    # Jinja fills the values in itself.
    return str(context["words"].ngettext(one, many, number))
