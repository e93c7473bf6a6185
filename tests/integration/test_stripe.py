"""Paying through Stripe: seats first, then the money. Whatever is lost, doubled or late, it is captured once or not."""

import asyncio
from typing import Any

import pytest
from tests.house import JsonObject, RunningHouse, holder, until
from tests.network import STANDARD_UGX

CAPTURE = "POST /v1/payment_intents/*/capture"
CANCEL = "POST /v1/payment_intents/*/cancel"
WEBHOOK = "/api/payments/webhook/stripe"


async def begin(house: RunningHouse, trip: Any = None, seat: str = "1A") -> tuple[JsonObject, JsonObject]:
    booking = await house.reserve(house.network.bus() if trip is None else trip, [seat])
    return booking, await house.initiate(booking, gateway="stripe")


async def stripe(house: RunningHouse, payment: JsonObject) -> JsonObject:
    """What Stripe has of a payment."""
    return dict((await house.sim.state(payment))["stripe"])


async def intent(house: RunningHouse, payment: JsonObject) -> JsonObject:
    [found] = (await stripe(house, payment))["intents"]
    return dict(found)


async def order(house: RunningHouse, path: str, **body: Any) -> JsonObject:
    """Do something to the simulated Stripe."""
    answer = await house.sim.http.post(f"/_sim/stripe/{path}", json=body)
    assert answer.is_success, answer.text
    return dict(answer.json())


async def state(house: RunningHouse, payment: JsonObject) -> str:
    return str(await house.box.value("SELECT state FROM payment WHERE id = %s", payment["paymentId"]))


async def lapse(house: RunningHouse, booking: JsonObject) -> None:
    """Let the hold of a booking and its payment's page be over, cap included."""
    past = "kiti_now() - interval '1 second'"
    key = booking["bookingId"]
    await house.box.rows(f"UPDATE booking SET hold_expires_at = {past}, hold_cap_at = {past} WHERE id = %s", key)
    await house.box.rows(f"UPDATE seat_claim SET expires_at = {past} WHERE owner_id = %s", key)
    await house.box.rows(f"UPDATE payment SET expires_at = {past} WHERE booking_id = %s", key)


async def assert_sold_once(house: RunningHouse, booking: JsonObject, payment: JsonObject) -> None:
    await house.booking_until(booking, "CONFIRMED")
    assert len(await house.tickets(booking)) == 1
    [charge] = await house.charges(booking)
    told = await intent(house, payment)
    assert (told["status"], told["amount_received"]) == ("succeeded", STANDARD_UGX * 100)
    assert (charge["transaction_id"], charge["amount"]) == (told["id"], STANDARD_UGX)
    assert await house.ledger(booking) == {"capture": 1}
    assert await house.refunds(booking) == []


async def assert_nothing_taken(house: RunningHouse, booking: JsonObject, payment: JsonObject) -> None:
    async def ended() -> str:
        await house.poll(payment)
        return str((await intent(house, payment))["status"])

    await until(ended, lambda status: status == "canceled", every_seconds=0.1)
    assert (await intent(house, payment))["amount_received"] == 0
    assert await house.charges(booking) == []
    assert await house.ledger(booking) == {}
    assert await house.tickets(booking) == []


