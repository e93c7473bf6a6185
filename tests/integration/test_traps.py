"""Where others lost money: one attack for each public report, named after it.

The numbers are issues of the projects that are named; what happened there is the first line of each test.
"""

import asyncio
from typing import Any
from uuid import UUID

from tests.house import WEBHOOK_HASH, WEBHOOK_PATH, JsonObject, RunningHouse, holder, until
from tests.network import STANDARD_UGX
from tests.staff import staff_headers

REFUND_CALL = "POST /v3/transactions/*"


async def lapse(house: RunningHouse, booking: JsonObject) -> None:
    """Let the hold of a booking be over, its cap as well."""
    await house.box.rows(
        "UPDATE booking SET hold_expires_at = kiti_now() - interval '1 second',"
        " hold_cap_at = kiti_now() - interval '1 second' WHERE id = %s",
        booking["bookingId"],
    )
    await house.box.rows(
        "UPDATE seat_claim SET expires_at = kiti_now() - interval '1 second' WHERE owner_id = %s", booking["bookingId"]
    )


async def hint(house: RunningHouse, body: JsonObject) -> int:
    """Send what claims to be a webhook; the status."""
    answer = await house.api.post(WEBHOOK_PATH, json=body, headers={"verif-hash": WEBHOOK_HASH})
    return answer.status_code


async def charge_hint(house: RunningHouse, payment: JsonObject, *, mark: int = 0) -> int:
    """The webhook of a payment's transaction; `mark` makes it another delivery of the same meaning."""
    (transaction,) = (await house.sim.state(payment))["transactions"]
    data = {"id": transaction["id"], "tx_ref": payment["paymentId"], "status": "successful", "mark": mark}
    return await hint(house, {"event": "charge.completed", "data": data})


async def assert_gone_back_once(house: RunningHouse, booking: JsonObject, payment: JsonObject) -> None:
    """The gateway has made exactly one refund, of all that it took for this payment beyond the ticket."""
    await house.refunds_until(booking, "succeeded")
    assert len((await house.sim.state(payment))["refunds"]) == 1


async def test_pretix_74_paid_after_the_last_seat_was_sold_to_somebody_else(house: RunningHouse) -> None:
    """A payment that came after the event had sold out was accepted, and nobody had a place for its payer."""
    trip = house.network.bus()
    late = await house.reserve(trip, ["1A"])
    payment = await house.initiate(late)
    await lapse(house, late)
    everything = await house.reserve(trip, ["1A"])
    paid = await house.initiate(everything)
    await house.sim.pay(paid)
    await house.booking_until(everything, "CONFIRMED")
    await house.sim.pay(payment)
    await house.payment_until(payment, "REFUNDED", "COMPLETED")
    await assert_gone_back_once(house, late, payment)
    assert await house.tickets(late) == []
    assert len(await house.tickets(everything)) == 1
    assert (await house.payment(payment))["status"] == "REFUNDED"


async def test_hi_events_513_an_order_that_expired_while_its_payer_was_at_the_bank(house: RunningHouse) -> None:
    """The order expired during the payment; the money stayed with the organiser, and there was no ticket."""
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await lapse(house, booking)
    await house.job("expire-seats")
    assert (await house.booking(booking))["status"] == "EXPIRED"
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert len(await house.tickets(booking)) == 1
    assert await house.refunds(booking) == []


async def test_saleor_15246_money_for_a_checkout_that_is_not_there_any_more(house: RunningHouse) -> None:
    """The checkout had been removed when its payment succeeded, and the money belonged to nothing."""
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    released = await house.api.delete(f"/api/bookings/{booking['bookingId']}/hold", headers=holder(booking))
    assert released.json()["status"] == "CANCELLED"
    await house.sim.pay(payment, force=True)
    await house.payment_until(payment, "REFUNDED", "COMPLETED")
    await assert_gone_back_once(house, booking, payment)
    assert (await house.booking(booking))["status"] == "CANCELLED"


async def test_saleor_14648_the_webhook_races_the_browser_that_comes_back(house: RunningHouse) -> None:
    """Webhook and return completed the same checkout at once, and made two orders of it."""
    for _ in range(4):
        booking = await house.reserve(house.network.bus(), ["1A"])
        payment = await house.initiate(booking)
        await house.sim.webhook_fault(match="charge", times=1, drop=True)
        paid = await house.sim.pay(payment)
        back = {
            "status": "successful",
            "tx_ref": payment["paymentId"],
            "transaction_id": str(paid["transaction_ids"][0]),
        }
        returned = [house.api.get(f"/pay/{payment['paymentId']}/return", params=back) for _ in range(5)]
        told = [charge_hint(house, payment, mark=number) for number in range(5)]
        await asyncio.gather(*returned, *told, house.poll(payment))
        await house.booking_until(booking, "CONFIRMED")
        await house.queue_is_empty()
        assert await house.ledger(booking) == {"capture": 1}
        assert len(await house.charges(booking)) == 1
        assert len(await house.tickets(booking)) == 1


