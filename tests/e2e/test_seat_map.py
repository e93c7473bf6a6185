"""The seat map by keyboard, by screen reader, by list, and while others buy."""

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.house import RunningHouse

pytestmark = pytest.mark.browser
FOCUSED = "document.activeElement.value"


async def test_seats_are_chosen_by_keyboard_alone(arrive: Arrive, house: RunningHouse) -> None:
    trip = house.network.bus()
    await house.reserve(trip, ["2A"])
    amina = await arrive(desktop=True)
    page = amina.page
    await amina.open_map(trip)
    await expect(page.locator("table[role=grid]")).to_have_count(1)
    for _ in range(30):
        await page.keyboard.press("Tab")
        if await page.evaluate(FOCUSED) == "1A":
            break
    presses = [("ArrowRight", "1B"), ("ArrowRight", "1C"), ("End", "1D"), ("Home", "1A"), ("ArrowDown", "2B")]
    for key, seat in [*presses, ("ArrowLeft", "2B"), ("ArrowDown", "3B"), ("Control+End", "12E")]:
        await page.keyboard.press(key)
        assert await page.evaluate(FOCUSED) == seat, key
    await page.keyboard.press("Space")
    await expect(page.locator("#said")).to_have_text("1 seat, 12E, UGX\u00a060,000")
    await page.keyboard.press("ArrowLeft")
    await page.keyboard.press("Enter")
    assert await amina.chosen() == ["12D", "12E"]
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/passengers")


async def test_a_screen_reader_hears_what_a_seat_is(arrive: Arrive, house: RunningHouse) -> None:
    trip = house.network.double()
    amina = await arrive(javascript=False)
    await amina.open_map(trip)
    await expect(
        amina.page.get_by_role("checkbox", name="1A, window, step-free, VIP, free, UGX\u00a090,000")
    ).to_be_attached()
    await expect(amina.page.get_by_role("checkbox", name="3A, window, free, UGX\u00a060,000")).to_be_attached()
    await expect(amina.page.get_by_role("table")).to_have_count(2)
    await expect(amina.page.get_by_role("rowheader", name="1", exact=True)).to_be_attached()


async def test_a_seat_lost_while_looking_is_said_at_once(arrive: Arrive, house: RunningHouse) -> None:
    trip = house.network.bus()
    amina = await arrive()
    await amina.open_map(trip)
    await amina.choose("3A", "3B")
    await house.reserve(trip, ["3B"])
    await amina.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(amina.page.get_by_role("alert")).to_contain_text("3B has just been taken by somebody else.")
    assert await amina.chosen() == ["3A"]
    await expect(amina.page.locator("input[value='3B']")).to_be_disabled()


async def test_looking_again_costs_nothing_while_nothing_changes(house: RunningHouse) -> None:
    path = f"/trips/{house.network.bus()}/seats/taken?from=KLA&to=KGL"
    first = await house.api.get(path)
    assert first.status_code == 200
    again = await house.api.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_the_best_seats_are_chosen_for_a_party(arrive: Arrive, house: RunningHouse, *, javascript: bool) -> None:
    amina = await arrive(javascript=javascript)
    await amina.open_map(house.network.double())
    await amina.page.select_option("#pick", "2")
    await amina.page.click("text=Best seats for me")
    await expect(amina.page.locator("input:checked")).to_have_count(2)
    await amina.sees("UGX\u00a0120,000")
    await amina.go_on()
    await expect(amina.page.locator(".seat-name")).to_have_count(2)


async def test_seats_are_chosen_from_a_list(arrive: Arrive, house: RunningHouse) -> None:
    amina = await arrive(javascript=False)
    await amina.open_map(house.network.bus())
    await amina.page.click("text=Choose from a list")
    await amina.page.get_by_label("7C aisle").check()
    await amina.go_on()
    await expect(amina.page.get_by_label("Name on seat 7C")).to_be_visible()


async def test_no_seat_is_said_beside_the_seats(arrive: Arrive, house: RunningHouse) -> None:
    amina = await arrive(javascript=False)
    await amina.open_map(house.network.bus())
    await amina.go_on()
    await expect(amina.page.get_by_role("alert")).to_contain_text("Choose at least one seat.")
