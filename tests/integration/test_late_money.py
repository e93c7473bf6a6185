"""Money that comes late, twice, after a refusal, or while the gateway is out of order: a ticket or a refund."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from tests.house import JsonObject, RunningHouse, holder, until
from tests.network import STANDARD_UGX


async def lapse(house: RunningHouse, booking: JsonObject) -> None:
    """Let the hold of a booking be over, cap included."""
    await house.box.rows(
        "UPDATE booking SET hold_expires_at = kiti_now() - interval '1 second',"
        " hold_cap_at = kiti_now() - interval '1 second' WHERE id = %s",
        booking["bookingId"],
    )
    await house.box.rows(
        "UPDATE seat_claim SET expires_at = kiti_now() - interval '1 second' WHERE owner_id = %s", booking["bookingId"]
    )


async def assert_refunded(house: RunningHouse, booking: JsonObject, payment: JsonObject) -> None:
    """The whole amount went back, once, and there is no ticket."""
    found = await house.payment_until(payment, "COMPLETED", "REFUNDED")
    await house.refunds_until(booking, "succeeded")
    found = await house.payment(payment)
    assert (found["status"], found["refundedAmount"]) == ("REFUNDED", found["total"])
    assert await house.ledger(booking) == {"capture": 1, "refund_requested": 1, "refund_done": 1}
    assert await house.tickets(booking) == []
    assert len((await house.sim.state(payment))["refunds"]) == 1


@pytest.mark.parametrize("is_swept", [False, True], ids=["not swept yet", "swept"])
async def test_money_after_the_hold_still_gets_its_seats_if_nobody_took_them(
    house: RunningHouse,
    is_swept: bool,  # noqa: FBT001 - pytest's way
) -> None:
    booking = await house.reserve(house.network.bus(), ["3A", "3B"])
    payment = await house.initiate(booking)
    await lapse(house, booking)
    if is_swept:
        await house.job("expire-seats")
        owned = "SELECT count(*) FROM seat_claim WHERE owner_id = %s"
        assert await house.box.value(owned, booking["bookingId"]) == 0
    assert (await house.booking(booking))["status"] == "EXPIRED"
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert len(await house.tickets(booking)) == 2
    assert (await house.payment(payment))["status"] == "COMPLETED"


@pytest.mark.parametrize("is_sold", [False, True], ids=["held by another", "sold to another"])
async def test_money_after_somebody_else_took_the_seat_goes_back_and_they_keep_it(
    house: RunningHouse,
    is_sold: bool,  # noqa: FBT001 - pytest's way
) -> None:
    trip = house.network.bus()
    booking = await house.reserve(trip, ["1A"])
    payment = await house.initiate(booking)
    await lapse(house, booking)
    other = (await house.buy(trip, ["1A"]))[0] if is_sold else await house.reserve(trip, ["1A"])
    await house.sim.pay(payment)
    await assert_refunded(house, booking, payment)
    assert (await house.booking(other))["status"] == ("CONFIRMED" if is_sold else "HELD")
    owners = await house.box.rows("SELECT DISTINCT owner_id FROM seat_claim WHERE trip_id = %s", trip)
    assert owners == [{"owner_id": UUID(other["bookingId"])}]


async def test_money_for_two_seats_of_which_one_is_gone_goes_back_whole_and_keeps_neither(
    house: RunningHouse,
) -> None:
    trip = house.network.bus()
    booking = await house.reserve(trip, ["1A", "1B"])
    payment = await house.initiate(booking)
    await lapse(house, booking)
    await house.reserve(trip, ["1B"])
    await house.sim.pay(payment)
    await assert_refunded(house, booking, payment)
    await house.reserve(trip, ["1A"])


async def test_money_for_a_released_booking_goes_back(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    released = await house.api.delete(f"/api/bookings/{booking['bookingId']}/hold", headers=holder(booking))
    assert released.json()["status"] == "CANCELLED"
    await house.sim.pay(payment, force=True)
    await assert_refunded(house, booking, payment)
    assert (await house.booking(booking))["status"] == "CANCELLED"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trip SET state = 'cancelled' WHERE id = %s",
        "UPDATE trip_stop SET departs_at = kiti_now() - interval '1 minute' WHERE trip_id = %s",
    ],
    ids=["cancelled", "departed"],
)
async def test_money_for_a_trip_that_does_not_take_them_goes_back(house: RunningHouse, change: str) -> None:
    trip = house.network.bus()
    booking = await house.reserve(trip, ["1A"])
    payment = await house.initiate(booking)
    await house.box.rows(change, trip)
    await house.sim.pay(payment)
    await assert_refunded(house, booking, payment)


async def test_who_boards_further_on_may_pay_after_the_bus_has_left_its_first_stop(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking = await house.reserve(trip, ["1A"], **{"from": "MBR", "to": "KGL"})
    payment = await house.initiate(booking)
    left = "UPDATE trip_stop SET departs_at = kiti_now() - interval '1 minute' WHERE trip_id = %s AND seq = 0"
    await house.box.rows(left, trip)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")


async def test_late_money_and_a_new_buyer_at_once_never_share_a_seat(house: RunningHouse) -> None:
    for _ in range(6):
        trip = house.network.bus()
        late = await house.reserve(trip, ["1A"])
        payment = await house.initiate(late)
        await lapse(house, late)
        _, answer = await asyncio.gather(house.sim.pay(payment), house.ask_to_reserve(trip, ["1A"]))
        settled = await house.payment_until(payment, "COMPLETED", "REFUNDED")
        if answer.status_code == 201:
            await assert_refunded(house, late, payment)
        else:
            assert answer.status_code == 409, answer.text
            assert settled["status"] == "COMPLETED"
            await house.booking_until(late, "CONFIRMED")
        owners = await house.box.value("SELECT count(DISTINCT owner_id) FROM seat_claim WHERE trip_id = %s", trip)
        assert owners == 1


async def test_a_page_that_nobody_paid_on_expires_and_may_still_be_paid_late(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await lapse(house, booking)
    await house.box.rows(
        "UPDATE payment SET expires_at = kiti_now() - interval '1 second' WHERE id = %s", payment["paymentId"]
    )
    await house.poll(payment)
    assert (await house.payment(payment))["status"] == "EXPIRED"
    (link,) = (await house.sim.state(payment))["links"]
    assert link["state"] == "disabled", "the page was left open"
    await house.sim.pay(payment, force=True)
    await house.booking_until(booking, "CONFIRMED")
    assert (await house.payment(payment))["status"] == "COMPLETED"


async def test_a_payment_under_way_keeps_the_hold_up_to_its_cap(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, "pay-late", delay_seconds=600)
    soon = "UPDATE {} SET {} = kiti_now() + interval '30 seconds' WHERE {} = %s"
    await house.box.rows(soon.format("booking", "hold_expires_at", "id"), booking["bookingId"])
    await house.box.rows(soon.format("seat_claim", "expires_at", "owner_id"), booking["bookingId"])
    await house.poll(payment)
    left = "SELECT min(expires_at) - kiti_now() > interval '4 minutes' FROM seat_claim WHERE owner_id = %s"
    assert await house.box.value(left, booking["bookingId"])
    capped = "UPDATE booking SET hold_cap_at = hold_expires_at WHERE id = %s RETURNING hold_expires_at"
    before = await house.box.value(capped, booking["bookingId"])
    await house.poll(payment)
    assert await house.box.value("SELECT hold_expires_at FROM booking WHERE id = %s", booking["bookingId"]) == before


async def test_a_declined_payment_says_why_gives_back_the_time_and_can_be_tried_again(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"], holdDurationMinutes=1)
    first = await house.initiate(booking)
    extended = await house.booking(booking)
    assert extended["status"] == "AWAITING_PAYMENT"
    assert extended["expiresAt"] > booking["expiresAt"]
    await house.sim.pay(first, "decline")
    failed = await house.payment_until(first, "FAILED")
    assert failed["failureReason"] == "Declined"
    declined = await house.booking_until(booking, "HELD")
    assert declined["expiresAt"] < extended["expiresAt"]
    second = await house.ask_to_pay(booking)
    assert second.status_code == 201
    assert second.json()["paymentId"] != first["paymentId"]
    await house.sim.pay(second.json())
    await house.booking_until(booking, "CONFIRMED")
    assert len(await house.tickets(booking)) == 1
    assert (await house.payment(first))["status"] == "FAILED"


async def test_a_page_that_declined_and_then_took_the_money_after_all_sells_the_seat(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, "decline")
    await house.payment_until(payment, "FAILED")
    await house.sim.pay(payment, force=True)
    await house.booking_until(booking, "CONFIRMED")
    assert (await house.payment(payment))["status"] == "COMPLETED"
    assert len(await house.charges(booking)) == 1


async def test_a_declined_page_and_its_successor_both_paid_are_one_ticket_and_one_refund(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    first = await house.initiate(booking)
    await house.sim.pay(first, "decline")
    await house.payment_until(first, "FAILED")
    second = await house.initiate(booking)
    await asyncio.gather(house.sim.pay(first, force=True), house.sim.pay(second))
    await house.booking_until(booking, "CONFIRMED")
    (refund,) = await house.refunds_until(booking, "succeeded")
    assert refund["amount"] == STANDARD_UGX
    purposes = sorted(charge["purpose"] for charge in await house.charges(booking))
    assert purposes == ["fulfils", "surplus"]
    statuses = {(await house.payment(first))["status"], (await house.payment(second))["status"]}
    assert statuses == {"COMPLETED", "REFUNDED"}
    assert len(await house.tickets(booking)) == 1


async def test_too_much_money_is_accepted(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, amount=STANDARD_UGX + 500)
    await house.booking_until(booking, "CONFIRMED")
    (charge,) = await house.charges(booking)
    assert (charge["amount"], charge["purpose"]) == (STANDARD_UGX + 500, "fulfils")
    excess = "SELECT detail -> 'excess' FROM audit_event WHERE subject_id = %s AND action = 'payment.captured.fulfils'"
    assert await house.box.value(excess, booking["bookingId"]) == 500


async def test_short_payments_wait_for_a_person_until_a_full_one_comes_and_then_go_back(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    for number, amount in enumerate((100, 200), 1):
        await house.sim.pay(payment, amount=amount, force=True)
        await until(lambda: house.charges(booking), lambda found, number=number: len(found) == number)  # type: ignore[misc]
        assert (await house.payment(payment))["status"] == "REVIEW"
    assert await house.refunds(booking) == []
    await house.sim.pay(payment, force=True)
    await house.booking_until(booking, "CONFIRMED")
    refunds = await house.refunds_until(booking, "succeeded", count=2)
    assert sorted(refund["amount"] for refund in refunds) == [100, 200]
    assert len(await house.tickets(booking)) == 1
    await house.queue_is_empty()
    parked = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'failed'"
    assert await house.box.value(parked) == 0


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"http_status": 503}, 504),
        ({"http_status": 429}, 504),
        ({"http_status_after": 503}, 504),
        ({"drop_connection_before": True}, 504),
        ({"drop_connection_after": True}, 504),
        ({"malformed": True}, 504),
        ({"http_status": 400}, 402),
        ({"http_status": 403}, 502),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
async def test_a_gateway_out_of_order_costs_nothing_and_the_next_try_works(
    house: RunningHouse, fault: JsonObject, status: int
) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    await house.sim.api_fault(match="POST /v3/payments", times=1, **fault)
    answer = await house.ask_to_pay(booking)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "PAYMENT_ERROR"
    assert (await house.booking(booking))["status"] in {"HELD", "AWAITING_PAYMENT"}
    again = await house.ask_to_pay(booking)
    assert again.status_code == 201, again.text
    assert again.json()["paymentUrl"]
    await house.sim.pay(again.json())
    await house.booking_until(booking, "CONFIRMED")
    assert len(await house.charges(booking)) == 1


async def test_while_the_gateway_stays_unclear_nobody_is_sent_to_a_page_that_is_not_known(
    house: RunningHouse,
) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    await house.sim.api_fault(match="*", malformed=True)
    assert (await house.ask_to_pay(booking)).status_code == 504
    again = await house.ask_to_pay(booking)
    await house.sim.behave()
    assert again.status_code == 504, again.text
    finally_open = await house.ask_to_pay(booking)
    assert (finally_open.status_code, bool(finally_open.json()["paymentUrl"])) == (201, True)


async def test_ten_who_start_to_pay_at_once_share_one_attempt(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    await house.sim.api_fault(match="POST /v3/payments", times=1, latency_ms=300)
    answers = await asyncio.gather(*(house.ask_to_pay(booking) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["paymentId"] for answer in answers}) == 1
    assert all(answer.json()["paymentUrl"] for answer in answers)
    opened = "SELECT count(*) FROM payment WHERE booking_id = %s"
    assert await house.box.value(opened, booking["bookingId"]) == 1


@pytest.mark.parametrize(
    ("asserted", "field"),
    [({"amount": 59_999}, "amount"), ({"amount": 0}, "amount"), ({"currency": "KES"}, "currency")],
    ids=["less", "nothing", "another currency"],
)
async def test_an_asserted_amount_that_is_not_due_is_refused(
    house: RunningHouse, asserted: dict[str, Any], field: str
) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    answer = await house.ask_to_pay(booking, **asserted)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert (await house.booking(booking))["status"] == "HELD"


async def test_paying_for_a_lapsed_a_released_or_a_paid_booking_is_a_conflict(house: RunningHouse) -> None:
    lapsed = await house.reserve(house.network.bus(), ["1A"])
    await lapse(house, lapsed)
    released = await house.reserve(house.network.bus(), ["1A"])
    await house.api.delete(f"/api/bookings/{released['bookingId']}/hold", headers=holder(released))
    paid, _ = await house.buy(house.network.bus(), ["1A"])
    for booking in (lapsed, released, paid):
        answer = await house.ask_to_pay(booking)
        assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT"), answer.text


async def test_reloading_the_payment_page_does_not_use_up_the_polls(house: RunningHouse) -> None:
    """Webhooks and browsers may ask as often as they like; the poller still finds the money later."""
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    for _ in range(20):
        await house.poll(payment)
    await house.sim.pay(payment, "say-nothing")
    await house.poll(payment)
    assert (await house.booking(booking))["status"] == "CONFIRMED"


async def test_a_payment_that_the_gateway_never_explains_ends_before_a_person(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, "pay-late", delay_seconds=0.5)
    await house.box.rows(
        "UPDATE payment SET created_at = created_at - interval '4 days' WHERE id = %s", payment["paymentId"]
    )
    await house.poll(payment)
    found = await house.payment(payment)
    assert found["status"] == "REVIEW"
    assert "dashboard" in found["failureReason"]
    await house.booking_until(booking, "CONFIRMED")
    assert (await house.payment(payment))["status"] == "COMPLETED"
