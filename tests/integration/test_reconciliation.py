"""Reconciliation: what the gateway took and we missed becomes a ticket or a refund; a difference has name and age."""

from typing import Any

import pytest
from tests.house import WEBHOOK_HASH, WEBHOOK_PATH, JsonObject, RunningHouse, until
from tests.network import STANDARD_UGX

LIST = "GET /v3/transactions"


async def compare(house: RunningHouse) -> JsonObject:
    return await house.job("reconcile-payments")


async def breaks(house: RunningHouse, booking: JsonObject) -> dict[str, str]:
    """The open ones of a booking: kind and detail."""
    rows = await house.box.rows(
        "SELECT kind, detail FROM reconciliation_break WHERE resolved_at IS NULL AND booking_id = %s",
        booking["bookingId"],
    )
    return {row["kind"]: row["detail"] for row in rows}


async def test_a_second_payment_that_nothing_ever_told_of_is_found_and_goes_back(own_house: RunningHouse) -> None:
    """The first one has confirmed the booking, so nobody polls, and the webhook of the second is lost for good."""
    house = own_house
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.webhook_fault(match="charge", drop=True)
    first, _ = (await house.sim.pay(payment, "pay-twice"))["transaction_ids"]
    body = {
        "event": "charge.completed",
        "data": {"id": first, "tx_ref": payment["paymentId"], "status": "successful"},
    }
    await house.api.post(WEBHOOK_PATH, json=body, headers={"verif-hash": WEBHOOK_HASH})
    await house.booking_until(booking, "CONFIRMED")
    await house.queue_is_empty()
    assert len(await house.charges(booking)) == 1
    await compare(house)
    charges = await house.charges(booking)
    assert sorted(charge["purpose"] for charge in charges) == ["fulfils", "surplus"]
    (refund,) = await house.refunds_until(booking, "succeeded")
    assert refund["amount"] == STANDARD_UGX
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    assert await breaks(house, booking) == {}
    await house.doctor()


async def test_a_payment_whose_webhook_was_lost_is_taken_over(own_house: RunningHouse) -> None:
    house = own_house
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.webhook_fault(match="charge", drop=True)
    await house.sim.pay(payment)
    await house.box.rows("UPDATE payment SET poll_after = NULL WHERE id = %s", payment["paymentId"])
    code, said = await house.kiti("reconcile")
    assert (code, "1 taken over now" in said) == (0, True), said
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    assert len(await house.tickets(booking)) == 1


DAMAGE = {
    "amount": "UPDATE charge SET amount = amount - 100 WHERE booking_id = %s",
    "fee": "UPDATE charge SET fee_exact = fee_exact + 0.5 WHERE booking_id = %s",
    "missing_theirs": (
        "INSERT INTO charge SELECT booking_id, gateway, '999000111', payment_id, 'unfulfillable', amount, currency,"
        " fee_exact, captured_at, amount FROM charge WHERE booking_id = %s"
    ),
    "duplicate": "UPDATE charge SET refund_reserved = 0 WHERE purpose = 'surplus' AND booking_id = %s",
}
REPAIR = {
    "amount": "UPDATE charge SET amount = amount + 100 WHERE booking_id = %s",
    "fee": "UPDATE charge SET fee_exact = fee_exact - 0.5 WHERE booking_id = %s",
    "missing_theirs": "DELETE FROM charge WHERE transaction_id = '999000111' AND booking_id = %s",
    "duplicate": "UPDATE charge SET refund_reserved = amount WHERE purpose = 'surplus' AND booking_id = %s",
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_where_books_differ_has_a_name_until_it_is_gone(house: RunningHouse, kind: str) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, "pay-twice" if kind == "duplicate" else "pay")
    await house.booking_until(booking, "CONFIRMED")
    if kind == "duplicate":
        await until(lambda: house.charges(booking), lambda charges: len(charges) == 2)
        await house.refunds_until(booking, "succeeded")
    await compare(house)
    assert await breaks(house, booking) == {}
    await house.box.rows(DAMAGE[kind], booking["bookingId"])
    await compare(house)
    assert set(await breaks(house, booking)) == {kind}
    first = await found_at(house, booking)
    code, said = await house.kiti("reconcile", "--days", "1")
    assert code == 1
    assert kind in said
    assert await found_at(house, booking) == first
    await house.box.rows(REPAIR[kind], booking["bookingId"])
    await compare(house)
    assert await breaks(house, booking) == {}


async def found_at(house: RunningHouse, booking: JsonObject) -> Any:
    return await house.box.value(
        "SELECT found_at FROM reconciliation_break WHERE booking_id = %s", booking["bookingId"]
    )


async def test_money_for_nothing_of_ours_is_named(own_house: RunningHouse) -> None:
    house = own_house
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    (transaction,) = (await house.sim.state(payment))["transactions"]
    # As if another system used the same account: the payment that it is for is none of ours.
    await house.box.rows("ALTER TABLE charge DISABLE TRIGGER ALL")
    for table in ("ticket", "transfer", "charge", "payment_history", "payment"):
        await house.box.rows(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        await house.box.rows(f"DELETE FROM {table} WHERE booking_id = %s", booking["bookingId"])
    assert (await compare(house))["failed"] == 1
    (row,) = await house.box.rows("SELECT * FROM reconciliation_break")
    assert (row["kind"], row["transaction_id"]) == ("missing_ours", str(transaction["id"]))


async def test_a_silent_gateway_resolves_nothing_and_is_no_agreement(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    await house.box.rows(DAMAGE["fee"], booking["bookingId"])
    await compare(house)
    await house.box.rows(REPAIR["fee"], booking["bookingId"])
    await house.sim.api_fault(match=LIST, malformed=True)
    answer = await compare(house)
    await house.sim.behave()
    assert answer["failed"] > 0
    assert set(await breaks(house, booking)) == {"fee"}
    await compare(house)
    assert await breaks(house, booking) == {}
