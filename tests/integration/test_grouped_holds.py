"""Extensions and releases in batches: many callers, few transactions, and to each their own answer."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.obliging import Obliging, another_house, with_gateway
from tests.office import Held, Office, open_office

from kiti.bookings.actions import WrongState
from kiti.bookings.model import Booking
from kiti.core.errors import KitiError, NotFound, Overloaded
from kiti.core.ids import new_id
from kiti.db.pipeline import Pipeline
from kiti.flows import holds
from kiti.flows.checkout import Intent, initiate
from kiti.flows.holds import HoldLapsed, group_extensions, group_releases
from kiti.flows.house import House
from kiti.flows.plan import Item, Reservation, SeatsTaken
from kiti.flows.queued import Extension, Release
from kiti.flows.reserve import reserve
from kiti.flows.settle import settle_payment

POISON = "a NUL \x00 that PostgreSQL refuses"


@pytest.fixture
async def office(fresh_url: str) -> AsyncIterator[Office]:
    async with open_office(fresh_url) as there:
        yield there


async def audited(office: Office, action: str) -> int:
    """How many transactions have written events of this kind."""
    count: int = await office.box.value("SELECT count(DISTINCT xmin::text) FROM audit_event WHERE action = %s", action)
    return count


async def state(office: Office, held: Held) -> str:
    found: str = await office.box.value("SELECT state FROM booking WHERE id = %s", held.booking)
    return found


async def seats_held(office: Office, held: Held) -> dict[str, Any]:
    rows = await office.box.rows(
        "SELECT seat, min(expires_at) AS until FROM seat_claim WHERE owner_id = %s GROUP BY seat", held.booking
    )
    return {row["seat"]: row["until"] for row in rows}


def wish(booking: UUID, *, minutes: int = 30, actor: str = "test") -> Extension:
    return Extension(booking=booking, minutes=minutes, actor=actor)


async def test_each_extension_of_a_mixed_batch_gets_its_own_answer(office: Office) -> None:
    trip = office.network.bus()
    lapsed = await office.hold(trip, "1A", minutes=1)
    await office.box.travel(minutes=2)
    alive, both_seats, long_enough = (
        await office.hold(trip, "2A"),
        await office.hold(trip, "3A", "3B"),
        await office.hold(trip, "4A", minutes=20),
    )
    sold, given_back = await office.sell(trip, "5A"), await office.hold(trip, "6A")
    await holds.release(office.house, booking=given_back.booking, actor="test")
    extensions = group_extensions(office.house.db, lanes=1)
    wishes = [
        wish(alive.booking),
        wish(lapsed.booking),
        wish(sold.booking),
        wish(new_id()),
        wish(given_back.booking),
        wish(both_seats.booking, minutes=600),
        wish(long_enough.booking, minutes=5),
    ]
    answers = await asyncio.gather(*(extensions.submit(each) for each in wishes))
    extended, over, paid, unknown, cancelled, capped, unchanged = answers
    assert await audited(office, "hold.extended") == 1
    assert isinstance(over, HoldLapsed)
    assert isinstance(paid, WrongState)
    assert "confirmed" in str(paid)
    assert isinstance(unknown, NotFound)
    assert isinstance(cancelled, WrongState)
    for held, answer in ((alive, extended), (both_seats, capped), (long_enough, unchanged)):
        assert isinstance(answer, Booking)
        assert answer.id == held.booking
        assert set((await seats_held(office, held)).values()) == {answer.hold_expires_at}
    assert isinstance(extended, Booking)
    assert extended.hold_expires_at > alive.expires_at + timedelta(minutes=14)
    assert isinstance(capped, Booking)
    assert abs(capped.hold_expires_at - capped.hold_cap_at) < timedelta(seconds=1)
    assert isinstance(unchanged, Booking)
    assert unchanged.hold_expires_at == long_enough.expires_at


async def test_each_release_of_a_mixed_batch_gets_its_own_answer(office: Office) -> None:
    trip = office.network.bus()
    swept = await office.hold(trip, "1A", minutes=1)
    await office.box.travel(minutes=2)
    await holds.expire_seats(office.house.db)
    alive, paying = await office.hold(trip, "2A", "2B"), await office.hold(trip, "3A")
    bystander, sold = await office.hold(trip, "4A"), await office.sell(trip, "5A")
    opened = await initiate(with_gateway(office.house, Obliging()), Intent(booking=paying.booking))
    releases = group_releases(office.house.db, lanes=1)
    bookings = [alive.booking, swept.booking, sold.booking, new_id(), paying.booking]
    answers = await asyncio.gather(*(releases.submit(Release(booking=each, actor="test")) for each in bookings))
    gone, over, paid, unknown, called_off = answers
    assert await audited(office, "hold.released") == 1
    assert isinstance(gone, Booking)
    assert isinstance(over, Booking)
    assert isinstance(called_off, Booking)
    assert (gone.state, over.state, called_off.state) == ("cancelled", "expired", "cancelled")
    assert isinstance(paid, WrongState)
    assert isinstance(unknown, NotFound)
    assert set(await office.owners(trip)) == {"4A", "5A"}
    assert await state(office, bystander) == "held"
    attempt = (await office.box.rows("SELECT state, poll_after <= kiti_now() AS due FROM payment"))[0]
    assert attempt == {"state": "cancelled", "due": True}
    last = "SELECT from_state, to_state, reason FROM payment_history WHERE payment_id = %s ORDER BY id DESC LIMIT 1"
    assert await office.box.rows(last, opened.payment.id) == [
        {"from_state": "pending", "to_state": "cancelled", "reason": "The booking was released."}
    ]
    again = await holds.release(office.house, booking=alive.booking, actor="test")
    assert again.state == "cancelled"


async def test_forty_extensions_and_forty_releases_at_once_share_transactions(office: Office) -> None:
    held = [await office.hold(office.network.bus(), "1A") for _ in range(40)]
    house = office.house
    await asyncio.gather(*(holds.extend(house, booking=each.booking, minutes=30, actor="test") for each in held))
    assert await office.box.value("SELECT count(*) FROM audit_event WHERE action = 'hold.extended'") == 40
    assert await audited(office, "hold.extended") <= 3
    await asyncio.gather(*(holds.release(house, booking=each.booking, actor="test") for each in held))
    assert await office.box.value("SELECT count(*) FROM audit_event WHERE action = 'hold.released'") == 40
    assert await audited(office, "hold.released") <= 3
    assert await office.box.value("SELECT count(*) FROM seat_claim") == 0


async def test_a_batch_of_forty_takes_no_more_round_trips_than_one(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [await office.hold(office.network.bus(), "1A") for _ in range(41)]
    extensions, releases = group_extensions(office.house.db, lanes=1), group_releases(office.house.db, lanes=1)
    trips = count_round_trips(monkeypatch)

    async def taken(work: Callable[[Held], Awaitable[Any]], chosen: list[Held]) -> int:
        trips.clear()
        await asyncio.gather(*(work(each) for each in chosen))
        return len(trips)

    def extend(each: Held) -> Awaitable[Any]:
        return extensions.submit(wish(each.booking))

    def release(each: Held) -> Awaitable[Any]:
        return releases.submit(Release(booking=each.booking, actor="test"))

    assert await taken(extend, held[:1]) == await taken(extend, held[1:]) == 4
    assert await taken(release, held[:1]) == await taken(release, held[1:]) == 3


def count_round_trips(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one with each."""
    trips: list[None] = []
    exchange = Pipeline._exchange

    async def counted(pipeline: Pipeline) -> None:
        trips.append(None)
        await exchange(pipeline)

    monkeypatch.setattr(Pipeline, "_exchange", counted)
    return trips


