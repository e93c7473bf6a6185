"""Idempotency-Key: a retry hears the first answer, byte for byte, and nothing is done twice."""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.box import Box
from tests.house import JOB_SECRET, JsonObject, RunningHouse, holder, until

from kiti.idempotency import actions as idempotency
from kiti.idempotency.model import Key

RESERVE = "/api/bookings/reserve"


def keyed(key: str, headers: Mapping[str, str] | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key, **(headers or {})}


def fresh() -> str:
    return str(uuid4())


def wants(house: RunningHouse, *seats: str) -> JsonObject:
    return {"tripId": str(house.network.bus()), "seatNumbers": list(seats)}


async def ask(house: RunningHouse, body: Any, key: str, **more: Any) -> httpx.Response:
    return await house.api.post(RESERVE, json=body, headers=keyed(key, more))


async def bookings_of(house: RunningHouse, trip: str) -> int:
    found: int = await house.box.value("SELECT count(DISTINCT booking_id) FROM booking_seat WHERE trip_id = %s", trip)
    return found


async def test_a_repeated_reservation_is_one_booking_and_one_answer(house: RunningHouse) -> None:
    body, key = wants(house, "1A"), fresh()
    first = await ask(house, body, key)
    again = await ask(house, body, key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert await bookings_of(house, body["tripId"]) == 1


async def test_spaces_and_the_order_of_members_make_no_other_request(house: RunningHouse) -> None:
    trip, key = str(house.network.bus()), fresh()
    first = await ask(house, {"tripId": trip, "seatNumbers": ["1A"]}, key)
    text = f'{{ "seatNumbers" : ["1A"],\n "tripId": "{trip}" }}'
    headers = keyed(key, {"content-type": "application/json"})
    again = await house.api.post(RESERVE, content=text, headers=headers)
    assert again.content == first.content


async def test_thirty_at_once_with_one_key_are_one_booking(house: RunningHouse) -> None:
    body, key = wants(house, "1A", "1B"), fresh()
    answers = await asyncio.gather(*(ask(house, body, key) for _ in range(30)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert await bookings_of(house, body["tripId"]) == 1
    last = await ask(house, body, key)
    assert (last.status_code, last.headers["idempotency-replayed"]) == (201, "true")


async def test_a_retry_that_meets_its_own_first_request_is_not_told_that_its_seats_are_taken(
    house: RunningHouse,
) -> None:
    for _ in range(10):
        body, key = wants(house, "1A"), fresh()
        answers = await asyncio.gather(*(ask(house, body, key) for _ in range(6)))
        refused = [answer.json()["title"] for answer in answers if answer.status_code != 201]
        assert set(refused) <= {"Key in use"}


async def test_logging_in_leaves_neither_password_nor_token_under_a_key(house: RunningHouse) -> None:
    before = await house.box.value("SELECT count(*) FROM idempotency_key")
    body = {"email": "nobody@kiti.example", "password": "wrong"}
    assert (await house.api.post("/api/auth/login", json=body, headers=keyed(fresh()))).status_code == 401
    assert await house.box.value("SELECT count(*) FROM idempotency_key") == before


async def test_who_has_the_key_but_not_the_right_hears_nothing(house: RunningHouse) -> None:
    booking, key = await house.reserve(house.network.bus(), ["1A"]), fresh()
    path = f"/api/bookings/{booking['bookingId']}/extend"
    mine = await house.api.post(f"{path}?token={booking['holdToken']}", headers=keyed(key))
    assert mine.status_code == 200
    assert (await house.api.post(path, headers=keyed(key))).status_code == 401
    assert (await house.api.post(f"{path}?token=guessed", headers=keyed(key))).status_code == 403


async def test_the_same_key_with_another_body_is_refused(house: RunningHouse) -> None:
    key = fresh()
    assert (await ask(house, wants(house, "1A"), key)).status_code == 201
    other = await ask(house, wants(house, "1B"), key)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")


async def test_a_seat_that_was_taken_may_be_asked_for_again_with_the_same_key(house: RunningHouse) -> None:
    """A conflict is not stored: the retry may fare better."""
    body, key = wants(house, "1A"), fresh()
    mine = await house.reserve(house.network.bus(), ["1A"])
    body["tripId"] = mine["tripId"]
    assert (await ask(house, body, key)).status_code == 409
    await house.api.delete(f"/api/bookings/{mine['bookingId']}/hold", headers=holder(mine))
    assert (await ask(house, body, key)).status_code == 201


async def test_a_refusal_that_stays_one_is_given_again(house: RunningHouse) -> None:
    for body in (wants(house, "99Z"), {"tripId": fresh(), "seatNumbers": ["1A"]}, {"seatNumbers": "1A"}):
        key = fresh()
        first, again = await ask(house, body, key), await ask(house, body, key)
        assert first.status_code in {404, 422}
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_a_key_that_is_none_is_refused(house: RunningHouse, key: str) -> None:
    answer = await ask(house, wants(house, "1A"), key)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


async def test_another_caller_s_key_and_another_address_s_key_are_other_keys(house: RunningHouse) -> None:
    key = fresh()
    one, two = await house.reserve(house.network.bus(), ["1A"]), await house.reserve(house.network.bus(), ["1A"])
    for booking in (one, two):
        path = f"/api/bookings/{booking['bookingId']}/extend"
        answer = await house.api.post(path, headers=keyed(key, holder(booking)))
        assert (answer.status_code, answer.json()["bookingId"]) == (200, booking["bookingId"])
    assert (await ask(house, wants(house, "1A"), key)).status_code == 201


async def test_every_other_call_that_changes_something_takes_a_key(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    path = f"/api/bookings/{booking['bookingId']}"
    pay = {"bookingId": booking["bookingId"], "paymentMethod": "CARD"}
    name = {"passengers": [{"seatNumber": "1A", "name": "Grace Achieng"}]}
    for method, where, body in (
        ("PUT", f"{path}/passengers", name),
        ("POST", f"{path}/extend", {"holdDurationMinutes": 20}),
        ("POST", "/api/payments/initiate", pay),
        ("DELETE", f"{path}/hold", None),
    ):
        headers = keyed(fresh(), holder(booking))
        first = await house.api.request(method, where, json=body, headers=headers)
        again = await house.api.request(method, where, json=body, headers=headers)
        assert first.is_success, first.text
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["idempotency-replayed"] == "true"


async def test_a_first_request_that_died_is_resumed_once_its_lock_has_lapsed(own_house: RunningHouse) -> None:
    house = own_house
    booking = await house.reserve(house.network.bus(), ["1A"])
    headers = keyed(fresh(), holder(booking))
    pay = {"bookingId": booking["bookingId"], "paymentMethod": "CARD"}
    await house.sim.api_fault(match="POST /v3/payments", times=1, latency_ms=3000)
    first = asyncio.create_task(house.api.post("/api/payments/initiate", json=pay, headers=headers))
    await until(lambda: house.box.value("SELECT count(*) FROM payment WHERE state = 'submitting'"), bool)
    meanwhile = await house.api.post("/api/payments/initiate", json=pay, headers=headers)
    assert (meanwhile.status_code, meanwhile.headers["retry-after"]) == (409, "1")
    house.kill9()
    await asyncio.gather(first, return_exceptions=True)
    await house.restart()
    early = await house.api.post("/api/payments/initiate", json=pay, headers=headers)
    assert early.status_code == 409
    await house.box.rows("UPDATE idempotency_key SET locked_until = kiti_now()")
    resumed = await house.api.post("/api/payments/initiate", json=pay, headers=headers)
    assert resumed.status_code in {200, 201}, resumed.text
    # The attempt that died unheard is given up; one is open, and it is the one that was answered.
    still_open = await house.box.rows("SELECT id FROM payment WHERE state IN ('submitting', 'unknown', 'pending')")
    assert [str(row["id"]) for row in still_open] == [resumed.json()["paymentId"]]
    again = await house.api.post("/api/payments/initiate", json=pay, headers=headers)
    assert again.content == resumed.content


async def test_a_first_request_that_was_thought_dead_does_not_take_the_key_from_its_successor(box: Box) -> None:
    key = Key(hashlib.sha256(b"scope").digest(), hashlib.sha256(b"body").digest())
    slow = await box.db.run(lambda tx: idempotency.take(tx, key=key))
    assert slow is not None
    await box.travel(seconds=61)
    successor = await box.db.run(lambda tx: idempotency.take(tx, key=key))
    assert successor is not None
    await box.db.run(lambda tx: idempotency.give_up(tx, key=key, lock=slow))
    kept = [
        await box.db.run(
            lambda tx, lock=lock, body=body: idempotency.store(  # type: ignore[misc]
                tx, key=key, lock=lock, status=201, media_type="text/plain", body=body
            )
        )
        for lock, body in ((slow, b"too late"), (successor, b"in time"), (slow, b"later still"))
    ]
    assert kept == [False, True, False]
    assert await box.rows("SELECT body FROM idempotency_key") == [{"body": b"in time"}]


async def test_keys_are_forgotten_after_three_days(own_house: RunningHouse) -> None:
    house = own_house
    body, key = wants(house, "1A"), fresh()
    first = await ask(house, body, key)
    await house.box.travel(minutes=72 * 60 - 5)
    assert (await ask(house, body, key)).content == first.content
    assert (await house.job("cleanup-idempotency"))["processed"] == 0
    await house.box.travel(minutes=10)
    later = await ask(house, body, key)
    assert "idempotency-replayed" not in later.headers
    assert (await house.job("cleanup-idempotency"))["processed"] >= 1


async def test_a_webhook_and_a_job_do_not_look_at_keys(house: RunningHouse) -> None:
    headers = keyed(fresh(), {"x-job-secret": JOB_SECRET})
    for _ in range(2):
        answer = await house.api.post("/api/jobs/expire-seats", headers=headers)
        assert answer.status_code == 200
        assert "idempotency-replayed" not in answer.headers
