"""A ticket is bought, lost, found again; with JavaScript and without."""

import re
from datetime import timedelta
from uuid import UUID

import pytest
from playwright.async_api import Page, expect
from tests.e2e.conftest import Arrive
from tests.house import RunningHouse, until

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_two_seats_on_a_segment_are_bought_and_their_tickets_shown(
    arrive: Arrive, house: RunningHouse, *, javascript: bool
) -> None:
    trip = house.network.bus()
    amina = await arrive(javascript=javascript)
    await amina.search(trip, origin="Kampala", destination="Mbarara")
    await amina.page.locator(f".trips a[href*='{trip}']").click()
    await amina.choose("3A", "3B")
    await amina.go_on()
    await amina.introduce("Amina Nakato", "Okello James", phone="0772 123456")
    await amina.sees("UGX\u00a060,000")
    await amina.pay()

    await amina.page.wait_for_url("**/ticket")
    tickets = amina.page.locator(".ticket")
    await expect(tickets).to_have_count(2)
    await expect(tickets.first).to_contain_text("Amina Nakato")
    await expect(tickets.first).to_contain_text("Mbarara")
    await expect(tickets.nth(1)).to_contain_text("3B")
    await expect(tickets.first.locator(".qr svg")).to_be_visible()
    claims = await house.box.rows("SELECT seat, leg FROM seat_claim WHERE trip_id = %s ORDER BY seat, leg", trip)
    assert [(row["seat"], row["leg"]) for row in claims] == [("3A", 0), ("3B", 0)]


async def test_a_seat_lost_at_submitting_brings_the_page_back_with_the_rest_chosen(
    arrive: Arrive, house: RunningHouse
) -> None:
    trip = house.network.bus()
    slow = await arrive(javascript=False)
    await slow.open_map(trip)
    await slow.choose("5A", "5B", "5C")
    await house.reserve(trip, ["5B"])
    await slow.go_on()

    await slow.sees("5B has just been taken by somebody else.")
    assert await slow.chosen() == ["5A", "5C"]
    await slow.go_on()
    await expect(slow.page.locator(".seat-name")).to_have_count(2)


async def test_back_keeps_what_was_typed(arrive: Arrive, house: RunningHouse) -> None:
    trip = house.network.bus()
    amina = await arrive(javascript=False)
    await amina.open_map(trip)
    await amina.choose("6A")
    await amina.go_on()
    await amina.introduce("Amina Nakato")
    await amina.sees("How do you want to pay?")
    await amina.page.go_back()
    assert await amina.page.input_value("#name-1") == "Amina Nakato"
    assert (await amina.page.input_value("#phone")).replace(" ", "") == "+256772123456"
    await amina.page.click("text=Change seats")
    assert await amina.chosen() == ["6A"]
    await amina.sees("You hold 6A.")
    await amina.choose("6A", "7D")
    await amina.go_on()
    assert await amina.page.input_value("#name-1") == "Amina Nakato"
    claims = await house.box.rows("SELECT DISTINCT seat FROM seat_claim WHERE trip_id = %s", trip)
    assert [row["seat"] for row in claims] == ["7D"]


async def test_errors_stand_beside_their_fields_and_keep_the_input(arrive: Arrive, house: RunningHouse) -> None:
    amina = await arrive()
    await amina.open_map(house.network.bus())
    await amina.choose("8A")
    await amina.go_on()
    await amina.introduce("Amina Nakato", phone="12")
    problem = amina.page.locator("#phone-problem")
    await expect(problem).to_contain_text("Write it with the country code")
    assert await amina.page.get_attribute("#phone", "aria-invalid") == "true"
    assert await amina.page.input_value("#name-1") == "Amina Nakato"
    assert await amina.page.input_value("#phone") == "12"


async def test_a_declined_payment_tells_why_and_is_tried_again(arrive: Arrive, house: RunningHouse) -> None:
    amina = await arrive(javascript=False)
    await amina.open_map(house.network.bus())
    await amina.choose("9A")
    await amina.go_on()
    await amina.introduce("Amina Nakato")
    await amina.pay("Decline")
    await amina.sees("The payment did not go through")
    await amina.sees("Nothing was charged.")
    await amina.page.click("text=Try again")
    await amina.pay()
    await amina.page.wait_for_url("**/ticket")


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_the_waiting_page_survives_being_closed_and_leads_to_the_ticket(
    arrive: Arrive, house: RunningHouse, *, javascript: bool
) -> None:
    amina = await arrive(javascript=javascript)
    await amina.open_map(house.network.bus())
    await amina.choose("10A")
    await amina.go_on()
    await amina.introduce("Amina Nakato")
    await house.sim.config(pay_late_seconds=600)
    await amina.pay("Pay late")
    await amina.sees("Waiting for your payment")
    address = amina.page.url
    await amina.page.close()
    amina.page = await amina.page.context.new_page()
    await amina.page.goto(address)
    await amina.sees("You may close this page.")
    await amina.has_paid_late()
    await amina.page.wait_for_url("**/ticket")


