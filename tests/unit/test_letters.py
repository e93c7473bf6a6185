"""Letters: three languages, local times, nothing that a person typed gets out of its place, text messages stay one."""

import re
from datetime import UTC, date, datetime
from email import message_from_bytes
from email.errors import MessageError
from email.policy import default
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from msgspec.structs import replace

from kiti.bookings.model import BookedSeat
from kiti.core.text import LANGUAGES
from kiti.core.tokens import is_hold_token
from kiti.flows import letters
from kiti.flows.letters.letter import About, write_mail, write_text
from kiti.flows.letters.words import fold, septets
from kiti.gateways.mail import compose
from kiti.messages.model import Event, Message
from kiti.network.model import Layout, TripDetail, TripHead, TripStop

BOOKING = UUID("01900000-0000-7000-8000-000000000001")
TRIP = UUID("01900000-0000-7000-8000-000000000002")
EVENTS = get_args(Event)
SECRET = "a-secret-of-letters"
ROUTE = "Kampala \u2013 Kigali"
BASE_URL = "https://tickets.example.com"
HOSTILE = '<script>alert(1)</script>"><a href="https://evil.example">{{ 7*7 }}{% raw %}&amp;%(name)s'
PLACES = re.compile(r"%\(\w+\)s")


def stop(seq: int, city: str, timezone: str, at: datetime) -> TripStop:
    return TripStop(
        seq=seq,
        stop_id=UUID(int=seq + 1),
        code=city[:3].upper(),
        name=f"{city} Coach Park",
        city=city,
        timezone=timezone,
        arrives_at=at,
        departs_at=at,
        local_date=at.date(),
    )


def trip(origin: str = "Kampala", destination: str = "Kigali") -> TripDetail:
    leaves, arrives = datetime(2026, 11, 24, 3, 30, tzinfo=UTC), datetime(2026, 11, 24, 23, 15, tzinfo=UTC)
    return TripDetail(
        trip=TripHead(
            id=TRIP,
            operator_id=UUID(int=7),
            operator_code="pearl",
            operator_name="Pearl Coaches",
            support_phone="",
            route_id=UUID(int=8),
            route_name="Kampala - Kigali",
            layout_id=UUID(int=9),
            service_date=date(2026, 11, 24),
            state="scheduled",
            departs_at=leaves,
            arrives_at=arrives,
            vehicle_kind="bus",
            vehicle_name="Coach",
            vehicle_registration="UBA 001A",
        ),
        stops=(stop(0, origin, "Africa/Kampala", leaves), stop(1, destination, "Africa/Kigali", arrives)),
        layout=Layout(id=UUID(int=9), operator_id=UUID(int=7), name="bus", seats=(), features=()),
        fares=(),
    )


def about(
    event: str,
    language: str = "en",
    *,
    detail: TripDetail | None = None,
    seats: tuple[str, ...] = ("1A", "1B"),
    **more: Any,
) -> About:
    fields: dict[str, Any] = {
        "booking_id": BOOKING,
        "id": UUID(int=77),
        "event": event,
        "channel": "email",
        "recipient": "grace@example.com",
        "language": language,
        "attempts": 1,
        "doubts": 0,
        "data": {"amount": 6_500_000_00, "currency": "UGX"} if event in {"paid", "refunded"} else {},
        "reference": "K7MPQR",
        "booking_state": "held",
        "currency": "UGX",
        "amount": 130_000,
        "contact_name": "Grace Akello",
        "hold_expires_at": datetime(2026, 11, 23, 11, 5, tzinfo=UTC),
        "now": datetime(2026, 11, 23, 10, 50, tzinfo=UTC),
        **more,
    }
    lines = [
        BookedSeat(
            booking_id=BOOKING,
            trip_id=TRIP,
            seat=seat,
            from_seq=0,
            to_seq=1,
            operator_id=UUID(int=7),
            seat_class="STANDARD",
            fare=65_000,
            passenger_name="",
        )
        for seat in seats
    ]
    return About(
        message=Message(**fields), lines=lines, trips={TRIP: detail or trip()}, base_url=BASE_URL, secret=SECRET
    )


