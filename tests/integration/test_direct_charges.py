"""Mobile money that is approved on the phone: answers that are lost, prompts that nobody sees, money after minutes."""

import asyncio
from typing import Any

import pytest
from tests.house import JsonObject, RunningHouse, until
from tests.network import LAKE_KES

KENYAN = "+254712345678"
UGANDAN = "+256772123456"
CALL = "POST /v3/charges"


async def ask_phone(house: RunningHouse, booking: JsonObject, phone: str = KENYAN, **more: Any) -> JsonObject:
    return await house.initiate(booking, paymentMethod="MOBILE_MONEY", channel="DIRECT", phoneNumber=phone, **more)


async def let_pass(house: RunningHouse, payment: JsonObject, *, minutes: float) -> None:
    """Let an attempt, and nothing else, grow older: the house is shared."""
    await house.box.rows(
        "UPDATE payment SET created_at = created_at - make_interval(mins => %s),"
        " expires_at = expires_at - make_interval(mins => %s) WHERE id = %s",
        minutes,
        minutes,
        payment["paymentId"],
    )


async def charges_at_gateway(house: RunningHouse, payment: JsonObject) -> int:
    return len((await house.sim.state(payment))["transactions"])


@pytest.fixture(autouse=True)
async def honest_gateway(house: RunningHouse) -> Any:
    yield
    await house.sim.behave()


async def test_a_payment_is_approved_on_the_phone(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    payment = await ask_phone(house, booking)
    assert (payment["status"], payment["paymentUrl"], payment["total"]) == ("PENDING", None, LAKE_KES)
    [asked] = (await house.sim.state(payment))["transactions"]
    assert (asked["amount"], asked["currency"], asked["status"]) == (1500, "KES", "pending")
    assert asked["customer"]["phone_number"] == KENYAN.removeprefix("+")
    again = await house.ask_to_pay(booking, paymentMethod="CARD")
    assert (again.status_code, again.json()["paymentId"]) == (200, payment["paymentId"]), "one way at a time"
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert len(await house.tickets(booking)) == 1
    assert (await house.payment(payment))["method"] == "MOBILE_MONEY"


async def test_where_the_gateway_wants_a_page_first_the_traveller_is_sent_there(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), 1)
    payment = await ask_phone(house, booking, UGANDAN)
    assert "/approve/" in payment["paymentUrl"]
    again = await ask_phone(house, booking, UGANDAN)
    assert again["paymentUrl"] == payment["paymentUrl"]
    assert await charges_at_gateway(house, payment) == 1
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")


