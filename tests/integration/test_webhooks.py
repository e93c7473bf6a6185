"""Webhooks are hints: repeated, reordered, forged and lying ones change nothing that the gateway does not confirm."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.house import WEBHOOK_HASH, WEBHOOK_PATH, JsonObject, RunningHouse, until
from tests.network import STANDARD_UGX


async def open_payment(house: RunningHouse) -> tuple[JsonObject, JsonObject]:
    booking = await house.reserve(house.network.bus(), ["1A"])
    return booking, await house.initiate(booking)


async def deliver(house: RunningHouse, body: Any, *, signed: str | None = WEBHOOK_HASH) -> httpx.Response:
    headers = {} if signed is None else {"verif-hash": signed}
    return await house.api.post(WEBHOOK_PATH, json=body, headers=headers)


def charge_event(reference: str, transaction: int | None, *, status: str = "successful") -> JsonObject:
    data = {"id": transaction, "tx_ref": reference, "status": status, "amount": STANDARD_UGX, "currency": "UGX"}
    return {"event": "charge.completed", "data": data}


async def assert_sold_once(house: RunningHouse, booking: JsonObject) -> None:
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    assert len(await house.tickets(booking)) == len(booking["seatNumbers"])
    assert len(await house.charges(booking)) == 1
    assert await house.ledger(booking) == {"capture": 1}
    assert await house.refunds(booking) == []


async def test_twenty_copies_at_once_and_out_of_order_around_a_restart_are_one_capture(
    own_house: RunningHouse,
) -> None:
    house = own_house
    trip = house.network.bus()
    seats = house.network.bus_line.seats[:6]
    bookings = [await house.reserve(trip, [seat]) for seat in seats]
    payments = [await house.initiate(booking) for booking in bookings]
    await house.sim.webhook_fault(match="charge", duplicate=3, reorder=4 * len(seats), hold_seconds=1.0)
    transactions = [(await house.sim.pay(payment))["transaction_ids"][0] for payment in payments]

    async def storm() -> None:
        for _ in range(3):
            answers = await asyncio.gather(
                *(house.sim.replay(transaction, copies=20, concurrency=10) for transaction in transactions)
            )
            assert {status for statuses in answers for status in statuses} <= {0, 200}

    storming = asyncio.create_task(storm())
    await asyncio.sleep(0.05)
    house.kill9()
    await house.restart()
    await storming
    await house.revive_jobs()
    for booking in bookings:
        await house.booking_until(booking, "CONFIRMED")
    await house.queue_is_empty()
    for booking in bookings:
        await assert_sold_once(house, booking)
    assert await house.box.value("SELECT count(*) FROM webhook_delivery") == len(bookings)
    await house.doctor()


async def test_the_same_webhook_twenty_times_in_parallel_is_kept_once(house: RunningHouse) -> None:
    booking, payment = await open_payment(house)
    before = (await house.counts())["webhook_delivery"]
    paid = await house.sim.pay(payment)
    statuses = await house.sim.replay(paid["transaction_ids"][0], copies=20, concurrency=20)
    assert statuses == [200] * 20
    await house.booking_until(booking, "CONFIRMED")
    await house.queue_is_empty()
    await assert_sold_once(house, booking)
    assert (await house.counts())["webhook_delivery"] == before + 1


async def test_webhooks_that_differ_in_bytes_but_not_in_meaning_have_one_effect(house: RunningHouse) -> None:
    booking, payment = await open_payment(house)
    paid = await house.sim.pay(payment, "pay-without-webhook")
    (transaction,) = paid["transaction_ids"]
    bodies = [charge_event(payment["paymentId"], transaction) | {"attempt": number} for number in range(12)]
    bodies += [
        {"txRef": payment["paymentId"], "id": transaction, "status": "successful", "event.type": "CARD_TRANSACTION"},
        charge_event(payment["paymentId"].upper(), transaction),
        charge_event(payment["paymentId"], None),
    ]
    answers = await asyncio.gather(*(deliver(house, body) for body in bodies))
    assert {answer.status_code for answer in answers} == {200}
    await house.booking_until(booking, "CONFIRMED")
    await house.queue_is_empty()
    await assert_sold_once(house, booking)


@pytest.mark.parametrize("signature", [None, "", "forged", WEBHOOK_HASH + "x", WEBHOOK_HASH.upper()])
async def test_a_forged_webhook_is_refused_and_leaves_no_row(house: RunningHouse, signature: str | None) -> None:
    booking, payment = await open_payment(house)
    await house.queue_is_empty()
    before = await house.counts()
    jobs = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'process_webhook'"
    waiting = await house.box.value(jobs)
    answer = await deliver(house, charge_event(payment["paymentId"], 1), signed=signature)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "AUTHENTICATION_ERROR"
    assert await house.counts() == before
    assert await house.box.value(jobs) == waiting
    assert (await house.booking(booking))["status"] == "AWAITING_PAYMENT"


async def test_a_forged_webhook_is_refused_while_the_database_is_locked(own_house: RunningHouse) -> None:
    """No connection is asked for before the signature is good: a flood of forgeries cannot starve buyers."""
    house = own_house
    async with house.box.db.pool.connection() as connection, connection.transaction():
        await connection.execute("LOCK TABLE webhook_delivery, payment, booking IN ACCESS EXCLUSIVE MODE")
        # Honest ones take every connection of the pool and wait.
        honest = [asyncio.create_task(deliver(house, charge_event(str(uuid4()), number))) for number in range(1, 41)]
        await asyncio.sleep(0.5)
        forged = await deliver(house, charge_event(str(uuid4()), 1), signed="forged")
        assert forged.status_code == 401
        assert not any(task.done() for task in honest)
    answers = await asyncio.gather(*honest)
    assert {answer.status_code for answer in answers} == {200}
    assert await house.box.value("SELECT count(*) FROM webhook_delivery") == 40


async def test_a_webhook_of_an_unknown_gateway_is_not_found(house: RunningHouse) -> None:
    answer = await house.api.post("/api/payments/webhook/nobody", json={}, headers={"verif-hash": WEBHOOK_HASH})
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b'{"event":"charge.completed"}',
        b'{"event":"charge.completed","data":{}}',
        b'{"event":"charge.completed","data":{"id":"1; DROP TABLE booking","tx_ref":"x"}}',
        b'{"event":"charge.completed","data":{"id":1e400,"tx_ref":"x"}}',
        b'{"event":"charge.completed","data":{"id":-1,"tx_ref":"../../v3/transactions"}}',
        b'{"event":"charge.completed","data":{"tx_ref":"\\u0000"}}',
        b'{"event":"charge.completed","data":{"id":99999999999999999,"tx_ref":"not-a-uuid"}}',
        b'{"event":"\xff\xfe"}',
        b"[" * 20_000,
    ],
)
async def test_a_signed_webhook_that_makes_no_sense_is_kept_acknowledged_and_harmless(
    house: RunningHouse, body: bytes
) -> None:
    before = await house.counts()
    answer = await house.api.post(WEBHOOK_PATH, content=body, headers={"verif-hash": WEBHOOK_HASH})
    assert answer.status_code == 200
    await house.queue_is_empty()
    after = await house.counts()
    assert after["webhook_delivery"] in {before["webhook_delivery"], before["webhook_delivery"] + 1}
    assert {**after, "webhook_delivery": 0} == {**before, "webhook_delivery": 0}
    unfinished = "SELECT count(*) FROM webhook_delivery WHERE processed_at IS NULL OR outcome IS NULL"
    assert await house.box.value(unfinished) == 0


@pytest.mark.parametrize(
    "lie",
    [{"status": "failed"}, {"status": "pending"}, {"status": "reversed"}, {"tx_ref": str(uuid4())}],
    ids=["failed", "pending", "a word nobody knows", "another reference"],
)
async def test_a_webhook_that_says_successful_where_the_gateway_does_not_confirms_nothing(
    house: RunningHouse, lie: JsonObject
) -> None:
    booking, payment = await open_payment(house)
    await house.sim.api_fault(match="GET /v3/transactions*", lie=lie)
    await house.sim.pay(payment)
    await _processed(house, payment)
    await house.poll(payment)
    found = await house.booking(booking)
    assert found["status"] in {"HELD", "AWAITING_PAYMENT"}
    assert await house.tickets(booking) == []
    assert await house.charges(booking) == []
    assert await house.ledger(booking) == {}
    # Once the gateway tells the truth, its money finds the booking, whatever was said before.
    await house.sim.behave()
    await house.poll(payment)
    await assert_sold_once(house, booking)


@pytest.mark.parametrize(
    ("lie", "charged"),
    [({"amount": 59_999}, (59_999, "UGX")), ({"currency": "KES"}, (STANDARD_UGX * 100, "KES"))],
    ids=["too little", "another currency"],
)
async def test_money_that_is_not_what_was_due_is_recorded_and_waits_for_a_person(
    house: RunningHouse, lie: JsonObject, charged: tuple[int, str]
) -> None:
    booking, payment = await open_payment(house)
    await house.sim.api_fault(match="GET /v3/transactions*", lie=lie)
    await house.sim.pay(payment)
    found = await house.payment_until(payment, "REVIEW")
    await house.sim.behave()
    assert found["failureReason"]
    assert (await house.booking(booking))["status"] == "AWAITING_PAYMENT"
    assert await house.tickets(booking) == []
    (charge,) = await house.charges(booking)
    assert (charge["amount"], charge["currency"], charge["purpose"]) == (*charged, "unfulfillable")
    assert await house.ledger(booking) == {"capture": 1}
    assert await house.refunds(booking) == []


async def test_an_amount_that_no_minor_unit_can_hold_waits_for_a_person(house: RunningHouse) -> None:
    booking, payment = await open_payment(house)
    await house.sim.api_fault(match="GET /v3/transactions*", lie={"amount": 60_000.5})
    await house.sim.pay(payment)
    await house.payment_until(payment, "REVIEW")
    await house.sim.behave()
    assert await house.tickets(booking) == []


async def test_an_amount_that_the_webhook_alone_tells_wrong_does_not_matter(house: RunningHouse) -> None:
    booking, payment = await open_payment(house)
    await house.sim.webhook_fault(match="charge", times=1, lie={"amount": 1, "currency": "NGN"})
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    await assert_sold_once(house, booking)


async def test_a_webhook_that_says_failed_of_a_payment_that_succeeded_confirms_it(house: RunningHouse) -> None:
    booking, payment = await open_payment(house)
    await house.sim.webhook_fault(match="charge", times=1, lie={"status": "failed"})
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    await assert_sold_once(house, booking)


async def test_a_customer_who_bears_the_fee_has_paid_what_was_due(house: RunningHouse) -> None:
    await house.sim.config(fee_bearer="customer")
    booking, payment = await open_payment(house)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    await house.sim.config(fee_bearer="merchant")
    (charge,) = await house.charges(booking)
    assert charge["amount"] == STANDARD_UGX


async def test_a_webhook_that_names_another_payment_gives_it_nothing(house: RunningHouse) -> None:
    """Money of one payment is never booked on another, whatever reference a webhook claims."""
    mine, my_payment = await open_payment(house)
    theirs, their_payment = await open_payment(house)
    (transaction,) = (await house.sim.pay(their_payment, "pay-without-webhook"))["transaction_ids"]
    assert (await deliver(house, charge_event(my_payment["paymentId"], transaction))).status_code == 200
    await _processed(house, my_payment)
    assert (await house.booking(mine))["status"] == "AWAITING_PAYMENT"
    assert await house.charges(mine) == []
    await house.poll(my_payment, their_payment)
    await assert_sold_once(house, theirs)
    assert (await house.booking(mine))["status"] == "AWAITING_PAYMENT"


async def test_webhooks_of_a_payment_we_never_asked_for_are_noted(house: RunningHouse) -> None:
    before = await house.counts()
    assert (await deliver(house, charge_event(str(uuid4()), 4_000_000_000))).status_code == 200
    await house.queue_is_empty()
    after = await house.counts()
    assert after.pop("webhook_delivery") == before.pop("webhook_delivery") + 1
    assert after == before
    newest = "SELECT outcome FROM webhook_delivery ORDER BY received_at DESC LIMIT 1"
    assert (await house.box.value(newest)).startswith("not ours")


async def test_a_lost_webhook_and_a_closed_browser_are_found_by_the_poller(house: RunningHouse) -> None:
    booking, payment = await open_payment(house)
    await house.sim.pay(payment, "say-nothing")
    assert (await house.booking(booking))["status"] == "AWAITING_PAYMENT"
    assert (await house.poll(payment))["failed"] == 0
    await assert_sold_once(house, booking)
    due = await house.box.value("SELECT poll_after FROM payment WHERE id = %s", payment["paymentId"])
    assert due is None


async def test_a_payment_that_was_settled_is_not_asked_about_for_ever(house: RunningHouse) -> None:
    """The gateway is out of order when a late copy of the webhook arrives; afterwards there is nothing to ask."""
    booking, payment = await open_payment(house)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    await house.queue_is_empty()
    await house.sim.api_fault(match="GET /v3/transactions*", http_status=404)
    (transaction,) = (charge["transaction_id"] for charge in await house.charges(booking))
    await deliver(house, charge_event(payment["paymentId"], int(transaction)) | {"copy": 2})
    await house.queue_is_empty()
    await house.sim.behave()
    await house.poll(payment)
    due = await house.box.value("SELECT poll_after FROM payment WHERE id = %s", payment["paymentId"])
    assert due is None
    await assert_sold_once(house, booking)


async def _processed(house: RunningHouse, payment: JsonObject) -> None:
    """Wait until a webhook that names the payment has been acted on."""
    body = f"%{payment['paymentId']}%".encode()
    await until(
        lambda: house.box.value(
            "SELECT count(*) FROM webhook_delivery WHERE body LIKE %s AND processed_at IS NOT NULL", body
        ),
        lambda processed: processed > 0,
    )
