"""Reserve, pay through Flutterwave v4, get tickets; and what its webhooks cannot bring about."""

import asyncio
import base64
import hashlib
import hmac
import json
from uuid import uuid4

import httpx
import pytest
from tests.house import JsonObject, RunningHouse

from kiti.core.settings import DEMO_DEFAULTS

V4 = "flutterwave_v4"
PHONE = "+256772000001"
SECRET = DEMO_DEFAULTS["FLUTTERWAVE_V4_WEBHOOK_SECRET"]


async def on_the_phone(house: RunningHouse) -> tuple[JsonObject, JsonObject]:
    """A booking whose payment waits for a PIN on a phone."""
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking, gateway=V4, paymentMethod="MOBILE_MONEY", phoneNumber=PHONE)
    return booking, payment


async def deliver(house: RunningHouse, body: JsonObject, *, signature: str | None = None) -> httpx.Response:
    """POST a webhook that is signed with our secret, or carries another header."""
    raw = json.dumps(body).encode()
    good = base64.b64encode(hmac.digest(SECRET.encode(), raw, hashlib.sha256)).decode()
    headers = {"flutterwave-signature": good if signature is None else signature, "content-type": "application/json"}
    return await house.api.post(f"/api/payments/webhook/{V4}", content=raw, headers=headers)


def told(payment: JsonObject, **data: object) -> JsonObject:
    return {
        "webhook_id": f"wbk_{uuid4().hex}",
        "timestamp": 1735116884019,
        "type": "charge.completed",
        "data": {"id": "chg_1", "reference": payment["paymentId"], "status": "succeeded", **data},
    }


async def test_mobile_money_on_the_phone_buys_the_tickets(house: RunningHouse) -> None:
    booking, payment = await on_the_phone(house)
    assert (payment["paymentUrl"], payment["status"]) == (None, "PENDING")
    again = await house.ask_to_pay(booking, gateway=V4, paymentMethod="MOBILE_MONEY")
    assert (again.status_code, again.json()["paymentId"]) == (200, payment["paymentId"])
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert len(await house.tickets(booking)) == 1
    [charge] = await house.charges(booking)
    assert (charge["gateway"], charge["amount"]) == (V4, payment["total"])
    await house.is_well()


async def test_a_card_is_paid_on_the_hosted_page(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking, gateway=V4)
    assert "/pay/" in payment["paymentUrl"]
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")


async def test_without_a_webhook_the_poller_finds_the_money(house: RunningHouse) -> None:
    booking, payment = await on_the_phone(house)
    await house.sim.pay(payment, "pay-without-webhook")
    await house.poll(payment)
    await house.booking_until(booking, "CONFIRMED")


async def test_a_decline_gives_the_traveller_another_try(house: RunningHouse) -> None:
    booking, payment = await on_the_phone(house)
    await house.sim.pay(payment, "decline")
    await house.payment_until(payment, "FAILED")
    second = await house.initiate(booking, gateway=V4, paymentMethod="MOBILE_MONEY", phoneNumber=PHONE)
    await house.sim.pay(second)
    await house.booking_until(booking, "CONFIRMED")
    assert len(await house.charges(booking)) == 1


async def test_duplicated_and_reordered_webhooks_change_nothing(house: RunningHouse) -> None:
    booking, payment = await on_the_phone(house)
    await house.sim.webhook_fault(match="charge", times=1, duplicate=5)
    paid = await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    statuses = await house.sim.replay(paid["transaction_ids"][0], copies=20, concurrency=10)
    assert set(statuses) == {200}
    late = await deliver(house, told(payment, id=f"chg_{paid['transaction_ids'][0]}", status="failed"))
    assert late.status_code == 200
    await house.queue_is_empty()
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    assert len(await house.charges(booking)) == 1
    await house.is_well()


