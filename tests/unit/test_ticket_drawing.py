import re
import threading
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
import typst
import zxingcpp

from kiti.tickets import pdf, qr
from kiti.tickets.model import TicketPage, TicketState, clock, day, short_day

TEXT = "eyJhbGciOiJFUzI1NiJ9." + "x" * 160 + "." + "y" * 86

PAGE = TicketPage(
    booking_id=UUID(int=1),
    id=UUID(int=2),
    reference="K7MPQR",
    language="en",
    trip_id=UUID(int=3),
    seat="12A",
    seat_class="standard",
    deck=2,
    deck_count=2,
    passenger_name="Amina Nakato Okello",
    state=TicketState.VALID,
    token=TEXT,
    issued_at=datetime(2026, 3, 1, 10, tzinfo=UTC),
    used_at=None,
    used_where=None,
    void_reason=None,
    operator_name="Société Équatoriale",
    support_phone="+256 700 000 000",
    route_code="KLA-KGL",
    route_name="Kampala to Kigali",
    from_code="KLA",
    from_name="Namirembe Terminal",
    from_city="Kampala",
    from_timezone="Africa/Kampala",
    departs_at=datetime(2026, 3, 3, 18, 30, tzinfo=UTC),
    to_code="KGL",
    to_name="Nyabugogo",
    to_city="Kigali",
    to_timezone="Africa/Kigali",
    arrives_at=datetime(2026, 3, 4, 4, 15, tzinfo=UTC),
    vehicle_kind="bus",
    vehicle_name="Coach 4",
    vehicle_registration="UBA 123X",
    fare=65000,
    currency="UGX",
)

HOSTILE = [
    '#eval("1 + 1")',
    "*bold* _it_ `raw` $x^2$ <label> @ref = heading",
    "\"quotes\" 'single' \\u{41} \\ // comment /* and",
    '#image("/etc/passwd")',
    "#panic()",
    '"}], "tickets": [',
    "]\n#pagebreak()\n[",
    "Ñandú Đặng Łukasz Ŋ",
    "",
]


def page(**changes: Any) -> TicketPage:
    return msgspec.structs.replace(PAGE, **changes)


@pytest.mark.parametrize("text", [TEXT, "K7MPQR-12A", "a" * 500])
def test_a_scanner_reads_from_the_drawing_what_was_put_in(text: str) -> None:
    (read,) = _scanned(qr.svg(text, title="Ticket"))
    assert (read.text, read.format) == (text, zxingcpp.BarcodeFormat.QRCode)


def test_a_code_has_its_quiet_zone_and_level_m() -> None:
    drawn = qr.svg(TEXT, title="Ticket")
    side = int(re.findall(r'viewBox="0 0 (\d+) \1"', drawn)[0])
    for positions in ({x for x, _ in _modules(drawn)}, {y for _, y in _modules(drawn)}):
        assert (min(positions), max(positions)) == (4, side - 5)
    assert _scanned(drawn)[0].ec_level in {"M", "Q", "H"}
    assert f'fill="#fff" d="M0 0h{side}v{side}H0z"' in drawn


def test_a_code_is_read_with_a_tenth_of_it_gone() -> None:
    (read,) = _scanned(qr.svg(TEXT, title="Ticket"), spoilt=lambda x, y: 30 <= x < 42 and 30 <= y < 50)
    assert read.text == TEXT


def test_a_code_is_small_enough_for_a_slow_network() -> None:
    drawn = qr.svg(TEXT, title="Ticket").encode()
    assert len(drawn) < 9_000
    assert len(zlib.compress(drawn)) < 2_000


def test_a_title_cannot_break_out_of_the_drawing() -> None:
    drawn = qr.svg(TEXT, title='</title><script>"')
    assert "<script>" not in drawn
    assert "<title>&lt;/title&gt;&lt;script&gt;" in drawn


def test_each_ticket_has_a_page() -> None:
    for count in (1, 2, 5):
        drawn = pdf.render([PAGE] * count, locale="en")
        assert drawn.startswith(b"%PDF-")
        assert _page_count(drawn) == count


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_traveller_typed_is_printed_and_never_run(name: str) -> None:
    drawn = pdf.render([page(passenger_name=name, operator_name=name or "x", to_city=name)], locale="en")
    assert _page_count(drawn) == 1
    assert " ".join(name.split()) in _texts(page(passenger_name=name)) or not name


def test_a_long_name_stays_on_its_page() -> None:
    drawn = pdf.render([page(passenger_name="W" * 500, operator_name="Wide " * 100)], locale="en")
    assert _page_count(drawn) == 1


