"""On-sale rush: a line that nobody jumps, on one server and on two; and nothing of it where no room is open."""

import asyncio
import base64
import itertools
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.house import JsonObject, RunningHouse, until
from tests.office import Office, open_office

from kiti.audit import reads as audit_reads
from kiti.bookings import reads as booking_reads
from kiti.core.errors import InvalidInput, NotFound
from kiti.flows import holds
from kiti.flows.commit import Reserved
from kiti.flows.plan import Item, Reservation, SeatsTaken
from kiti.flows.waiting import (
    FREE,
    NotAdmitted,
    NoWaitingRoom,
    PlaceForged,
    PlaceNeeded,
    PlaceNotYet,
    PlaceSpent,
    Standing,
    admit,
    close_room,
    find_place,
    note_booking,
    open_room,
    open_rooms,
    reserve_admitted,
    take_place,
)
from kiti.waiting.actions import RoomNotOpen, TripHasRoom
from kiti.waiting.model import PLACE_ATTEMPTS, Place

PEOPLE = 200


@pytest.fixture
async def office(fresh_url: str) -> AsyncIterator[Office]:
    async with open_office(fresh_url) as there:
        yield there


@pytest.fixture
async def two_servers(fresh_url: str, tmp_path: Path) -> AsyncIterator[RunningHouse]:
    running = RunningHouse(fresh_url, tmp_path / "house", servers=2)
    try:
        yield await running.start()
    finally:
        await running.stop()


async def open_line(office: Office, *trips: UUID, rate: float = 1.0, burst: int = 1, **more: Any) -> UUID:
    """A room that this process minds already."""
    room = await open_room(
        office.house, name="Test", trips=trips, rate_per_second=rate, burst=burst, actor="test", **more
    )
    await until(lambda: office.house.rooms.before(trips), bool)
    return room


async def take(office: Office, trip: UUID) -> Standing:
    return await take_place(office.house, trip=trip)


async def reserve(office: Office, trip: UUID, seat: str, place: str | None) -> Reserved:
    reservation = Reservation(items=(Item(trip=trip, seats=(seat,)),))
    return await reserve_admitted(office.house, reservation, place=place)


async def travel(office: Office, *, seconds: float) -> None:
    """Let time pass, and this process look at the clock again."""
    before = office.house.rooms.now()
    await office.box.travel(seconds=seconds)

    async def look() -> datetime:
        await office.house.rooms.before([])
        return office.house.rooms.now()

    await until(look, lambda now: now >= before + timedelta(seconds=seconds))


def questions(office: Office) -> int:
    """How often this process has asked for a connection to the database so far."""
    pools = (office.house.db.pool, office.house.db._pipelines)
    return sum(pool.get_stats().get("requests_num", 0) for pool in pools)


# ------------------------------------------------------------------ a place


async def test_below_the_rate_a_place_is_admitted_at_once_and_above_it_in_its_turn(office: Office) -> None:
    trip = office.network.bus()
    await open_line(office, trip, rate=0.5, burst=2)
    await travel(office, seconds=10)
    first, second, third, fourth = [await take(office, trip) for _ in range(4)]
    assert [each.place.number for each in (first, second, third, fourth)] == [1, 2, 3, 4]
    assert [each.status for each in (first, second, third, fourth)] == ["ADMITTED", "ADMITTED", "WAITING", "WAITING"]
    assert [each.ahead for each in (first, second, third, fourth)] == [0, 0, 0, 1]
    assert third.place.admits_at - first.place.admits_at <= timedelta(seconds=2)
    assert fourth.place.admits_at - third.place.admits_at == timedelta(seconds=2)
    assert 3 < fourth.wait_seconds < 4
    await travel(office, seconds=2)
    assert (await find_place(office.house, token=third.token)).status == "ADMITTED"
    assert (await find_place(office.house, token=fourth.token)).status == "WAITING"
    await travel(office, seconds=601)
    assert (await find_place(office.house, token=third.token)).status == "EXPIRED"


