"""Travellers are told what becomes of their booking: once for each event, by mail and text, in its transaction."""

import asyncio
from typing import Any

from tests.box import Box
from tests.house import JsonObject, RunningHouse, until
from tests.network import Network
from tests.obliging import Obliging, another_house

from kiti.bookings.model import Contact
from kiti.flows import holds
from kiti.flows.house import House
from kiti.flows.messages import remind_holders
from kiti.flows.plan import Item, Reservation
from kiti.flows.reserve import reserve

CONTACT = {"name": "Grace Achieng", "email": "grace@example.com", "phone": "+256772000000"}


async def told(house: RunningHouse, booking: JsonObject) -> dict[tuple[str, str], int]:
    """How many messages of each kind of event there are for a booking, by channel."""
    rows = await house.box.rows(
        "SELECT split_part(event, ':', 1) AS event, channel, count(*) AS times FROM message WHERE booking_id = %s"
        " GROUP BY 1, 2",
        booking["bookingId"],
    )
    return {(row["event"], row["channel"]): row["times"] for row in rows}


def both(*events: str) -> dict[tuple[str, str], int]:
    return {(event, channel): 1 for event in events for channel in ("email", "sms")}


async def test_a_purchase_brings_receipt_and_ticket_and_each_goes_out(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"], contact=CONTACT)
    assert await told(house, booking) == both("paid", "ticket")

    async def waiting() -> Any:
        await house.job("send-notifications")
        return await house.box.value(
            "SELECT count(*) FROM message WHERE state <> 'sent' AND booking_id = %s", booking["bookingId"]
        )

    await until(waiting, lambda left: left == 0)


async def test_who_has_given_no_address_is_told_nothing(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    assert await told(house, booking) == {}


async def test_a_decline_a_cancellation_and_a_refund_are_told(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"], contact=CONTACT)
    first = await house.initiate(booking)
    await house.sim.pay(first, "decline")
    await house.payment_until(first, "FAILED")
    assert await told(house, booking) == both("failed")
    await house.sim.pay(await house.initiate(booking))
    await house.booking_until(booking, "CONFIRMED")
    headers = {"authorization": f"Hold {booking['holdToken']}"}
    answer = await house.api.post(f"/api/bookings/{booking['bookingId']}/cancel", headers=headers)
    assert answer.status_code == 200
    await house.refunds_until(booking, "succeeded")
    assert await told(house, booking) == both("failed", "paid", "ticket", "cancelled", "refunded")


async def test_a_cancelled_trip_is_told(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking, _ = await house.buy(trip, ["1A"], contact=CONTACT)
    await house.kiti("trips", "cancel", str(trip), "--reason", "No driver.")
    await house.refunds_until(booking, "succeeded")
    assert await told(house, booking) == both("paid", "ticket", "cancelled", "refunded")


# ------------------------------------------------------------------ holds that nobody has paid for


async def hold(house: House, trip: Any, seat: str, contact: Contact) -> Any:
    reservation = Reservation(items=(Item(trip=trip, seats=(seat,)),), contact=contact)
    return (await reserve(house, reservation)).booking


async def test_who_has_not_paid_for_a_while_is_told_once_how_to_go_on(box: Box, fresh_url: str) -> None:
    network = await Network().build(box.db)
    trip = network.bus()
    contact = Contact(email="grace@example.com", phone="+256772000000")
    async with another_house(fresh_url, Obliging()) as house:
        assert house.settings.message_channels
        waits = await hold(house, trip, "1A", contact)
        await hold(house, trip, "1B", Contact())
        gone = await hold(house, trip, "1C", contact)
        await holds.release(house, booking=gone, actor="test")
        assert await remind_holders(house) == 0, "it is too early"
        await asyncio.sleep(0.01)
        both_at_once = await asyncio.gather(*(remind_holders(house, after_seconds=0) for _ in range(5)))
        assert max(both_at_once) == 1
        assert await remind_holders(house, after_seconds=0) == 0
    rows = await box.rows("SELECT booking_id, channel FROM message WHERE event = 'held'")
    assert {row["booking_id"] for row in rows} == {waits}
    assert len(rows) == len(house.settings.message_channels)
