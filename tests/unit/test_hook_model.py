"""What is sent, what of it an operator sees, and when it is tried again."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest
from standardwebhooks import Webhook

from kiti.hooks.model import (
    MAX_ATTEMPTS,
    TEST,
    WAITS_SECONDS,
    Delivery,
    answered,
    body_of,
    headers_of,
    new_secret,
    not_answered,
    seen_by,
    wait_seconds,
)

HAPPENED = datetime(2026, 11, 24, 6, 30, 0, 123456, tzinfo=UTC)
EVENT = UUID("0199d4a2-0000-7000-8000-000000000001")
DATA: dict[str, Any] = {
    "bookingId": "b",
    "reference": "K7MPQR",
    "status": "CONFIRMED",
    "currency": "UGX",
    "amount": 75_000,
    "trips": [
        {"tripId": "1", "operator": "pearl", "seats": ["1A"], "amount": 60_000},
        {"tripId": "2", "operator": "lake", "seats": ["2A"], "amount": 15_000},
    ],
    "payment": {"paymentId": "p", "amount": 75_500, "currency": "UGX"},
}


def delivery(*, attempts: int = 1, type_: str = "booking.confirmed") -> Delivery:
    return Delivery(
        subject_id=UUID(int=1),
        event_id=EVENT,
        round=0,
        attempts=attempts,
        type=type_,
        created_at=HAPPENED,
        is_shared=False,
        data=DATA,
    )


def test_the_platform_sees_all_and_an_operator_its_own_trips_and_no_amount_of_others() -> None:
    assert seen_by(None, DATA, is_shared=True) == DATA
    seen = seen_by("lake", DATA, is_shared=True)
    assert [trip["tripId"] for trip in seen["trips"]] == ["2"]
    assert (seen["amount"], seen["payment"]["amount"]) == (15_000, None)
    assert "60000" not in msgspec.json.encode(seen).decode()
    alone = {**DATA, "trips": DATA["trips"][:1]}
    assert seen_by("pearl", alone, is_shared=False)["payment"]["amount"] == 75_500


@pytest.mark.parametrize("name", ["payment", "refund"])
def test_a_reason_may_name_the_whole_amount_so_it_is_for_who_has_all_of_it(name: str) -> None:
    money = {"amount": 75_500, "currency": "UGX", "reason": "UGX 75,500 were due and UGX 100 came."}
    data = {**DATA, name: money}
    told: dict[str, Any] = {"type_": "payment.review", "created_at": HAPPENED, "data": data}
    body = body_of(**told, is_shared=True, operator="lake").decode()
    assert "75" not in body
    assert msgspec.json.decode(body)["data"][name] == {"amount": None, "currency": "UGX", "reason": None}
    assert msgspec.json.decode(body_of(**told, is_shared=True, operator=None))["data"][name] == money
    assert seen_by("pearl", data, is_shared=False)[name] == money


def test_a_body_is_the_same_bytes_whenever_it_is_made() -> None:
    bodies = {
        body_of(type_="booking.confirmed", created_at=moment, is_shared=False, data=DATA, operator=None)
        for moment in (HAPPENED, HAPPENED.astimezone(timezone(timedelta(hours=3))))
    }
    (body,) = bodies
    told = msgspec.json.decode(body)
    assert list(told) == ["type", "version", "timestamp", "data"]
    assert (told["type"], told["version"], told["timestamp"]) == ("booking.confirmed", 1, "2026-11-24T06:30:00.123Z")


def test_each_key_signs_and_another_does_not() -> None:
    now = datetime.now(timezone(timedelta(hours=3)))
    old, new, other = new_secret(), new_secret(), new_secret()
    headers = headers_of(event=EVENT, body=b'{"a":1}', keys=[new, old], now=now)
    assert headers["webhook-id"] == str(EVENT)
    assert headers["webhook-signature"].count("v1,") == 2
    for key in (new, old):
        assert Webhook(key).verify(b'{"a":1}', headers) == {"a": 1}
    for key, body in ((other, b'{"a":1}'), (new, b'{"a":2}')):
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(key).verify(body, headers)


def test_secrets_are_of_the_form_of_the_specification_and_never_the_same() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
    assert new_secret().startswith("whsec_")
    assert len(Webhook(new_secret())._whsecret) == 32


def test_waits_are_those_of_the_specification_and_a_little_longer_at_most() -> None:
    assert [wait_seconds(attempt, jitter=0) for attempt in range(1, MAX_ATTEMPTS)] == list(WAITS_SECONDS)
    assert MAX_ATTEMPTS == 10
    assert wait_seconds(2, jitter=1) == 330


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    assert answered(delivery(), status=status, snippet="", retry_after_seconds=None).state == "delivered"


@pytest.mark.parametrize("status", [100, 301, 302, 400, 401, 404, 500, 502, 503])
def test_all_else_is_tried_again_until_ten_attempts_are_over(status: int) -> None:
    again = answered(delivery(), status=status, snippet="", retry_after_seconds=None)
    assert again.state == "pending"
    assert again.wait_seconds is not None
    assert 5 <= again.wait_seconds <= 6
    last = answered(delivery(attempts=MAX_ATTEMPTS), status=status, snippet="", retry_after_seconds=None)
    assert (last.state, last.wait_seconds) == ("failed", None)
    assert not_answered(delivery(attempts=MAX_ATTEMPTS), reason="x").state == "failed"


def test_gone_is_never_tried_again() -> None:
    gone = answered(delivery(), status=410, snippet="", retry_after_seconds=None)
    assert (gone.state, gone.is_gone) == ("failed", True)


@pytest.mark.parametrize(
    ("status", "asked", "wait", "rest"),
    [
        (429, 60, 60, 60),
        (503, 60, 60, 60),
        (429, 0, 5, 0),
        (429, 7200, 7200, 3600),
        (429, 999_999_999, 86_400, 3600),
        (500, 60, 5, None),
        (429, None, 5, None),
    ],
)
def test_retry_after_is_honoured_within_bounds(status: int, asked: int | None, wait: int, rest: int | None) -> None:
    outcome = answered(delivery(), status=status, snippet="", retry_after_seconds=asked)
    assert outcome.wait_seconds is not None
    assert wait <= outcome.wait_seconds <= wait + 1
    assert outcome.rest_seconds == rest


def test_a_test_is_tried_once() -> None:
    assert not_answered(delivery(type_=TEST), reason="x").state == "failed"