async def test_people_of_one_process_who_come_together_share_one_update(office: Office) -> None:
    trip = office.network.bus()
    await open_line(office, trip, rate=1000.0)
    before = questions(office)
    standings = await asyncio.gather(*(take(office, trip) for _ in range(300)))
    assert [each.place.number for each in standings] == list(range(1, 301))
    # The first goes alone because nobody was before it; the others have come meanwhile.
    assert questions(office) - before < 10
    assert await office.box.value("SELECT next_number FROM waiting_room") == 301


async def test_a_place_that_is_admitted_reserves_once(office: Office) -> None:
    trip = office.network.bus()
    room = await open_line(office, trip)
    place = await take(office, trip)
    reserved = await reserve(office, trip, "1A", place.token)
    row = await office.box.rows("SELECT room_id, number, uses, booking_id FROM waiting_place_use")
    assert row == [{"room_id": room, "number": 1, "uses": 1, "booking_id": reserved.booking}]
    with pytest.raises(PlaceSpent, match="Something was booked with number 1 already"):
        await reserve(office, trip, "1B", place.token)
    assert set(await office.owners(trip)) == {"1A"}


async def test_losing_seats_to_others_does_not_cost_the_place_but_ten_attempts_do(office: Office) -> None:
    trip = office.network.bus()
    await office.hold(trip, "1A")
    await open_line(office, trip)
    place = await take(office, trip)
    for _ in range(PLACE_ATTEMPTS):
        with pytest.raises(SeatsTaken):
            await reserve(office, trip, "1A", place.token)
    with pytest.raises(PlaceSpent, match="has been tried 10 times"):
        await reserve(office, trip, "1B", place.token)


async def test_who_gives_a_booking_back_may_book_again_with_the_same_place(office: Office) -> None:
    trip = office.network.bus()
    await open_line(office, trip)
    place = await take(office, trip)
    first = await reserve(office, trip, "1A", place.token)
    await holds.release(office.house, booking=first.booking, actor="guest")
    second = await reserve(office, trip, "1B", place.token)
    with pytest.raises(PlaceSpent):
        await reserve(office, trip, "1C", place.token)
    # Or says which one is to be given back, and so loses nothing where that is refused.
    admission = await admit(office.house, trips=[trip], place=place.token, giving_up=second.booking)
    await holds.release(office.house, booking=second.booking, actor="guest")
    third = await office.hold(trip, "1C")
    await note_booking(office.house, admission=admission, booking=third.booking)
    with pytest.raises(PlaceSpent):
        await reserve(office, trip, "1D", place.token)
    assert set(await office.owners(trip)) == {"1C"}


async def test_of_two_bookings_at_once_with_a_shared_place_one_is_given_back(office: Office) -> None:
    trip = office.network.bus()
    await open_line(office, trip)
    place = await take(office, trip)
    seats = [f"{row}{letter}" for row in range(1, 5) for letter in "AB"]
    outcomes = await asyncio.gather(
        *(reserve(office, trip, seat, place.token) for seat in seats), return_exceptions=True
    )
    made = [outcome for outcome in outcomes if isinstance(outcome, Reserved)]
    assert len(made) == 1
    assert all(isinstance(outcome, Reserved | PlaceSpent) for outcome in outcomes), outcomes
    assert len(await office.owners(trip)) == 1
    async with office.box.db.reader() as reader:
        assert (await booking_reads.by_id(reader, booking=made[0].booking)).is_holding


# ------------------------------------------------------------------ what does not let in


async def test_without_a_place_too_early_or_too_late_nobody_reserves(office: Office) -> None:
    trip = office.network.bus()
    await open_line(office, trip, rate=0.1, window_minutes=1)
    early, late = await take(office, trip), await take(office, trip)
    await office.refuses(reserve(office, trip, "1A", None), PlaceNeeded)
    await office.refuses(reserve(office, trip, "1A", ""), PlaceNeeded)
    not_yet = await office.refuses(reserve(office, trip, "1A", late.token), PlaceNotYet)
    assert isinstance(not_yet, NotAdmitted)
    assert 8 <= not_yet.retry_after_seconds <= 10
    await travel(office, seconds=61)
    await office.refuses(reserve(office, trip, "1A", early.token), PlaceSpent)
    await reserve(office, trip, "1A", late.token)


