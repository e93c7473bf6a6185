"""Many buyers at once: every seat-leg has one owner, nobody is told an untruth, nothing breaks."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.house import JsonObject, RunningHouse, holder, until

pytestmark = pytest.mark.storm

BUYERS = 200
SEATS = 50


@pytest.fixture
async def two_servers(fresh_url: str, tmp_path: Path) -> AsyncIterator[RunningHouse]:
    running = RunningHouse(fresh_url, tmp_path / "house", servers=2)
    try:
        yield await running.start()
    finally:
        await running.stop()


async def free_seats(house: RunningHouse, trip: UUID) -> list[str]:
    answer = await house.api.get("/api/bookings/reserve", params={"tripId": str(trip)})
    assert answer.status_code == 200, answer.text
    return [seat["number"] for seat in answer.json()["seats"] if seat["status"] == "AVAILABLE"]


async def owners(house: RunningHouse, trip: UUID) -> dict[tuple[str, int], UUID]:
    rows = await house.box.rows(
        "SELECT seat, leg, owner_id FROM seat_claim WHERE trip_id = %s AND expires_at > kiti_now()", trip
    )
    found = {(row["seat"], row["leg"]): row["owner_id"] for row in rows}
    assert len(found) == len(rows)
    return found


async def test_two_hundred_buyers_of_fifty_seats_on_two_servers_get_fifty(two_servers: RunningHouse) -> None:
    house = two_servers
    trip = house.network.bus()
    seen: Counter[int] = Counter()
    bought: list[JsonObject] = []

    async def buyer(number: int) -> None:
        dice = random.Random(number)
        client = house.clients[number % 2]
        while seats := await free_seats(house, trip):
            body = {"tripId": str(trip), "seatNumbers": [dice.choice(seats)]}
            answer = await client.post("/api/bookings/reserve", json=body)
            seen[answer.status_code] += 1
            if answer.status_code == 201:
                bought.append(answer.json())
                return
            assert answer.json()["seatNumbers"] == body["seatNumbers"]

    await asyncio.gather(*(buyer(number) for number in range(BUYERS)))
    assert set(seen) == {201, 409}
    assert seen[201] == SEATS
    assert sorted(booking["seatNumbers"][0] for booking in bought) == sorted(house.network.bus_line.seats)
    held = await owners(house, trip)
    assert len(held) == SEATS * 2
    by_seat = {booking["seatNumbers"][0]: UUID(booking["bookingId"]) for booking in bought}
    assert held == {(seat, leg): booking for seat, booking in by_seat.items() for leg in (0, 1)}
    await pay_for_all(house, bought)
    assert await house.box.value("SELECT count(*) FROM ticket WHERE trip_id = %s", trip) == SEATS
    await house.is_well()


async def pay_for_all(house: RunningHouse, bookings: list[JsonObject]) -> None:
    """Everybody pays at once, on both servers, and gets each webhook twice."""
    await house.sim.webhook_fault(match="charge", duplicate=1)

    async def pay(number: int, booking: JsonObject) -> None:
        answer = await house.clients[number % 2].post(
            "/api/payments/initiate",
            json={"bookingId": booking["bookingId"], "paymentMethod": "CARD"},
            headers=holder(booking),
        )
        assert answer.status_code == 201, answer.text
        await house.sim.pay(answer.json())

    await asyncio.gather(*(pay(number, booking) for number, booking in enumerate(bookings)))
    ids = [booking["bookingId"] for booking in bookings]
    await until(
        lambda: house.box.value("SELECT count(*) FROM booking WHERE id = ANY(%s) AND state = 'confirmed'", ids),
        lambda confirmed: confirmed == len(ids),
        within_seconds=40,
    )
    await house.sim.behave()


async def test_buyers_who_let_the_system_choose_fill_the_bus_to_the_last_seat(house: RunningHouse) -> None:
    trip = house.network.bus()

    async def buyer() -> tuple[int, list[str]]:
        answer = await house.ask_to_reserve(trip, 1)
        return answer.status_code, answer.json().get("seatNumbers", [])

    answers = await asyncio.gather(*(buyer() for _ in range(BUYERS)))
    assert {status for status, _ in answers} == {201, 409}
    given = [seat for status, seats in answers if status == 201 for seat in seats]
    assert sorted(given) == sorted(house.network.bus_line.seats)
    assert len(await owners(house, trip)) == SEATS * 2


@pytest.mark.parametrize("count", [1, 2])
async def test_nobody_is_sent_away_while_seats_are_free_however_many_choose_at_the_same_instant(
    house: RunningHouse, count: int
) -> None:
    """Without HTTP in between, so that all of them have looked before the first has bought."""
    from kiti.app import open_house
    from kiti.core.settings import load
    from kiti.flows.plan import Item, Reservation, SeatsTaken
    from kiti.flows.reserve import reserve

    trip = house.network.bus()
    wanted = Reservation(items=(Item(trip=trip, count=count),))
    async with open_house(load(house.environment)) as opened:
        answers = await asyncio.gather(*(reserve(opened, wanted) for _ in range(BUYERS)), return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(error) for error in errors if not isinstance(error, SeatsTaken)} == set()
    assert len(await owners(house, trip)) == SEATS * 2
    assert BUYERS - len(errors) == SEATS // count


async def test_overlapping_groups_get_all_their_seats_or_none(house: RunningHouse) -> None:
    trip = house.network.bus()
    seats = house.network.bus_line.seats

    async def group(number: int) -> tuple[int, Any]:
        dice = random.Random(number)
        wanted = dice.sample(seats[:20], dice.randint(2, 5))
        answer = await house.ask_to_reserve(trip, wanted)
        if answer.status_code == 409:
            taken = answer.json()["seatNumbers"]
            assert taken, answer.text
            assert set(taken) <= set(wanted)
        return answer.status_code, answer.json()

    answers = await asyncio.gather(*(group(number) for number in range(120)))
    assert {status for status, _ in answers} == {201, 409}
    won = [body for status, body in answers if status == 201]
    expected = {(seat, leg): UUID(body["bookingId"]) for body in won for seat in body["seatNumbers"] for leg in (0, 1)}
    assert len(expected) == sum(len(body["seatNumbers"]) * 2 for body in won)
    assert await owners(house, trip) == expected


async def test_buyers_of_crossing_segments_share_a_seat_only_where_they_do_not_meet(house: RunningHouse) -> None:
    trip = house.network.bus()
    seats = house.network.bus_line.seats[:6]
    segments = {("KLA", "MBR"): (0,), ("MBR", "KGL"): (1,), ("KLA", "KGL"): (0, 1)}

    async def buyer(number: int) -> tuple[int, JsonObject, tuple[int, ...]]:
        dice = random.Random(number)
        (start, end), legs = dice.choice(list(segments.items()))
        answer = await house.ask_to_reserve(trip, [dice.choice(seats)], **{"from": start, "to": end})
        return answer.status_code, answer.json(), legs

    answers = await asyncio.gather(*(buyer(number) for number in range(100)))
    assert {status for status, _, _ in answers} == {201, 409}
    pairs = [
        ((body["seatNumbers"][0], leg), UUID(body["bookingId"]))
        for status, body, legs in answers
        if status == 201
        for leg in legs
    ]
    assert len(dict(pairs)) == len(pairs), "a seat-leg was sold twice"
    assert await owners(house, trip) == dict(pairs)


async def test_holding_releasing_and_extending_at_once_leaves_every_seat_with_its_owner(house: RunningHouse) -> None:
    trip = house.network.shuttle()
    seats = house.network.shuttle_line.seats[:4]
    seen: Counter[int] = Counter()

    async def restless(number: int) -> None:
        dice = random.Random(number)
        for _ in range(6):
            answer = await house.ask_to_reserve(trip, [dice.choice(seats)], holdDurationMinutes=1)
            seen[answer.status_code] += 1
            if answer.status_code != 201:
                continue
            booking = answer.json()
            path = f"/api/bookings/{booking['bookingId']}"
            both = await asyncio.gather(
                house.api.post(f"{path}/extend", json={"holdDurationMinutes": 5}, headers=holder(booking)),
                house.api.delete(f"{path}/hold", headers=holder(booking)),
            )
            assert both[0].status_code in {200, 409}, both[0].text
            assert both[1].status_code == 200, both[1].text

    await asyncio.gather(*(restless(number) for number in range(30)))
    assert set(seen) <= {201, 409}
    assert seen[201] > 4
    assert await owners(house, trip) == {}
