"""Seats of a booking for others, or on another trip: all or nothing, at the same price, with tickets that are good."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psycopg
import pytest
from tests.house import until
from tests.network import STANDARD_UGX, VIP_UGX
from tests.office import Office, open_office

from kiti.audit import reads as audit_reads
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.core.errors import InvalidInput, NotFound
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.flows import holds
from kiti.flows.changes import FareDiffers, move_booking, swap_seats
from kiti.flows.holds import HoldLapsed
from kiti.flows.plan import Item, NotEnoughSeats, SeatsTaken, TripNotOnSale
from kiti.network.model import NotOnTrip
from kiti.tickets import actions as tickets
from kiti.tickets import reads as ticket_reads
from kiti.tickets.actions import TicketsUsed
from kiti.tickets.model import TicketState, Unknown, Valid, Voided

TRAP_LOCK = 7_357_002


@pytest.fixture
async def office(fresh_url: str) -> AsyncIterator[Office]:
    async with open_office(fresh_url) as there:
        yield there


# ------------------------------------------------------------------ other seats of the same trip


async def test_seats_are_swapped_for_free_ones_and_the_hold_ends_when_it_would_have(office: Office) -> None:
    trip = office.network.bus()
    held = await office.hold(trip, "1A", "1B", minutes=7, to_code="MBR")
    await office.box.travel(minutes=3, seconds=0.4)
    lines = await office.swap(held, {"1B": "5C"})
    assert [(line.seat, line.passenger_name) for line in lines] == [("1A", "Amina"), ("5C", "Baraka")]
    assert await office.owners(trip) == {
        "1A": {(0, held.booking, held.expires_at)},
        "5C": {(0, held.booking, held.expires_at)},
    }
    async with office.box.db.reader() as reader:
        booking = await booking_reads.by_id(reader, booking=held.booking)
        event = (await audit_reads.of_subject(reader, subject=held.booking))[-1]
    assert (booking.state, booking.hold_expires_at, booking.amount) == ("held", held.expires_at, held.amount)
    assert (event.actor, event.action, event.detail["seats"]) == ("test", "booking.swapped", {"1B": "5C"})
    await office.box.travel(minutes=4)
    assert await office.owners(trip) == {}


async def test_travellers_exchange_their_seats_among_themselves(office: Office) -> None:
    trip = office.network.bus()
    held = await office.hold(trip, "1A", "1B", "1C")
    before = await office.owners(trip)
    lines = await office.swap(held, {"1A": "1B", "1B": "1C", "1C": "1A"})
    assert [(line.seat, line.passenger_name) for line in lines] == [
        ("1B", "Amina"),
        ("1C", "Baraka"),
        ("1A", "Chandra"),
    ]
    assert await office.owners(trip) == before
    moved_up = await office.swap(held, {"1B": "1A", "1A": "9A"})
    assert [(line.seat, line.passenger_name) for line in moved_up] == [
        ("1A", "Amina"),
        ("1C", "Baraka"),
        ("9A", "Chandra"),
    ]
    assert set(await office.owners(trip)) == {"1A", "1C", "9A"}


async def test_a_ticket_for_a_changed_seat_is_void_and_the_new_one_is_good(office: Office) -> None:
    trip = office.network.bus()
    sold = await office.sell(trip, "1A", "1B")
    old = await office.tickets(sold)
    await office.swap(sold, {"1A": "2A"})
    new = await office.tickets(sold)
    assert new.keys() == {"2A", "1B"}
    assert new["1B"] == old["1B"]
    verdict = await office.scan(old["1A"].token, trip=trip)
    assert isinstance(verdict, Voided)
    assert "there is a new ticket" in verdict.reason
    assert isinstance(await office.scan(f"{sold.reference}-1A"), Voided)
    assert isinstance(await office.scan(new["2A"].token, trip=trip, use=True), Valid)
    assert await office.owners(trip) == {seat: {(leg, sold.booking, None) for leg in (0, 1)} for seat in ("1B", "2A")}


async def test_seats_changed_back_and_forth_have_one_good_ticket_each(office: Office) -> None:
    trip = office.network.bus()
    sold = await office.sell(trip, "1A", "1B")
    first = await office.tickets(sold)
    await office.swap(sold, {"1A": "1B", "1B": "1A"})
    second = await office.tickets(sold)
    await office.swap(sold, {"1A": "1B", "1B": "1A"})
    third = await office.tickets(sold)
    for past in (*first.values(), *second.values()):
        assert isinstance(await office.scan(past.token), Voided)
    for seat, ticket in third.items():
        by_code = await office.scan(f"{sold.reference}-{seat}")
        assert isinstance(by_code, Valid)
        assert by_code.ticket.id == ticket.id
    async with office.box.db.reader() as reader:
        pages = await ticket_reads.pages(reader, booking=sold.booking)
    assert [(page.seat, page.passenger_name, page.state) for page in pages] == [
        ("1A", "Amina", TicketState.VALID),
        ("1B", "Baraka", TicketState.VALID),
    ]


async def test_a_used_ticket_is_never_changed(office: Office) -> None:
    trip, later = office.network.bus(), office.network.bus()
    sold = await office.sell(trip, "1A", "1B")
    await office.scan((await office.tickets(sold))["1B"].token, use=True)
    refused = await office.refuses(office.swap(sold, {"1A": "1B", "1B": "1A"}), TicketsUsed)
    assert "1B" in str(refused)
    await office.refuses(office.move(sold, trip, later), TicketsUsed)
    await office.swap(sold, {"1A": "2A"})
    assert (await office.tickets(sold)).keys() == {"1B", "2A"}


async def test_of_inspector_and_change_at_once_one_is_told_so(office: Office) -> None:
    for _ in range(8):
        trip = office.network.bus()
        sold = await office.sell(trip, "1A")
        old = (await office.tickets(sold))["1A"]
        swapped, verdict = await asyncio.gather(
            office.swap(sold, {"1A": "2A"}), office.scan(old.token, use=True), return_exceptions=True
        )
        if isinstance(verdict, Valid):
            assert isinstance(swapped, TicketsUsed)
            assert set(await office.owners(trip)) == {"1A"}
        else:
            assert isinstance(verdict, Voided)
            assert set(await office.owners(trip)) == {"2A"}


async def test_a_seat_of_another_fare_is_refused_with_both_amounts(office: Office) -> None:
    trip = office.network.double()
    held = await office.hold(trip, "1A", "2A")
    for swaps in ({"2A": "1B"}, {"1A": "2A", "2A": "1A"}):
        refused = await office.refuses(office.swap(held, swaps), FareDiffers)
        assert isinstance(refused, FareDiffers)
        assert {refused.paid, refused.asked} == {Money(STANDARD_UGX, "UGX"), Money(VIP_UGX, "UGX")}
        assert "60,000" in str(refused)
        assert "90,000" in str(refused)
    await office.swap(held, {"1A": "1B"})


async def test_a_fare_that_has_risen_since_does_not_bind_a_traveller_to_a_seat(office: Office) -> None:
    trip = office.network.bus()
    held = await office.hold(trip, "1A")
    await office.box.rows("UPDATE fare SET amount = amount + 5000")
    office.house.catalogue._trips._things.clear()
    office.house.catalogue._fares._things.clear()
    (line,) = await office.swap(held, {"1A": "1B"})
    assert line.fare == STANDARD_UGX
    await office.refuses(office.move(held, trip, office.network.bus()), FareDiffers)


async def test_a_taken_seat_is_refused_by_name_unless_its_stretch_is_free(office: Office) -> None:
    trip = office.network.bus()
    await office.hold(trip, "2A", from_code="MBR")
    await office.sell(trip, "2B", to_code="MBR")
    held = await office.hold(trip, "1A", "1B", to_code="MBR")
    refused = await office.refuses(office.swap(held, {"1A": "2A", "1B": "2B"}), SeatsTaken)
    assert isinstance(refused, SeatsTaken)
    assert refused.seats == ["2B"]
    await office.swap(held, {"1A": "2A", "1B": "1A"})


async def test_somebody_elses_lapsed_hold_is_taken_over_and_a_lapsed_booking_is_not_changed(office: Office) -> None:
    trip = office.network.bus()
    lapsed = await office.hold(trip, "1A", minutes=1)
    held = await office.hold(trip, "2A", minutes=15)
    await office.box.travel(minutes=2)
    await office.refuses(office.swap(lapsed, {"1A": "3A"}), HoldLapsed)
    await office.swap(held, {"2A": "1A"})
    assert await office.owners(trip) == {"1A": {(leg, held.booking, held.expires_at) for leg in (0, 1)}}
    await office.refuses(office.swap(lapsed, {"1A": "3A"}), HoldLapsed)


async def test_bookings_that_are_over_and_trips_that_have_left_keep_their_seats(office: Office) -> None:
    trip = office.network.bus()
    swept, cancelled, completed = await office.hold(trip, "1A", minutes=1), await office.hold(trip, "1B"), None
    completed = await office.sell(trip, "1C")
    sold = await office.sell(trip, "1D")
    await holds.release(office.house, booking=cancelled.booking, actor="test")
    await office.box.rows("UPDATE booking SET state = 'completed' WHERE id = %s", completed.booking)
    await office.box.travel(minutes=2)
    await holds.expire_seats(office.house.db)
    for over, seat in ((swept, "1A"), (cancelled, "1B"), (completed, "1C")):
        await office.refuses(office.swap(over, {seat: "9A"}), WrongState)
    await office.box.rows("UPDATE trip_stop SET departs_at = kiti_now() WHERE trip_id = %s AND seq = 0", trip)
    await office.refuses(office.swap(sold, {"1D": "9A"}), TripNotOnSale)


@pytest.mark.parametrize(
    "swaps",
    [
        {},
        {"1A": "99Z"},
        {"9A": "2A"},
        {"1A": "1A"},
        {"1A": "1B"},
        {"1A": "2A", "1B": "2A"},
    ],
    ids=["none", "no such seat", "not mine", "for itself", "over a fellow traveller", "two on one"],
)
async def test_exchanges_that_make_no_sense_are_refused(office: Office, swaps: dict[str, str]) -> None:
    held = await office.hold(office.network.bus(), "1A", "1B")
    await office.refuses(office.swap(held, swaps), InvalidInput)


async def test_the_trip_has_to_be_said_only_where_the_seats_do_not_tell(office: Office) -> None:
    out, back = office.network.bus(), office.network.bus()
    held = await office.hold_items(Item(trip=out, seats=("1A", "1B")), Item(trip=back, seats=("1A", "2B")))
    await office.swap(held, {"1B": "3B"})
    await office.refuses(office.swap(held, {"1A": "4A"}), InvalidInput)
    await office.swap(held, {"1A": "4A"}, trip=back)
    assert set(await office.owners(out)) == {"1A", "3B"}
    assert set(await office.owners(back)) == {"4A", "2B"}
    with pytest.raises(NotFound):
        await swap_seats(office.house, booking=out, swaps={"1A": "2A"}, actor="test")


# ------------------------------------------------------------------ side by side


async def test_of_two_who_want_the_same_new_seat_one_gets_it_and_the_other_keeps_everything(office: Office) -> None:
    for _ in range(10):
        trip = office.network.bus()
        mine, yours = await office.hold(trip, "1A", "1B"), await office.sell(trip, "2A", "2B")
        outcomes = await asyncio.gather(
            office.swap(mine, {"1A": "9A", "1B": "9B"}),
            office.swap(yours, {"2A": "9A", "2B": "8B"}),
            return_exceptions=True,
        )
        lost = [outcome for outcome in outcomes if isinstance(outcome, SeatsTaken)]
        assert [loser.seats for loser in lost] == [["9A"]]
        mine_won = not isinstance(outcomes[0], SeatsTaken)
        owners = await office.owners(trip)
        assert set(owners) == ({"9A", "9B", "2A", "2B"} if mine_won else {"1A", "1B", "9A", "8B"})
        if mine_won:
            assert (await office.tickets(yours)).keys() == {"2A", "2B"}


async def test_swaps_that_cross_do_not_deadlock(office: Office) -> None:
    trip = office.network.bus()
    mine, yours = await office.hold(trip, "1A", "5A"), await office.hold(trip, "2A", "4A")
    for _ in range(10):
        outcomes = await asyncio.gather(
            office.swap(mine, {"1A": "2A", "5A": "3A"}),
            office.swap(yours, {"2A": "1A", "4A": "5A"}),
            office.swap(mine, {"1A": "5A", "5A": "1A"}),
            return_exceptions=True,
        )
        assert all(isinstance(outcome, SeatsTaken | list | InvalidInput) for outcome in outcomes), outcomes
        assert set(await office.owners(trip)) == {"1A", "2A", "4A", "5A"}


@pytest.mark.parametrize("is_killed", [False, True], ids=["committed", "killed"])
async def test_who_buys_the_seat_given_up_gets_it_only_once_it_is(
    office: Office,
    is_killed: bool,  # noqa: FBT001 - pytest's way
) -> None:
    trip = office.network.bus()
    sold = await office.sell(trip, "1A")
    before = await office.everything()
    async with await psycopg.AsyncConnection.connect(office.box.db.url, autocommit=True) as trap:
        await set_trap(trap)
        swapping = asyncio.create_task(office.swap(sold, {"1A": "2A"}))
        (caught,) = await until(lambda: office.box.rows(WAITING), bool)
        buying = asyncio.create_task(office.hold(trip, "1A"))
        await until(lambda: office.box.rows(BLOCKED), bool)
        if is_killed:
            await office.box.rows("SELECT pg_terminate_backend(%s)", caught["pid"])
            with pytest.raises(psycopg.OperationalError):
                await swapping
            with pytest.raises(SeatsTaken):
                await buying
            await trap.execute("SELECT pg_advisory_unlock_all()")
            assert await office.everything() == before
            assert (await office.tickets(sold)).keys() == {"1A"}
        else:
            await trap.execute("SELECT pg_advisory_unlock_all()")
            await swapping
            bought = await buying
            assert {owner for _, owner, _ in (await office.owners(trip))["1A"]} == {bought.booking}
            assert (await office.tickets(sold)).keys() == {"2A"}


WAITING = f"""
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND objid = {TRAP_LOCK} AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
BLOCKED = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%%INSERT INTO seat_claim%%'
"""


async def set_trap(connection: psycopg.AsyncConnection[Any]) -> None:
    """Hold the lock that a change waits for once its new seat lines are written."""
    await connection.execute(f"SELECT pg_advisory_lock({TRAP_LOCK})")
    await connection.execute(
        "CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_advisory_xact_lock({TRAP_LOCK}); RETURN NULL; END $$"
    )
    await connection.execute(
        "CREATE TRIGGER trap AFTER INSERT ON booking_seat FOR EACH ROW WHEN (NEW.seat = '2A') EXECUTE FUNCTION trap()"
    )


# ------------------------------------------------------------------ another trip


async def test_a_booking_moves_to_another_trip_with_its_names_and_new_tickets(office: Office) -> None:
    out, back, later = office.network.bus(), office.network.bus(), office.network.bus()
    held = await office.hold_items(Item(trip=out, seats=("1A", "1B")), Item(trip=back, seats=("7A",)))
    await office.confirm(held)
    old = await office.tickets(held)
    lines = await office.move(held, out, later, ["3C", "3D"])
    assert [(line.trip_id, line.seat, line.passenger_name) for line in lines] == [
        (later, "3C", "Amina"),
        (later, "3D", "Baraka"),
        (back, "7A", "Amina"),
    ]
    verdict = await office.scan(old["1A"].token)
    assert isinstance(verdict, Voided)
    assert verdict.reason == "The bus broke down."
    new = await office.tickets(held)
    assert new.keys() == {"3C", "3D", "7A"}
    assert new["7A"] == old["7A"]
    assert isinstance(await office.scan(new["3C"].token, trip=later, use=True), Valid)
    assert await office.owners(out) == {}
    assert set(await office.owners(later)) == {"3C", "3D"}
    arrives = "SELECT max(arrives_at) FROM trip WHERE id = ANY(%s)"
    assert await office.box.value("SELECT arrives_at FROM booking WHERE id = %s", held.booking) == (
        await office.box.value(arrives, [back, later])
    )
    async with office.box.db.reader() as reader:
        events = await audit_reads.of_subject(reader, subject=held.booking)
    (event,) = [event for event in events if event.action == "booking.moved"]
    assert event.detail == {
        "seats": {"1A": "3C", "1B": "3D"},
        "from_trip": str(out),
        "to_trip": str(later),
        "reason": "The bus broke down.",
    }


async def test_a_hold_that_moves_ends_when_it_would_have(office: Office) -> None:
    trip, later = office.network.bus(), office.network.bus()
    held = await office.hold(trip, "1A", minutes=9, from_code="MBR")
    await office.box.travel(minutes=1, seconds=0.7)
    (line,) = await office.move(held, trip, later)
    assert (line.trip_id, line.from_seq, line.to_seq) == (later, 1, 2)
    assert await office.owners(later) == {line.seat: {(1, held.booking, held.expires_at)}}


async def test_good_seats_of_the_same_classes_are_picked_where_none_are_named(office: Office) -> None:
    trip, later = office.network.double(), office.network.double()
    await office.hold(later, "1A", "1B", "2A")
    held = await office.hold(trip, "1A", "2A", "1B")
    lines = await office.move(held, trip, later)
    assert [(line.seat_class, line.fare, line.passenger_name) for line in lines] == [
        ("VIP", VIP_UGX, "Amina"),
        ("STANDARD", STANDARD_UGX, "Baraka"),
        ("VIP", VIP_UGX, "Chandra"),
    ]
    assert {lines[0].seat, lines[2].seat} == {"1C", "1D"}
    more = await office.hold(trip, "1A")
    await office.refuses(office.move(more, trip, later), NotEnoughSeats)


async def test_many_who_move_to_the_same_trip_all_find_seats(office: Office) -> None:
    trip, later = office.network.bus(), office.network.bus()
    held = [await office.sell(trip, f"{row}A", f"{row}B") for row in range(1, 9)]
    moved = await asyncio.gather(*(office.move(each, trip, later) for each in held))
    assert len({line.seat for lines in moved for line in lines}) == 16
    assert len(await office.owners(later)) == 16
    assert await office.owners(trip) == {}


async def test_a_cancelled_trip_can_be_left_but_nobody_gets_on_one(office: Office) -> None:
    trip, later = office.network.bus(), office.network.bus()
    sold = await office.sell(trip, "1A")
    await office.box.rows("UPDATE trip SET state = 'cancelled' WHERE id = %s", later)
    await office.refuses(office.move(sold, trip, later), TripNotOnSale)
    await office.box.rows("UPDATE trip SET state = 'scheduled' WHERE id = %s", later)
    await office.box.rows("UPDATE trip SET state = 'cancelled' WHERE id = %s", trip)
    await office.move(sold, trip, later)


async def test_moves_that_cannot_be_are_refused(office: Office) -> None:
    trip, later, departed = office.network.bus(), office.network.bus(), office.network.departed
    sold = await office.sell(trip, "1A", "1B")
    rival = await office.hold(later, "1A", "1B")
    both = await office.hold_items(Item(trip=trip, seats=("9A",)), Item(trip=later, seats=("9A",)))
    double = office.network.double()
    assert isinstance(await office.refuses(office.move(sold, trip, later, ["1A", "2A"]), SeatsTaken), SeatsTaken)
    for chosen in (["2A"], ["2A", "2A"], ["2A", "99Z"]):
        await office.refuses(office.move(sold, trip, later, chosen), InvalidInput)
    await office.refuses(office.move(sold, trip, double, ["1A", "2A"]), FareDiffers)
    await office.refuses(office.move(sold, trip, departed), TripNotOnSale)
    await office.refuses(office.move(sold, trip, trip), InvalidInput)
    await office.refuses(office.move(sold, double, later), InvalidInput)
    await office.refuses(office.move(sold, trip, office.network.shuttle()), InvalidInput)
    await office.refuses(office.move(both, trip, later), InvalidInput)
    await office.box.rows("UPDATE trip_stop SET departs_at = kiti_now() WHERE trip_id = %s", trip)
    await office.refuses(office.move(sold, trip, later), TripNotOnSale)
    with pytest.raises(InvalidInput, match="Say why"):
        await move_booking(
            office.house, booking=rival.booking, from_trip=later, to_trip=double, reason=" ", actor="test"
        )


async def test_who_travels_from_a_stop_that_the_other_trip_has_not_stays(office: Office) -> None:
    trip, shuttle = office.network.shuttle(), office.network.lake()
    held = await office.hold(trip, "1A")
    await office.refuses(office.move(held, trip, shuttle), NotOnTrip)


async def test_a_change_moves_no_money(office: Office) -> None:
    trip, later = office.network.bus(), office.network.bus()
    sold = await office.sell(trip, "1A")
    await office.swap(sold, {"1A": "2A"})
    await office.move(sold, trip, later)
    for table in ("transfer", "payment", "charge", "refund"):
        assert await office.box.value(f"SELECT count(*) FROM {table}") == 0


async def test_issuing_again_after_a_change_makes_no_ticket_for_what_was_voided_on_purpose(office: Office) -> None:
    out, back = office.network.bus(), office.network.bus()
    held = await office.hold_items(Item(trip=out, seats=("1A",)), Item(trip=back, seats=("7A",)))
    await office.confirm(held)
    async with office.box.db.transaction() as tx:
        await tickets.void(tx, booking=held.booking, trip=back, reason="refunded")
    await office.swap(held, {"1A": "2A"})
    assert (await office.tickets(held)).keys() == {"2A"}


async def test_seat_lines_that_are_gone_are_not_replaced(office: Office) -> None:
    held = await office.hold(office.network.bus(), "1A")

    async def work(tx: Transaction) -> None:
        (line,) = await booking_reads.seats_of(tx, bookings=[held.booking])
        gone = msgspec.structs.replace(line, seat="2A")
        await bookings.reseat(tx, booking=held.booking, changes=[(gone, line)])

    await office.refuses(office.house.db.run(work), NotFound)


async def test_forged_tickets_stay_unknown_whatever_was_changed(office: Office) -> None:
    sold = await office.sell(office.network.bus(), "1A")
    await office.swap(sold, {"1A": "2A"})
    assert isinstance(await office.scan(f"{sold.reference}-9Z"), Unknown)
