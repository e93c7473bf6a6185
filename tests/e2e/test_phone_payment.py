"""Mobile money in a browser: the phone is asked, the page waits, and nobody is led to pay twice."""

import re
from uuid import UUID

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.e2e.traveller import Traveller
from tests.house import RunningHouse

pytestmark = pytest.mark.browser
KENYAN = "0712 345678"


async def to_payment(amina: Traveller, trip: UUID) -> None:
    """From the seat map of a trip to Nairobi to the page that asks how to pay."""
    await amina.open_map(trip, destination="NBO")
    await amina.page.locator("label.seat:has(input:not(:disabled))").first.click()
    await amina.go_on()
    await amina.introduce("Amina Nakato")


async def ask_phone(amina: Traveller, number: str = f"+254 {KENYAN[1:]}") -> str:
    """Choose mobile money and have the phone asked; the payment's id."""
    await amina.page.get_by_label("Mobile money").check()
    await amina.page.fill("#phone", number)
    await amina.page.get_by_role("button", name=re.compile("^Pay")).click()
    await amina.page.wait_for_url("**/pay/*")
    return amina.path.rpartition("/")[2]


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_the_page_waits_for_the_phone_survives_being_closed_and_leads_to_the_ticket(
    arrive: Arrive, house: RunningHouse, *, javascript: bool
) -> None:
    amina = await arrive(javascript=javascript)
    await to_payment(amina, house.network.lake())
    payment = await ask_phone(amina)
    await amina.sees("Waiting for your payment")
    await amina.sees("+254 712 345678")
    await amina.sees("approve it with your PIN")
    await expect(amina.page.locator("#clock .mmss")).to_be_visible()
    address = amina.page.url
    await amina.page.close()
    amina.page = await amina.page.context.new_page()
    await amina.page.goto(address)
    await amina.sees("Waiting for your payment")
    await house.sim.pay(payment)
    await amina.page.wait_for_url("**/ticket")


async def test_while_the_phone_is_asked_no_other_way_to_pay_is_offered(arrive: Arrive, house: RunningHouse) -> None:
    amina = await arrive(javascript=False)
    await to_payment(amina, house.network.lake())
    asking = amina.page.url
    await house.sim.api_fault(match="POST /v3/charges", times=1, http_status_after=503)
    payment = await ask_phone(amina)
    await amina.sees("Do not pay in another way meanwhile.")
    await expect(amina.page.locator("#standing a[href$='/pay']")).to_have_count(0)
    await amina.page.goto(asking)
    assert amina.path == f"/pay/{payment}", "the page that asks how to pay leads back to waiting"
    await house.sim.pay(payment, "decline")
    await amina.page.get_by_role("button", name="Look now").click()
    await amina.sees("Your seats are still held: pay the same way once more, or another way.")
    await amina.page.click("text=Try again")
    await amina.pay(method="Card", button="Pay KES")
    await amina.page.wait_for_url("**/ticket")


async def test_a_phone_that_cannot_pay_is_said_beside_the_field_and_kept(arrive: Arrive, house: RunningHouse) -> None:
    amina = await arrive(javascript=False)
    await to_payment(amina, house.network.lake())
    assert (await amina.page.input_value("#phone")).replace(" ", "") == "+256772123456"
    await amina.page.get_by_role("button", name=re.compile("^Pay")).click()
    await expect(amina.page.locator("#phone-problem")).to_contain_text("begins with +254")
    assert await amina.page.get_attribute("#phone", "aria-invalid") == "true"
    await amina.page.fill("#phone", KENYAN)
    await amina.page.get_by_role("button", name=re.compile("^Pay")).click()
    await amina.sees("+254 712 345678")


async def test_mobile_money_can_be_paid_on_the_payment_services_page_instead(
    arrive: Arrive, house: RunningHouse
) -> None:
    amina = await arrive(javascript=False)
    await to_payment(amina, house.network.lake())
    await amina.page.get_by_label("page instead").check()
    await amina.pay("Pay KES")
    await amina.page.wait_for_url("**/ticket")


async def test_a_prompt_in_another_browser_shows_neither_number_nor_ticket(arrive: Arrive, house: RunningHouse) -> None:
    amina = await arrive(javascript=False)
    await to_payment(amina, house.network.lake())
    payment = await ask_phone(amina)
    stranger = await arrive(javascript=False)
    await stranger.page.goto(f"/pay/{payment}")
    await stranger.sees("Look at the phone")
    assert "712" not in await stranger.page.inner_text("main")
    await house.sim.pay(payment)
    await house.payment_until({"paymentId": payment}, "COMPLETED")
    await stranger.page.goto(f"/pay/{payment}")
    await stranger.sees("Open the ticket with the reference")
