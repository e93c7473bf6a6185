"""Old accounts get Flutterwave's webhooks as forms: each of the four shapes comes in through the door and is heeded."""

import hashlib
import json
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from tests.cancelling import cancel
from tests.house import WEBHOOK_HASH, WEBHOOK_PATH, JsonObject, RunningHouse

FORM = "application/x-www-form-urlencoded"


async def deliver(house: RunningHouse, fields: JsonObject, *, content_type: str = FORM) -> str:
    """POST a form as the gateway does; what came of it, once it is dealt with."""
    body = urlencode(fields).encode()
    headers = {"verif-hash": WEBHOOK_HASH, "content-type": content_type}
    answer = await house.api.post(WEBHOOK_PATH, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    await house.queue_is_empty()
    return str(
        await house.box.value(
            "SELECT outcome FROM webhook_delivery WHERE digest = %s AND processed_at IS NOT NULL",
            hashlib.sha256(body).digest(),
        )
    )


async def paid_unheard(house: RunningHouse) -> tuple[JsonObject, JsonObject, int]:
    """A booking whose money the gateway has and has told nobody of."""
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    [transaction] = (await house.sim.pay(payment, "pay-without-webhook"))["transaction_ids"]
    return booking, payment, transaction


@pytest.mark.parametrize("shape", ["event with a JSON field", "event with brackets", "flat charge"])
async def test_a_charge_in_a_form_buys_the_tickets(house: RunningHouse, shape: str) -> None:
    booking, payment, transaction = await paid_unheard(house)
    data = {"id": transaction, "tx_ref": payment["paymentId"], "status": "successful"}
    forms: dict[str, JsonObject] = {
        "event with a JSON field": {"event": "charge.completed", "data": json.dumps(data)},
        "event with brackets": {"event": "charge.completed", **{f"data[{name}]": told for name, told in data.items()}},
        "flat charge": {
            "id": transaction,
            "txRef": payment["paymentId"],
            "flwRef": "FLW-1",
            "appfee": "43.5",
            "status": "successful",
            "event.type": "CARD_TRANSACTION",
        },
    }
    assert await deliver(house, forms[shape]) == f"payment {payment['paymentId']}: captured"
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    assert len(await house.tickets(booking)) == 1


@pytest.mark.parametrize("is_nested", [True, False], ids=["brackets", "a JSON field"])
async def test_a_transfer_in_a_form_is_looked_up_by_its_reference(house: RunningHouse, is_nested: bool) -> None:  # noqa: FBT001 - pytest's way
    told = {"id": 17, "reference": str(uuid4()), "status": "SUCCESSFUL"}
    nested = {f"transfer[{name}]": value for name, value in told.items()}
    fields = {"event.type": "Transfer", **(nested if is_nested else {"transfer": json.dumps(told)})}
    assert await deliver(house, fields) == f"not ours: {told['reference']}"


async def test_a_refund_in_a_form_is_followed(house: RunningHouse) -> None:
    booking, payment, transaction = await paid_unheard(house)
    await house.poll(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert (await cancel(house, booking)).status_code in {200, 202}
    [refund] = await house.refunds_until(booking, "succeeded", "pending")
    fields = {
        "id": refund["gateway_refund_id"],
        "AmountRefunded": refund["amount"],
        "FlwRef": "FLW-1",
        "TransactionId": transaction,
        "status": "completed-momo",
        "meta": json.dumps({"disburse_status": "successful"}),
    }
    assert await deliver(house, fields, content_type=f"{FORM}; charset=utf-8") == "1 refunds looked at"
    await house.refunds_until(booking, "succeeded")


async def test_a_form_without_the_secret_is_refused_and_kept_nowhere(house: RunningHouse) -> None:
    before = await house.counts()
    for headers in ({"content-type": FORM}, {"content-type": FORM, "verif-hash": "forged"}):
        body = urlencode({"event": "charge.completed", "data": '{"id": 1}'})
        assert (await house.api.post(WEBHOOK_PATH, content=body, headers=headers)).status_code == 401
    assert await house.counts() == before
