"""The office's cookies, addresses and cells, wherever it is served from and whatever a gateway says."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from kiti.core.ids import first_id_at, new_id
from kiti.core.settings import load
from kiti.payments.reads import PaymentLine
from kiti.web.office.entry import login_cookie, office_path, session_cookie
from kiti.web.office.payments import COLUMNS, cells
from kiti.web.office.tables import age, csv_text


@pytest.mark.parametrize(
    ("base_url", "is_secure"),
    [
        ("https://kiti.example", True),
        ("https://127.0.0.1:8443", True),
        ("http://kiti.example", True),
        ("http://192.168.1.7:8000", True),
        ("http://127.0.0.1:8000", False),
        ("http://localhost:8000", False),
        ("http://[::1]:8000", False),
    ],
)
def test_cookies_insist_on_tls_but_on_this_very_machine(base_url: str, is_secure: bool) -> None:  # noqa: FBT001 - pytest's way
    settings = load({"KITI_DEMO": "1", "KITI_BASE_URL": base_url})
    for cookie, name in ((session_cookie("x", settings), "kiti_office"), (login_cookie("x", settings), "kiti_login")):
        assert cookie.key == (f"__Host-{name}" if is_secure else name)
        assert (cookie.secure, cookie.httponly, cookie.samesite) == (is_secure, True, "lax")
        assert (cookie.path, cookie.domain) == ("/", None)
    assert session_cookie("", settings).max_age == 0


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/office/payments?status=paid", "/office/payments?status=paid"),
        ("/office/review?", "/office/review"),
        ("/office/login?next=/office/login", "/office"),
        ("/office/../trips", "/office"),
        ("/office/%2e%2e/trips", "/office"),
        ("//evil.example", "/office"),
        ("/office\\evil", "/office"),
        ("/officer", "/office"),
        ("https://evil.example/office/payments", "/office"),
        ("/office/payments\nSet-Cookie: x", "/office"),
        ("", "/office"),
    ],
)
def test_login_leads_to_pages_of_the_office_only(asked: str, path: str) -> None:
    assert office_path(asked) == path


def test_a_cell_that_a_spreadsheet_would_calculate_stays_text() -> None:
    line = PaymentLine(
        id=UUID(int=1),
        booking_id=UUID(int=2),
        reference="K7MPQR",
        gateway="flutterwave",
        method="CARD",
        state="failed",
        amount=150_050,
        currency="KES",
        failure_reason='=HYPERLINK("https://evil.example")',
        created_at=datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
    )
    harmless = msgspec.structs.replace(line, failure_reason=None, state="unknown")
    head, first, second = csv_text(COLUMNS, [cells(line), cells(harmless)]).splitlines()
    assert head == "payment,reference,made,status,amount,currency,method,gateway,reason"
    made = "00000000-0000-0000-0000-000000000001,K7MPQR,2026-11-24T09:30:00Z"
    assert first == f'{made},failed,1500.50,KES,CARD,flutterwave,"\'=HYPERLINK(""https://evil.example"")"'
    assert second == f"{made},pending,1500.50,KES,CARD,flutterwave,"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-1, "0 min"), (59, "0 min"), (3_599, "59 min"), (3_600, "1 h"), (86_399, "23 h"), (2e5, "2 d")],
)
def test_ages_are_told_roughly(seconds: float, told: str) -> None:
    assert age(seconds) == told


def test_ids_of_a_moment_lie_between_those_before_and_after() -> None:
    before = first_id_at(datetime.now(UTC))
    made = new_id()
    assert before <= made < first_id_at(datetime(2100, 1, 1, tzinfo=UTC))
    assert (before.version, before.variant) == (made.version, made.variant)