async def test_who_pays_need_not_be_who_travels(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.lake(), 1, contact={"phone": UGANDAN})
    await ask_phone(house, booking)
    assert (await house.booking(booking))["contact"]["phone"] == UGANDAN
    bare = await house.reserve(house.network.lake(), 1)
    await ask_phone(house, bare)
    assert (await house.booking(bare))["contact"]["phone"] == KENYAN, "somebody has to be reachable"


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"paymentMethod": "MOBILE_MONEY", "channel": "DIRECT"}, "phoneNumber", "Give the number"),
        (
            {"paymentMethod": "MOBILE_MONEY", "channel": "DIRECT", "phoneNumber": UGANDAN},
            "phoneNumber",
            "needs a number of Kenya",
        ),
        ({"paymentMethod": "CARD", "channel": "DIRECT", "phoneNumber": KENYAN}, "channel", "No phone can be asked"),
        ({"paymentMethod": "USSD", "gateway": "flutterwave"}, "paymentMethod", "only with CARD, MOBILE_MONEY"),
        ({"paymentMethod": "BANK_TRANSFER", "gateway": "flutterwave"}, "paymentMethod", "through flutterwave"),
        ({"paymentMethod": "CARD", "gateway": "nobody"}, "gateway", "There is no gateway"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_plain_words(
    house: RunningHouse, body: JsonObject, field: str, said: str
) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    answer = await house.ask_to_pay(booking, **body)
    assert answer.status_code == 422
    [wrong] = answer.json()["errors"]
    assert wrong["field"] == field
    assert said in wrong["message"]
    assert (await house.booking(booking))["status"] == "HELD"


async def test_a_lost_answer_leaves_one_charge_that_is_found_and_paid_once(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    await house.sim.api_fault(match=CALL, times=1, http_status_after=503)
    payment = await ask_phone(house, booking)
    assert (payment["status"], payment["paymentUrl"]) == ("PENDING", None)
    again = await asyncio.gather(*(ask_phone(house, booking) for _ in range(3)))
    assert {one["paymentId"] for one in again} == {payment["paymentId"]}
    assert await charges_at_gateway(house, payment) == 1
    state = "SELECT state FROM payment WHERE id = %s"
    assert await house.box.value(state, payment["paymentId"]) == "pending", "the gateway has it"
    await house.sim.pay(payment, "pay-without-webhook")
    await house.poll(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert len(await house.charges(booking)) == 1


async def test_a_charge_that_the_gateway_does_not_know_yet_is_not_asked_for_again(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    await house.sim.api_fault(match=CALL, times=1, http_status=503)
    payment = await ask_phone(house, booking)
    again = await ask_phone(house, booking)
    assert again["paymentId"] == payment["paymentId"], "the request may still be on its way"
    await let_pass(house, payment, minutes=3)
    await house.poll(payment)
    assert (await house.payment(payment))["status"] == "FAILED"
    fresh = await ask_phone(house, booking)
    assert fresh["paymentId"] != payment["paymentId"]
    await house.sim.pay(fresh)
    await house.booking_until(booking, "CONFIRMED")


@pytest.mark.parametrize("minutes", [4, 10])
async def test_money_after_minutes_is_found_with_neither_webhook_nor_return(house: RunningHouse, minutes: int) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    payment = await ask_phone(house, booking)
    await let_pass(house, payment, minutes=minutes)
    await house.poll(payment)
    assert (await house.payment(payment))["status"] == "PENDING"
    assert (await house.booking(booking))["status"] == "AWAITING_PAYMENT"
    await house.sim.pay(payment, "pay-without-webhook")
    await house.poll(payment)
    await house.booking_until(booking, "CONFIRMED")


async def test_a_prompt_that_nobody_answers_expires_and_another_way_pays(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    payment = await ask_phone(house, booking)
    await let_pass(house, payment, minutes=30)
    await house.poll(payment)
    found = await house.payment(payment)
    assert (found["status"], found["failureReason"]) == ("EXPIRED", "Nobody approved it on the phone in time.")
    card = await house.initiate(booking)
    await house.sim.pay(card)
    await house.booking_until(booking, "CONFIRMED")
    # And now the phone after all: the second money goes back.
    await house.sim.pay(payment)
    await until(lambda: house.charges(booking), lambda found: len(found) == 2)
    await house.refunds_until(booking, "succeeded")
    assert (await house.booking(booking))["status"] == "CONFIRMED"


async def test_a_prompt_that_was_answered_after_it_expired_still_gets_the_seats(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    payment = await ask_phone(house, booking)
    await let_pass(house, payment, minutes=30)
    await house.poll(payment)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert (await house.payment(payment))["status"] == "COMPLETED"


async def test_a_declined_prompt_can_be_tried_again(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    payment = await ask_phone(house, booking)
    await house.sim.pay(payment, "decline")
    assert (await house.payment_until(payment, "FAILED"))["failureReason"] == "Declined"
    assert (await house.booking(booking))["status"] == "HELD"
    await house.sim.pay(await ask_phone(house, booking))
    await house.booking_until(booking, "CONFIRMED")


@pytest.mark.parametrize("channel", ["HOSTED", "DIRECT"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_the_gateways_fault_and_leaves_nothing_open(
    house: RunningHouse, channel: str, status: int
) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    await house.sim.api_fault(match="POST *", times=1, http_status=status)
    how = {"paymentMethod": "MOBILE_MONEY", "channel": channel, "phoneNumber": KENYAN}
    answer = await house.ask_to_pay(booking, **how)
    assert (answer.status_code, answer.json()["code"]) == (502, "PAYMENT_ERROR")
    assert "not been charged" in answer.json()["detail"]
    assert (await house.booking(booking))["status"] == "HELD"
    await house.sim.pay((await house.ask_to_pay(booking, **how)).json())
    await house.booking_until(booking, "CONFIRMED")
