"""Seats that staff take off sale, and put on sale again."""

import pytest
from tests.box import Box
from tests.network import Network

from kiti.core.errors import NotFound
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