class Tags(HTMLParser):
    """The tags of a page, and where its links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_letter_names_the_booking_the_trip_the_seats_and_the_way_to_it(event: str, language: str) -> None:
    letter = write_mail(about(event, language))
    for written in (letter.text, " ".join(Tags(letter.html).words)):
        assert "K7MPQR" in written
        assert ROUTE in written
        assert "1A, 1B" in written
        assert "06:30 Kampala Coach Park" in written  # Kampala is three hours ahead of UTC
        assert "01:15 Kigali Coach Park" in written  # the next day, Kigali is two hours ahead
        assert "Grace Akello" in written
    (link,) = [link for link in Tags(letter.html).links if link]
    assert link in letter.text
    page = "/ticket" if event == "ticket" else ""
    head, _, token = link.partition("?token=")
    assert head == f"{BASE_URL}/bookings/{BOOKING}{page}"
    assert is_hold_token(token, BOOKING, secret=SECRET)
    assert f'lang="{language}"' in letter.html
    assert "\n" not in letter.subject


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["Tuesday 24 November 2026", "Wednesday 25 November 2026, 01:15", "UGX\u00a06,500,000", "Seats 1A, 1B"]),
        (
            "fr",
            [
                "mardi 24 novembre 2026",
                "mercredi 25 novembre 2026, 01:15",
                "UGX\u00a06\u202f500\u202f000",
                "Sièges 1A, 1B",
            ],
        ),
        ("sw", ["Jumanne 24 Novemba 2026", "Jumatano 25 Novemba 2026, 01:15", "UGX\u00a06,500,000", "Viti 1A, 1B"]),
    ],
)
def test_days_amounts_and_seats_are_written_as_in_each_language(language: str, words: list[str]) -> None:
    letter = write_mail(about("paid", language, data={"amount": 6_500_000, "currency": "UGX"}))
    for word in words:
        assert word in letter.text
        assert word.replace("&", "&amp;") in letter.html


def test_the_end_of_a_hold_is_told_by_the_clocks_where_one_boards() -> None:
    letter = write_mail(about("held"))
    assert letter.subject == f"Held until 14:05: {ROUTE}"
    assert "held for you until 14:05" in letter.text


def test_a_payment_that_failed_says_whether_the_seats_are_still_held() -> None:
    assert "You can try again until then." in write_mail(about("failed:x")).text
    lapsed = about("failed:x", now=datetime(2026, 11, 23, 12, tzinfo=UTC))
    assert "not held any more" in write_mail(lapsed).text
    assert "not held any more" in write_text(lapsed)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_trip_that_its_operator_cancelled_is_told_without_the_others_of_the_booking(language: str) -> None:
    other = UUID("01900000-0000-7000-8000-000000000003")
    both = about(f"cancelled:{other}", language, data={"trip": str(other)})
    lines = [*both.lines, *(replace(line, trip_id=other, seat="9C") for line in both.lines[:1])]
    told = replace(both, lines=lines, trips={TRIP: trip(), other: trip("Kampala", "Gulu")})
    for written in (write_mail(told).text, write_text(told)):
        assert "Gulu" in written
        assert "Kigali" not in written
        assert "9C" in written
        assert "1A" not in written
    assert (septets(write_text(told)) or 999) <= 160
    assert "The operator has cancelled this trip." in write_mail(told).text or language != "en"


def test_a_language_that_we_do_not_speak_is_english() -> None:
    assert write_mail(about("held", "de")).language == "en"


@pytest.mark.parametrize("event", EVENTS)
def test_what_a_person_typed_stays_text_in_html(event: str) -> None:
    usual, hostile = (
        write_mail(about(event)),
        write_mail(about(event, contact_name=HOSTILE, detail=trip(HOSTILE, HOSTILE))),
    )
    assert Tags(hostile.html).tags == Tags(usual.html).tags
    assert Tags(hostile.html).links == Tags(usual.html).links
    assert "<script" not in hostile.html.split("</head>")[1]
    assert HOSTILE in " ".join(Tags(hostile.html).words)
    assert HOSTILE in hostile.text


@pytest.mark.parametrize("name", ["Grace\r\nBcc: all@example.com", "Grace\nSubject: x", "\u2028Bcc: x@example.com\x00"])
def test_nothing_that_a_person_typed_makes_a_header(name: str) -> None:
    letter = write_mail(about("held", contact_name=name, detail=trip(name, name)))
    raw = compose(letter, sender="Kiti <tickets@example.com>")
    mail = message_from_bytes(raw, policy=default)
    head = raw.partition(b"\r\n\r\n")[0]
    assert sorted(line.partition(b":")[0] for line in re.sub(rb"\r\n[ \t]", b" ", head).split(b"\r\n")) == [
        b"Auto-Submitted", b"Content-Language", b"Content-Type", b"Date", b"From", b"MIME-Version", b"Message-ID",
        b"Subject", b"To",
    ]  # fmt: skip
    assert mail["Message-ID"] == f"<{UUID(int=77)}@example.com>"
    assert "\n" not in str(mail["Subject"])


@pytest.mark.parametrize("address", ["a,b@example.com", "a>b@example.com", "a@b..c", "grâce@example.com", "a\x00@x.y"])
def test_no_mail_is_made_for_an_address_that_would_be_another(address: str) -> None:
    with pytest.raises((ValueError, MessageError)):
        compose(write_mail(about("held", recipient=address)), sender="tickets@example.com")


def test_a_mail_is_seven_bits_and_its_domain_is_spelt_as_the_dns_has_it() -> None:
    raw = compose(write_mail(about("held", "fr", recipient="grace@kampalâ.example")), sender="tickets@example.com")
    mail = message_from_bytes(raw, policy=default)
    assert raw.isascii()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 78
    assert str(mail["Subject"]).startswith("Réservé jusqu\u2019à 14:05")
    assert mail["To"] == "grace@xn--kampal-1ta.example"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("is_late", [False, True])
def test_a_text_message_is_one_of_160_characters(event: str, language: str, *, is_late: bool) -> None:
    longest = trip("Kikwazulu Sébikyônda Upper", "Fort Portal-Mugusu Bigger")
    now = {"now": datetime(2026, 11, 23, 12, tzinfo=UTC)} if is_late else {}
    text = write_text(about(event, language, detail=longest, seats=("10A", "10B", "10C", "10D", "11A"), **now))
    length = septets(text)
    assert length is not None, f"not GSM-7: {text!r}"
    assert length <= 160, text
    assert "K7MPQR" in text
    assert "token" not in text
    assert text.isprintable()


def test_only_what_has_no_place_in_a_text_message_s_alphabet_is_changed() -> None:
    assert fold("Sébikyônda \u2013 l\u2019arrêt à 5\u00a0€") == "Sébikyonda - l'arret à 5 €"
    assert septets("5 €") == 4
    assert fold("كمبالا") == "كمبالا"
    assert septets("كمبالا") is None


def wanted() -> set[str | tuple[str, ...]]:
    found = extract_from_dir(
        Path(str(resources.files(letters))),
        method_map=[("**.py", "python"), ("**.txt", "jinja2.ext.babel_extract")],
        options_map={"**.txt": {"newstyle_gettext": "true", "silent": "false"}},
        keywords={"_": None, "gettext": None, "ngettext": (1, 2), "marked": None},
    )
    return {message for _, _, message, _, _ in found if message}


def catalogue(language: str) -> Catalog:
    with resources.files(letters).joinpath(f"locale/{language}/LC_MESSAGES/letters.po").open("rb") as file:
        return read_po(file, locale=language)


def forms(text: str | tuple[str, ...] | list[str] | None) -> list[str]:
    return [text] if isinstance(text, str) else list(text or ())


@pytest.mark.parametrize("language", ["fr", "sw"])
def test_every_word_is_translated_with_the_same_places_for_values(language: str) -> None:
    translated = {form: message for message in catalogue(language) if message.id for form in forms(message.id)}
    words = {form for message in wanted() for form in forms(message)}
    assert words == translated.keys()
    for message in translated.values():
        assert not message.fuzzy
        assert all(forms(message.string))
        expected = {place for form in forms(message.id) for place in PLACES.findall(form)}
        assert {place for form in forms(message.string) for place in PLACES.findall(form)} == expected, message.id
