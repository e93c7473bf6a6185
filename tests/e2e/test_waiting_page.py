"""On-sale rush in a browser: whose turn it is not waits, on a page that moves on by itself."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.e2e.test_pages import AXE, KB, LOOKS, SMALL_TARGETS, violations_of
from tests.e2e.traveller import Traveller
from tests.house import RunningHouse, until

from kiti.waiting.model import Place

pytestmark = pytest.mark.browser

SEGMENT = "?from=KLA&to=KGL"


async def open_line(house: RunningHouse, *trips: UUID, rate: float = 1.0, number: int = 1, seconds: float = 0) -> UUID:
    """A line that the server minds, whose next place is `number`, admitted in so many seconds."""
    room = uuid4()
    await house.box.rows(
        "INSERT INTO waiting_room (id, name, rate_per_second, burst, window_seconds, next_number, next_admission,"
        " opens_at, created_at) VALUES (%s, 'Test', %s, 1, 600, 1, kiti_now(), kiti_now(), kiti_now())",
        room,
        rate,
    )
    for trip in trips:
        await house.box.rows("INSERT INTO waiting_room_trip VALUES (%s, %s)", trip, room)
    await until(lambda: is_minded(house, trips[0]), bool)
    await house.box.rows("UPDATE waiting_room SET next_number = %s WHERE id = %s", number, room)
    await be_in(house, room, seconds=seconds)
    house.api.cookies.clear()
    return room


async def is_minded(house: RunningHouse, trip: UUID) -> bool:
    return (await house.api.post(f"/api/trips/{trip}/place")).status_code == 201


async def be_in(house: RunningHouse, room: UUID, *, seconds: float) -> None:
    await house.box.rows(
        "UPDATE waiting_room SET next_admission = kiti_now() + %s WHERE id = %s", timedelta(seconds=seconds), room
    )


async def close_line(house: RunningHouse, room: UUID) -> None:
    await house.box.rows("UPDATE waiting_room SET closed_at = kiti_now() WHERE id = %s", room)
    await house.box.rows("DELETE FROM waiting_room_trip WHERE room_id = %s", room)


async def place_cookie(person: Traveller) -> Any:
    cookies = await person.page.context.cookies()
    return next((cookie for cookie in cookies if cookie["name"] == "kiti_place"), None)


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_the_page_moves_on_by_itself_to_the_seats_and_they_are_held(
    arrive: Arrive, house: RunningHouse, *, javascript: bool
) -> None:
    trip = house.network.bus()
    amina = await arrive(javascript=javascript)
    await open_line(house, trip, number=4211, seconds=7)
    await amina.open_map(trip, more="&passengers=2")
    assert amina.path == f"/trips/{trip}/wait"
    await amina.sees("You are in line")
    await expect(amina.page.locator(".amount")).to_have_text("4,211")
    await expect(amina.page.locator("#place")).to_contain_text(re.compile("[1-6] (people are|person is) ahead of you."))
    await amina.sees("It takes less than a minute.")
    await amina.sees("This page moves on by itself.")
    before = await place_cookie(amina)
    assert before["httpOnly"]

    await amina.page.wait_for_url(f"**/trips/{trip}/seats?from=KLA&to=KGL&passengers=2")
    assert await place_cookie(amina) == before
    await amina.choose("3A")
    await amina.go_on()
    await amina.page.wait_for_url("**/passengers")
    used = await house.box.rows("SELECT number, uses FROM waiting_place_use")
    assert {"number": 4211, "uses": 1} in used
    await house.box.rows("DELETE FROM waiting_place_use")


async def test_below_the_rate_nobody_sees_the_page_and_seats_can_be_exchanged(
    arrive: Arrive, house: RunningHouse
) -> None:
    trip = house.network.bus()
    room = await open_line(house, trip, rate=50)
    amina = await arrive(javascript=False)
    await amina.open_map(trip)
    assert amina.path == f"/trips/{trip}/seats"
    await amina.choose("6A")
    await amina.go_on()
    await amina.introduce("Amina Nakato")
    # Now there is a long line, but who holds seats has been let in.
    await be_in(house, room, seconds=900)
    await amina.open_map(trip)
    await amina.sees("You hold 6A.")
    await amina.choose("6A", "7D")
    await amina.go_on()
    await amina.page.wait_for_url("**/passengers")
    claims = await house.box.rows("SELECT DISTINCT seat FROM seat_claim WHERE trip_id = %s", trip)
    assert [row["seat"] for row in claims] == ["7D"]
    # After so many attempts the place is used up, and what is held stays.
    await house.box.rows("UPDATE waiting_place_use SET uses = 10 WHERE room_id = %s", room)
    await amina.open_map(trip)
    await amina.choose("7D", "8D")
    await amina.go_on()
    await amina.sees("what you hold stays yours")
    assert await amina.chosen() == ["7D"]
    claims = await house.box.rows("SELECT DISTINCT seat FROM seat_claim WHERE trip_id = %s", trip)
    assert [row["seat"] for row in claims] == ["7D"]


async def test_a_form_that_is_sent_without_a_turn_leads_to_the_line_and_takes_nothing(
    arrive: Arrive, house: RunningHouse
) -> None:
    trip = house.network.bus()
    amina = await arrive(javascript=False)
    await amina.open_map(trip)
    await amina.choose("1A", "1B")
    room = await open_line(house, trip, number=9, seconds=600)
    await amina.go_on()
    assert amina.path == f"/trips/{trip}/wait"
    await expect(amina.page.locator(".amount")).to_have_text("9")
    await amina.page.reload()
    await amina.page.goto(f"/trips/{trip}/seats{SEGMENT}")
    await expect(amina.page.locator(".amount")).to_have_text("9")
    assert await house.box.value("SELECT count(*) FROM seat_claim WHERE trip_id = %s", trip) == 0
    await amina.page.go_back()
    await close_line(house, room)
    await until(lambda: is_minded(house, trip), lambda minded: not minded)
    await amina.page.click("text=Look now")
    await amina.page.wait_for_url(f"**/trips/{trip}/seats?**")
    assert await amina.chosen() == ["1A", "1B"]


async def test_a_turn_that_has_passed_gives_a_new_place_and_says_so(arrive: Arrive, house: RunningHouse) -> None:
    trip = house.network.bus()
    room = await open_line(house, trip, number=20, seconds=600)
    past = datetime.now(UTC) - timedelta(minutes=5)
    lapsed = Place(room=room, number=7, admits_at=past, expires_at=past + timedelta(minutes=1))
    token = lapsed.token(secret=house.environment["JWT_SECRET"])
    amina = await arrive(javascript=False)
    await amina.page.context.add_cookies([{"name": "kiti_place", "value": token, "url": house.base_url}])
    await amina.page.goto(f"/trips/{trip}/wait{SEGMENT}")
    await amina.sees("Your turn has passed. This is a new place.")
    await expect(amina.page.locator(".amount")).to_have_text("20")
    await amina.page.reload()
    await expect(amina.page.locator(".amount")).to_have_text("20")
    await expect(amina.page.get_by_text("Your turn has passed")).to_have_count(0)


async def test_a_browser_that_keeps_no_cookies_is_told_so_and_takes_no_more_places(house: RunningHouse) -> None:
    trip = house.network.bus()
    room = await open_line(house, trip, number=5, seconds=600)
    for _ in range(3):
        house.api.cookies.clear()
        answer = await house.api.get(f"/trips/{trip}/wait{SEGMENT}&look=1")
        assert answer.status_code == 200
        assert "Your browser keeps no cookies" in answer.text
        assert "http-equiv" not in answer.text
    assert await house.box.value("SELECT next_number FROM waiting_room WHERE id = %s", room) == 5


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("en", ["You are in line", "12,345", "It takes about 15 min"]),
        ("fr", ["Vous êtes dans la file", "12\u202f345", "Il faut environ 15 min"]),
        ("sw", ["Uko kwenye foleni", "12,345", "Itachukua kama dak 15"]),
    ],
)
async def test_the_page_is_small_hardened_accessible_and_speaks_three_languages(
    arrive: Arrive, house: RunningHouse, language: str, texts: list[str]
) -> None:
    trip = house.network.bus()
    await open_line(house, trip, number=12_345, rate=2, seconds=15 * 60 - 5)
    amina = await arrive(reduced_motion="reduce", locale=language)
    await amina.open_map(trip)
    for text in texts:
        await amina.sees(text)
    await amina.page.evaluate(AXE)
    for size, scheme in LOOKS:
        await amina.page.set_viewport_size(size)
        await amina.page.emulate_media(color_scheme=scheme)
        assert await violations_of(amina.page) == []
        assert await amina.page.evaluate(SMALL_TARGETS) == []
    for headers, most in (({}, 14 * KB), ({"hx-request": "true"}, 2 * KB)):
        answer = await house.api.get(f"/trips/{trip}/wait{SEGMENT}", headers={"accept-encoding": "gzip", **headers})
        assert answer.status_code == 200
        assert len(answer.content) <= 40 * KB
        assert int(answer.headers["content-length"]) <= most
        assert answer.headers["cache-control"] == "no-store"
        assert "script-src 'self';" in answer.headers["content-security-policy"]
        assert not re.search(r"<(script|style)>|\son\w+=| style=", answer.text)
    house.api.cookies.clear()


async def test_the_line_of_a_trip_that_is_not_there_is_no_page(house: RunningHouse) -> None:
    assert (await house.api.get(f"/trips/{uuid4()}/wait")).status_code == 404
    # And without a line one goes straight on.
    trip = house.network.bus()
    onward = await house.api.get(f"/trips/{trip}/wait{SEGMENT}")
    assert (onward.status_code, onward.headers["location"]) == (303, f"/trips/{trip}/seats{SEGMENT}")
    piece = await house.api.get(f"/trips/{trip}/wait{SEGMENT}", headers={"hx-request": "true"})
    assert (piece.status_code, piece.headers["hx-redirect"]) == (200, f"/trips/{trip}/seats{SEGMENT}")