async def test_a_poisonous_extension_or_release_does_not_spoil_its_batch(office: Office) -> None:
    held = [await office.hold(office.network.bus(), "1A") for _ in range(20)]
    extensions, releases = group_extensions(office.house.db, lanes=1), group_releases(office.house.db, lanes=1)
    wishes = [wish(each.booking, actor=POISON if at == 7 else "test") for at, each in enumerate(held)]
    extended = await asyncio.gather(*(extensions.submit(each) for each in wishes), return_exceptions=True)
    assert [at for at, answer in enumerate(extended) if not isinstance(answer, Booking)] == [7]
    assert await seats_held(office, held[7]) == {"1A": held[7].expires_at}
    giving_up = [Release(booking=each.booking, actor=POISON if at == 7 else "test") for at, each in enumerate(held)]
    released = await asyncio.gather(*(releases.submit(each) for each in giving_up), return_exceptions=True)
    assert [at for at, answer in enumerate(released) if not isinstance(answer, Booking)] == [7]
    assert await state(office, held[7]) == "held"
    assert await seats_held(office, held[7]) == {"1A": held[7].expires_at}


async def test_a_full_queue_of_extensions_or_releases_says_so_at_once(office: Office) -> None:
    held = [await office.hold(office.network.bus(), "1A") for _ in range(6)]
    extensions = group_extensions(office.house.db, lanes=1, max_queue=5)
    waiting = [asyncio.create_task(extensions.submit(wish(each.booking))) for each in held[:5]]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refusal:
        await extensions.submit(wish(held[5].booking))
    assert refusal.value.retry_after_seconds >= 1
    assert all(isinstance(answer, Booking) for answer in await asyncio.gather(*waiting))
    releases = group_releases(office.house.db, lanes=1, max_queue=5)
    leaving = [asyncio.create_task(releases.submit(Release(booking=each.booking, actor="test"))) for each in held[:5]]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await releases.submit(Release(booking=held[5].booking, actor="test"))
    assert all(isinstance(answer, Booking) for answer in await asyncio.gather(*leaving))
    assert await state(office, held[5]) == "held"


