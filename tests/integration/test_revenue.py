"""What travellers paid is the operator's when they have boarded, less what the operator bears; once, and refundable."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from psycopg.errors import UniqueViolation
from tests.earnings import Earnings, open_earnings
from tests.network import FIRST_LEG_UGX, SECOND_LEG_UGX, SHUTTLE_UGX, STANDARD_UGX

from kiti.fees.model import Part
from kiti.flows.cancel_trip import cancel_trip
from kiti.flows.cancellation import cancel_booking
from kiti.flows.plan import Item
from kiti.flows.revenue import recognise_revenue
from kiti.ledger import actions as ledger
from kiti.ledger.model import Entry

COMMISSION = "platform_commission:platform"


@pytest.fixture
async def earnings(fresh_url: str) -> AsyncIterator[Earnings]:
    async with open_earnings(fresh_url) as opened:
        yield opened


def owed_to(operator: UUID) -> str:
    return f"operator_payable:{operator}"


def owed_for(operator: UUID | str) -> str:
    return f"ticket_liability:{operator}"


async def test_what_was_paid_is_the_operators_once_the_trip_has_left_and_not_before(earnings: Earnings) -> None:
    trip = earnings.network.bus()
    held = await earnings.buy(trip, "1A", "1B")
    assert await earnings.recognise() == 0
    await earnings.after(trip)
    assert await earnings.recognise() == 1
    assert await earnings.balance(owed_for(earnings.pearl)) == 0
    assert await earnings.balance(owed_to(earnings.pearl)) == 2 * STANDARD_UGX
    assert await earnings.recognise() == 0
    assert await earnings.events(held) == ["departed"]


async def test_commission_and_the_gateways_fee_come_out_of_the_fares(earnings: Earnings) -> None:
    trip = earnings.network.bus()
    held = await earnings.pay(await earnings.hold(trip, "1A"), fee="1400.4")
    common: dict[str, Any] = {"booking_id": held.booking, "operator_id": earnings.pearl, "borne_by": "operator"}
    await earnings.cost(
        held,
        [
            Part(**common, kind="commission", amount=6_001),
            Part(**common, kind="gateway_fee", amount=1_400),
            Part(**common, kind="tax", amount=9_000),
        ],
    )
    await earnings.after(trip)
    await earnings.recognise()
    assert await earnings.balance(COMMISSION) == 6_001
    assert await earnings.balance("gateway_fee:flutterwave") == 0
    assert await earnings.balance(owed_to(earnings.pearl)) == STANDARD_UGX - 6_001 - 1_400


async def test_who_boards_on_the_way_has_not_departed_with_the_others(earnings: Earnings) -> None:
    trip = earnings.network.bus()
    await earnings.buy(trip, "1A", to_code="MBR")
    await earnings.buy(trip, "1A", from_code="MBR")
    await earnings.after(trip)
    assert await earnings.recognise() == 1
    assert await earnings.balance(owed_to(earnings.pearl)) == FIRST_LEG_UGX
    await earnings.after(trip, seq=1)
    assert await earnings.recognise() == 1
    assert await earnings.balance(owed_to(earnings.pearl)) == FIRST_LEG_UGX + SECOND_LEG_UGX


async def test_a_trip_is_looked_at_no_more_an_hour_after_the_last_have_boarded(earnings: Earnings) -> None:
    trip = earnings.network.bus()
    await earnings.buy(trip, "1A")
    await earnings.after(trip, seq=1)
    await earnings.recognise()
    closed = "SELECT revenue_at IS NOT NULL AS closed FROM trip WHERE id = %s"
    assert await earnings.box.value(closed, trip) is False
    await earnings.after(trip, seq=1, minutes=70)
    await earnings.recognise()
    assert await earnings.box.value(closed, trip) is True


async def test_trips_of_one_booking_depart_one_by_one_and_their_parts_add_up(earnings: Earnings) -> None:
    there, back = earnings.network.bus(), earnings.network.bus()
    shuttle = earnings.network.shuttle()
    held = await earnings.buy_items(
        Item(trip=there, seats=("1A",)), Item(trip=back, seats=("1A",)), Item(trip=shuttle, seats=("1A",))
    )
    await earnings.bears(held, earnings.pearl, "commission", 5_555)
    for trip in (there, back):
        await earnings.after(trip)
        await earnings.recognise()
        share = await earnings.box.value(
            "SELECT amount FROM transfer WHERE event = %s AND line = 1 AND booking_id = %s AND credit = %s",
            *(f"departed:{trip}", held.booking, owed_to(earnings.pearl)),
        )
        assert share == STANDARD_UGX
    assert await earnings.balance(COMMISSION) == 5_555
    assert await earnings.balance(owed_for(earnings.pearl), below=held.booking) == 0
    assert await earnings.balance(owed_to(earnings.lake)) == SHUTTLE_UGX


async def test_commission_is_on_what_was_not_refunded_before(earnings: Earnings) -> None:
    trip = earnings.network.bus()
    held = await earnings.buy(trip, "1A")
    await earnings.bears(held, earnings.pearl, "commission", 6_001)
    await earnings.refund(held, STANDARD_UGX // 4)
    await earnings.after(trip)
    await earnings.recognise()
    assert await earnings.balance(COMMISSION) == 4_501  # 4500.75
    assert await earnings.balance(owed_to(earnings.pearl)) == STANDARD_UGX * 3 // 4 - 4_501


async def test_a_refund_after_departure_is_the_operators_and_brings_the_commission_back(earnings: Earnings) -> None:
    trip = earnings.network.bus()
    held = await earnings.buy(trip, "1A")
    await earnings.bears(held, earnings.pearl, "commission", 6_000)
    await earnings.after(trip)
    await earnings.recognise()
    await earnings.refund(held, STANDARD_UGX // 2)
    assert await earnings.balance(COMMISSION) == 3_000
    assert await earnings.balance(owed_to(earnings.pearl)) == STANDARD_UGX // 2 - 3_000
    await earnings.refund(held, STANDARD_UGX // 2)
    assert await earnings.balance(COMMISSION) == 0
    assert await earnings.balance(owed_to(earnings.pearl)) == 0
    assert await earnings.balance("refund_clearing:flutterwave") == STANDARD_UGX


async def test_a_refund_takes_from_the_operator_who_is_meant_though_another_has_not_departed(
    earnings: Earnings,
) -> None:
    bus, shuttle = earnings.network.bus(), earnings.network.shuttle()
    held = await earnings.buy_items(Item(trip=bus, seats=("1A",)), Item(trip=shuttle, seats=("1A",)))
    await earnings.box.rows(
        "UPDATE trip SET departs_at = departs_at + interval '1 hour', arrives_at = arrives_at + interval '1 hour'"
        " WHERE id = %s",
        shuttle,
    )
    await earnings.box.rows(
        "UPDATE trip_stop SET departs_at = departs_at + interval '1 hour' WHERE trip_id = %s", shuttle
    )
    await earnings.after(bus)
    assert await earnings.recognise() == 1
    await earnings.refund(held, 10_000, by=earnings.pearl)
    assert await earnings.balance(owed_for(earnings.lake), below=held.booking) == SHUTTLE_UGX
    assert await earnings.balance(owed_to(earnings.pearl)) == STANDARD_UGX - 10_000


async def test_what_a_cancelled_booking_did_not_get_back_is_revenue_at_departure(earnings: Earnings) -> None:
    trip = earnings.network.bus()
    held = await earnings.buy(trip, "1A")
    await earnings.bears(held, earnings.pearl, "commission", 6_000)
    await earnings.box.rows("INSERT INTO refund_rule VALUES (%s, '', 0, 50)", earnings.pearl)
    await cancel_booking(earnings.house, booking=held.booking, actor="test")
    await earnings.after(trip)
    assert await earnings.recognise() == 1
    assert await earnings.balance(owed_to(earnings.pearl)) == STANDARD_UGX // 2 - 3_000
    assert await earnings.balance(owed_for(earnings.pearl)) == 0


async def test_a_cancelled_trip_is_no_revenue_and_one_cancelled_on_the_way_is_none_any_more(
    earnings: Earnings,
) -> None:
    never, broken = earnings.network.bus(), earnings.network.bus()
    lost, stranded = await earnings.buy(never, "1A"), await earnings.buy(broken, "1A")
    await earnings.bears(stranded, earnings.pearl, "commission", 6_000)
    await cancel_trip(earnings.house, trip=never, reason="no driver", actor="test")
    await earnings.after(broken)
    assert await earnings.recognise() == 1
    assert await earnings.events(lost) == ["refund_requested"]
    await cancel_trip(earnings.house, trip=broken, reason="engine", actor="test")
    assert await earnings.events(stranded) == ["departed", "refund_requested"]
    assert await earnings.balance(owed_to(earnings.pearl)) == 0
    assert await earnings.balance(COMMISSION) == 0


async def test_the_platforms_part_is_its_own_income_when_the_trips_have_left(earnings: Earnings) -> None:
    there, back = earnings.network.bus(), earnings.network.bus()
    held = await earnings.buy_items(Item(trip=there, seats=("1A",)), Item(trip=back, seats=("1A",)))
    async with earnings.box.db.transaction() as tx:
        entry = Entry(debit="gateway_clearing:flutterwave", credit=owed_for("platform"), amount=2_001)
        await ledger.post(tx, booking=held.booking, event="capture:test:1", currency="UGX", entries=[entry])
    await earnings.after(there)
    await earnings.recognise()
    # The odd unit goes with the trip of the lower id, and ids are made of days.
    assert await earnings.balance(COMMISSION) == (1_001 if there < back else 1_000)
    await earnings.after(back)
    await earnings.recognise()
    assert await earnings.balance(COMMISSION) == 2_001
    assert await earnings.balance(owed_for("platform")) == 0


async def test_money_that_bought_nothing_and_waits_for_a_person_is_nobodys_revenue(earnings: Earnings) -> None:
    trip = earnings.network.bus()
    held = await earnings.buy(trip, "1A")
    await earnings.box.rows(
        "INSERT INTO charge SELECT booking_id, gateway, 'odd', payment_id, 'unfulfillable', 7000, currency, 0,"
        " captured_at, 0 FROM charge WHERE booking_id = %s",
        held.booking,
    )
    async with earnings.box.db.transaction() as tx:
        entry = Entry(debit="gateway_clearing:flutterwave", credit=owed_for("unspent"), amount=7_000)
        await ledger.post(tx, booking=held.booking, event="capture:flutterwave:odd", currency="UGX", entries=[entry])
    await earnings.after(trip)
    await earnings.recognise()
    assert await earnings.balance(owed_to(earnings.pearl)) == STANDARD_UGX
    assert await earnings.balance(owed_for(earnings.pearl)) == 0
    assert await earnings.balance(owed_for("unspent")) == 7_000
    await earnings.box.rows("UPDATE charge SET refund_reserved = amount WHERE transaction_id = 'odd'")


async def test_revenue_is_recognised_once_however_many_workers_do_it_and_a_refund_comes_between(
    earnings: Earnings,
) -> None:
    trip = earnings.network.bus()
    sold = [await earnings.buy(trip, seat) for seat in earnings.network.bus_line.seats[:12]]
    for held in sold:
        await earnings.bears(held, earnings.pearl, "commission", 6_000)
    await earnings.after(trip)
    results = await asyncio.gather(
        *(recognise_revenue(earnings.house) for _ in range(4)),
        *(earnings.refund(held, STANDARD_UGX // 2) for held in sold[:6]),
    )
    assert [result[1] for result in results[:4] if isinstance(result, tuple)] == [0, 0, 0, 0]
    await earnings.recognise()
    assert await earnings.balance(owed_for(earnings.pearl)) == 0
    kept = 6 * STANDARD_UGX + 6 * STANDARD_UGX // 2
    assert await earnings.balance(COMMISSION) == kept // 10
    assert await earnings.balance(owed_to(earnings.pearl)) == kept - kept // 10


async def test_the_database_refuses_a_departure_twice(earnings: Earnings) -> None:
    trip = earnings.network.bus()
    held = await earnings.buy(trip, "1A")
    await earnings.after(trip)
    await earnings.recognise()
    entry = Entry(debit=owed_for(earnings.pearl), credit=owed_to(earnings.pearl), amount=1)
    with pytest.raises(UniqueViolation):
        async with earnings.box.db.transaction() as tx:
            await ledger.post(tx, booking=held.booking, event=f"departed:{trip}", currency="UGX", entries=[entry])


async def test_one_booking_that_cannot_be_recognised_does_not_stop_the_others(earnings: Earnings) -> None:
    trip = earnings.network.bus()
    sold = [await earnings.buy(trip, seat) for seat in ("1A", "1B", "1C")]
    # Its fee is more than fits into the ledger's column.
    await earnings.box.rows("ALTER TABLE booking_fee DROP CONSTRAINT booking_fee_amount_check")
    await earnings.box.rows(
        "INSERT INTO booking_fee SELECT booking_id, payment_id, %s, 'commission', 'operator', 9223372036854775807, 0"
        " FROM charge WHERE booking_id = %s",
        *(earnings.pearl, sold[1].booking),
    )
    await earnings.box.rows("ALTER TABLE transfer ADD CONSTRAINT no_such_amount CHECK (amount < 9223372036854775807)")
    await earnings.after(trip, minutes=400)
    assert await recognise_revenue(earnings.house) == (2, 1)
    assert await earnings.balance(owed_to(earnings.pearl)) == 2 * STANDARD_UGX
    assert await earnings.box.value("SELECT revenue_at FROM trip WHERE id = %s", trip) is None
    await earnings.box.rows("DELETE FROM booking_fee WHERE booking_id = %s", sold[1].booking)
    assert await recognise_revenue(earnings.house) == (1, 0)
    assert await earnings.box.value("SELECT revenue_at FROM trip WHERE id = %s", trip) is not None


async def test_looking_for_what_has_departed_reads_no_history(earnings: Earnings) -> None:
    plan = await earnings.box.rows(
        "EXPLAIN SELECT id FROM trip WHERE revenue_at IS NULL AND departs_at <= kiti_now()"
        " AND (departs_at, id) > ('epoch', '00000000-0000-0000-0000-000000000000') ORDER BY departs_at, id LIMIT 100"
    )
    assert "trip_revenue_due" in str(plan)
