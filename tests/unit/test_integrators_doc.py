"""What the page for integrators shows does what it says: its programs check what we sign, its example is sent."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from kiti.hooks.model import EVENT_TYPES, TEST, body_of, headers_of, new_secret

PAGE = (Path(__file__).parents[2] / "docs/integrators.md").read_text()
PROGRAMS = re.findall(r"<!-- executed by tests/unit/test_integrators_doc.py -->\n```python\n(.*?)```", PAGE, re.DOTALL)
EXAMPLE = msgspec.json.decode(re.search(r"## Webhooks\n.*?```json\n(.*?)```", PAGE, re.DOTALL)[1])  # type: ignore[index]
EVENT = UUID("0199d4a2-0000-7000-8000-000000000001")

Receive = Callable[[str, dict[str, str], bytes], dict[str, Any] | None]


def sent() -> bytes:
    """The page's example as we send it."""
    return body_of(
        type_=EXAMPLE["type"],
        created_at=datetime.fromisoformat(EXAMPLE["timestamp"]),
        is_shared=False,
        data=EXAMPLE["data"],
        operator="pearl",
    )


@pytest.fixture(params=range(2), ids=["with the library", "by hand"])
def receive(request: pytest.FixtureRequest) -> Receive:
    place: dict[str, Any] = {}
    exec(PROGRAMS[request.param], place)
    found: Receive = place["receive"]
    return found


def test_both_programs_are_executed() -> None:
    assert len(PROGRAMS) == 2


def test_the_example_is_what_is_sent() -> None:
    assert msgspec.json.decode(sent()) == EXAMPLE


def test_what_we_sign_is_taken_by_the_new_secret_and_the_old(receive: Receive) -> None:
    new, old = new_secret(), new_secret()
    headers = headers_of(event=EVENT, body=sent(), keys=[new, old], now=datetime.now(UTC))
    for secret in (new, old):
        assert receive(secret, headers, sent()) == EXAMPLE


def test_what_somebody_else_signed_changed_or_kept_is_not(receive: Receive) -> None:
    secret, now = new_secret(), datetime.now(UTC)
    headers = headers_of(event=EVENT, body=sent(), keys=[secret], now=now)
    late = headers_of(event=EVENT, body=sent(), keys=[secret], now=now - timedelta(minutes=6))
    assert receive(new_secret(), headers, sent()) is None
    assert receive(secret, headers, sent().replace(b"120000", b"1200")) is None
    assert receive(secret, {**headers, "webhook-id": "another"}, sent()) is None
    assert receive(secret, late, sent()) is None


def test_the_page_names_every_event() -> None:
    assert set(re.findall(r"^\| `([a-z]+\.[a-z]+)`", PAGE, re.MULTILINE)) == {*EVENT_TYPES, TEST}
