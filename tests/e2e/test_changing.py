"""Changing seats in a browser: a list for each traveller."""

import re
from typing import Any

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.e2e.test_pages import AXE, RULES, RUN_AXE, SMALL_TARGETS
from tests.e2e.traveller import Traveller
from tests.house import RunningHouse

pytestmark = pytest.mark.browser


async def sits(amina: Traveller) -> list[str]:
    """The travellers on the booking's page: seat and name."""
    return [" ".join(text.split()) for text in await amina.page.locator(".names li").all_inner_texts()]


async def held(amina: Traveller, house: RunningHouse, *seats: str, trip: Any = None) -> str:
    """Hold seats for Amina and others, and open the booking; its path."""
    await amina.open_map(trip or house.network.bus())
    await amina.choose(*seats)
    await amina.go_on()
    await amina.introduce(*("Amina", "Okello", "Chandra")[: len(seats)])
    path = amina.path.removesuffix("/pay")
    await amina.page.goto(path)
    return path


@pytest.mark.parametrize("javascript", [True, False], ids=["with script", "without"])
async def test_a_traveller_takes_a_free_seat_or_a_fellows(
    arrive: Arrive,
    house: RunningHouse,
    javascript: bool,  # noqa: FBT001 - pytest's way
) -> None:
    amina = await arrive(javascript=javascript)
    path = await held(amina, house, "3A", "3B")
    await amina.page.get_by_role("link", name="Change seats").click()
    await amina.page.get_by_label("Seat of Amina").select_option("3B")
    await amina.page.get_by_role("button", name="Change seats").click()
    await amina.sees("Two travellers cannot have the same seat.")
    await expect(amina.page.get_by_label("Seat of Amina")).to_have_value("3B")
    await amina.page.get_by_label("Seat of Okello").select_option("9C")
    await amina.page.get_by_role("button", name="Change seats").click()
    await amina.page.wait_for_url(re.compile(f"{path}$"))
    assert await sits(amina) == ["3B Amina", "9C Okello"]


async def test_a_seat_that_is_taken_meanwhile_is_said_beside_its_traveller(arrive: Arrive, house: RunningHouse) -> None:
    amina = await arrive()
    trip = house.network.bus()
    path = await held(amina, house, "3A", "3B", trip=trip)
    await amina.page.goto(f"{path}/seats")
    await house.reserve(trip, ["7A"])
    await amina.page.get_by_label("Seat of Amina").select_option("7A")
    await amina.page.get_by_role("button", name="Change seats").click()
    await amina.sees("7A has just been taken. Choose another one.")
    await amina.page.get_by_role("link", name="Keep these seats").click()
    assert await sits(amina) == ["3A Amina", "3B Okello"]


async def test_a_booking_that_is_over_has_no_seats_to_change(arrive: Arrive, house: RunningHouse) -> None:
    amina = await arrive()
    path = await held(amina, house, "3A")
    await amina.page.get_by_role("button", name="Give my seats back").click()
    await amina.page.goto(f"{path}/seats")
    assert amina.path == path
    await expect(amina.page.get_by_role("link", name="Change seats")).to_have_count(0)


async def test_the_page_is_open_to_everybody(arrive: Arrive, house: RunningHouse) -> None:
    amina = await arrive(reduced_motion="reduce")
    path = await held(amina, house, "3A", "3B", trip=house.network.double())
    for address in (path, f"{path}/seats"):
        for scheme in ("dark", "light"):
            await amina.page.emulate_media(color_scheme=scheme)
            await amina.page.goto(address)
            await amina.page.evaluate(AXE)
            assert await amina.page.evaluate(RUN_AXE, RULES) == []
            assert await amina.page.evaluate(SMALL_TARGETS) == []