async def test_of_two_wishes_for_one_booking_the_later_finds_what_the_earlier_did(office: Office) -> None:
    held = await office.hold(office.network.bus(), "1A")
    extensions = group_extensions(office.house.db)
    first, second = await asyncio.gather(
        extensions.submit(wish(held.booking, minutes=30)), extensions.submit(wish(held.booking, minutes=20))
    )
    assert isinstance(first, Booking)
    assert isinstance(second, Booking)
    assert second.hold_expires_at == first.hold_expires_at


async def test_two_houses_that_do_everything_to_the_same_bookings_stay_right(office: Office, fresh_url: str) -> None:
    gateway = Obliging()
    trips = [office.network.bus() for _ in range(3)]
    async with another_house(fresh_url, gateway) as other:
        houses = [with_gateway(office.house, gateway), other]
        # Each leg has its own crowd, and what is released is wanted at once.
        held = [await office.hold(trips[at % 3], f"{at // 3 + 1}A", f"{at // 3 + 1}B") for at in range(30)]
        opened = [await initiate(houses[at % 2], Intent(booking=each.booking)) for at, each in enumerate(held)]
        seen: Counter[str] = Counter()

        async def anything(number: int) -> None:
            dice = random.Random(number)
            for _ in range(25):
                at, house = dice.randrange(30), dice.choice(houses)
                deed = dice.choice(DEEDS)
                try:
                    await deed(house, held[at].booking, opened[at].payment.id, trips[at % 3], f"{at // 3 + 1}A")
                except (WrongState, SeatsTaken) as refusal:
                    seen[type(refusal).__name__] += 1
                else:
                    seen[deed.__name__] += 1

        await asyncio.gather(*(anything(number) for number in range(16)))
    assert seen["_extend"]
    assert seen["_pay"]
    assert seen["_reserve"]
    assert seen["SeatsTaken"]
    rows = await office.box.rows("SELECT id, state, hold_expires_at FROM booking")
    states = {row["id"]: row["state"] for row in rows}
    assert {states[each.booking] for each in held} <= {"awaiting_payment", "confirmed", "cancelled"}
    ends = {row["id"]: None if row["state"] == "confirmed" else row["hold_expires_at"] for row in rows}
    claimed: set[UUID] = set()
    for trip in trips:
        for legs in (await office.owners(trip)).values():
            assert {until == ends[owner] for _, owner, until in legs} == {True}
            claimed |= {owner for _, owner, _ in legs}
    assert claimed == {booking for booking, found in states.items() if found != "cancelled"}
    tickets = "SELECT count(*) FROM ticket"
    sold = "SELECT count(*) FROM booking_seat JOIN booking ON booking_id = booking.id WHERE state = 'confirmed'"
    assert await office.box.value(tickets) == await office.box.value(sold)


async def _extend(house: House, booking: UUID, payment: UUID, trip: UUID, seat: str) -> None:
    await holds.extend(house, booking=booking, minutes=random.randrange(15, 60), actor="test")


async def _release(house: House, booking: UUID, payment: UUID, trip: UUID, seat: str) -> None:
    await holds.release(house, booking=booking, actor="test")


async def _pay(house: House, booking: UUID, payment: UUID, trip: UUID, seat: str) -> None:
    settled = await settle_payment(house, payment)
    assert settled.state == "captured"


async def _reserve(house: House, booking: UUID, payment: UUID, trip: UUID, seat: str) -> None:
    await reserve(house, Reservation(items=(Item(trip=trip, seats=(seat,)),), hold_minutes=15))


DEEDS = (*[_extend] * 6, _release, _pay, _reserve, _reserve)


async def test_an_answer_that_is_an_error_is_raised_to_its_caller(office: Office) -> None:
    with pytest.raises(NotFound):
        await holds.extend(office.house, booking=new_id(), minutes=5, actor="test")
    sold = await office.sell(office.network.bus(), "1A")
    with pytest.raises(KitiError):
        await holds.release(office.house, booking=sold.booking, actor="test")
