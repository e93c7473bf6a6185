"""What is wrong is refused with a sentence, never with a stack trace, and leaves every table as it was."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.house import JOB_SECRET, JsonObject, RunningHouse, holder
from tests.staff import staff_headers

JSON = {"content-type": "application/json"}
NOWHERE = "00000000-0000-7000-8000-000000000000"
HUGE = 10**30
MEMBERS = {"type", "title", "status", "detail", "code", "error", "statusCode"}


@pytest.fixture(scope="module")
async def booking(house: RunningHouse) -> JsonObject:
    """A held booking that nobody may change."""
    return await house.reserve(house.network.bus(), ["5A", "5B"])


@pytest.fixture(autouse=True)
async def nothing_changes(house: RunningHouse, booking: JsonObject) -> AsyncIterator[None]:
    await house.queue_is_empty()
    before = await house.counts(), await house.booking(booking)
    yield
    assert (await house.counts(), await house.booking(booking)) == before


def assert_problem(answer: httpx.Response, status: int, code: str) -> JsonObject:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: JsonObject = answer.json()
    assert set(problem) >= MEMBERS
    assert (problem["status"], problem["statusCode"], problem["code"]) == (status, status, code)
    assert problem["error"] == problem["title"]
    assert problem["detail"]
    for trace in ("Traceback", 'File "', "psycopg", "msgspec", "litestar", "SELECT "):
        assert trace not in answer.text
    if code == "VALIDATION_ERROR" and status == 422:
        assert problem["errors"], answer.text
        assert all(set(error) == {"field", "message"} and error["message"] for error in problem["errors"])
    return problem


def fields(problem: JsonObject) -> list[str]:
    return [error["field"] for error in problem["errors"]]


RESERVATIONS: list[tuple[JsonObject, str]] = [
    ({}, "seatNumbers"),
    ({"seatNumbers": []}, "seatNumbers"),
    ({"seatNumbers": ["99Z"]}, "seatNumbers"),
    ({"seatNumbers": ["1A", "1A"]}, "seatNumbers"),
    ({"seatNumbers": ["1A", "1a"]}, "seatNumbers"),
    ({"seatNumbers": ["1A\u0000"]}, "seatNumbers"),
    ({"seatNumbers": ["\uff11\uff21"]}, "seatNumbers"),
    ({"seatNumbers": ["1\u0410"]}, "seatNumbers"),
    ({"seatNumbers": [" 1A"]}, "seatNumbers"),
    ({"seatNumbers": ["1A'; DROP"]}, "seatNumbers"),
    ({"seatNumbers": "1A"}, "seatNumbers"),
    ({"seatNumbers": [1]}, "seatNumbers"),
    ({"seatNumbers": ["1A"], "seatCount": 1}, "seatNumbers"),
    ({"seatNumbers": [f"{row}A" for row in range(100)]}, "seatNumbers"),
    ({"seatNumbers": ["1A"] * 10_000}, "seatNumbers"),
    ({"seatCount": 0}, "seatCount"),
    ({"seatCount": -1}, "seatCount"),
    ({"seatCount": 100}, "seatCount"),
    ({"seatCount": HUGE}, "seatCount"),
    ({"seatCount": 1.5}, "seatCount"),
    ({"seatCount": True}, "seatCount"),
    ({"seatCount": "two"}, "seatCount"),
    ({"seatCount": 1, "holdDurationMinutes": 0}, "holdDurationMinutes"),
    ({"seatCount": 1, "holdDurationMinutes": -15}, "holdDurationMinutes"),
    ({"seatCount": 1, "holdDurationMinutes": 31}, "holdDurationMinutes"),
    ({"seatCount": 1, "holdDurationMinutes": HUGE}, "holdDurationMinutes"),
    ({"seatCount": 1, "holdDurationMinutes": "soon"}, "holdDurationMinutes"),
    ({"seatCount": 1, "from": "NBO"}, "from"),
    ({"seatCount": 1, "to": "EBB"}, "to"),
    ({"seatCount": 1, "from": "KGL", "to": "KLA"}, "to"),
    ({"seatCount": 1, "from": "MBR", "to": "MBR"}, "to"),
    ({"seatCount": 1, "from": "KGL"}, "to"),
    ({"seatCount": 1, "from": ""}, "from"),
    ({"seatCount": 1, "from": "\u0000"}, "from"),
    ({"seatCount": 1, "from": 1}, "from"),
    ({"seatCount": 1, "passengers": [{"name": "A\u0007"}]}, "passengers"),
    ({"seatCount": 1, "passengers": [{"name": "A\u202eB"}]}, "passengers"),
    ({"seatCount": 1, "passengers": [{"name": "A\u0000"}]}, "passengers"),
    ({"seatCount": 1, "passengers": [{"name": "x" * 81}]}, "passengers"),
    ({"seatCount": 1, "passengers": [{"name": "x" * 100_000}]}, ""),
    ({"seatCount": 1, "passengers": [{}]}, "passengers"),
    ({"seatCount": 1, "passengers": {"name": "A"}}, "passengers"),
    ({"seatCount": 1, "passengers": [{"name": "A"}, {"name": "B"}]}, "passengers"),
    ({"seatNumbers": ["1A"], "passengers": [{"name": "A", "seatNumber": "1B"}]}, "passengers"),
    ({"seatCount": 1, "contact": {"email": "nobody"}}, "contact.email"),
    ({"seatCount": 1, "contact": {"email": "a@b.c\nBcc: d@e.f"}}, "contact.email"),
    ({"seatCount": 1, "contact": {"phone": "12"}}, "contact.phone"),
    ({"seatCount": 1, "contact": {"phone": "+256\u0000772123456"}}, "contact.phone"),
    ({"seatCount": 1, "contact": {"name": "\u0000"}}, "contact.name"),
    ({"seatCount": 1, "contact": []}, "contact"),
    ({"tripId": None, "seatCount": 1}, "tripId"),
    ({"tripId": "not-a-uuid", "seatCount": 1}, "tripId"),
    ({"tripId": 7, "seatCount": 1}, "tripId"),
    ({"seatCount": 1, "items": []}, "tripId"),
    ({"tripId": None, "items": []}, "items"),
    ({"tripId": None, "items": [], "seatCount": 1}, "items"),
    ({"tripId": None, "items": [{"tripId": NOWHERE}] * 7}, "items"),
    ({"tripId": None, "items": [{"tripId": NOWHERE, "seatCount": 1}] * 2}, "items"),
    ({"tripId": None, "items": [{}]}, "items"),
    ({"tripId": None, "items": {}}, "items"),
]


@pytest.mark.parametrize(("change", "field"), RESERVATIONS, ids=lambda value: json.dumps(value)[:60])
async def test_a_reservation_that_makes_no_sense_is_refused(
    house: RunningHouse, booking: JsonObject, change: JsonObject, field: str
) -> None:
    body = {"tripId": booking["tripId"], **change}
    answer = await house.api.post("/api/bookings/reserve", json=body)
    if not field:
        assert_problem(answer, 413, "PAYLOAD_TOO_LARGE")
        return
    problem = assert_problem(answer, 422, "VALIDATION_ERROR")
    (named,) = fields(problem)
    assert named.partition("[")[0].partition("/")[0] == field or named.startswith(field), problem


async def test_a_trip_that_does_not_exist_is_not_found(house: RunningHouse) -> None:
    for trip in (NOWHERE, str(uuid4())):
        answer = await house.api.post("/api/bookings/reserve", json={"tripId": trip, "seatCount": 1})
        assert_problem(answer, 404, "NOT_FOUND")
        assert_problem(await house.api.get("/api/bookings/reserve", params={"tripId": trip}), 404, "NOT_FOUND")
        assert_problem(await house.api.get(f"/api/trips/{trip}"), 404, "NOT_FOUND")


async def test_a_departed_or_cancelled_trip_sells_nothing(house: RunningHouse) -> None:
    assert_problem(await house.ask_to_reserve(house.network.departed, ["1A"]), 409, "CONFLICT")
    cancelled = house.network.bus()
    await house.box.rows("UPDATE trip SET state = 'cancelled' WHERE id = %s", cancelled)
    assert_problem(await house.ask_to_reserve(cancelled, ["1A"]), 409, "CONFLICT")
    assert_problem(await house.ask_to_reserve(cancelled, 1), 409, "CONFLICT")


async def test_more_seats_than_there_are_is_a_conflict(house: RunningHouse) -> None:
    problem = assert_problem(await house.ask_to_reserve(house.network.shuttle(), 13), 409, "CONFLICT")
    assert problem.get("seatNumbers", []) == []


BODIES: list[tuple[bytes, int]] = [
    (b"", 422),
    (b"{", 400),
    (b"not json", 400),
    (b'{"tripId": }', 400),
    (b"\xff\xfe\x00", 400),
    (b'{"tripId":"\xff"}', 400),
    (b'{"tripId":"\\ud800"}', 400),
    (b'{"seatCount":1e999}', 400),
    (b'{"seatCount":NaN}', 400),
    (b"\xef\xbb\xbf{}", 400),
    (b"[" * 30_000, 400),
    (b'{"a":' * 10_000, 400),
    (b"null", 422),
    (b"[]", 422),
    (b'"text"', 422),
    (b"1", 422),
]


@pytest.mark.parametrize(("body", "status"), BODIES, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("path", ["/api/bookings/reserve", "/api/payments/initiate", "/api/tickets/verify"])
async def test_a_body_that_is_not_what_it_should_be_is_refused(
    house: RunningHouse, path: str, body: bytes, status: int
) -> None:
    answer = await house.api.post(path, content=body, headers=JSON)
    if answer.status_code == 401:  # whoever pays shows a token; a body without a booking never gets so far
        pytest.fail(answer.text)
    assert_problem(answer, status, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "path", ["/api/bookings/reserve", "/api/payments/initiate", "/api/payments/webhook/flutterwave"]
)
async def test_ten_megabytes_are_too_much(house: RunningHouse, path: str) -> None:
    try:
        answer = await house.api.post(path, content=b'{"a":"' + b"x" * 10_000_000 + b'"}', headers=JSON)
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        pass  # the server hung up before it had all: it need not listen to the end
    else:
        assert_problem(answer, 413, "PAYLOAD_TOO_LARGE")
    assert (await house.api.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_a_form_is_no_reservation(house: RunningHouse, content_type: str) -> None:
    answer = await house.api.post(
        "/api/bookings/reserve", content=b"tripId=1&seatCount=1", headers={"content-type": content_type}
    )
    assert answer.status_code in {400, 415, 422}, answer.text
    assert_problem(answer, answer.status_code, answer.json()["code"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": -1}, "amount"),
        ({"amount": HUGE}, "amount"),
        ({"amount": 120_000.5}, "amount"),
        ({"amount": "all of it"}, "amount"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": "\u0000"}, "currency"),
        ({"paymentMethod": "BITCOIN"}, "paymentMethod"),
        ({"paymentMethod": "CASH", "gateway": "flutterwave"}, "paymentMethod"),
        ({"paymentMethod": "card"}, "paymentMethod"),
        ({"gateway": "nobody"}, "gateway"),
        ({"gateway": "\u0000"}, "gateway"),
        ({"phoneNumber": "1"}, "phoneNumber"),
        ({"phoneNumber": "\u0000"}, "phoneNumber"),
        ({"returnUrl": "javascript:alert(1)"}, "returnUrl"),
        ({"returnUrl": "//evil.example"}, "returnUrl"),
        ({"returnUrl": "https://example.com/\u0000"}, "returnUrl"),
        ({"returnUrl": "https://example.com/\r\nSet-Cookie: a=b"}, "returnUrl"),
        ({"returnUrl": "https://" + "x" * 3_000}, "returnUrl"),
        ({"contact": {"email": "nobody"}}, "contact.email"),
        ({"contact": {"name": "A\u0000"}}, "contact.name"),
        ({"bookingId": "x"}, "bookingId"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
async def test_a_payment_that_makes_no_sense_is_refused(
    house: RunningHouse, booking: JsonObject, change: JsonObject, field: str
) -> None:
    problem = assert_problem(await house.ask_to_pay(booking, **change), 422, "VALIDATION_ERROR")
    assert fields(problem) == [field], problem


READS: list[tuple[str, dict[str, Any], int, str]] = [
    ("/api/bookings/reserve", {}, 422, "tripId"),
    ("/api/bookings/reserve", {"tripId": "x"}, 422, "tripId"),
    ("/api/bookings/reserve", {"tripId": "\u0000"}, 422, "tripId"),
    ("/api/payments/status", {}, 422, "paymentId"),
    ("/api/payments/status", {"paymentId": "x"}, 422, "paymentId"),
    ("/api/payments/status", {"reference": "x"}, 422, "reference"),
    ("/api/payments/status", {"reference": "x" * 100}, 422, "reference"),
    ("/api/payments/status", {"paymentId": NOWHERE}, 404, ""),
    ("/api/payments/status", {"reference": NOWHERE}, 404, ""),
    ("/api/trips/search", {}, 422, ""),
    ("/api/trips/search", {"from": "KLA", "to": "KGL", "date": "tomorrow"}, 422, "date"),
    ("/api/trips/search", {"from": "KLA", "to": "KGL", "date": "2026-02-30"}, 422, "date"),
    ("/api/trips/search", {"from": "KLA", "to": "KGL", "date": "\u0000"}, 422, "date"),
    ("/api/trips/search", {"from": "KLA", "to": "KGL", "date": "2026-12-24", "limit": 0}, 422, "limit"),
    ("/api/trips/search", {"from": "KLA", "to": "KGL", "date": "2026-12-24", "limit": HUGE}, 422, "limit"),
    ("/api/trips/search", {"from": "KLA", "to": "KGL", "date": "2026-12-24", "passengers": -1}, 422, "passengers"),
    ("/api/trips/search", {"from": "KLA", "to": "KGL", "date": "2026-12-24", "cursor": "garbage"}, 422, "cursor"),
    ("/api/trips/search", {"from": "KLA", "to": "KGL", "date": "2026-12-24", "cursor": "\u0000"}, 422, "cursor"),
    ("/api/trips/search", {"from": "XXX", "to": "KGL", "date": "2026-12-24"}, 404, ""),
    ("/api/trips/search", {"from": "K\u0000LA", "to": "KGL", "date": "2026-12-24"}, 404, ""),
    ("/api/stops", {"q": "x" * 500}, 422, "q"),
    ("/api/stops", {"limit": -1}, 422, "limit"),
    ("/api/trips/not-a-uuid", {}, 404, ""),
    ("/api/bookings/not-a-uuid", {}, 404, ""),
    ("/api/nothing", {}, 404, ""),
]


@pytest.mark.parametrize(("path", "query", "status", "field"), READS, ids=lambda value: str(value)[:50])
async def test_a_question_that_makes_no_sense_is_refused(
    house: RunningHouse, path: str, query: dict[str, Any], status: int, field: str
) -> None:
    answer = await house.api.get(path, params=query)
    code = {404: "NOT_FOUND", 422: "VALIDATION_ERROR"}[status]
    problem = assert_problem(answer, status, code)
    if field:
        assert fields(problem) == [field], problem


@pytest.mark.parametrize("typed", ["\u0000", "%", "_", "\\", "'", "\u202e", "💺", "' OR 1=1 --", "*", ""])
async def test_any_text_may_be_typed_to_look_for_a_stop(house: RunningHouse, typed: str) -> None:
    answer = await house.api.get("/api/stops", params={"q": typed})
    assert answer.status_code in {200, 422}, answer.text
    if answer.status_code == 422:
        assert_problem(answer, 422, "VALIDATION_ERROR")


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "2026-W52-4", "20261224"])
async def test_a_day_without_trips_is_an_empty_answer(house: RunningHouse, day: str) -> None:
    answer = await house.api.get("/api/trips/search", params={"from": "KLA", "to": "KGL", "date": day})
    assert answer.status_code in {200, 422}, answer.text


@pytest.mark.parametrize(
    "scanned",
    ["\u0000", "garbage", "💺", "a.b.c", "K7MPQR-1A", "K7MPQR-\u0000", "x" * 2_000, "eyJhbGciOiJub25lIn0.e30."],
)
async def test_what_is_no_ticket_is_unknown(house: RunningHouse, scanned: str) -> None:
    headers = await staff_headers(house)
    for name in ("token", "code"):
        answer = await house.api.post("/api/tickets/verify", json={name: scanned}, headers=headers)
        assert answer.status_code in {200, 422}, answer.text
        if answer.status_code == 200:
            assert (answer.json()["result"], answer.json()["valid"]) == ("UNKNOWN", False)


async def test_an_empty_scan_and_a_place_with_control_characters_are_refused(house: RunningHouse) -> None:
    headers = await staff_headers(house)
    for body in ({}, {"token": ""}, {"code": "  "}, {"token": "x", "where": "\u0000"}, {"token": "x", "tripId": "x"}):
        answer = await house.api.post("/api/tickets/verify", json=body, headers=headers)
        assert_problem(answer, 422, "VALIDATION_ERROR")


# ------------------------------------------------------------------ who is calling

HOLDER_CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("GET", "/tickets", None),
    ("POST", "/extend", {"holdDurationMinutes": 30}),
    ("DELETE", "/hold", None),
    ("PUT", "/passengers", {"passengers": [{"seatNumber": "5A", "name": "Mallory"}]}),
]


@pytest.mark.parametrize(("method", "path", "body"), HOLDER_CALLS, ids=lambda value: str(value)[:20])
async def test_only_the_token_of_a_booking_is_the_right_to_it(
    house: RunningHouse, booking: JsonObject, method: str, path: str, body: Any
) -> None:
    url = f"/api/bookings/{booking['bookingId']}{path}"
    pretenders = [
        {},
        {"x-user-id": "1", "x-user-role": "admin", "x-forwarded-user": "root"},
        {"authorization": "Hold"},
        {"authorization": "Bearer " + booking["holdToken"]},
        {"authorization": f"Bearer {JOB_SECRET}"},
        {"authorization": booking["holdToken"]},
    ]
    for headers in pretenders:
        answer = await house.api.request(method, url, json=body, headers=headers)
        assert_problem(answer, 401, "AUTHENTICATION_ERROR")
    wrong = [booking["holdToken"][:-1], booking["holdToken"] + "A", booking["holdToken"].swapcase(), "x", "\u00ff"]
    for token in wrong:
        headers = {"authorization": f"Hold {token}".encode("latin-1")}
        answer = await house.api.request(method, url, json=body, headers=headers)
        assert_problem(answer, 403, "AUTHORIZATION_ERROR")


async def test_a_token_is_good_for_its_own_booking_only(house: RunningHouse, booking: JsonObject) -> None:
    for method, path, body in HOLDER_CALLS:
        url = f"/api/bookings/{uuid4()}{path}"
        answer = await house.api.request(method, url, json=body, headers=holder(booking))
        assert_problem(answer, 403, "AUTHORIZATION_ERROR")
    pay = {"bookingId": booking["bookingId"], "paymentMethod": "CARD"}
    assert_problem(await house.api.post("/api/payments/initiate", json=pay), 401, "AUTHENTICATION_ERROR")
    headers = {"authorization": "Hold wrong", "x-user-id": "1"}
    answer = await house.api.post("/api/payments/initiate", json=pay, headers=headers)
    assert_problem(answer, 403, "AUTHORIZATION_ERROR")


@pytest.mark.parametrize(
    "body",
    [
        {"holdDurationMinutes": 0},
        {"holdDurationMinutes": 31},
        {"holdDurationMinutes": -1},
        {"holdDurationMinutes": HUGE},
        {"holdDurationMinutes": "soon"},
        {"holdDurationMinutes": None},
    ],
)
async def test_an_extension_that_makes_no_sense_is_refused(
    house: RunningHouse, booking: JsonObject, body: JsonObject
) -> None:
    url = f"/api/bookings/{booking['bookingId']}/extend"
    answer = await house.api.post(url, json=body, headers=holder(booking))
    assert fields(assert_problem(answer, 422, "VALIDATION_ERROR")) == ["holdDurationMinutes"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"passengers": []},
        {"passengers": [{"seatNumber": "1Z", "name": "A"}]},
        {"passengers": [{"seatNumber": "5A", "name": "A\u0000"}]},
        {"passengers": [{"seatNumber": "5A", "name": "A"}, {"seatNumber": "9Z", "name": "B"}]},
        {"passengers": [{"seatNumber": "5A", "name": "A", "tripId": NOWHERE}]},
        {"passengers": [{"seatNumber": "5A"}]},
        {"passengers": [{"seatNumber": "5A", "name": "A"}], "contact": {"email": "nobody"}},
        {"passengers": [{"seatNumber": "5A", "name": "A"}] * 1_000},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
async def test_passengers_that_make_no_sense_are_refused_and_none_of_them_is_named(
    house: RunningHouse, booking: JsonObject, body: JsonObject
) -> None:
    url = f"/api/bookings/{booking['bookingId']}/passengers"
    answer = await house.api.put(url, json=body, headers=holder(booking))
    assert_problem(answer, 422, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "headers", [{}, {"x-job-secret": ""}, {"x-job-secret": "wrong"}, {"authorization": "Bearer x"}]
)
async def test_jobs_are_for_the_scheduler(house: RunningHouse, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/api/jobs"), ("GET", "/api/jobs/health"), ("POST", "/api/jobs/expire-seats")):
        assert_problem(await house.api.request(method, path, headers=headers), 401, "AUTHENTICATION_ERROR")


async def test_an_unknown_job_is_not_found_and_a_wrong_method_is_said_to_be(house: RunningHouse) -> None:
    secret = {"x-job-secret": JOB_SECRET}
    assert_problem(await house.api.post("/api/jobs/make-coffee", headers=secret), 404, "NOT_FOUND")
    assert_problem(await house.api.put("/api/bookings/reserve"), 405, "METHOD_NOT_ALLOWED")
