"""Seats that staff take off sale, and put on sale again."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from tests.box import Box
from tests.network import Network

from kiti.app import open_house
from kiti.audit import reads as audit_reads
from kiti.core.errors import InvalidInput, NotFound
from kiti.core.settings import load
from kiti.flows import blocks
from kiti.flows.house import House
from kiti.flows.plan import Item, Reservation, SeatsTaken
from kiti.flows.reserve import reserve
from kiti.seats import actions as seats
from kiti.seats import reads
from kiti.seats.actions import SeatsOccupied
from kiti.seats.model import Lost, Want


async def test_a_blocked_seat_is_shown_as_blocked_and_sold_to_nobody_until_it_is_lifted(box: Box) -> None:
    trip, buyer = (await Network().build(box.db)).bus(), await box.value("SELECT gen_random_uuid()")
    want = Want(owner=buyer, trip=trip, seat="1A", from_seq=1, to_seq=2)
    async with box.db.transaction() as tx:
        block = await seats.block(tx, trip=trip, seats=["1A"], from_seq=0, to_seq=2, reason="broken", actor="staff")
    async with box.db.transaction() as tx:
        assert isinstance((await seats.confirm(tx, wants=[want]))[buyer], Lost)
        (taken,) = await reads.taken(tx, trip=trip, from_seq=0, to_seq=2)
        assert (taken.seat, taken.status) == ("1A", "BLOCKED")
        assert {(held.leg, held.owner_id, held.expires_at) for held in await reads.held(tx, trip=trip)} == {
            (0, block, None),
            (1, block, None),
        }
    async with box.db.transaction() as tx:
        assert await seats.unblock(tx, trip=trip, block=block) == 2
    async with box.db.transaction() as tx:
        assert await reads.taken(tx, trip=trip, from_seq=0, to_seq=2) == []
        with pytest.raises(NotFound):
            await seats.unblock(tx, trip=trip, block=block)


async def test_a_seat_that_somebody_has_cannot_be_blocked(box: Box) -> None:
    trip, buyer = (await Network().build(box.db)).bus(), await box.value("SELECT gen_random_uuid()")
    async with box.db.transaction() as tx:
        await seats.confirm(tx, wants=[Want(owner=buyer, trip=trip, seat="1A", from_seq=1, to_seq=2)])
    async with box.db.transaction() as tx:
        with pytest.raises(SeatsOccupied) as refusal:
            await seats.block(tx, trip=trip, seats=["1A", "1B"], from_seq=0, to_seq=2, reason="broken", actor="staff")
        assert refusal.value.seats == ["1A"]
        assert [held.owner_id for held in await reads.held(tx, trip=trip)] == [buyer]


@pytest.fixture
async def staffed(fresh_url: str) -> AsyncIterator[House]:
    settings = load({"KITI_DEMO": "1", "DATABASE_URL": fresh_url, "FLUTTERWAVE_BASE_URL": "http://127.0.0.1:9/v3"})
    async with open_house(settings) as house:
        yield house


async def block(house: House, trip: UUID, *numbers: str, reason: str = "broken", **more: str | None) -> UUID:
    return await blocks.block_seats(house, trip=trip, numbers=numbers, reason=reason, actor="staff", **more)


async def test_staff_block_a_stretch_see_it_and_lift_it_and_the_log_has_it(staffed: House) -> None:
    trip = (await Network().build(staffed.db)).bus()
    held = await reserve(staffed, Reservation(items=(Item(trip=trip, seats=("1A",), from_code="MBR"),)))
    blocked = await block(staffed, trip, "1A", "2B", reason="  Wet \n seat", to_code="mbr")
    with pytest.raises(SeatsTaken):
        await reserve(staffed, Reservation(items=(Item(trip=trip, seats=("2B",)),)))
    await reserve(staffed, Reservation(items=(Item(trip=trip, seats=("2B",), from_code="MBR"),)))

    (found,) = await blocks.blocks(staffed, trip=trip)
    assert (found.id, found.reason, found.actor, found.seats) == (blocked, "Wet seat", "staff", ["1A", "2B"])
    assert (found.from_seq, found.to_seq) == (0, 1)
    told = {(h.seat, h.from_code, h.to_code): h for h in await blocks.held_seats(staffed, trip=trip)}
    assert told.keys() == {("1A", "KLA", "MBR"), ("1A", "MBR", "KGL"), ("2B", "KLA", "MBR"), ("2B", "MBR", "KGL")}
    mine, wet = told["1A", "MBR", "KGL"], told["1A", "KLA", "MBR"]
    assert mine.booking is not None
    assert (mine.booking.id, mine.booking.state, mine.block) == (held.booking, "held", None)
    assert mine.expires_at == held.expires_at
    assert (wet.booking, wet.block, wet.expires_at) == (None, found, None)

    assert await blocks.unblock_seats(staffed, trip=trip, block=blocked, actor="staff") == 2
    assert await blocks.blocks(staffed, trip=trip) == []
    with pytest.raises(NotFound):
        await blocks.unblock_seats(staffed, trip=trip, block=blocked, actor="staff")
    async with staffed.db.reader() as reader:
        events = await audit_reads.of_subject(reader, subject=trip)
    assert [event.action for event in events] == ["seats.blocked", "seats.unblocked"]
    assert events[0].detail == {
        "block": str(blocked),
        "seats": ["1A", "2B"],
        "from": "KLA",
        "to": "MBR",
        "reason": "Wet seat",
    }


async def test_blocks_that_make_no_sense_are_refused_and_leave_nothing(staffed: House) -> None:
    trip = (await Network().build(staffed.db)).bus()
    for numbers, more in (
        ((), {}),
        (("99Z",), {}),
        (("1A", "1A"), {}),
        (("1A",), {"reason": " "}),
        (("1A",), {"reason": "a" * 201}),
        (("1A",), {"from_code": "EBB"}),
        (("1A",), {"from_code": "KGL", "to_code": "KLA"}),
    ):
        with pytest.raises(InvalidInput):
            await block(staffed, trip, *numbers, **more)
    await block(staffed, trip, "1A")
    with pytest.raises(SeatsOccupied):
        await block(staffed, trip, "1B", "1A")
    assert [found.seats for found in await blocks.blocks(staffed, trip=trip)] == [["1A"]]
    assert {held.seat for held in await blocks.held_seats(staffed, trip=trip)} == {"1A"}
    with pytest.raises(NotFound):
        await blocks.held_seats(staffed, trip=UUID(int=1))