def test_invisible_characters_cannot_disguise_a_name() -> None:
    assert "A B C" in _texts(page(passenger_name="A\x00\x1b\u202eB\u200b\tC\n"))


def test_accented_letters_have_glyphs_without_any_system_font() -> None:
    source = '#set page(width: 20cm)\n#set text(font: "Libertinus Serif", fallback: false)\n#sys.inputs.words'
    _, warnings = typst.compile_with_warnings(
        source.encode(),
        format="pdf",
        ignore_system_fonts=True,
        sys_inputs={"words": "éèêëçàùïôœ ñ š Đ ŋ Łódź ĩ ũ ŵ"},
    )
    assert warnings == []


@pytest.mark.parametrize("locale", ["en", "fr", "sw"])
def test_two_tickets_are_drawn_while_a_person_waits(locale: str) -> None:
    pdf.render([PAGE], locale=locale)
    started = time.process_time()
    drawn = pdf.render([page(passenger_name="Somebody Else"), page(seat="12B")], locale=locale)
    # 0.15 s of a processor where nothing else runs; what other processes do is not counted, and slows this down.
    assert time.process_time() - started < 1.0
    assert len(drawn) < 100_000


def test_the_same_ticket_is_the_same_file() -> None:
    assert pdf.render([PAGE], locale="en") == pdf.render([PAGE], locale="en")


def test_threads_draw_side_by_side() -> None:
    drawn: list[bytes] = []
    threads = [threading.Thread(target=lambda: drawn.append(pdf.render([PAGE], locale="en"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 4
    assert len(set(drawn)) == 1


def test_dates_and_clocks_are_those_of_the_stops() -> None:
    assert clock(PAGE.departure) == "21:30"
    assert clock(PAGE.arrival) == "06:15"
    assert PAGE.nights == 1
    assert day(PAGE.departure, locale="en") == "Tuesday 3 March 2026"
    assert day(PAGE.departure, locale="fr") == "mardi 3 mars 2026"
    assert day(PAGE.departure, locale="sw") == "Jumanne 3 Machi 2026"
    assert short_day(PAGE.departure, locale="en") == "Tue 3 Mar"


def test_a_spent_ticket_says_so_on_paper() -> None:
    assert "Not valid" in _texts(page(state=TicketState.VOID))
    assert "Used" in _texts(page(state=TicketState.USED))


def test_the_deck_is_named_only_where_there_are_several() -> None:
    assert "Standard, Deck 2" in _texts(PAGE)
    assert "Standard" in _texts(page(deck_count=1))


def _modules(drawn: str) -> set[tuple[int, int]]:
    """Walk the path as a drawing program would; the modules that its strokes cover."""
    path = re.findall(r'stroke="#000" d="([^"]+)"', drawn)[0]
    covered: set[tuple[int, int]] = set()
    x, y = 0.0, 0.0
    for command, arguments in re.findall(r"([Mmh])([^Mmh]+)", path):
        numbers = [float(number) for number in arguments.split()]
        if command == "h":
            covered |= {(int(x) + step, int(y)) for step in range(int(numbers[0]))}
            x += numbers[0]
        else:
            x, y = (numbers[0], numbers[1]) if command == "M" else (x + numbers[0], y + numbers[1])
    return covered


def _scanned(drawn: str, *, spoilt: Callable[[int, int], bool] = lambda _x, _y: False) -> list[zxingcpp.Barcode]:
    """What a scanner reads from the drawing, four pixels a module; modules that are `spoilt` are white."""
    side = int(re.findall(r'viewBox="0 0 (\d+) ', drawn)[0])
    dark = {at for at in _modules(drawn) if not spoilt(*at)}
    pixels = bytes(0 if (x // 4, y // 4) in dark else 255 for y in range(4 * side) for x in range(4 * side))
    return zxingcpp.read_barcodes(memoryview(pixels).cast("B", (4 * side, 4 * side)))


def _page_count(drawn: bytes) -> int:
    """The pages' objects, which typst keeps in plain sight or inside compressed object streams."""
    inside = b"".join(_inflated(stream) for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", drawn, re.DOTALL))
    return len(re.findall(rb"/Type\s*/Page\b", drawn + inside))


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""  # not a compressed stream


def _texts(ticket: TicketPage) -> set[str]:
    """Every string that the template is given for a ticket."""
    face = msgspec.to_builtins(pdf._face(ticket, locale="en", labels=pdf.ENGLISH))
    return {text for text in face.values() if isinstance(text, str)}