async def test_forged_altered_and_foreign_places_let_nobody_in(office: Office) -> None:
    trip, other = office.network.bus(), office.network.bus()
    room = await open_line(office, trip, rate=0.1)
    await open_line(office, other)
    await take(office, trip)
    waiting, foreign = await take(office, trip), await take(office, other)
    now = office.house.rooms.now()
    long_ago = Place(
        room=room, number=1, admits_at=now - timedelta(minutes=1), expires_at=now + timedelta(minutes=1)
    ).token(secret="not-the-secret-of-this-house")
    altered = bytearray(base64.urlsafe_b64decode(waiting.token))
    altered[24:32] = bytes(8)  # admitted since 1970
    for forged in ("x", "A" * 96, long_ago, base64.urlsafe_b64encode(altered).decode(), waiting.token[:-1]):
        await office.refuses(reserve(office, trip, "1A", forged), PlaceForged)
        with pytest.raises(PlaceForged):
            await find_place(office.house, token=forged)
    await office.refuses(reserve(office, trip, "1A", foreign.token), PlaceNeeded)
    await reserve(office, other, "1A", foreign.token)


async def test_a_booking_over_two_rooms_needs_a_place_of_each(office: Office) -> None:
    trips = office.network.bus(), office.network.bus(), office.network.bus()
    for trip in trips[:2]:
        await open_line(office, trip)
    places = [(await take(office, trip)).token for trip in trips[:2]]
    reservation = Reservation(items=tuple(Item(trip=trip, seats=("1A",)) for trip in trips))
    await office.refuses(reserve_admitted(office.house, reservation, place=places[0]), PlaceNeeded)
    await reserve_admitted(office.house, reservation, place=".".join(reversed(places)))


# ------------------------------------------------------------------ rooms


async def test_where_no_room_is_open_places_cost_no_query(office: Office) -> None:
    trip = office.network.bus()
    assert await admit(office.house, trips=[trip], place=None) == FREE
    before = questions(office)
    for _ in range(500):
        assert await admit(office.house, trips=[trip], place="whatever it is") == FREE
    assert questions(office) - before <= 1  # the look of each second
    with pytest.raises(NoWaitingRoom):
        await take(office, trip)
    other = office.network.bus()
    await open_line(office, other)
    assert await admit(office.house, trips=[trip], place=None) == FREE


async def test_checking_a_place_costs_no_query(office: Office) -> None:
    trip = office.network.bus()
    await open_line(office, trip, rate=0.01)
    await take(office, trip)
    late = await take(office, trip)
    before = questions(office)
    for _ in range(500):
        with pytest.raises(PlaceNotYet):
            await admit(office.house, trips=[trip], place=late.token)
    assert questions(office) - before <= 2


async def test_before_a_sale_opens_people_stand_in_line_and_nobody_is_admitted(office: Office) -> None:
    trip = office.network.bus()
    opens = datetime.now(UTC) + timedelta(minutes=30)
    await open_line(office, trip, rate=2.0, burst=50, opens_at=opens)
    first, second, third = [await take(office, trip) for _ in range(3)]
    assert [each.ahead for each in (first, second, third)] == [0, 1, 2]
    assert [each.place.admits_at - opens for each in (first, second, third)] == [
        timedelta(seconds=0),
        timedelta(seconds=0.5),
        timedelta(seconds=1),
    ]
    await office.refuses(reserve(office, trip, "1A", first.token), PlaceNotYet)
    await travel(office, seconds=1801)
    await reserve(office, trip, "1A", first.token)


