"""Cancelling in a browser: who stays at home, what goes back, and seats in the place of lost ones."""

import re
from typing import Any

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.e2e.test_pages import AXE, SMALL_TARGETS, violations_of
from tests.house import JsonObject, RunningHouse
from tests.network import STANDARD_UGX

pytestmark = pytest.mark.browser


async def bought(house: RunningHouse, *seats: str) -> JsonObject:
    passengers = [{"name": name} for name in ("Amina", "Okello", "Chandra")[: len(seats)]]
    booking, _ = await house.buy(
        house.network.bus(), list(seats), passengers=passengers, contact={"phone": "+256772123456"}
    )
    return booking


def address(booking: JsonObject, more: str = "") -> str:
    return f"/bookings/{booking['bookingId']}{more}?token={booking['holdToken']}"


@pytest.mark.parametrize("javascript", [True, False], ids=["with script", "without"])
async def test_one_of_two_travellers_is_cancelled_after_seeing_what_goes_back(
    arrive: Arrive,
    house: RunningHouse,
    javascript: bool,  # noqa: FBT001 - pytest's way
) -> None:
    booking = await bought(house, "3A", "3B")
    amina = await arrive(javascript=javascript)
    await amina.page.goto(address(booking))
    await amina.page.get_by_role("link", name="Cancel seats or the booking").click()
    await amina.page.get_by_role("button", name="See what goes back").click()
    await amina.sees("Choose at least one seat.")
    await amina.page.get_by_label("3B Okello").check()
    await amina.page.get_by_role("button", name="See what goes back").click()
    await amina.sees("1 seat stays booked.")
    await expect(amina.page.locator("tfoot")).to_contain_text("UGX 60,000")
    assert (await house.booking(booking))["seatNumbers"] == ["3A", "3B"]
    await amina.page.get_by_role("button", name="Cancel this seat").click()
    await amina.page.wait_for_url(re.compile(f"/bookings/{booking['bookingId']}$"))
    await amina.sees("UGX 60,000 goes back")
    await expect(amina.page.get_by_role("heading", name="You are booked")).to_be_visible()
    found = await house.booking(booking)
    assert (found["status"], found["seatNumbers"]) == ("CONFIRMED", ["3A"])
    (refund,) = await house.refunds_until(booking, "succeeded")
    assert refund["amount"] == STANDARD_UGX
    await amina.page.get_by_role("link", name="Cancel the booking").click()
    await amina.page.get_by_role("button", name="Cancel the booking").click()
    await amina.sees("This booking is cancelled")


async def test_what_was_shown_for_seats_that_are_gone_cancels_nothing_else(arrive: Arrive, house: RunningHouse) -> None:
    booking = await bought(house, "3A", "3B", "3C")
    amina = await arrive()
    await amina.page.goto(address(booking, "/cancel"))
    await amina.page.get_by_label("3A Amina").check()
    await amina.page.get_by_role("button", name="See what goes back").click()
    body: Any = {"seats": [{"tripId": booking["tripId"], "seatNumber": "3A"}]}
    headers = {"authorization": f"Hold {booking['holdToken']}"}
    await house.api.post(f"/api/bookings/{booking['bookingId']}/cancel", json=body, headers=headers)
    await amina.page.get_by_role("button", name="Cancel this seat").click()
    await amina.page.wait_for_url(re.compile(f"/bookings/{booking['bookingId']}$"))
    assert (await house.booking(booking))["seatNumbers"] == ["3B", "3C"]
    assert len(await house.refunds(booking)) == 1


async def replaced(house: RunningHouse) -> JsonObject:
    """A booking as it stands after its seat was lost and replaced."""
    booking = await bought(house, "3A")
    await house.box.rows(
        "INSERT INTO seat_replacement (booking_id, trip_id, lost_seat, seat, made_at, decline_until)"
        " VALUES (%s, %s, '1A', '3A', kiti_now(), kiti_now() + interval '1 day')",
        booking["bookingId"],
        booking["tripId"],
    )
    return booking


async def test_other_seats_are_told_of_and_declined(arrive: Arrive, house: RunningHouse) -> None:
    booking = await replaced(house)
    amina = await arrive()
    await amina.page.goto(address(booking))
    await amina.sees("Your seats were taken while your payment was late: 1A. You now have 3A, for the same price.")
    await amina.page.get_by_role("button", name="Decline these seats").click()
    await amina.sees("This booking is cancelled")
    (refund,) = await house.refunds_until(booking, "succeeded")
    assert refund["amount"] == STANDARD_UGX


async def test_the_pages_of_cancelling_are_accessible(arrive: Arrive, house: RunningHouse) -> None:
    booking, other = await bought(house, "3A", "3B"), await replaced(house)
    amina = await arrive()
    pages = (
        address(booking, "/cancel"),
        f"/bookings/{booking['bookingId']}/cancel?choose=1",
        f"/bookings/{booking['bookingId']}/cancel?seat={booking['tripId']}:3A",
        address(other),
    )
    for path in pages:
        await amina.page.goto(path)
        await amina.page.evaluate(AXE)
        assert await violations_of(amina.page) == []
        assert await amina.page.evaluate(SMALL_TARGETS) == []
