"""An operator cancels a trip: everybody gets their money back, exactly once, whoever is killed in between."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from tests.house import JsonObject, RunningHouse, holder, until
from tests.network import STANDARD_UGX
from tests.staff import bearer, employ, staff_headers


@pytest.fixture
async def finance(house: RunningHouse) -> dict[str, str]:
    return await staff_headers(house, "platform_finance")


@pytest.fixture
async def clerk(house: RunningHouse) -> dict[str, str]:
    return await staff_headers(house, "operator_staff", "pearl")


async def sell(house: RunningHouse, trip: UUID, *, how_many: int) -> list[JsonObject]:
    seats = house.network.bus_line.seats[:how_many]
    return [booking for booking, _ in await asyncio.gather(*(house.buy(trip, [seat]) for seat in seats))]


async def start_cancelling(house: RunningHouse, trip: UUID) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kiti", "trips", "cancel", str(trip), "--reason", "The road is closed."),
        env={**os.environ, "NO_COLOR": "1", **house.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


async def refunded_in_full(house: RunningHouse, bookings: list[JsonObject]) -> None:
    for booking in bookings:
        (refund,) = await house.refunds_until(booking, "succeeded")
        assert refund["amount"] == STANDARD_UGX
        assert (await house.booking(booking))["status"] == "CANCELLED"
        assert [ticket["status"] for ticket in await house.tickets(booking)] == ["VOID"]
    paid_back = await house.box.rows(
        "SELECT transaction_id, count(*) AS times FROM refund WHERE booking_id = ANY(%s) GROUP BY 1",
        [booking["bookingId"] for booking in bookings],
    )
    assert {row["times"] for row in paid_back} == {1}


async def test_everybody_gets_their_money_back_and_nobody_can_buy_any_more(house: RunningHouse) -> None:
    trip = house.network.bus()
    bookings = await sell(house, trip, how_many=3)
    held = await house.reserve(trip, ["5A"])
    code, said = await house.kiti("trips", "cancel", str(trip), "--reason", "The road is closed.")
    assert (code, "3 bookings get their money back, 1 holds were given up" in said) == (0, True), said
    await refunded_in_full(house, bookings)
    assert (await house.booking(held))["status"] == "CANCELLED"
    # The catalogue of a server keeps what hardly changes; the transaction that sells asks again.
    refused = await house.ask_to_reserve(trip, ["6A"])
    assert (refused.status_code, refused.json()["title"]) == (409, "Trip not on sale")
    await house.doctor()


async def test_killed_at_any_moment_and_run_again_each_is_refunded_once(house: RunningHouse) -> None:
    trip = house.network.bus()
    bookings = await sell(house, trip, how_many=12)
    dice = random.Random(7)

    async def refunds() -> int:
        found: int = await house.box.value("SELECT count(*) FROM trip_refund WHERE trip_id = %s", trip)
        return found

    for _ in range(3):
        before = await refunds()
        running = await start_cancelling(house, trip)
        await _has_begun(running, refunds, before)
        await asyncio.sleep(dice.uniform(0, 0.02))
        if running.returncode is None:
            running.kill()
        await running.communicate()
    assert await refunds() < 12, "it was never killed in the middle"
    both = [await start_cancelling(house, trip) for _ in range(2)]
    for process in both:
        said, _ = await process.communicate()
        assert process.returncode == 0, said
    assert await refunds() == 12
    await refunded_in_full(house, bookings)
    await house.doctor()


async def _has_begun(running: asyncio.subprocess.Process, refunds: Callable[[], Awaitable[int]], before: int) -> None:
    await until(refunds, lambda made: made > before or running.returncode is not None)


async def test_the_other_trip_of_a_journey_stays_booked(house: RunningHouse) -> None:
    gone, stays = house.network.bus(), house.network.bus()
    items = [{"tripId": str(trip), "seatNumbers": ["1A"]} for trip in (gone, stays)]
    booking = (await house.api.post("/api/bookings/reserve", json={"items": items})).json()
    await house.sim.pay(await house.initiate(booking))
    await house.booking_until(booking, "CONFIRMED")
    for _ in range(2):
        assert (await house.kiti("trips", "cancel", str(gone), "--reason", "No driver."))[0] == 0
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    status = {ticket["tripId"]: ticket["status"] for ticket in await house.tickets(booking)}
    assert status == {str(gone): "VOID", str(stays): "VALID"}
    (refund,) = await house.refunds_until(booking, "succeeded")
    assert refund["amount"] == STANDARD_UGX
    await house.doctor()
    # What was given back is neither given back again nor moved to a trip that runs.
    quote = (
        await house.api.post(
            f"/api/bookings/{booking['bookingId']}/cancel", json={"dryRun": True}, headers=holder(booking)
        )
    ).json()
    assert [seat["tripId"] for seat in quote["seats"]] == [str(stays)]
    move = ["bookings", "move", booking["reference"], "--from-trip", str(gone), "--to-trip", str(house.network.bus())]
    code, said = await house.kiti(*move, "--reason", "Take the next one.")
    assert (code != 0, "went back" in said) == (True, True), said
    assert (await house.kiti("trips", "cancel", str(stays), "--reason", "No driver."))[0] == 0
    assert (await house.booking(booking))["status"] == "CANCELLED"
    assert len(await house.refunds_until(booking, "succeeded", count=2)) == 2
    await house.doctor()


async def test_what_a_run_that_was_cut_short_left_is_finished_by_the_timetable(house: RunningHouse) -> None:
    """And so is what was paid for, beside the cancellation, with a hold that had run out."""
    trip = house.network.bus()
    bookings = await sell(house, trip, how_many=2)
    await house.box.rows("UPDATE trip SET state = 'cancelled' WHERE id = %s", trip)
    # One of them counts as travelled already: the trip's planned arrival has passed.
    await house.box.rows("UPDATE booking SET state = 'completed' WHERE id = %s", bookings[0]["bookingId"])

    async def owed() -> int:
        await house.job("refund-cancelled-trips")
        found: int = await house.box.value("SELECT count(*) FROM trip_refund WHERE trip_id = %s", trip)
        return found

    await until(owed, lambda made: made == 2)
    for booking in bookings:
        (refund,) = await house.refunds_until(booking, "succeeded")
        assert refund["amount"] == STANDARD_UGX
    await house.doctor()


async def test_what_was_paid_beyond_the_price_goes_back_with_the_last_trip(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking = await house.reserve(trip, ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, amount=STANDARD_UGX + 1000)
    await house.booking_until(booking, "CONFIRMED")
    assert (await house.kiti("trips", "cancel", str(trip), "--reason", "No driver."))[0] == 0
    (refund,) = await house.refunds_until(booking, "succeeded")
    assert refund["amount"] == STANDARD_UGX + 1000


async def test_a_trip_that_there_is_not_cannot_be_cancelled(house: RunningHouse) -> None:
    code, said = await house.kiti("trips", "cancel", "00000000-0000-7000-8000-00000000dead", "--reason", "x")
    assert code != 0
    assert "no such trip" in said


# ------------------------------------------------------------------ staff


async def ask_for_refund(house: RunningHouse, payment: JsonObject, headers: Any, **body: Any) -> Any:
    path = f"/api/payments/{payment['paymentId']}/refund"
    return await house.api.post(path, json={"reason": "Goodwill.", **body}, headers=headers)


async def test_staff_refund_a_part_and_then_the_rest(house: RunningHouse, finance: dict[str, str]) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    first = await ask_for_refund(house, payment, finance, amount=1000)
    assert (first.status_code, first.json()["amount"]) == (202, 1000)
    rest = await ask_for_refund(house, payment, finance)
    assert (rest.status_code, rest.json()["amount"]) == (202, STANDARD_UGX - 1000)
    assert (await ask_for_refund(house, payment, finance)).status_code == 409
    await house.refunds_until(booking, "succeeded", count=2)
    assert (await house.payment(payment))["status"] == "REFUNDED"
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    await house.doctor()


async def test_refunds_at_once_never_exceed_what_was_paid(house: RunningHouse, finance: dict[str, str]) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    third = STANDARD_UGX // 3
    answers = await asyncio.gather(*(ask_for_refund(house, payment, finance, amount=third) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [409] * 7
    refunds = await house.refunds_until(booking, "succeeded", count=3)
    assert sum(refund["amount"] for refund in refunds) == STANDARD_UGX


@pytest.mark.parametrize("amount", [0, -1])
async def test_an_amount_that_is_none_is_refused(house: RunningHouse, finance: dict[str, str], amount: int) -> None:
    _, payment = await house.buy(house.network.bus(), ["1A"])
    assert (await ask_for_refund(house, payment, finance, amount=amount)).status_code == 422


async def test_travellers_and_staff_without_the_right_refund_nothing(
    house: RunningHouse, clerk: dict[str, str]
) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    assert (await ask_for_refund(house, payment, {})).status_code == 401
    assert (await ask_for_refund(house, payment, holder(booking))).status_code == 401
    assert (await ask_for_refund(house, payment, clerk)).status_code == 403
    assert await house.refunds(booking) == []


async def test_a_refund_is_shown_to_staff_of_its_operator_only(house: RunningHouse, finance: dict[str, str]) -> None:
    _, payment = await house.buy(house.network.bus(), ["1A"])
    refund = (await ask_for_refund(house, payment, finance, amount=1000)).json()
    path = f"/api/refunds/{refund['refundId']}"
    assert (await house.api.get(path, headers=finance)).json()["amount"] == 1000
    own = await staff_headers(house, "operator_finance", "pearl")
    assert (await house.api.get(path, headers=own)).status_code == 200
    other = await staff_headers(house, "operator_finance", "lake")
    assert (await house.api.get(path, headers=other)).status_code == 403


async def test_a_refund_that_is_asked_for_again_with_its_key_is_one_refund(house: RunningHouse) -> None:
    """After a new login, and after a crash that took the stored answer with it."""
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    employee = await employ(house.box.db, "platform_finance")
    key = {"Idempotency-Key": "refund-once"}
    first = await ask_for_refund(house, payment, {**await bearer(house, employee), **key}, amount=1000)
    await asyncio.sleep(1.1)  # a token of another second is another token
    again = await ask_for_refund(house, payment, {**await bearer(house, employee), **key}, amount=1000)
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    await house.box.rows("DELETE FROM idempotency_key")
    resumed = await ask_for_refund(house, payment, {**await bearer(house, employee), **key}, amount=1000)
    assert resumed.json()["refundId"] == first.json()["refundId"]
    assert len(await house.refunds(booking)) == 1


async def test_whatever_goes_back_nobody_gives_more_than_was_paid_in_their_name(
    house: RunningHouse, finance: dict[str, str]
) -> None:
    """A journey of two operators, a part given back by staff, a trip cancelled, and the rest by staff again."""
    bus, shuttle = house.network.bus(), house.network.shuttle()
    items = [{"tripId": str(trip), "seatNumbers": ["1A"]} for trip in (bus, shuttle)]
    booking = (await house.api.post("/api/bookings/reserve", json={"items": items})).json()
    payment = await house.initiate(booking)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert (await ask_for_refund(house, payment, finance, amount=20_000)).status_code == 202
    assert (await house.kiti("trips", "cancel", str(bus), "--reason", "No driver."))[0] == 0
    await ask_for_refund(house, payment, finance)
    refunds = await house.refunds_until(booking, "succeeded", count=2)
    assert sum(refund["amount"] for refund in refunds) == booking["amount"]
    await house.doctor()


async def test_cancelling_after_a_part_went_back_gives_what_is_left(
    house: RunningHouse, finance: dict[str, str]
) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    await ask_for_refund(house, payment, finance, amount=20_000)
    path = f"/api/bookings/{booking['bookingId']}/cancel"
    dry = await house.api.post(path, json={"dryRun": True}, headers=holder(booking))
    done = await house.api.post(path, headers=holder(booking))
    assert dry.json()["refund"] == done.json()["refund"] == {"amount": STANDARD_UGX - 20_000, "currency": "UGX"}
    await house.refunds_until(booking, "succeeded", count=2)
    await house.doctor()