async def test_a_seat_is_authorised_captured_and_ticketed(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    [session] = (await stripe(house, payment))["sessions"]
    assert (session["amount_total"], session["currency"]) == (STANDARD_UGX * 100, "ugx")
    assert session["expires_at"] - session["created"] >= 30 * 60
    await house.sim.pay(payment)
    await assert_sold_once(house, booking, payment)
    steps = await house.box.rows(
        "SELECT to_state FROM payment_history WHERE payment_id = %s ORDER BY id", payment["paymentId"]
    )
    assert [step["to_state"] for step in steps] == ["created", "submitting", "pending", "authorised", "captured"]
    assert (await house.charges(booking))[0]["fee_exact"] == STANDARD_UGX * 29 / 1000
    await house.is_well()


async def test_a_forged_webhook_is_refused_and_kept_nowhere(house: RunningHouse) -> None:
    _, payment = await begin(house)
    before = await house.counts()
    event = {"type": "payment_intent.succeeded", "data": {"object": {"id": "pi_1", "object": "payment_intent"}}}
    assert await house.sim.send(event, gateway="stripe", verif_hash="whsec_another") == [401]
    assert (await house.api.post(WEBHOOK, json=event)).status_code == 401
    assert (await house.api.post(WEBHOOK, json=event, headers={"stripe-signature": "t=1,v1=00"})).status_code == 401
    assert await house.counts() == before
    assert await state(house, payment) == "pending"


async def test_an_authentic_webhook_that_lies_takes_nothing(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    metadata = {"reference": payment["paymentId"]}
    told = {"id": "pi_1", "object": "payment_intent", "status": "succeeded", "metadata": metadata}
    lie = {"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": told}}
    assert await house.sim.send(lie, gateway="stripe") == [200]
    await house.queue_is_empty()
    assert await state(house, payment) == "pending"
    assert await house.charges(booking) == []


async def test_events_that_come_often_and_backwards_are_one_capture(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    await house.sim.webhook_fault(match="charge", times=4, duplicate=3, reorder=8, hold_seconds=0.3)
    paid = await house.sim.pay(payment)
    await assert_sold_once(house, booking, payment)
    assert await house.sim.replay(paid["transaction_ids"][0], copies=20, concurrency=10) == [200] * 20
    await house.queue_is_empty()
    await assert_sold_once(house, booking, payment)


async def test_many_who_tell_of_one_authorisation_at_once_capture_once(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    await house.sim.pay(payment, "pay-without-webhook")
    back = f"/pay/{payment['paymentId']}/return"
    await asyncio.gather(*(house.api.get(back) for _ in range(6)), *(house.poll(payment) for _ in range(4)))
    await assert_sold_once(house, booking, payment)


@pytest.mark.parametrize("fault", [{"http_status_after": 503}, {"drop_connection_after": True}], ids=str)
async def test_a_capture_whose_answer_was_lost_is_looked_up(house: RunningHouse, fault: dict[str, Any]) -> None:
    booking, payment = await begin(house)
    await house.sim.api_fault(match=CAPTURE, times=1, **fault)
    await house.sim.pay(payment)
    await assert_sold_once(house, booking, payment)


async def test_a_capture_that_never_arrived_is_asked_for_again_and_keeps_the_seats(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    await house.sim.api_fault(match=CAPTURE, drop_connection_before=True)
    await house.sim.pay(payment, "pay-without-webhook")
    await house.poll(payment)
    assert await state(house, payment) == "authorised"
    left = await house.box.value(
        "SELECT min(expires_at) - kiti_now() > interval '23 hours' FROM seat_claim WHERE owner_id = %s",
        booking["bookingId"],
    )
    assert left is True
    due = "SELECT poll_after - kiti_now() <= interval '61 seconds' FROM payment WHERE id = %s"
    assert await house.box.value(due, payment["paymentId"]) is True
    await house.sim.behave()
    await house.poll(payment)
    await assert_sold_once(house, booking, payment)


async def test_seats_that_somebody_else_took_are_never_paid_for(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking, payment = await begin(house, trip)
    await lapse(house, booking)
    other = await house.reserve(trip, ["1A"])
    await house.sim.pay(payment)
    await assert_nothing_taken(house, booking, payment)
    found = await house.payment_until(payment, "FAILED", "EXPIRED")
    assert found["status"] in {"FAILED", "EXPIRED"}
    assert (await house.booking(other))["status"] == "HELD"


async def test_seats_that_are_gone_between_authorisation_and_capture_let_the_money_go(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking, payment = await begin(house, trip)
    await house.sim.api_fault(match=CAPTURE, drop_connection_before=True)
    await house.sim.pay(payment, "pay-without-webhook")
    await house.poll(payment)
    assert await state(house, payment) == "authorised"
    await lapse(house, booking)  # a day passes in which nobody hears from Stripe
    await house.reserve(trip, ["1A"])
    await house.sim.behave()
    await assert_nothing_taken(house, booking, payment)
    found = await house.payment_until(payment, "FAILED")
    assert "Nothing was charged" in found["failureReason"]
    await house.is_well()


async def test_letting_go_whose_answer_was_lost_is_looked_up(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking, payment = await begin(house, trip)
    await lapse(house, booking)
    await house.reserve(trip, ["1A"])
    await house.sim.api_fault(match=CANCEL, times=1, http_status_after=503)
    await house.sim.pay(payment)
    await assert_nothing_taken(house, booking, payment)


@pytest.mark.parametrize("is_swept", [False, True], ids=["not swept yet", "swept"])
async def test_who_authorises_late_gets_the_seats_that_nobody_took(
    house: RunningHouse,
    is_swept: bool,  # noqa: FBT001 - pytest's way
) -> None:
    booking, payment = await begin(house)
    await lapse(house, booking)
    if is_swept:
        await house.job("expire-seats")
    await house.sim.pay(payment)
    await assert_sold_once(house, booking, payment)


async def test_a_late_authorisation_that_the_bank_takes_back_frees_the_seats_again(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking, payment = await begin(house, trip)
    await lapse(house, booking)
    await house.job("expire-seats")
    await house.sim.api_fault(match=CAPTURE, drop_connection_before=True)
    await house.sim.pay(payment, "pay-without-webhook")
    await house.poll(payment)
    assert await state(house, payment) == "authorised"
    assert (await house.ask_to_reserve(trip, ["1A"])).status_code == 409
    await order(house, "lapse", reference=payment["paymentId"])
    await house.sim.behave()
    await assert_nothing_taken(house, booking, payment)
    await house.payment_until(payment, "FAILED")
    await house.reserve(trip, ["1A"])


async def test_the_page_is_closed_when_the_hold_ends(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    await lapse(house, booking)
    await house.poll(payment)
    assert (await house.payment(payment))["status"] == "EXPIRED"
    assert [session["status"] for session in (await stripe(house, payment))["sessions"]] == ["expired"]


async def test_a_page_that_is_closed_while_somebody_pays_is_looked_at_again(house: RunningHouse) -> None:
    """The hold ends, and before we close the page the traveller is through with it: they get their seats."""
    booking, payment = await begin(house)
    await lapse(house, booking)
    await house.sim.api_fault(match="POST /v1/checkout/sessions/*", times=1, latency_ms=400)
    closing = asyncio.create_task(house.poll(payment))
    await until(lambda: state(house, payment), lambda now: now == "expired")
    await house.sim.pay(payment)
    await closing
    await assert_sold_once(house, booking, payment)


async def test_after_a_decline_the_same_page_may_be_paid(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    await house.sim.pay(payment, "decline")
    await house.poll(payment)
    assert await state(house, payment) == "pending"
    await house.sim.pay(payment)
    await assert_sold_once(house, booking, payment)


async def test_a_page_with_a_decline_is_closed_at_the_end_and_the_reason_told(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    await house.sim.pay(payment, "decline")
    await lapse(house, booking)
    await house.poll(payment)
    await house.poll(payment)
    found = await house.payment(payment)
    assert (found["status"], found["failureReason"]) == ("FAILED", "Your card was declined.")


async def test_a_question_of_the_bank_is_a_state_of_its_own(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    await order(house, "press", reference=payment["paymentId"], action="require-action")
    await until(lambda: state(house, payment), lambda now: now == "requires_action")
    assert (await house.payment(payment))["status"] == "PENDING"
    again = await house.ask_to_pay(booking, gateway="stripe")
    assert (again.status_code, again.json()["paymentId"]) == (200, payment["paymentId"])
    await house.sim.pay(payment)
    await assert_sold_once(house, booking, payment)


async def test_a_released_booking_takes_no_money(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    await house.sim.pay(payment, "pay-without-webhook")
    released = await house.api.delete(f"/api/bookings/{booking['bookingId']}/hold", headers=holder(booking))
    assert released.is_success, released.text
    await assert_nothing_taken(house, booking, payment)


async def test_a_second_attempt_under_way_lets_the_late_first_one_go(house: RunningHouse) -> None:
    booking, first = await begin(house)
    await house.box.rows("UPDATE payment SET state = 'failed' WHERE id = %s", first["paymentId"])
    second = await house.initiate(booking, gateway="stripe")
    assert second["paymentId"] != first["paymentId"]
    await house.sim.pay(first)
    await until(lambda: intent(house, first), lambda told: told["status"] == "canceled")
    await house.sim.pay(second)
    await assert_sold_once(house, booking, second)


async def test_a_refund_whose_answer_was_lost_is_found_and_not_made_twice(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    await house.sim.api_fault(match="POST /v1/refunds", times=1, http_status_after=503)
    done = await house.api.post(f"/api/bookings/{booking['bookingId']}/cancel", json={}, headers=holder(booking))
    assert done.is_success, done.text
    await house.refunds_until(booking, "succeeded")
    [refund] = (await stripe(house, payment))["refunds"]
    assert refund["amount"] == (await house.refunds(booking))[0]["amount"] * 100


async def test_reconciliation_finds_what_no_webhook_told_of(house: RunningHouse) -> None:
    booking, payment = await begin(house)
    await house.sim.pay(payment, "pay-without-webhook")
    await house.poll(payment)
    await assert_sold_once(house, booking, payment)
    await house.job("reconcile-payments")
    breaks = await house.box.rows(
        "SELECT kind FROM reconciliation_break WHERE transaction_id = %s", (await intent(house, payment))["id"]
    )
    assert breaks == []
