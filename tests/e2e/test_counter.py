"""Cash in a browser: the traveller hears a reference, the clerk sees what is due, presses once, and reads a receipt."""

import re

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.e2e.test_office import log_in
from tests.e2e.test_pages import AXE, violations_of
from tests.house import RunningHouse
from tests.staff import employ, staff_headers

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("javascript", [True, False], ids=["with script", "without"])
async def test_a_clerk_takes_cash_once_and_hands_a_refund_back(
    arrive: Arrive,
    house: RunningHouse,
    javascript: bool,  # noqa: FBT001 - pytest's way
) -> None:
    booking = await house.reserve(house.network.bus(), ["1A", "1B"], contact={"phone": "+256772000001"})
    payment = await house.initiate(booking, paymentMethod="CASH")
    asha = await arrive(javascript=javascript)
    await asha.page.goto(f"/bookings/{booking['bookingId']}?token={booking['holdToken']}")
    await asha.page.goto(f"/pay/{payment['paymentId']}")
    await expect(asha.page.get_by_role("heading", name="Pay at a counter")).to_be_visible()
    await expect(asha.page.locator("#standing")).to_contain_text(booking["reference"])
    grace = await arrive(desktop=True, javascript=javascript)
    await log_in(grace, await employ(house.box.db, "operator_staff", "pearl"), path="/office/cash")
    await grace.page.get_by_label("Reference").fill(f" {booking['reference'].lower()} ")
    await grace.page.get_by_label("Counter").fill("Kampala 1")
    await grace.page.keyboard.press("Enter")
    await expect(grace.page.locator(".till .due")).to_have_text(re.compile("UGX.120,000"))
    await grace.page.get_by_role("button", name="I have taken").click()
    await expect(grace.page.get_by_role("status")).to_contain_text(f"Receipt {booking['reference']}-1")
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    await house.api.post(
        f"/api/payments/{payment['paymentId']}/refund",
        json={"reason": "The bus was late"},
        headers=await staff_headers(house),
    )
    await house.refunds_until(booking, "pending")
    await grace.page.reload()
    await grace.page.get_by_role("button", name="I have handed back").click()
    await house.refunds_until(booking, "succeeded")


async def test_the_counter_can_be_used_by_everybody_and_says_what_is_wrong(arrive: Arrive, house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    await house.initiate(booking, paymentMethod="CASH")
    grace = await arrive()
    await log_in(grace, await employ(house.box.db, "operator_staff", "pearl"), path="/office/cash")
    await grace.page.get_by_label("Reference").fill("ZZZZZZ")
    await grace.page.keyboard.press("Enter")
    await expect(grace.page.get_by_role("alert")).to_contain_text("No booking has the reference")
    await grace.page.goto(f"/office/cash?reference={booking['reference']}")
    await grace.page.evaluate(AXE)
    assert await violations_of(grace.page) == []
