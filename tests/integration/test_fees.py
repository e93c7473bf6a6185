"""Fees over the real flows: what was told is what is due, each coin has its owner, and what goes back is right."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from tests.integration.test_grouped_payments import Till
from tests.obliging import Obliging, with_gateway
from tests.office import Held, Office, open_office

from kiti.core.errors import InvalidInput, NotFound
from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.fees import actions as fees
from kiti.fees import reads as fee_reads
from kiti.fees.model import FeeRule, InvalidRule, Part
from kiti.flows import prices, show
from kiti.flows.cancel_trip import cancel_trip
from kiti.flows.cancellation import cancel_booking, quote_cancellation
from kiti.flows.checkout import Intent, initiate
from kiti.flows.plan import Item
from kiti.flows.settle import settle_payment
from kiti.flows.staff_refunds import refund_payment
from kiti.gateways.gateway import Truth
from kiti.payments.model import Payment
from kiti.people.model import Staff

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FINANCE = Staff(id=UUID(int=7), email="f@kiti.example", name="Femi", role="platform_finance", operator=None)
BUS, SHUTTLE = 60_000, 15_000


class Inexact(Obliging):
    """Takes so much more or less than it was asked to, and a payment again if it is asked about "<reference> again"."""

    excess = 0

    async def lookup(self, reference: str) -> Truth:
        return self.truth(reference, excess=self.excess)

    async def verify(self, transaction_id: str) -> Truth:
        return self.truth(transaction_id.removesuffix(" again"), transaction=transaction_id)


class Shop(Till):
    """A till with rules; `owed` is what the ledger owes for a booking."""

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self.inexact = Inexact()
        self.gateway = self.inexact
        self.house = with_gateway(office.house, self.gateway)

    @property
    def pearl(self) -> UUID:
        return self.office.network.bus_line.operator.id

    @property
    def lake(self) -> UUID:
        return self.office.network.shuttle_line.operator.id

    async def rule(self, kind: Any, borne_by: Any, **said: Any) -> FeeRule:
        fields: dict[str, Any] = {"currency": "UGX", "valid_from": LONG_AGO, **said}
        rule = FeeRule(id=new_id(), kind=kind, borne_by=borne_by, **fields)
        async with self.box.db.transaction() as tx:
            await fees.set_rule(tx, rule=rule)
        return rule

    async def open(self, held: Held, **said: Any) -> Payment:
        return (await initiate(self.house, Intent(booking=held.booking, **said))).payment

    async def paid(self, held: Held, *, excess: int = 0, **said: Any) -> Payment:
        """Opened and captured, with so much too much or too little."""
        payment = await self.open(held, **said)
        return await self.take(payment, excess=excess)

    async def take(self, payment: Payment, *, excess: int = 0) -> Payment:
        self.inexact.excess = excess
        return await settle_payment(self.house, payment.id)

    async def both(self) -> Held:
        """A bus of one operator and a shuttle of another in one booking."""
        network = self.office.network
        return await self.office.hold_items(
            Item(trip=network.bus(), seats=("1A",)), Item(trip=network.shuttle(), seats=("1A",))
        )

    async def owed(self, booking: UUID) -> dict[str, int]:
        rows = await self.box.rows(
            "SELECT account, sum(amount)::bigint AS amount FROM ("
            " SELECT credit AS account, amount FROM transfer WHERE booking_id = %s"
            " UNION ALL SELECT debit, -amount FROM transfer WHERE booking_id = %s) AS side"
            " WHERE account LIKE 'ticket_liability:%%' GROUP BY account HAVING sum(amount) <> 0",
            booking,
            booking,
        )
        names = {str(self.pearl): "pearl", str(self.lake): "lake", "platform": "platform", "unspent": "unspent"}
        return {names[row["account"].partition(":")[2]]: row["amount"] for row in rows}

    async def parts(self, booking: UUID) -> list[Part]:
        async with self.box.db.reader() as reader:
            return await fee_reads.of_bookings(reader, bookings=[booking])

    async def refunds(self, booking: UUID) -> list[int]:
        rows = await self.box.rows("SELECT amount FROM refund WHERE booking_id = %s ORDER BY id", booking)
        return [row["amount"] for row in rows]

    async def reservation(self, payment: Payment) -> str:
        return (await self.states(payment))[1]


@pytest.fixture
async def shop(fresh_url: str) -> AsyncIterator[Shop]:
    async with open_office(fresh_url) as office:
        yield Shop(office)


# ------------------------------------------------------------------ paying


async def test_what_is_paid_exactly_is_split_between_operator_and_platform(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", basis_points=250, fixed=500)
    await shop.rule("commission", "operator", basis_points=1000)
    await shop.rule("tax", "operator", basis_points=1800)
    held = await shop.office.hold(shop.office.network.bus(), "1A", "1B")
    payment = await shop.open(held)
    assert (payment.amount, payment.fee, payment.total) == (2 * BUS, 3_500, Money(2 * BUS + 3_500, "UGX"))
    assert shop.gateway.asked[str(payment.id)] == payment.total
    assert (await shop.take(payment)).state == "captured"
    assert await shop.reservation(payment) == "confirmed"
    assert await shop.owed(held.booking) == {"pearl": 2 * BUS, "platform": 3_500}
    assert [(part.kind, part.borne_by, part.amount) for part in await shop.parts(held.booking)] == [
        ("commission", "operator", 12_000),
        ("platform_fee", "traveller", 3_500),
        ("tax", "operator", 18_305),
    ]


async def test_a_tax_on_top_of_the_fare_is_owed_by_its_operator(shop: Shop) -> None:
    await shop.rule("tax", "traveller", basis_points=500, operator_id=shop.lake)
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    held = await shop.both()
    payment = await shop.paid(held)
    assert payment.fee == 1_750
    assert await shop.owed(held.booking) == {"pearl": BUS, "lake": SHUTTLE + 750, "platform": 1_000}


async def test_two_operators_in_one_booking_each_follow_their_own_rules(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", basis_points=100)
    await shop.rule("platform_fee", "traveller", fixed=700, operator_id=shop.lake)
    await shop.rule("commission", "operator", basis_points=1000, operator_id=shop.pearl)
    await shop.rule("commission", "operator", fixed=300, per="seat", operator_id=shop.lake)
    held = await shop.both()
    payment = await shop.paid(held)
    assert payment.fee == 600 + 700
    assert await shop.owed(held.booking) == {"pearl": BUS, "lake": SHUTTLE, "platform": 1_300}
    told = {(part.operator_id, part.kind): part.amount for part in await shop.parts(held.booking)}
    assert told == {
        (shop.pearl, "platform_fee"): 600,
        (shop.lake, "platform_fee"): 700,
        (shop.pearl, "commission"): 6_000,
        (shop.lake, "commission"): 300,
    }


async def test_who_pays_all_but_the_fee_waits_for_a_person_and_gets_all_of_it_back(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    held = await shop.both()
    payment = await shop.paid(held, excess=-1_000)
    assert payment.state == "review"
    assert await shop.reservation(payment) == "awaiting_payment"
    assert sum((await shop.owed(held.booking)).values()) == BUS + SHUTTLE
    refund = await refund_payment(shop.house, payment=payment.id, amount=None, reason="Too little.", staff=FINANCE)
    assert refund.amount == BUS + SHUTTLE
    assert await shop.owed(held.booking) == {}


async def test_too_much_is_accepted_and_stays_where_it_goes_back_from(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    held = await shop.both()
    payment = await shop.paid(held, excess=500)
    assert (payment.state, await shop.reservation(payment)) == ("captured", "confirmed")
    assert await shop.owed(held.booking) == {
        "pearl": BUS,
        "lake": SHUTTLE,
        "platform": 1_000,
        "unspent": 500,
    }


async def test_a_surplus_payment_goes_back_with_its_fee_and_leaves_the_first_one_whole(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    held = await shop.both()
    payment = await shop.paid(held)
    before = await shop.owed(held.booking)
    await settle_payment(shop.house, payment.id, transaction_id=f"{payment.id} again")
    assert await shop.refunds(held.booking) == [BUS + SHUTTLE + 1_000]
    assert await shop.owed(held.booking) == before == {"pearl": BUS, "lake": SHUTTLE, "platform": 1_000}


async def test_a_payment_that_finds_no_seats_goes_back_with_its_fee(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    held = await shop.both()
    payment = await shop.open(held)
    await cancel_booking(shop.house, booking=held.booking, actor="guest")
    assert (await shop.take(payment)).state == "captured"
    assert await shop.refunds(held.booking) == [BUS + SHUTTLE + 1_000]
    assert await shop.owed(held.booking) == {}


# ------------------------------------------------------------------ what was told


async def test_a_method_that_costs_more_changes_what_is_due_and_each_attempt_keeps_its_own(shop: Shop) -> None:
    await shop.rule("gateway_fee", "traveller", basis_points=300, method="CARD")
    await shop.rule("gateway_fee", "traveller", fixed=200, method="MOBILE_MONEY")
    held = await shop.office.hold(shop.office.network.bus(), "1A")
    view = await show.booking(shop.house, held.booking)
    assert view.price.total.amount == BUS + 1_800
    by_method = await show.prices_by_method(shop.house, view, ["CARD", "MOBILE_MONEY", "USSD"])
    assert [price.on_top.amount for price in by_method.values()] == [1_800, 200, 0]
    card = await shop.open(held, method="CARD")
    assert card.fee == 1_800
    await shop.box.rows("UPDATE payment SET state = 'failed' WHERE id = %s", card.id)
    phone = await shop.open(held, method="MOBILE_MONEY")
    assert phone.fee == 200
    assert (await show.booking(shop.house, held.booking)).price.total.amount == BUS + 200
    # The page of the card took the money after all.
    assert (await shop.take(card)).state == "captured"
    assert await shop.reservation(card) == "confirmed"
    assert await shop.owed(held.booking) == {"pearl": BUS, "platform": 1_800}
    assert (await show.booking(shop.house, held.booking)).price.total.amount == BUS + 1_800


async def test_a_rule_that_changes_changes_nothing_for_who_has_booked(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    held = await shop.office.hold(shop.office.network.bus(), "1A")
    now = await shop.box.value("SELECT kiti_now()")
    await shop.rule("platform_fee", "traveller", fixed=9_000, valid_from=now)
    assert (await shop.open(held)).fee == 1_000
    later = await shop.office.hold(shop.office.network.bus(), "1A")
    assert (await shop.open(later)).fee == 9_000


async def test_a_rule_counts_a_minute_after_it_was_set_and_until_a_minute_after_its_end(shop: Shop) -> None:
    asked = FeeRule(
        id=new_id(), kind="platform_fee", borne_by="traveller", currency="UGX", fixed=800, valid_from=LONG_AGO
    )
    rule = await prices.set_fee(shop.house, rule=asked, actor="test")
    at_once = await shop.office.hold(shop.office.network.bus(), "1A")
    await shop.box.travel(minutes=2)
    counting = await shop.office.hold(shop.office.network.bus(), "1A")
    await prices.end_fee(shop.house, rule=rule.id, actor="test")
    still = await shop.office.hold(shop.office.network.bus(), "1A")
    await shop.box.travel(minutes=4)
    over = await shop.office.hold(shop.office.network.bus(), "1A")
    assert [(await shop.open(held)).fee for held in (at_once, counting, still, over)] == [0, 800, 800, 0]
    assert await shop.box.value("SELECT count(*) FROM audit_event WHERE action LIKE 'fee.%%'") == 2
    with pytest.raises(NotFound):
        await prices.end_fee(shop.house, rule=rule.id, actor="test")


async def test_one_rule_of_a_sort_goes_on_and_none_begins_before_a_later_one(shop: Shop) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    first = await shop.rule("platform_fee", "traveller", fixed=1_000)
    await shop.rule("platform_fee", "traveller", fixed=2_000, valid_from=tomorrow)
    with pytest.raises(InvalidRule):
        await shop.rule("platform_fee", "traveller", fixed=3_000)
    assert await shop.box.value("SELECT valid_until FROM fee_rule WHERE id = %s", first.id) == tomorrow
    doubled = "INSERT INTO fee_rule SELECT gen_random_uuid(), operator_id, kind, borne_by, currency, method,"
    with pytest.raises(psycopg.errors.UniqueViolation):
        await shop.box.rows(
            f"{doubled} basis_points, fixed, minimum, maximum, per, valid_from, valid_until"
            " FROM fee_rule WHERE valid_until IS NULL"
        )


async def test_an_assertion_of_amount_or_total_that_is_not_due_is_refused(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    held = await shop.office.hold(shop.office.network.bus(), "1A")
    for wrong in ({"amount": BUS + 1_000}, {"total": BUS}, {"amount": BUS, "total": BUS + 999}):
        with pytest.raises(InvalidInput):
            await shop.open(held, **wrong)
    assert (await shop.open(held, amount=BUS, total=BUS + 1_000)).fee == 1_000
    # It is open now, and asserted in the same way.
    assert (await shop.open(held, amount=BUS, total=BUS + 1_000)).fee == 1_000
    with pytest.raises(InvalidInput):
        await shop.open(held, total=BUS)


# ------------------------------------------------------------------ going back


async def test_who_cancels_gets_the_fare_and_its_tax_but_not_the_service_fee(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    await shop.rule("tax", "traveller", basis_points=500)
    held = await shop.both()
    await shop.paid(held, excess=200)
    quote = await quote_cancellation(shop.house, booking=held.booking)
    assert [(seat.price, seat.percent) for seat in quote.seats] == [(63_000, 100), (15_750, 100)]
    assert (quote.excess, quote.refund.amount) == (200, 63_000 + 15_750 + 200)
    await cancel_booking(shop.house, booking=held.booking, actor="guest")
    assert await shop.refunds(held.booking) == [78_950]
    assert await shop.owed(held.booking) == {"platform": 1_000}


async def test_a_trip_that_its_operator_cancels_gives_its_share_of_everything_back(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_001)
    await shop.rule("tax", "traveller", basis_points=500)
    held = await shop.both()
    await shop.paid(held, excess=200)
    trips = await shop.box.rows(
        "SELECT trip_id, fare FROM booking_seat WHERE booking_id = %s ORDER BY fare", held.booking
    )
    await cancel_trip(shop.house, trip=trips[0]["trip_id"], reason="No fuel.", actor="test")
    assert await shop.refunds(held.booking) == [15_750 + 200]  # a fifth of the fee
    assert (await shop.owed(held.booking))["platform"] == 801
    await cancel_trip(shop.house, trip=trips[1]["trip_id"], reason="No fuel.", actor="test")
    assert await shop.refunds(held.booking) == [15_950, 63_000 + 801 + 200]
    assert await shop.owed(held.booking) == {}


async def test_who_cancels_after_their_operator_did_gets_everything(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    held = await shop.office.hold(shop.office.network.bus(), "1A")
    await shop.paid(held)
    trip = await shop.box.value("SELECT trip_id FROM booking_seat WHERE booking_id = %s", held.booking)
    await shop.box.rows("UPDATE trip SET state = 'cancelled' WHERE id = %s", trip)
    await cancel_booking(shop.house, booking=held.booking, actor="guest")
    assert await shop.refunds(held.booking) == [BUS + 1_000]
    assert await shop.owed(held.booking) == {}


async def test_staff_give_fares_back_before_fees_and_all_of_it_in_the_end(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    held = await shop.both()
    payment = await shop.paid(held)
    await refund_payment(shop.house, payment=payment.id, amount=25_000, reason="A broken seat.", staff=FINANCE)
    assert await shop.owed(held.booking) == {"pearl": BUS - 20_000, "lake": SHUTTLE - 5_000, "platform": 1_000}
    await refund_payment(shop.house, payment=payment.id, amount=None, reason="A broken bus.", staff=FINANCE)
    assert await shop.owed(held.booking) == {}


async def test_what_an_attempt_was_told_is_written_once_and_never_for_another_booking(shop: Shop) -> None:
    await shop.rule("platform_fee", "traveller", fixed=1_000)
    held = await shop.office.hold(shop.office.network.bus(), "1A")
    payment = await shop.open(held)
    (part,) = await shop.parts(held.booking)
    for booking, error in (
        (held.booking, psycopg.errors.UniqueViolation),
        (new_id(), psycopg.errors.ForeignKeyViolation),
    ):
        put = partial(fees.put, payment=payment.id, parts=[msgspec.structs.replace(part, booking_id=booking)])
        with pytest.raises(error):
            await shop.box.db.run(put)