async def test_a_webhook_that_lies_is_a_hint_and_nothing_more(house: RunningHouse) -> None:
    booking, payment = await on_the_phone(house)
    [charge] = (await house.sim.state(payment))["transactions"]
    answer = await deliver(house, told(payment, id=f"chg_{charge['id']}", amount=1, currency="UGX"))
    assert answer.status_code == 200
    await house.queue_is_empty()
    assert (await house.payment(payment))["status"] == "PENDING"
    assert await house.charges(booking) == []


@pytest.mark.parametrize("signature", [SECRET, "", base64.b64encode(b"0" * 32).decode()])
async def test_a_webhook_that_is_not_signed_is_not_kept(house: RunningHouse, signature: str) -> None:
    _, payment = await on_the_phone(house)
    before = await house.counts()
    assert (await deliver(house, told(payment), signature=signature)).status_code == 401
    assert await house.counts() == before


async def test_a_webhook_of_one_version_is_not_believed_by_the_other(house: RunningHouse) -> None:
    _, payment = await on_the_phone(house)
    answer = await house.api.post(
        f"/api/payments/webhook/{V4}",
        content=json.dumps(told(payment)).encode(),
        headers={"verif-hash": DEMO_DEFAULTS["FLUTTERWAVE_WEBHOOK_HASH"]},
    )
    assert answer.status_code == 401


async def test_a_charge_whose_answer_was_lost_is_paid_once_and_found(own_house: RunningHouse) -> None:
    booking = await own_house.reserve(own_house.network.bus(), ["1A"])
    await own_house.sim.api_fault(match="POST /v4/orchestration/direct-charges", times=1, http_status_after=503)
    lost = await own_house.ask_to_pay(booking, gateway=V4, paymentMethod="MOBILE_MONEY", phoneNumber=PHONE)
    assert lost.status_code == 504
    [row] = await own_house.box.rows("SELECT id FROM payment WHERE booking_id = %s", booking["bookingId"])
    payment = {"paymentId": str(row["id"])}
    await own_house.sim.pay(payment, "pay-without-webhook")
    await own_house.poll(payment)
    await own_house.booking_until(booking, "CONFIRMED")
    state = await own_house.sim.state(payment)
    assert len(state["transactions"]) == 1


async def test_tokens_that_end_while_many_pay_lose_nobody(own_house: RunningHouse) -> None:
    trip = own_house.network.bus()
    bookings = [await own_house.reserve(trip, [seat]) for seat in ("1A", "1B", "2A", "2B", "3A", "3B")]

    async def revoke() -> None:
        for _ in range(10):
            await own_house.sim.http.post("/_sim/v4/revoke-tokens", json={})
            await asyncio.sleep(0.02)

    opened, _ = await asyncio.gather(
        asyncio.gather(
            *(
                own_house.ask_to_pay(one, gateway=V4, paymentMethod="MOBILE_MONEY", phoneNumber=PHONE)
                for one in bookings
            )
        ),
        revoke(),
    )
    for booking, answer in zip(bookings, opened, strict=True):
        if answer.status_code != 201:
            answer = await own_house.ask_to_pay(  # noqa: PLW2901 - the traveller tries again
                booking, gateway=V4, paymentMethod="MOBILE_MONEY", phoneNumber=PHONE
            )
        assert answer.status_code == 201, answer.text
        await own_house.sim.pay(answer.json())
        await own_house.booking_until(booking, "CONFIRMED")
        assert len(await own_house.charges(booking)) == 1
    await own_house.is_well()


async def test_a_payment_that_came_too_late_goes_back_through_v4(own_house: RunningHouse) -> None:
    trip = own_house.network.bus()
    late = await own_house.reserve(trip, ["1A"])
    payment = await own_house.initiate(late, gateway=V4, paymentMethod="MOBILE_MONEY", phoneNumber=PHONE)
    await own_house.box.travel(minutes=60)
    await own_house.buy(trip, ["1A"])
    await own_house.sim.pay(payment, force=True)
    [refund] = await own_house.refunds_until(late, "succeeded")
    assert (refund["gateway"], refund["amount"]) == (V4, payment["total"])
    await own_house.is_well()