async def test_medusa_13301_the_same_webhook_delivered_to_several_workers_at_once(house: RunningHouse) -> None:
    """Deliveries of one event were worked on side by side, and captured twice."""
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.webhook_fault(match="charge", times=1, drop=True)
    await house.sim.pay(payment)
    statuses = await asyncio.gather(*(charge_hint(house, payment, mark=number % 7) for number in range(30)))
    assert set(statuses) == {200}
    await house.booking_until(booking, "CONFIRMED")
    await house.queue_is_empty()
    assert await house.ledger(booking) == {"capture": 1}
    assert len(await house.charges(booking)) == 1
    assert await house.refunds(booking) == []


async def test_pretix_1233_a_traveller_who_saw_a_failure_and_bought_again(house: RunningHouse) -> None:
    """The first payment looked as if it had failed, a second was made, and then both succeeded."""
    booking = await house.reserve(house.network.bus(), ["1A"])
    first = await house.initiate(booking)
    await house.sim.pay(first, "decline")
    await house.payment_until(first, "FAILED")
    second = await house.initiate(booking)
    assert second["paymentId"] != first["paymentId"]
    await house.sim.pay(second)
    await house.booking_until(booking, "CONFIRMED")
    await house.sim.pay(first, force=True)
    await house.payment_until(first, "REFUNDED", "COMPLETED")
    await house.refunds_until(booking, "succeeded")
    assert len((await house.sim.state(first))["refunds"]) == 1
    assert (await house.sim.state(second))["refunds"] == []
    assert [ticket["status"] for ticket in await house.tickets(booking)] == ["VALID"]


async def test_pretix_343_refunding_one_of_two_charges_leaves_the_ticket_good(house: RunningHouse) -> None:
    """A booking was paid twice; giving the second money back cancelled the ticket that the first had bought."""
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, "pay-twice")
    await house.booking_until(booking, "CONFIRMED")
    await assert_gone_back_once(house, booking, payment)
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    assert [ticket["status"] for ticket in await house.tickets(booking)] == ["VALID"]
    assert await house.box.value(
        "SELECT bool_and(expires_at = 'infinity') FROM seat_claim WHERE owner_id = %s", booking["bookingId"]
    )


