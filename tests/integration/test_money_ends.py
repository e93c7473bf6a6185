"""Whatever becomes of a booking, in the end nothing of its money is left on the way: each unit is somebody's."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.network import SHUTTLE_UGX, STANDARD_UGX
from tests.office import Held
from tests.settling import Treasury, open_treasury

from kiti.bookings.actions import WrongState
from kiti.core.errors import NotAllowed
from kiti.fees import actions as fees
from kiti.fees.model import Part as FeePart
from kiti.flows.cancel_trip import cancel_trip, finish_cancelled_trips
from kiti.flows.cancellation import Part, cancel_booking
from kiti.flows.counter import look
from kiti.flows.dispute_answers import looked_at
from kiti.flows.disputes import find_disputes
from kiti.flows.partial_cancellation import cancel_part
from kiti.flows.plan import Item
from kiti.flows.revenue import recognise_revenue
from kiti.flows.review import review
from kiti.flows.settle import settle_payment
from kiti.flows.staff_refunds import refund_payment
from kiti.people.model import Operator, Staff

FINANCE = Staff(id=UUID(int=2), email="f@kiti.example", name="Grace", role="platform_finance", operator=None)
COMMISSION = "platform_commission:platform"


class Ends(Treasury):
    """What travellers, operators, banks and clocks do, and whose money it is then."""

    @property
    def pearl(self) -> UUID:
        return self.office.network.bus_line.operator.id

    @property
    def lake(self) -> UUID:
        return self.office.network.shuttle_line.operator.id

    async def keeps(self, operator: UUID, *, percent: int) -> None:
        """What its rules give back of a fare, whenever it is cancelled."""
        await self.box.rows("INSERT INTO refund_rule VALUES (%s, '', 0, %s)", operator, percent)

    async def bears(self, held: Held, commission: int) -> None:
        payment = await self.box.value("SELECT payment_id FROM charge WHERE booking_id = %s", held.booking)
        part = FeePart(
            booking_id=held.booking, operator_id=self.pearl, kind="commission", borne_by="operator", amount=commission
        )
        async with self.box.db.transaction() as tx:
            await fees.put(tx, payment=payment, parts=[part])

    async def refund(self, transaction: str, amount: int | None = None, *, excess: bool = False) -> None:
        payment = UUID(self.gateway.taken[transaction].reference)
        await refund_payment(
            self.house, payment=payment, amount=amount, reason="Because.", staff=FINANCE, excess=excess
        )

    async def cancel_seat(self, held: Held, trip: UUID, seat: str) -> None:
        await cancel_part(self.house, booking=held.booking, part=Part(seats=frozenset({(trip, seat)})), actor="guest")

    async def cancel_trip(self, trip: UUID) -> Any:
        return await cancel_trip(self.house, trip=trip, reason="No driver.", actor="test")

    async def dispute(self, transaction: str, amount: int | None = None) -> Any:
        told = self.gateway.dispute(transaction, amount=amount)
        await find_disputes(self.house)
        return told

    async def decide(self, told: Any, how: Any) -> None:
        self.gateway.decide(told, how)
        await find_disputes(self.house)

    async def departs(self, *trips: UUID) -> None:
        """The last of these trips has left, or would have, two hours after its last stop at which anybody boards."""
        leaves: datetime = await self.box.value(
            "SELECT max(departs_at) FROM trip_stop WHERE trip_id = ANY(%s)", list(trips)
        )
        now: datetime = await self.box.value("SELECT kiti_now()")
        await self.box.travel(seconds=(leaves + timedelta(hours=2) - now).total_seconds())
        assert (await recognise_revenue(self.house))[1] == 0

    async def liabilities(self) -> dict[str, int]:
        """Who owes travellers what still."""
        rows = await self.box.rows(
            "SELECT account, sum(amount)::bigint AS amount FROM ("
            " SELECT booking_id, credit AS account, amount FROM transfer"
            " UNION ALL SELECT booking_id, debit, -amount FROM transfer) AS side"
            " WHERE account LIKE 'ticket_liability:%%' GROUP BY booking_id, account HAVING sum(amount) <> 0"
        )
        found: Counter[str] = Counter()
        for row in rows:
            assert row["amount"] > 0, row
            found[row["account"].partition(":")[2]] += row["amount"]
        return dict(found)

    async def earned(self, operator: UUID) -> int:
        return -await self.balance(f"operator_payable:{operator}")


@pytest.fixture
async def ends(fresh_url: str) -> AsyncIterator[Ends]:
    async with open_treasury(fresh_url) as there:
        yield Ends(there.office)


async def test_what_was_kept_of_a_seat_before_its_trip_was_cancelled_is_earned_when_it_would_have_left(
    ends: Ends,
) -> None:
    """A cancelled trip gives back what was paid for it still; a fee that was kept before stays with the operator."""
    await ends.keeps(ends.pearl, percent=50)
    trip = ends.office.network.bus()
    held, _ = await ends.buy(items=(Item(trip=trip, seats=("1A", "1B")),))
    whole, _ = await ends.buy(items=(Item(trip=trip, seats=("1C",)),))
    await ends.bears(held, 12_000)
    await ends.cancel_seat(held, trip, "1A")
    await cancel_booking(ends.house, booking=whole.booking, actor="guest")
    await ends.cancel_trip(trip)
    assert await ends.liabilities() == {str(ends.pearl): STANDARD_UGX}
    assert await ends.earned(ends.pearl) == 0
    await ends.departs(trip)
    assert await ends.liabilities() == {}
    assert await ends.earned(ends.pearl) == 2 * (STANDARD_UGX // 2) - 3_000
    assert await ends.balance(COMMISSION) == -3_000
    assert await ends.box.value("SELECT revenue_at IS NOT NULL FROM trip WHERE id = %s", trip)


async def test_what_was_kept_goes_with_the_trip_that_runs_and_else_with_the_first_that_would_have_left(
    ends: Ends,
) -> None:
    await ends.keeps(ends.pearl, percent=50)
    first, second, third = (ends.office.network.bus() for _ in range(3))
    held, _ = await ends.buy(items=(Item(trip=first, seats=("1A", "1B")), Item(trip=second, seats=("1A", "1B"))))
    other, _ = await ends.buy(items=(Item(trip=first, seats=("2A", "2B")), Item(trip=third, seats=("2A", "2B"))))
    await ends.cancel_seat(held, second, "1A")
    await ends.cancel_seat(other, first, "2A")
    for trip in (first, second):
        await ends.cancel_trip(trip)
    await ends.departs(first)
    assert await ends.earned(ends.pearl) == STANDARD_UGX // 2
    await ends.departs(second, third)
    assert await ends.liabilities() == {}
    assert await ends.earned(ends.pearl) == 2 * (STANDARD_UGX // 2) + 2 * STANDARD_UGX


async def test_a_cancelled_trip_whose_fares_are_to_go_back_earns_nothing_before_and_is_not_forgotten(
    ends: Ends,
) -> None:
    await ends.keeps(ends.pearl, percent=50)
    trip = ends.office.network.bus()
    held, _ = await ends.buy(items=(Item(trip=trip, seats=("1A", "1B")),))
    await ends.cancel_seat(held, trip, "1A")
    await ends.box.rows("UPDATE trip SET state = 'cancelled' WHERE id = %s", trip)
    await ends.departs(trip)
    assert await ends.earned(ends.pearl) == 0
    assert not await ends.box.value("SELECT revenue_at IS NOT NULL FROM trip WHERE id = %s", trip)
    assert await finish_cancelled_trips(ends.house) == (1, 0)
    assert (await recognise_revenue(ends.house)) == (1, 0)
    assert await ends.liabilities() == {}
    assert await ends.earned(ends.pearl) == STANDARD_UGX // 2
    assert await ends.box.value("SELECT revenue_at IS NOT NULL FROM trip WHERE id = %s", trip)


async def test_a_disputed_fare_of_a_cancelled_trip_is_nobodys_until_it_is_decided_and_looked_at(ends: Ends) -> None:
    trip = ends.office.network.bus()
    _, transaction = await ends.buy(items=(Item(trip=trip, seats=("1A",)),))
    told = await ends.dispute(transaction)
    await ends.cancel_trip(trip)
    await ends.departs(trip)
    assert (await ends.earned(ends.pearl), await ends.liabilities()) == (0, {str(ends.pearl): STANDARD_UGX})
    await ends.decide(told, "won")
    assert await recognise_revenue(ends.house) == (0, 0)
    assert not await ends.box.value("SELECT revenue_at IS NOT NULL FROM trip WHERE id = %s", trip)
    await ends.refund(transaction, 20_000)
    (dispute,) = await ends.box.rows("SELECT id FROM dispute")
    await looked_at(ends.house, dispute=dispute["id"], note="They took another bus for the rest.", actor="test")
    assert await recognise_revenue(ends.house) == (1, 0)
    assert (await ends.earned(ends.pearl), await ends.liabilities()) == (STANDARD_UGX - 20_000, {})
    assert await ends.box.value("SELECT revenue_at IS NOT NULL FROM trip WHERE id = %s", trip)


async def test_a_trip_that_runs_earns_nothing_of_a_disputed_one_beside_it(ends: Ends) -> None:
    first, second = ends.office.network.bus(), ends.office.network.bus()
    _, transaction = await ends.buy(items=(Item(trip=first, seats=("1A",)), Item(trip=second, seats=("1A",))))
    told = await ends.dispute(transaction)
    await ends.cancel_trip(first)
    await ends.departs(first, second)
    assert (await ends.earned(ends.pearl), await ends.liabilities()) == (STANDARD_UGX, {str(ends.pearl): STANDARD_UGX})
    await ends.decide(told, "lost")
    await recognise_revenue(ends.house)
    assert (await ends.earned(ends.pearl), await ends.liabilities()) == (0, {})


@pytest.mark.parametrize("how", ["won", "lost"])
async def test_what_was_kept_of_a_cancelled_booking_is_nobodys_while_the_bank_wants_it(ends: Ends, how: str) -> None:
    await ends.keeps(ends.pearl, percent=50)
    trip = ends.office.network.bus()
    held, transaction = await ends.buy(items=(Item(trip=trip, seats=("1A",)),))
    await cancel_booking(ends.house, booking=held.booking, actor="guest")
    told = await ends.dispute(transaction, STANDARD_UGX // 2)
    await ends.departs(trip)
    assert (await ends.earned(ends.pearl), await ends.liabilities()) == (0, {str(ends.pearl): STANDARD_UGX // 2})
    await ends.decide(told, how)
    if how == "won":
        (dispute,) = await ends.box.rows("SELECT id FROM dispute")
        await looked_at(ends.house, dispute=dispute["id"], note="Half, as the rules say.", actor="test")
    await recognise_revenue(ends.house)
    assert (await ends.earned(ends.pearl), await ends.liabilities()) == (STANDARD_UGX // 2 if how == "won" else 0, {})


async def test_a_lost_dispute_brings_the_commission_back_as_a_refund_does(ends: Ends) -> None:
    trip = ends.office.network.bus()
    held, transaction = await ends.buy(items=(Item(trip=trip, seats=("1A",)),))
    await ends.bears(held, 6_000)
    await ends.departs(trip)
    assert await ends.balance(COMMISSION) == -6_000
    await ends.decide(await ends.dispute(transaction, 20_000), "lost")
    assert await ends.balance(COMMISSION) == -4_000
    assert await ends.earned(ends.pearl) == 40_000 - 4_000
    await ends.refund(transaction, 20_000)
    assert await ends.balance(COMMISSION) == -2_000
    assert await ends.earned(ends.pearl) == 20_000 - 2_000
    await ends.decide(await ends.dispute(transaction), "lost")
    assert (await ends.balance(COMMISSION), await ends.earned(ends.pearl)) == (0, 0)
    assert await ends.balance("loss:flutterwave") == 40_000, "it was refunded or lost before"


@pytest.mark.parametrize("how", ["won", "lost"])
@pytest.mark.parametrize("asked", ["the excess", "all that is left"])
async def test_a_dispute_of_more_than_the_price_takes_of_neither_until_it_is_decided(
    ends: Ends, how: str, asked: str
) -> None:
    """The price is 60000, 110000 were paid, the bank wants 80000; staff give back what is left."""
    trip = ends.office.network.bus()
    _, transaction = await ends.buy(items=(Item(trip=trip, seats=("1A",)),), excess=50_000)
    told = await ends.dispute(transaction, 80_000)
    await ends.refund(transaction, excess=asked == "the excess")
    await ends.decide(told, how)
    if how == "won":
        await ends.cancel_trip(trip)
    await ends.finish_refunds()
    assert await ends.liabilities() == {}
    back = 30_000 if how == "lost" else 110_000
    assert sum(int(one.amount_exact) for one in ends.gateway.refunds.values()) == back
    assert await ends.balance("dispute_hold:flutterwave") == await ends.balance("loss:flutterwave") == 0


async def test_what_was_paid_beyond_the_price_is_no_operators_whichever_trip_runs(ends: Ends) -> None:
    bus, shuttle = ends.office.network.bus(), ends.office.network.shuttle()
    held, transaction = await ends.buy(
        items=(Item(trip=bus, seats=("1A",)), Item(trip=shuttle, seats=("1A",))), excess=1_001
    )
    await ends.bears(held, 6_000)
    await ends.cancel_trip(bus)
    assert await ends.liabilities() == {str(ends.lake): SHUTTLE_UGX, "unspent": 1_001}
    await ends.departs(bus, shuttle)
    assert await ends.liabilities() == {"unspent": 1_001}
    assert (await ends.earned(ends.lake), await ends.earned(ends.pearl)) == (SHUTTLE_UGX, 0)
    await ends.refund(transaction, excess=True)
    assert await ends.liabilities() == {}
    assert (await ends.earned(ends.lake), await ends.earned(ends.pearl)) == (SHUTTLE_UGX, 0)


async def test_a_short_payment_in_review_has_an_end_however_its_dispute_ends(ends: Ends) -> None:
    payments = []
    for how in ("won", "lost"):
        _, reference = await ends.hold("1A")
        transaction = ends.gateway.pay(reference, excess=-1_000)
        await settle_payment(ends.house, UUID(reference), transaction_id=transaction)
        told = await ends.dispute(transaction)
        for action in ("accept", "refund"):
            with pytest.raises(WrongState):
                await review(ends.house, payment=UUID(reference), action=action, reason="So.", staff=FINANCE)
        await ends.decide(told, how)
        payments.append(UUID(reference))
    states = await ends.box.rows("SELECT id, state FROM payment ORDER BY created_at")
    assert [row["state"] for row in states] == ["review", "captured"]
    rows = await ends.box.rows("SELECT state, attention FROM dispute ORDER BY opened_at")
    assert [(row["state"], "in review still" in row["attention"]) for row in rows] == [("won", True), ("lost", False)]
    await review(ends.house, payment=payments[0], action="refund", reason="So.", staff=FINANCE)
    assert await ends.liabilities() == {}


async def test_one_booking_that_fails_stops_no_other_and_keeps_nobody_waiting(ends: Ends) -> None:
    trip = ends.office.network.bus()
    sold = [(await ends.buy(items=(Item(trip=trip, seats=(seat,)),)))[0] for seat in ("1A", "1B", "1C")]
    await ends.box.rows(f"ALTER TABLE trip_refund ADD CONSTRAINT trouble CHECK (booking_id <> '{sold[0].booking}')")
    done = await ends.cancel_trip(trip)
    assert (done.refunded, done.failed) == (2, 1)
    assert await finish_cancelled_trips(ends.house) == (0, 1)
    again = await ends.cancel_trip(trip)
    assert (again.refunded, again.failed) == (0, 1)
    await ends.box.rows("ALTER TABLE trip_refund DROP CONSTRAINT trouble")
    assert await finish_cancelled_trips(ends.house) == (1, 0)
    assert await ends.box.value("SELECT count(*) FROM refund") == 3
    assert await ends.liabilities() == {}


async def test_a_cancelled_seat_still_counts_for_whose_booking_it_is_and_who_gives_back(ends: Ends) -> None:
    await ends.keeps(ends.lake, percent=0)
    bus, shuttle = ends.office.network.bus(), ends.office.network.shuttle()
    held, transaction = await ends.buy(items=(Item(trip=bus, seats=("1A",)), Item(trip=shuttle, seats=("1A",))))
    await ends.cancel_seat(held, shuttle, "1A")
    await ends.refund(transaction, 7_500)
    parts = {str(ends.pearl): STANDARD_UGX - 6_000, str(ends.lake): SHUTTLE_UGX - 1_500}
    assert await ends.liabilities() == parts
    clerk = Staff(
        id=UUID(int=3),
        email="c@kiti.example",
        name="Akello",
        role="operator_staff",
        operator=Operator(id=ends.pearl, code="pearl", name="Pearl Coaches", timezone="Africa/Kampala"),
    )
    with pytest.raises(NotAllowed):
        await look(ends.house, reference=held.reference, staff=clerk)