async def test_a_trip_has_one_room_and_a_closed_one_lets_everybody_in(office: Office) -> None:
    trip, other = office.network.bus(), office.network.bus()
    room = await open_line(office, trip, other)
    place = await take(office, other)
    with pytest.raises(TripHasRoom, match=str(trip)):
        await open_room(office.house, name="Again", trips=[trip], rate_per_second=1, actor="test")
    (view,) = await open_rooms(office.house)
    assert (view.room.id, set(view.room.trips), view.given, view.waiting) == (room, {trip, other}, 1, 0)
    await close_room(office.house, room=room, actor="test")
    with pytest.raises(RoomNotOpen):
        await close_room(office.house, room=room, actor="test")
    await until(lambda: office.house.rooms.before([trip]), lambda rooms: not rooms)
    with pytest.raises(NoWaitingRoom):
        await find_place(office.house, token=place.token)
    await reserve(office, trip, "1A", place.token)
    async with office.box.db.reader() as reader:
        events = await audit_reads.of_subject(reader, subject=room)
    assert [(event.actor, event.action) for event in events] == [("test", "room.opened"), ("test", "room.closed")]
    assert set(events[0].detail["trips"]) == {str(trip), str(other)}
    # Another room for the same trip: the places of the old one are worth nothing there.
    await open_line(office, trip)
    await office.refuses(reserve(office, trip, "1B", place.token), PlaceNeeded)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"rate_per_second": 0}, "rate"),
        ({"rate_per_second": -1}, "rate"),
        ({"rate_per_second": float("nan")}, "rate"),
        ({"rate_per_second": float("inf")}, "rate"),
        ({"burst": 0}, "burst"),
        ({"window_minutes": 0}, "window"),
        ({"name": "  "}, "name"),
        ({"trips": []}, "trip"),
    ],
)
async def test_a_room_that_makes_no_sense_is_not_opened(office: Office, wrong: JsonObject, field: str) -> None:
    trip = office.network.bus()
    sensible: dict[str, Any] = {"name": "Test", "trips": [trip], "rate_per_second": 1.0, "actor": "test"}
    with pytest.raises(InvalidInput) as refusal:
        await open_room(office.house, **{**sensible, **wrong})
    assert refusal.value.field == field
    with pytest.raises(NotFound):
        await open_room(office.house, **{**sensible, "trips": [uuid4()]})
    assert await open_rooms(office.house) == []


# ------------------------------------------------------------------ servers


async def open_by_command(house: RunningHouse, *trips: UUID, rate: float, burst: int) -> str:
    """As a person opens it; every server minds it."""
    named = [part for trip in trips for part in ("--trip", str(trip))]
    code, said = await house.kiti("rooms", "open", *named, "--rate", str(rate), "--burst", str(burst), "--name", "Eid")
    assert code == 0, said
    found = re.search(r"room ([0-9a-f-]{36}) is open", said)
    assert found is not None, said
    await asyncio.sleep(2.0)  # what the command promises
    return found[1]


async def ask_place(house: RunningHouse, number: int, trip: UUID) -> JsonObject:
    answer = await house.clients[number % len(house.clients)].post(f"/api/trips/{trip}/place")
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: JsonObject = answer.json()
    return found


