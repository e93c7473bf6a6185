"""Late money whose seats are gone: others like them where the operator wants that, all or none, and free to decline."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.box import Box
from tests.house import JsonObject, RunningHouse, holder
from tests.network import STANDARD_UGX, Network
from tests.obliging import Obliging, another_house

from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat, Contact
from kiti.core.errors import KitiError, NotFound
from kiti.flows.cancellation import cancel_booking
from kiti.flows.checkout import Intent, initiate
from kiti.flows.equivalent_seats import decline
from kiti.flows.house import House
from kiti.flows.plan import Item, Reservation
from kiti.flows.reserve import reserve
from kiti.flows.settle import settle_payment
from kiti.flows.wellbeing import examine
from kiti.network import actions as network
from kiti.network import reads as network_reads
from kiti.payments import reads as payment_reads
from kiti.seats.model import Place, nearest_seats

CONTACT = Contact(email="grace@example.com", phone="+256772000000")


class Late:
    """A house in which everybody pays late, and its operators replace lost seats."""

    def __init__(self, house: House, trips: Network) -> None:
        self.house = house
        self.network = trips
        self.box = Box(house.db)

    async def allow(self, *, replaces: bool = True) -> None:
        async with self.house.db.transaction() as tx:
            for code in ("pearl", "lake"):
                operator = await network_reads.operator_by_code(tx, code=code)
                await network.set_lost_seats(tx, operator=operator, replaces=replaces)

    async def late(self, *items: Item) -> tuple[UUID, UUID]:
        """A booking whose page is open and whose hold is over, and its payment."""
        reserved = await reserve(self.house, Reservation(items=items, contact=CONTACT))
        opened = await initiate(self.house, Intent(booking=reserved.booking))
        over = "kiti_now() - interval '1 second'"
        await self.box.rows(
            f"UPDATE booking SET hold_expires_at = {over}, hold_cap_at = {over} WHERE id = %s",
            reserved.booking,
        )
        await self.box.rows(f"UPDATE seat_claim SET expires_at = {over} WHERE owner_id = %s", reserved.booking)
        return reserved.booking, opened.payment.id

    async def hold(self, trip: UUID, *seats: str) -> UUID:
        return (await reserve(self.house, Reservation(items=(Item(trip=trip, seats=seats),)))).booking

    async def lines(self, booking: UUID) -> list[BookedSeat]:
        async with self.house.db.reader() as reader:
            return await booking_reads.seats_of(reader, bookings=[booking])

    async def seats(self, booking: UUID) -> list[str]:
        return [line.seat for line in await self.lines(booking)]

    async def state(self, booking: UUID) -> str:
        async with self.house.db.reader() as reader:
            return (await booking_reads.by_id(reader, booking=booking)).standing

    async def refunded(self, booking: UUID) -> int:
        async with self.house.db.reader() as reader:
            return sum(refund.amount for refund in await payment_reads.refunds_of(reader, booking=booking))

    async def is_well(self) -> None:
        assert not [finding for finding in await examine(self.house) if not finding.ok]


@pytest.fixture
async def late(box: Box, fresh_url: str) -> AsyncIterator[Late]:
    trips = await Network().build(box.db)
    async with another_house(fresh_url, Obliging()) as house:
        there = Late(house, trips)
        await there.allow()
        yield there
        await there.is_well()


def item(trip: UUID, *seats: str) -> Item:
    return Item(trip=trip, seats=seats)


async def test_both_lost_seats_become_two_beside_one_another(late: Late) -> None:
    trip = late.network.bus()
    booking, payment = await late.late(item(trip, "3A", "3B"))
    await late.hold(trip, "3A", "3B", "1A")
    settled = await settle_payment(late.house, payment)
    assert (settled.state, await late.state(booking)) == ("captured", "confirmed")
    first, second = await late.seats(booking)
    assert {first, second}.isdisjoint({"3A", "3B", "1A"})
    assert first[:-1] == second[:-1], "side by side"
    tickets = await late.box.rows("SELECT seat, state FROM ticket WHERE booking_id = %s ORDER BY seat", booking)
    assert tickets == [{"seat": first, "state": "valid"}, {"seat": second, "state": "valid"}]
    told = await late.box.rows("SELECT event, channel, data FROM message WHERE booking_id = %s", booking)
    assert {row["event"] for row in told} == {"paid", "ticket", "replaced"}
    assert {row["data"]["lost"] for row in told if row["event"] == "replaced"} == {"3A, 3B"}


async def test_who_kept_their_seat_keeps_it_and_the_other_sits_as_near_as_can_be(late: Late) -> None:
    trip = late.network.bus()
    booking, payment = await late.late(item(trip, "5A", "5B"))
    await late.hold(trip, "5B")
    await settle_payment(late.house, payment)
    kept, instead = await late.seats(booking)
    assert (kept, instead[:-1]) == ("5A", "5")


async def test_a_better_class_is_given_where_their_own_is_full_and_the_price_stays(late: Late) -> None:
    trip = late.network.double()
    line = late.network.double_line
    standard = [seat.number for seat in line.layout.seats if seat.seat_class == "STANDARD"]
    booking, payment = await late.late(item(trip, standard[0]))
    await late.hold(trip, *standard)
    await settle_payment(late.house, payment)
    (seat,) = await late.lines(booking)
    assert (seat.seat_class, seat.fare) == ("VIP", STANDARD_UGX)
    assert await late.refunded(booking) == 0


async def test_a_worse_class_is_not_equivalent(late: Late) -> None:
    trip = late.network.double()
    vip = [seat.number for seat in late.network.double_line.layout.seats if seat.seat_class == "VIP"]
    booking, payment = await late.late(item(trip, vip[0]))
    await late.hold(trip, *vip)
    await settle_payment(late.house, payment)
    assert (await late.state(booking), await late.seats(booking)) == ("expired", [vip[0]])
    assert await late.refunded(booking) == 90_000


async def test_one_trip_without_seats_leaves_the_whole_journey_without(late: Late) -> None:
    there, back = late.network.bus(), late.network.shuttle()
    booking, payment = await late.late(item(there, "3A"), item(back, "1A", "1B"))
    await late.hold(there, "3A")
    shuttle = [seat.number for seat in late.network.shuttle_line.layout.seats]
    await late.hold(back, *shuttle[:-1])
    await settle_payment(late.house, payment)
    assert (await late.state(booking), await late.refunded(booking)) == ("expired", STANDARD_UGX + 2 * 15_000)
    assert await late.box.value("SELECT count(*) FROM seat_claim WHERE owner_id = %s", booking) == 0
    assert await late.box.value("SELECT count(*) FROM seat_replacement WHERE booking_id = %s", booking) == 0


async def test_an_operator_who_has_not_said_so_gives_the_money_back(late: Late) -> None:
    await late.allow(replaces=False)
    trip = late.network.bus()
    booking, payment = await late.late(item(trip, "3A"))
    await late.hold(trip, "3A")
    await settle_payment(late.house, payment)
    assert (await late.state(booking), await late.refunded(booking)) == ("expired", STANDARD_UGX)


@pytest.mark.parametrize("free", [0, 1, 5, 12])
async def test_a_storm_of_late_money_on_a_nearly_full_trip_is_tickets_and_refunds_and_no_seat_twice(
    late: Late, free: int
) -> None:
    """Twelve parties, half of them couples, have lost their seats; some seats are left, and others buy at once."""
    trip = late.network.bus()
    seats = late.network.bus_line.seats
    wanted, fresh = seats[:18], seats[18:]
    parties = [wanted[at : at + 2] for at in range(0, 12, 2)] + [[seat] for seat in wanted[12:18]]
    lost = [await late.late(item(trip, *party)) for party in parties]
    await late.hold(trip, *wanted)
    taken = fresh[: len(fresh) - free]
    for at in range(0, len(taken), 20):
        await late.hold(trip, *taken[at : at + 20])

    async def buys(seat: str) -> Any:
        try:
            return await late.hold(trip, seat)
        except KitiError as refused:
            return refused

    await asyncio.gather(
        *(settle_payment(late.house, payment) for _, payment in lost), *(buys(seat) for seat in fresh[-free // 2 :])
    )
    seated: Counter[str] = Counter()
    for (booking, _), party in zip(lost, parties, strict=True):
        state = await late.state(booking)
        if state == "confirmed":
            now = await late.seats(booking)
            assert len(now) == len(party)
            assert await late.refunded(booking) == 0
            good = "SELECT count(*) FROM ticket WHERE booking_id = %s AND state = 'valid'"
            assert await late.box.value(good, booking) == len(party)
            seated.update(now)
        else:
            assert (state, await late.refunded(booking)) == ("expired", STANDARD_UGX * len(party))
            assert await late.seats(booking) == list(party)
    assert set(seated.values()) <= {1}
    assert set(seated) <= set(fresh[len(fresh) - free :])
    twice = "SELECT seat FROM seat_claim WHERE trip_id = %s GROUP BY seat HAVING count(DISTINCT owner_id) > 1"
    assert await late.box.rows(twice, trip) == []


# ------------------------------------------------------------------ declining


async def replaced(late: Late) -> UUID:
    trip = late.network.bus()
    booking, payment = await late.late(item(trip, "3A", "3B"))
    await late.hold(trip, "3A", "3B")
    await settle_payment(late.house, payment)
    assert await late.state(booking) == "confirmed"
    return booking


async def test_declining_and_cancelling_many_times_at_once_give_everything_back_once(late: Late) -> None:
    async def tried(work: Any) -> bool:
        try:
            await work
        except WrongState:
            return False
        return True

    for _ in range(3):
        booking = await replaced(late)
        results = await asyncio.gather(
            *(tried(decline(late.house, booking=booking, actor="guest")) for _ in range(6)),
            *(tried(cancel_booking(late.house, booking=booking, actor="guest")) for _ in range(3)),
        )
        assert results.count(True) == 1
        assert (await late.state(booking), await late.refunded(booking)) == ("cancelled", 2 * STANDARD_UGX)
        assert await late.box.value("SELECT count(*) FROM seat_claim WHERE owner_id = %s", booking) == 0


async def test_declining_costs_nothing_however_late_and_ends_when_it_was_said_to(late: Late) -> None:
    booking = await replaced(late)
    soon = "UPDATE trip_stop SET departs_at = kiti_now() + interval '30 minutes' WHERE trip_id = %s AND seq = 0"
    (line, _) = await late.lines(booking)
    await late.box.rows(soon, line.trip_id)
    done = await decline(late.house, booking=booking, actor="guest")
    assert (done.amount, await late.refunded(booking)) == (2 * STANDARD_UGX, 2 * STANDARD_UGX)
    other = await replaced(late)
    async with late.house.db.reader() as reader:
        until = (await booking_reads.replacements(reader, booking=other))[0].decline_until
        found = await booking_reads.by_id(reader, booking=other)
    assert timedelta(hours=23) < until - found.now <= timedelta(hours=24)
    await late.box.rows("UPDATE seat_replacement SET decline_until = kiti_now() WHERE booking_id = %s", other)
    with pytest.raises(WrongState):
        await decline(late.house, booking=other, actor="guest")
    assert (await late.state(other), await late.refunded(other)) == ("confirmed", 0)


async def test_a_booking_with_its_own_seats_has_nothing_to_decline(late: Late) -> None:
    booking, payment = await late.late(item(late.network.bus(), "3A"))
    await settle_payment(late.house, payment)
    assert await late.state(booking) == "confirmed"
    with pytest.raises(NotFound):
        await decline(late.house, booking=booking, actor="guest")


async def test_a_traveller_hears_of_other_seats_and_declines_them(own_house: RunningHouse) -> None:
    house = own_house
    assert (await house.kiti("operators", "lost-seats", "pearl", "replace"))[0] == 0
    trip = house.network.bus()
    booking = await house.reserve(trip, ["3A", "3B"])
    payment = await house.initiate(booking)
    over = "kiti_now() - interval '1 second'"
    await house.box.rows(
        f"UPDATE booking SET hold_expires_at = {over}, hold_cap_at = {over} WHERE id = %s",
        booking["bookingId"],
    )
    await house.box.rows(f"UPDATE seat_claim SET expires_at = {over} WHERE owner_id = %s", booking["bookingId"])
    await house.reserve(trip, ["3B"])
    await house.sim.pay(payment)
    found = await house.booking_until(booking, "CONFIRMED")
    (instead,) = found["replacedSeats"]
    assert (instead["lostSeatNumber"], instead["seatNumber"] in found["seatNumbers"]) == ("3B", True)
    page = await house.api.get(f"/bookings/{booking['bookingId']}", params={"token": booking["holdToken"]})
    page = page if page.status_code == 200 else await house.api.get(f"/bookings/{booking['bookingId']}")
    assert "Your seats were taken while your payment was late" in page.text
    path = f"/api/bookings/{booking['bookingId']}/cancel/replacement"
    answers: Sequence[Any] = await asyncio.gather(
        *(house.api.post(path, headers=holder(booking)) for _ in range(5)),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    done: JsonObject = next(answer for answer in answers if answer.status_code == 200).json()
    assert (done["status"], done["refund"]["amount"]) == ("CANCELLED", 2 * STANDARD_UGX)
    (refund,) = await house.refunds_until(booking, "succeeded")
    assert refund["amount"] == 2 * STANDARD_UGX
    await house.doctor()


def test_the_nearest_seats_are_those_around_the_party() -> None:
    places = [
        Place(number=f"{row}{'ABCD'[column]}", deck=1, row=row, column=column)
        for row in range(6)
        for column in range(4)
    ]
    around = [place for place in places if place.number == "3B"]
    free = [place for place in places if place.number != "3B"]
    assert set(nearest_seats(free, 2, around=around) or []) == {"3A", "3C"}
    assert nearest_seats(free[:1], 2, around=around) is None