async def test_hyperswitch_13182_refunds_at_once_never_exceed_the_capture(house: RunningHouse) -> None:
    """Each of several refunds fitted by itself, and together they were more than had been paid."""
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    headers = await staff_headers(house, "platform_finance")
    part = STANDARD_UGX * 2 // 5
    body = {"amount": part, "reason": "A part of it."}
    path = f"/api/payments/{payment['paymentId']}/refund"
    answers = await asyncio.gather(*(house.api.post(path, json=body, headers=headers) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [202] * 2 + [409] * 10
    await house.refunds_until(booking, "succeeded", count=2)
    (charge,) = await house.charges(booking)
    assert charge["refund_reserved"] == 2 * part <= charge["amount"]
    theirs = (await house.sim.state(payment))["refunds"]
    assert sum(int(float(refund["amount_refunded"])) for refund in theirs) == 2 * part


async def test_gumroad_6193_a_refund_s_webhook_that_comes_before_our_own_commit(house: RunningHouse) -> None:
    """The gateway told of a refund before the one who had asked for it had written it down."""
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    headers = await staff_headers(house, "platform_finance")
    (transaction,) = (await house.sim.state(payment))["transactions"]
    # The gateway has done it, tells of it at once, and keeps the answer for a second.
    await house.sim.config(refund_delay_seconds=0.0)
    await house.sim.api_fault(match=REFUND_CALL, times=1, http_status_after=503, latency_ms=300)
    path = f"/api/payments/{payment['paymentId']}/refund"
    asked = await house.api.post(path, json={"reason": "Asked for it."}, headers=headers)
    assert asked.status_code == 202, asked.text
    told = {
        "id": 42,
        "AmountRefunded": STANDARD_UGX,
        "status": "completed-momo",
        "FlwRef": transaction["flw_ref"],
        "TransactionId": transaction["id"],
        "meta": "{}",
    }
    assert await hint(house, told) == 200
    await house.queue_is_empty()
    await assert_gone_back_once(house, booking, payment)
    await house.sim.config(refund_delay_seconds=0.1)
    assert await house.ledger(booking) == {"capture": 1, "refund_requested": 1, "refund_done": 1}


async def test_hyperswitch_3751_a_refund_time_out_that_left_no_id_of_the_gateway(house: RunningHouse) -> None:
    """The request timed out after the gateway had done it; nobody knew its id, so none could follow it."""
    await house.sim.api_fault(match=REFUND_CALL, times=1, drop_connection_after=True)
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, "pay-twice")
    await house.booking_until(booking, "CONFIRMED")
    (unclear,) = await until(lambda: house.refunds(booking), lambda found: [r["attempts"] for r in found] == [1])
    await assert_gone_back_once(house, booking, payment)
    (refund,) = await house.refunds(booking)
    (theirs,) = (await house.sim.state(payment))["refunds"]
    assert (refund["id"], refund["gateway_refund_id"]) == (unclear["id"], str(theirs["id"]))
    assert refund["attempts"] == 1


async def test_alf_io_1202_what_follows_the_money_may_fail_without_undoing_it(own_house: RunningHouse) -> None:
    """An invoice that could not be made broke the confirmation of a payment that had been taken."""
    house = own_house
    # Neither mail nor text messages can be written out, and the page that draws tickets cannot be reached.
    await house.box.rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no letter can be sent today'; END $$"
    )
    await house.box.rows("CREATE TRIGGER refuse BEFORE UPDATE ON message FOR EACH ROW EXECUTE FUNCTION refuse()")
    contact = {"email": "amina@example.com", "phone": "+256772000001", "name": "Amina"}
    booking = await house.reserve(house.network.bus(), ["1A"], contact=contact)
    payment = await house.initiate(booking)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert await house.ledger(booking) == {"capture": 1}
    await house.api.post("/api/jobs/send-notifications", headers={"x-job-secret": house.environment["JOB_SECRET_KEY"]})
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    assert [ticket["status"] for ticket in await house.tickets(booking)] == ["VALID"]
    await house.box.rows("DROP TRIGGER refuse ON message")
    await house.job("send-notifications")
    sent = "SELECT count(*) FROM message WHERE booking_id = %s AND event LIKE 'paid%%' AND state = 'sent'"
    await until(lambda: _sent(house, sent, booking), lambda count: count >= 1)


async def _sent(house: RunningHouse, statement: str, booking: JsonObject) -> int:
    await house.job("send-notifications")
    count: int = await house.box.value(statement, UUID(booking["bookingId"]))
    return count


async def test_flutterwave_react_native_72_mobile_money_after_minutes_with_neither_return_nor_webhook(
    house: RunningHouse,
) -> None:
    """The traveller approved on the phone minutes later; no webhook came, the app was closed, and no one looked."""
    booking = await house.reserve(house.network.bus(), ["1A"], holdDurationMinutes=1)
    payment = await house.initiate(booking, paymentMethod="MOBILE_MONEY", phoneNumber="+256772000001")
    await house.sim.webhook_fault(match="charge", times=1, drop=True)
    await house.poll(payment)
    assert (await house.payment(payment))["status"] == "PENDING"
    # Ten minutes on the hold of one minute would long be over.
    await _age(house, booking, payment, minutes=10)
    await house.poll(payment)
    await house.sim.pay(payment)
    await house.poll(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert len(await house.tickets(booking)) == 1
    assert await _times_asked(house, payment) <= 8


async def _age(house: RunningHouse, booking: JsonObject, payment: JsonObject, *, minutes: int) -> None:
    """The same minutes pass for one booking alone; others of this house keep their clock."""
    ago = f"interval '{minutes} minutes'"
    await house.box.rows(
        f"UPDATE booking SET hold_expires_at = hold_expires_at - {ago}, hold_cap_at = hold_cap_at - {ago},"
        f" hold_until = hold_until - {ago}, created_at = created_at - {ago} WHERE id = %s",
        booking["bookingId"],
    )
    await house.box.rows(
        f"UPDATE seat_claim SET expires_at = expires_at - {ago} WHERE owner_id = %s", booking["bookingId"]
    )
    await house.box.rows(f"UPDATE payment SET created_at = created_at - {ago} WHERE id = %s", payment["paymentId"])


async def _times_asked(house: RunningHouse, payment: JsonObject) -> Any:
    return await house.box.value("SELECT polls FROM payment WHERE id = %s", payment["paymentId"])