async def test_two_hundred_people_on_two_servers_stand_in_one_line(two_servers: RunningHouse) -> None:
    house, rate, burst = two_servers, 40.0, 5
    trip, other = house.network.bus(), house.network.bus()
    room = await open_by_command(house, trip, other, rate=rate, burst=burst)
    early: list[tuple[datetime, JsonObject]] = []

    async def person(number: int) -> JsonObject:
        place = await ask_place(house, number, trip if number % 3 else other)
        client = house.clients[(number + 1) % 2]  # the server that has not given it
        while True:
            answer = await client.get(f"/api/places/{place['place']}")
            assert answer.status_code == 200, answer.text
            now = datetime.now(UTC)
            standing: JsonObject = answer.json()
            assert {**standing, "ahead": 0, "waitSeconds": 0, "status": ""} == {
                **place, "ahead": 0, "waitSeconds": 0, "status": "",
            }  # fmt: skip
            if standing["status"] == "ADMITTED":
                if now < datetime.fromisoformat(standing["admittedAt"]):
                    early.append((now, standing))
                return place
            assert standing["ahead"] < standing["number"]
            await asyncio.sleep(min(0.5, standing["waitSeconds"] + 0.005))

    places = await asyncio.gather(*(person(number) for number in range(PEOPLE)))
    assert early == []
    in_line = sorted(places, key=lambda place: int(place["number"]))
    assert [place["number"] for place in in_line] == list(range(1, PEOPLE + 1))
    times = [datetime.fromisoformat(place["admittedAt"]) for place in in_line]
    # Who is admitted at once is so from the moment of asking, and of two who ask on two servers, the one who asked
    # later may get the lock, and so the number, first: by as much as the machine is busy.
    waited = [datetime.fromisoformat(place["admittedAt"]) for place in in_line if place["status"] == "WAITING"]
    assert waited == sorted(waited)
    assert all(later > earlier - timedelta(seconds=2) for earlier, later in itertools.pairwise(times))
    for first, since in enumerate(times):
        for last in range(first, PEOPLE):
            within_seconds = (times[last] - since).total_seconds() + 1e-4
            assert last - first + 1 <= rate * within_seconds + burst
    assert (times[-1] - times[0]).total_seconds() >= (PEOPLE - burst) / rate - 1

    code, said = await house.kiti("rooms", "list")
    assert code == 0
    assert room in said
    assert "200" in said
    code, said = await house.kiti("rooms", "close", room)
    assert (code, said.strip()) == (0, "Closed. Nobody has to wait any more.")
    assert (await house.kiti("rooms", "list"))[1].strip() == "No waiting room is open."
    code, said = await house.kiti("rooms", "close", room)
    assert (code, said.count("\n")) == (1, 1)


async def test_a_reservation_without_its_turn_hears_when_to_come_again(two_servers: RunningHouse) -> None:
    house = two_servers
    trip, free = house.network.bus(), house.network.bus()
    await house.reserve(trip, ["12A"])
    missing = await house.api.post(f"/api/trips/{trip}/place")
    assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")
    await open_by_command(house, trip, rate=0.25, burst=1)
    body = {"tripId": str(trip), "seatNumbers": ["1A"]}
    for client in house.clients:
        refused = await client.post("/api/bookings/reserve", json=body)
        assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
        assert int(refused.headers["retry-after"]) >= 1

    first, second = await ask_place(house, 0, trip), await ask_place(house, 1, trip)
    assert [first["status"], second["status"]] == ["ADMITTED", "WAITING"]
    forged = second["place"][:-1] + ("A" if second["place"][-1] != "A" else "B")
    answers = [
        await client.post("/api/bookings/reserve", json=body, headers={"Kiti-Place": place})
        for client in house.clients
        for place in (forged, second["place"])
    ]
    assert [answer.status_code for answer in answers] == [403, 429, 403, 429]
    assert 1 <= int(answers[1].headers["retry-after"]) <= 4
    assert await house.box.value("SELECT count(*) FROM seat_claim WHERE trip_id = %s AND seat = '1A'", trip) == 0

    # A retry hears the answer of the first one: it is no second use of the place.
    headers = {"Kiti-Place": first["place"], "Idempotency-Key": "one-attempt"}
    for client in house.clients:
        held = await client.post("/api/bookings/reserve", json=body, headers=headers)
        assert held.status_code == 201, held.text
    assert await house.box.value("SELECT uses FROM waiting_place_use") == 1
    again = {"tripId": str(trip), "seatNumbers": ["1B"]}
    spent = await house.api.post("/api/bookings/reserve", json=again, headers={"Kiti-Place": first["place"]})
    assert (spent.status_code, spent.json()["code"]) == (429, "RATE_LIMITED")
    # In pieces, as the express lane does not take it.
    await asyncio.sleep(second["waitSeconds"])

    async def pieces() -> AsyncIterator[bytes]:
        yield f'{{"tripId": "{trip}", '.encode()
        yield b'"seatNumbers": ["1B"]}'

    headers = {"Kiti-Place": second["place"], "Content-Type": "application/json"}
    held = await house.api.post("/api/bookings/reserve", content=pieces(), headers=headers)
    assert held.status_code == 201, held.text
    # Other trips have no door.
    await house.reserve(free, ["1A"])
