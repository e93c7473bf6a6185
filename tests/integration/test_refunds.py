"""Refunds: exactly once, whatever becomes of the request; what cannot be paid back waits for a person."""

import asyncio
from typing import Any

import pytest
from tests.house import WEBHOOK_HASH, WEBHOOK_PATH, JsonObject, RunningHouse, holder, until
from tests.network import STANDARD_UGX

from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.actions import PaymentChanged

REFUND_CALL = "POST /v3/transactions/*/refund"


async def paid_twice(house: RunningHouse) -> tuple[JsonObject, JsonObject]:
    """A booking with one payment reference and two transactions."""
    booking = await house.reserve(house.network.bus(), ["1A", "1B"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, "pay-twice")
    await house.booking_until(booking, "CONFIRMED")
    await until(lambda: house.charges(booking), lambda charges: len(charges) == 2)
    return booking, payment


async def assert_one_refund(house: RunningHouse, booking: JsonObject, payment: JsonObject) -> None:
    (refund,) = await house.refunds_until(booking, "succeeded")
    assert refund["amount"] == 2 * STANDARD_UGX
    assert await house.ledger(booking) == {"capture": 2, "refund_requested": 1, "refund_done": 1}
    (theirs,) = (await house.sim.state(payment))["refunds"]
    assert str(theirs["id"]) == refund["gateway_refund_id"]
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    assert [ticket["status"] for ticket in await house.tickets(booking)] == ["VALID", "VALID"]


async def test_a_booking_paid_twice_has_one_set_of_tickets_and_the_second_money_goes_back(
    house: RunningHouse,
) -> None:
    booking, payment = await paid_twice(house)
    await assert_one_refund(house, booking, payment)
    found = await house.payment(payment)
    assert (found["status"], found["refundedAmount"]) == ("PARTIALLY_REFUNDED", 2 * STANDARD_UGX)
    purposes = [charge["purpose"] for charge in await house.charges(booking)]
    assert sorted(purposes) == ["fulfils", "surplus"]
    (refund,) = await house.refunds(booking)
    shown = await house.api.get(f"/api/refunds/{refund['id']}", headers=holder(booking))
    assert shown.status_code == 200
    assert shown.json() == {
        "refundId": str(refund["id"]),
        "bookingId": booking["bookingId"],
        "status": "COMPLETED",
        "amount": 2 * STANDARD_UGX,
        "currency": "UGX",
        "reason": "The booking was paid twice.",
    }


async def test_a_refund_is_shown_to_its_booking_s_holder_only(house: RunningHouse) -> None:
    booking, _ = await paid_twice(house)
    (refund,) = await until(lambda: house.refunds(booking), lambda refunds: len(refunds) == 1)
    path = f"/api/refunds/{refund['id']}"
    other = await house.reserve(house.network.bus(), ["1A"])
    assert (await house.api.get(path)).status_code == 401
    assert (await house.api.get(path, headers=holder(other))).status_code == 403


@pytest.mark.parametrize(
    "fault",
    [
        {"drop_connection_after": True},
        {"drop_connection_before": True},
        {"http_status_after": 503},
        {"http_status": 503},
        {"http_status": 429},
        {"malformed": True},
    ],
    ids=lambda fault: "-".join(fault) + f"-{next(iter(fault.values()))}",
)
async def test_a_refund_whose_answer_was_lost_is_made_exactly_once(house: RunningHouse, fault: JsonObject) -> None:
    await house.sim.api_fault(match=REFUND_CALL, times=1, **fault)
    booking, payment = await paid_twice(house)
    await until(lambda: house.refunds(booking), lambda refunds: [r["attempts"] for r in refunds] == [1])
    await until(lambda: house.refunds(booking), lambda refunds: refunds[0]["state"] != "submitting")
    await assert_one_refund(house, booking, payment)


async def test_a_refund_is_made_once_however_many_ask_for_it_at_once(house: RunningHouse) -> None:
    await house.sim.api_fault(match=REFUND_CALL, times=1, latency_ms=300)
    booking, payment = await paid_twice(house)
    for _ in range(3):
        await asyncio.gather(*(house.job("process-refunds") for _ in range(8)))
    await assert_one_refund(house, booking, payment)


async def test_a_webhook_while_the_refund_is_on_its_way_does_not_send_it_again(house: RunningHouse) -> None:
    """The gateway is slow: it has the request, does not list it yet, and speaks of the transaction meanwhile."""
    await house.sim.api_fault(match=REFUND_CALL, times=1, latency_ms=1500)
    booking, payment = await paid_twice(house)
    (refund,) = await until(
        lambda: house.refunds(booking), lambda refunds: [r["state"] for r in refunds] == ["submitting"]
    )
    hint = {
        "id": 987654321,
        "AmountRefunded": 1,
        "status": "pending-momo",
        "FlwRef": "FLW-other",
        "TransactionId": int(refund["transaction_id"]),
        "meta": "{}",
    }
    answer = await house.api.post(WEBHOOK_PATH, json=hint, headers={"verif-hash": WEBHOOK_HASH})
    assert answer.status_code == 200
    await until(
        lambda: house.box.value("SELECT count(*) FROM webhook_delivery WHERE body LIKE %s", b"%987654321%"),
        lambda kept: kept == 1,
    )
    await asyncio.sleep(0.5)
    assert [r["attempts"] for r in await house.refunds(booking)] == [1]
    await until(lambda: house.refunds(booking), lambda refunds: refunds[0]["state"] != "submitting")
    await assert_one_refund(house, booking, payment)


@pytest.mark.parametrize("how", ["the disbursement fails", "the gateway refuses"])
async def test_a_refund_that_cannot_be_paid_out_waits_for_a_person(house: RunningHouse, how: str) -> None:
    if how == "the gateway refuses":
        await house.sim.api_fault(match=REFUND_CALL, times=1, http_status=400)
    else:
        await house.sim.config(refund_outcome="failed")
    booking, payment = await paid_twice(house)
    (refund,) = await house.refunds_until(booking, "needs_attention")
    await house.sim.config(refund_outcome="paid")
    assert refund["failure_reason"]
    assert refund["act_after"] is None
    assert await house.ledger(booking) == {"capture": 2, "refund_requested": 1}
    shown = await house.api.get(f"/api/refunds/{refund['id']}", headers=holder(booking))
    assert shown.json()["status"] == "REVIEW"
    await house.follow_refunds()
    assert (await house.refunds(booking))[0]["attempts"] == 1
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    assert (await house.payment(payment))["refundedAmount"] == 0


async def test_a_gateway_that_never_takes_the_refund_is_asked_a_bounded_number_of_times(house: RunningHouse) -> None:
    await house.sim.api_fault(match=REFUND_CALL, http_status=429)
    booking, _ = await paid_twice(house)
    (refund,) = await house.refunds_until(booking, "needs_attention")
    await house.sim.behave()
    assert refund["attempts"] == 5


async def test_who_looked_before_the_last_request_may_neither_ask_again_nor_hurry_it(house: RunningHouse) -> None:
    """The refund has the same state as when it was looked at, but it has been asked for once more since."""
    await house.sim.api_fault(match=REFUND_CALL, http_status=503)
    booking, payment = await paid_twice(house)
    (refund,) = await until(
        lambda: house.refunds(booking), lambda refunds: [r["state"] for r in refunds] == ["unknown"]
    )
    async with house.box.db.reader() as reader:
        stale = await payment_reads.refund(reader, refund=refund["id"])
    await house.follow_refunds()
    await until(
        lambda: house.refunds(booking),
        lambda refunds: [(r["state"], r["attempts"]) for r in refunds] == [("unknown", 2)],
    )
    before = await house.refunds(booking)
    async with house.box.db.transaction() as tx:
        await payments.refund_later(tx, refund=stale, seconds=0)
        with pytest.raises(PaymentChanged):
            await payments.move_refund(tx, refund=stale, to="submitting", act_after_seconds=0)
    assert await house.refunds(booking) == before
    await house.sim.behave()
    await assert_one_refund(house, booking, payment)


async def test_a_second_transaction_whose_webhook_met_a_silent_gateway_is_not_forgotten(house: RunningHouse) -> None:
    """The payment is done, so nobody polls it: the webhook is the only trace of the second money."""
    booking = await house.reserve(house.network.bus(), ["1A", "1B"])
    payment = await house.initiate(booking)
    await house.sim.webhook_fault(match="charge", times=2, drop=True)
    paid = await house.sim.pay(payment, "pay-twice")
    first, second = paid["transaction_ids"]
    await send_charge_hint(house, payment, first)
    await house.booking_until(booking, "CONFIRMED")
    await house.sim.api_fault(match="GET /v3/transactions*", malformed=True, times=2)
    await send_charge_hint(house, payment, second)
    await until(lambda: house.charges(booking), lambda charges: len(charges) == 2)
    await assert_one_refund(house, booking, payment)


async def send_charge_hint(house: RunningHouse, payment: JsonObject, transaction: int) -> None:
    body: dict[str, Any] = {
        "event": "charge.completed",
        "data": {"id": transaction, "tx_ref": payment["paymentId"], "status": "successful"},
    }
    answer = await house.api.post(WEBHOOK_PATH, json=body, headers={"verif-hash": WEBHOOK_HASH})
    assert answer.status_code == 200


async def test_refund_webhooks_that_lie_or_come_twenty_times_do_not_end_a_refund(house: RunningHouse) -> None:
    await house.sim.config(refund_outcome="stuck")
    booking, _ = await paid_twice(house)
    (refund,) = await house.refunds_until(booking, "pending")
    lie = {
        "id": int(refund["gateway_refund_id"]),
        "AmountRefunded": refund["amount"],
        "status": "completed-momo",
        "FlwRef": "FLW-x",
        "TransactionId": int(refund["transaction_id"]),
        "meta": "{}",
    }
    await house.sim.send(lie, copies=20, concurrency=20)
    await house.queue_is_empty()
    assert (await house.refunds(booking))[0]["state"] == "pending"
    await house.sim.config(refund_outcome="paid")
    await house.sim.http.post(f"/_sim/refunds/{refund['gateway_refund_id']}", json={"status": "completed-momo"})
    (done,) = await house.refunds_until(booking, "succeeded")
    assert done["attempts"] == 1
    assert await house.ledger(booking) == {"capture": 2, "refund_requested": 1, "refund_done": 1}
