"""The third book and disputes, through each gateway besides v3 that tells of them, as the jobs go about it."""

from typing import Any

import pytest
from tests.house import JsonObject, RunningHouse
from tests.network import STANDARD_UGX

GATEWAYS = ["flutterwave_v4", "stripe"]


async def order(house: RunningHouse, path: str, **body: Any) -> JsonObject:
    """Do something to the simulator."""
    answer = await house.sim.http.post(f"/_sim/{path}", json=body)
    assert answer.is_success, answer.text
    return dict(answer.json())


async def buy(house: RunningHouse, gateway: str) -> tuple[JsonObject, str]:
    """A booking that is paid, and its transaction."""
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking, gateway=gateway)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    [charge] = await house.charges(booking)
    return booking, str(charge["transaction_id"])


async def settle(house: RunningHouse, gateway: str) -> None:
    """The gateway pays what it has into the bank."""
    if gateway == "stripe":
        await order(house, "stripe/settle", currency="UGX")
    else:
        await order(house, "settle", currency="UGX", version="v4")


async def contest(house: RunningHouse, gateway: str, transaction: str) -> str:
    """The traveller's bank wants the money back; the path of the dispute."""
    if gateway == "stripe":
        return f"stripe/disputes/{(await order(house, 'stripe/disputes', payment_intent=transaction))['id']}"
    opened = await order(house, "chargebacks", transaction_id=int(transaction.removeprefix("chg_")))
    return f"chargebacks/{opened['id']}"


async def in_clearing(house: RunningHouse, booking: JsonObject) -> int:
    """What of a booking the gateway owes us still."""
    return int(
        await house.box.value(
            "SELECT coalesce(sum(CASE WHEN debit LIKE 'gateway_clearing:%%' THEN amount ELSE -amount END), 0)::bigint"
            " FROM transfer WHERE booking_id = %s"
            " AND (debit LIKE 'gateway_clearing:%%' OR credit LIKE 'gateway_clearing:%%')",
            booking["bookingId"],
        )
    )


async def breaks(house: RunningHouse, transaction: str) -> list[JsonObject]:
    return await house.box.rows(
        "SELECT kind, sides, detail FROM reconciliation_break WHERE resolved_at IS NULL AND transaction_id = %s",
        transaction,
    )


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_what_was_settled_leaves_nothing_in_clearing(house: RunningHouse, gateway: str) -> None:
    booking, transaction = await buy(house, gateway)
    assert await in_clearing(house, booking) > 0
    await settle(house, gateway)
    for _ in range(2):
        await house.job("reconcile-payments")
        assert await in_clearing(house, booking) == 0
    assert await breaks(house, transaction) == []
    kinds = "SELECT kind FROM settled_item WHERE booking_id = %s"
    assert [row["kind"] for row in await house.box.rows(kinds, booking["bookingId"])] == ["charge"]
    contradictions = "SELECT count(*) FROM gateway_settlement WHERE gateway = %s AND contradiction <> 0"
    assert await house.box.value(contradictions, gateway) == 0
    await house.is_well()


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_a_dispute_is_heard_of_held_back_and_lost(house: RunningHouse, gateway: str) -> None:
    booking, transaction = await buy(house, gateway)
    path = await contest(house, gateway, transaction)
    await house.job("poll-disputes")
    found = "SELECT state, amount FROM dispute WHERE booking_id = %s"
    assert await house.box.rows(found, booking["bookingId"]) == [{"state": "open", "amount": STANDARD_UGX}]
    await settle(house, gateway)
    await house.job("reconcile-payments")
    assert await in_clearing(house, booking) == 0
    assert await breaks(house, transaction) == []
    await order(house, path, status="lost")
    await house.job("poll-disputes")
    assert (await house.box.rows(found, booking["bookingId"]))[0]["state"] == "lost"
    assert (await house.booking(booking))["status"] == "CANCELLED"
    cost = await house.box.value(
        "SELECT coalesce(sum(cost_exact), 0)::bigint FROM gateway_settlement WHERE gateway = %s", gateway
    )
    posted = await house.box.value(
        "SELECT coalesce(sum(amount), 0)::bigint FROM transfer WHERE debit = %s AND credit = %s",
        *(f"gateway_fee:{gateway}", f"bank:{gateway}"),
    )
    assert cost == posted == (15 if gateway == "stripe" else 0), "a dispute costs 1500 of Stripe's units, UGX 15"
    assert await house.box.value("SELECT count(*) FROM gateway_settlement WHERE contradiction <> 0") == 0
    await house.is_well()