async def test_a_booking_is_found_again_on_another_phone(arrive: Arrive, house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["11A"], contact={"phone": "+256772123456"})
    reference = booking["reference"]
    other = await arrive(javascript=False)
    await other.page.goto("/find")
    await other.page.fill("#reference", reference.lower())
    await other.page.fill("#phone", "+256 700 000000")
    await other.page.click("text=Open my booking")
    await other.sees("No booking has this reference and this phone number.")
    assert await other.page.input_value("#reference") == reference.lower()
    await other.page.fill("#phone", "0772 123456")
    await other.page.click("text=Open my booking")
    await other.sees("You are booked")
    await other.page.click("text=Open the ticket")
    await expect(other.page.locator(".stub .code")).to_have_text(f"{reference}-11A")


async def test_seats_are_given_back(arrive: Arrive, house: RunningHouse) -> None:
    trip = house.network.bus()
    amina = await arrive(javascript=False)
    await amina.open_map(trip)
    await amina.choose("12A")
    await amina.go_on()
    await amina.page.click("text=Give my seats back")
    await amina.sees("Choose your seats")
    assert await house.box.value("SELECT count(*) FROM seat_claim WHERE trip_id = %s", trip) == 0


async def test_the_clock_offers_more_time_and_keeps_what_is_being_typed(arrive: Arrive, house: RunningHouse) -> None:
    trip = house.network.bus()
    amina = await arrive()
    await amina.open_map(trip)
    await amina.choose("1A")
    await amina.go_on()
    await expect(amina.page.locator(".extend")).to_be_hidden()
    await let_pass(house, trip, minutes=14, seconds=25)
    await amina.page.reload()
    await expect(amina.page.locator(".hold [role=status]")).to_contain_text("2 minutes left")
    await amina.page.fill("#name-1", "Half a na")
    await amina.page.click("text=I need 10 more minutes")
    await expect(amina.page.locator(".mmss")).to_have_text(re.compile(r"^(10:00|9:5\d)$"))
    assert await amina.page.input_value("#name-1") == "Half a na"


async def test_a_hold_that_is_over_leads_back_to_the_same_seats(arrive: Arrive, house: RunningHouse) -> None:
    trip = house.network.bus()
    amina = await arrive(javascript=False)
    await amina.open_map(trip)
    await amina.choose("1A", "1B")
    await amina.go_on()
    await let_pass(house, trip, minutes=16)
    await amina.introduce("Amina Nakato", "Okello James")
    await amina.sees("The time for these seats is over")
    await amina.page.click("text=See if they are still free")
    assert await amina.chosen() == ["1A", "1B"]


async def test_a_ticket_opens_without_a_connection(arrive: Arrive, house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["4D"])
    amina = await arrive()
    await amina.page.goto(f"/bookings/{booking['bookingId']}?token={booking['holdToken']}")
    await amina.page.click("text=Open the ticket")
    await until_kept(amina.page)
    await amina.page.context.set_offline(True)
    await amina.page.reload()
    await expect(amina.page.locator(".stub .code")).to_have_text(f"{booking['reference']}-4D")


KEPT = """async () => {
  const cache = await caches.open("kiti-tickets");
  const page = await cache.match(location.href, { ignoreVary: true });
  return Boolean(navigator.serviceWorker.controller && page) && (await cache.keys()).length >= 5;
}"""


async def until_kept(page: Page) -> None:
    """Wait until the ticket's page and what it needs are kept; `wait_for_function` would not await the answer."""
    await page.wait_for_url(re.compile("/ticket$"))
    await until(lambda: page.evaluate(KEPT), bool)


async def let_pass(house: RunningHouse, trip: UUID, *, minutes: int, seconds: int = 0) -> None:
    """Let the holds on a trip grow older, and nothing else: the house is shared."""
    age = timedelta(minutes=minutes, seconds=seconds)
    of_trip = "id IN (SELECT booking_id FROM booking_seat WHERE trip_id = %s)"
    await house.box.rows("UPDATE seat_claim SET expires_at = expires_at - %s WHERE trip_id = %s", age, trip)
    await house.box.rows(
        "UPDATE booking SET hold_until = hold_until - %s, hold_expires_at = hold_expires_at - %s,"
        f" hold_cap_at = hold_cap_at - %s WHERE {of_trip}",
        age,
        age,
        age,
        trip,
    )
