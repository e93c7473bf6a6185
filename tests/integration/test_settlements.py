"""Statements say what the ledger says, to the minor unit; each entry once; and no one person can have one paid."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
from tests.earnings import Earnings, open_earnings, somebody
from tests.network import LAKE_KES, SHUTTLE_UGX, STANDARD_UGX
from tests.pace import effort

from kiti.core.clock import local
from kiti.core.errors import InvalidInput, NotAllowed
from kiti.flows.corrections import NotReversible, correct_event
from kiti.flows.settlements import approve, calculate_settlements, list_settlements, show_statement
from kiti.ledger import actions as ledger
from kiti.ledger.model import Entry
from kiti.people.model import Operator, Staff
from kiti.settlements.actions import SettlementChanged

MONTH = timedelta(days=32)


@pytest.fixture
async def earnings(fresh_url: str) -> AsyncIterator[Earnings]:
    async with open_earnings(fresh_url) as opened:
        yield opened


async def drive(earnings: Earnings, *seats: str) -> UUID:
    """Sell seats of a bus that then departs; the trip."""
    trip = earnings.network.bus()
    for seat in seats:
        held = await earnings.buy(trip, seat)
        await earnings.bears(held, earnings.pearl, "commission", 6_001)
    await earnings.after(trip)
    await earnings.recognise()
    return trip


async def pass_time(earnings: Earnings, span: timedelta = MONTH) -> None:
    await earnings.box.travel(seconds=span.total_seconds())


async def test_a_month_is_one_statement_of_its_trips_by_the_operators_calendar(earnings: Earnings) -> None:
    await drive(earnings, "1A", "1B")
    assert await earnings.settle() == []
    await pass_time(earnings)
    (made,) = await earnings.settle()
    assert (made["state"], made["gross"], made["commission"]) == ("draft", 2 * STANDARD_UGX, 12_002)
    assert made["net"] == 2 * STANDARD_UGX - 12_002
    starts, ends = (local(made[at], timezone="Africa/Kampala") for at in ("starts_at", "ends_at"))
    assert (starts.day, starts.hour, ends.day, ends.hour) == (1, 0, 1, 0)
    assert await earnings.settle() == []
    await earnings.statements_equal_the_ledger()


async def test_a_statement_shows_each_booking_and_trip(earnings: Earnings) -> None:
    trip = await drive(earnings, "1A", "1B", "1C")
    await pass_time(earnings)
    (made,) = await earnings.settle()
    shown = await show_statement(earnings.house, settlement=made["id"], staff=somebody(), limit=2)
    rest = await show_statement(earnings.house, settlement=made["id"], staff=somebody(), after=shown.next_after)
    lines = [*shown.lines, *rest.lines]
    assert [(line.trip_id, line.gross, line.commission, line.net) for line in lines] == 3 * [
        (trip, STANDARD_UGX, -6_001, STANDARD_UGX - 6_001)
    ]
    assert len({line.reference for line in lines}) == 3
    assert all(line.route == "bus" and line.departs_at for line in lines)
    assert rest.next_after is None


@pytest.mark.parametrize(("period", "days"), [("daily", 1), ("weekly", 7)])
async def test_an_operator_may_be_settled_with_more_often(earnings: Earnings, period: str, days: int) -> None:
    await earnings.terms(earnings.pearl, period=period)  # type: ignore[arg-type] # one of the periods
    await drive(earnings, "1A")
    await pass_time(earnings, timedelta(days=days, hours=2))
    (made,) = await earnings.settle()
    assert made["ends_at"] - made["starts_at"] == timedelta(days=days)
    if period == "weekly":
        assert local(made["starts_at"], timezone="Africa/Kampala").weekday() == 0


async def test_each_period_that_was_missed_has_a_statement_of_its_own(earnings: Earnings) -> None:
    await earnings.terms(earnings.pearl, period="daily")
    for _ in range(3):
        await drive(earnings, "1A")
    await pass_time(earnings, timedelta(days=2))
    made = await earnings.settle()
    assert len(made) == 3
    assert [one["starts_at"] for one in made[1:]] == [one["ends_at"] for one in made[:-1]]


async def test_operators_and_currencies_have_statements_of_their_own(earnings: Earnings) -> None:
    shuttle, lake = earnings.network.shuttle(), earnings.network.lake()
    await earnings.buy(shuttle, "1A")
    await earnings.buy(lake, "1A")
    await drive(earnings, "1A")
    await earnings.after(lake, minutes=120)
    await earnings.recognise()
    await pass_time(earnings)
    made = {(one["operator_id"], one["currency"]): one["gross"] for one in await earnings.settle()}
    assert made == {
        (earnings.pearl, "UGX"): STANDARD_UGX,
        (earnings.lake, "UGX"): SHUTTLE_UGX,
        (earnings.lake, "KES"): LAKE_KES,
    }


async def test_a_negative_statement_is_carried_into_the_next_one(earnings: Earnings) -> None:
    first = earnings.network.bus()
    held = await earnings.buy(first, "1A")
    await earnings.after(first)
    await earnings.recognise()
    await pass_time(earnings)
    (paid,) = await earnings.settle()
    await earnings.refund(held, STANDARD_UGX)
    await pass_time(earnings)
    (minus,) = await earnings.settle()
    assert (minus["state"], minus["net"], minus["refunds"]) == ("carried", -STANDARD_UGX, STANDARD_UGX)
    trip = earnings.network.bus_after(await earnings.box.value("SELECT kiti_now()"))
    for seat in ("1A", "1B"):
        await earnings.buy(trip, seat)
    await earnings.after(trip)
    await earnings.recognise()
    await pass_time(earnings)
    (plus,) = await earnings.settle()
    assert (plus["state"], plus["carried"], plus["net"]) == ("draft", -STANDARD_UGX, STANDARD_UGX)
    assert await earnings.box.value("SELECT carried_into FROM settlement WHERE id = %s", minus["id"]) == plus["id"]
    assert paid["net"] == STANDARD_UGX


async def test_too_little_to_be_sent_waits_for_the_next_period(earnings: Earnings) -> None:
    await earnings.terms(earnings.pearl, period="daily", minimum=100_000)
    await drive(earnings, "1A")
    await drive(earnings, "1A")
    await pass_time(earnings, timedelta(days=1, hours=2))
    little, enough = await earnings.settle()
    assert (little["state"], enough["state"]) == ("carried", "draft")
    assert enough["net"] == 2 * (STANDARD_UGX - 6_001)


async def test_statements_are_made_once_however_many_make_them(earnings: Earnings) -> None:
    await earnings.terms(earnings.pearl, period="daily")
    for _ in range(2):
        await drive(earnings, "1A", "1B")
    await pass_time(earnings, timedelta(days=2))
    results = await asyncio.gather(*(calculate_settlements(earnings.house) for _ in range(5)))
    assert sum(made for made, _ in results) == 2
    assert [failed for _, failed in results] == [0] * 5


async def test_an_entry_that_came_into_the_books_late_is_in_the_next_statement(earnings: Earnings) -> None:
    trip = await drive(earnings, "1A")
    await pass_time(earnings)
    (made,) = await earnings.settle()
    late = made["ends_at"] - timedelta(minutes=1)
    booking = await earnings.box.value("SELECT booking_id FROM transfer WHERE event = %s LIMIT 1", f"departed:{trip}")
    await earnings.box.rows(
        "INSERT INTO transfer SELECT booking_id, gen_random_uuid(), 'adjusted:late', 1, 'rounding:test', credit, 77,"
        " currency, %s FROM transfer WHERE booking_id = %s AND event = %s AND line = 1",
        *(late, booking, f"departed:{trip}"),
    )
    await pass_time(earnings)
    (following,) = await earnings.settle()
    assert (following["other"], following["starts_at"]) == (77, made["ends_at"])


async def test_terms_that_change_begin_where_the_last_statement_ended(earnings: Earnings) -> None:
    await drive(earnings, "1A")
    await pass_time(earnings)
    (month,) = await earnings.settle()
    await earnings.terms(earnings.pearl, period="weekly")
    async with earnings.box.db.transaction() as tx:
        entry = Entry(debit="rounding:test", credit=f"operator_payable:{earnings.pearl}", amount=5)
        await ledger.post(tx, booking=month["id"], event="adjusted:1", currency="UGX", entries=[entry])
    await pass_time(earnings)
    (week,) = await earnings.settle()
    assert week["starts_at"] >= month["ends_at"]
    assert week["ends_at"] - week["starts_at"] <= timedelta(days=7)


async def test_an_event_is_reversed_by_entries_and_never_changed(earnings: Earnings) -> None:
    trip = await drive(earnings, "1A")
    booking = await earnings.box.value("SELECT booking_id FROM transfer WHERE event = %s LIMIT 1", f"departed:{trip}")
    before = await earnings.box.value("SELECT count(*) FROM transfer")
    await correct_event(
        earnings.house, booking=booking, event=f"departed:{trip}", reason="it never left", staff=somebody()
    )
    assert await earnings.box.value("SELECT count(*) FROM transfer") == before + 2
    assert await earnings.balance(f"operator_payable:{earnings.pearl}") == 0
    assert await earnings.balance(f"ticket_liability:{earnings.pearl}") == STANDARD_UGX
    assert await earnings.balance("platform_commission:platform") == 0
    for event in (f"departed:{trip}", f"departed:{earnings.pearl}", "capture:flutterwave:1"):
        with pytest.raises(NotReversible):
            await correct_event(earnings.house, booking=booking, event=event, reason="again", staff=somebody())
    assert await earnings.recognise() == 0
    why = await earnings.box.value("SELECT detail ->> 'reason' FROM audit_event WHERE action = 'ledger.corrected'")
    assert why == "it never left"
    await pass_time(earnings)
    (nothing,) = await earnings.settle()
    assert (nothing["gross"], nothing["commission"], nothing["net"], nothing["state"]) == (0, 0, 0, "carried")


async def test_a_reversal_is_not_undone_once_its_money_has_gone_back(earnings: Earnings) -> None:
    trip = await drive(earnings, "1A")
    booking = await earnings.box.value("SELECT booking_id FROM transfer WHERE event = %s LIMIT 1", f"departed:{trip}")
    await correct_event(
        earnings.house, booking=booking, event=f"departed:{trip}", reason="it never left", staff=somebody()
    )
    async with earnings.box.db.transaction() as tx:
        entry = Entry(debit=f"ticket_liability:{earnings.pearl}", credit="refund_clearing:flutterwave", amount=1)
        await ledger.post(tx, booking=booking, event="refund:1", currency="UGX", entries=[entry])
    with pytest.raises(NotReversible, match="gone back"):
        await correct_event(
            earnings.house, booking=booking, event=f"reversal:departed:{trip}", reason="it did", staff=somebody()
        )
    assert await earnings.balance(f"ticket_liability:{earnings.pearl}") == STANDARD_UGX - 1


async def test_a_draft_is_approved_once_by_somebody_who_did_not_say_where_the_money_goes(earnings: Earnings) -> None:
    editor, approver = somebody(number=1), somebody(number=2)
    await drive(earnings, "1A")
    await pass_time(earnings)
    (made,) = await earnings.settle()
    with pytest.raises(InvalidInput):
        await approve(earnings.house, settlement=made["id"], staff=approver)
    await earnings.terms(earnings.pearl, set_by=editor.actor)
    with pytest.raises(NotAllowed):
        await approve(earnings.house, settlement=made["id"], staff=editor)
    found = await approve(earnings.house, settlement=made["id"], staff=approver)
    assert (found.state, found.approved_by, found.gateway) == ("approved", approver.actor, "bank")
    with pytest.raises(SettlementChanged):
        await approve(earnings.house, settlement=made["id"], staff=approver)


async def test_an_operator_sees_their_own_statements_and_approves_none(earnings: Earnings) -> None:
    await drive(earnings, "1A")
    await pass_time(earnings)
    (made,) = await earnings.settle()
    lake = Operator(id=earnings.lake, code="lake", name="Lake Lines", timezone="Africa/Kampala")
    pearl = Operator(id=earnings.pearl, code="pearl", name="Pearl Coaches", timezone="Africa/Kampala")
    theirs, others = (
        Staff(id=UUID(int=5), email="o@kiti.example", name="O", role="operator_finance", operator=operator)
        for operator in (pearl, lake)
    )
    assert len((await list_settlements(earnings.house, staff=theirs)).settlements) == 1
    assert (await list_settlements(earnings.house, staff=others)).settlements == []
    assert (await show_statement(earnings.house, settlement=made["id"], staff=theirs)).lines
    with pytest.raises(NotAllowed):
        await show_statement(earnings.house, settlement=made["id"], staff=others)
    for staff in (theirs, others, somebody("operator_staff")):
        with pytest.raises(NotAllowed):
            await approve(earnings.house, settlement=made["id"], staff=staff)


async def test_it_is_quick_enough(earnings: Earnings) -> None:
    """A full bus takes less than a second of a processor: several hundred bookings a second are usual."""
    trip = earnings.network.bus()
    for seat in earnings.network.bus_line.seats:
        await earnings.buy(trip, seat)
    await earnings.after(trip)
    spent = await effort(earnings.house.db)
    assert await earnings.recognise() == 50
    await pass_time(earnings)
    await earnings.settle()
    assert spent.seconds < 1
