"""What a person decides about money that is not what was due: once, with a reason, and never more than there is."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.box import Box
from tests.cancelling import cancel
from tests.examples import examples
from tests.house import RunningHouse, until
from tests.network import STANDARD_UGX, Network
from tests.obliging import Obliging, another_house
from tests.staff import staff_headers

from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.core.errors import InvalidInput, KitiError, NotAllowed
from kiti.core.money import Money
from kiti.flows.cancellation import Part
from kiti.flows.checkout import GatewayUnclear, Intent, initiate
from kiti.flows.house import House
from kiti.flows.partial_cancellation import cancel_part
from kiti.flows.plan import Item, Reservation, SeatsTaken
from kiti.flows.reserve import reserve
from kiti.flows.review import attach, close_unclaimed, review
from kiti.flows.settle import settle_payment
from kiti.flows.staff_refunds import refund_payment
from kiti.flows.wellbeing import examine
from kiti.gateways.gateway import Captured, GatewayRefund, Truth, Unknown, UnreadableAmount
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.actions import PaymentChanged, RefundExceedsCharge
from kiti.payments.model import Break, Payment
from kiti.people.model import Operator, Role, Staff

WHY = "Agreed by phone."


def staff_of(role: Role, operator: Operator | None = None) -> Staff:
    return Staff(id=uuid4(), email="femi@kiti.example", name="Femi", role=role, operator=operator)


FEMI = staff_of("platform_finance")


class Odd(Obliging):
    """A gateway that takes other amounts than it was asked to, under other references, or says strange things."""

    def __init__(self) -> None:
        super().__init__()
        self.takes: dict[str, Money] = {}
        self.says: dict[str, Truth | UnreadableAmount] = {}
        self.refunds: list[GatewayRefund] = []

    def truth(self, reference: str, *, excess: int = 0, transaction: str = "") -> Captured:
        told = super().truth(reference, excess=excess, transaction=transaction)
        return msgspec.structs.replace(told, amount=self.takes.get(reference, told.amount))

    async def lookup(self, reference: str) -> Truth:
        return self._said(reference) or await super().lookup(reference)

    async def verify(self, transaction_id: str) -> Truth:
        return self._said(transaction_id) or await super().verify(transaction_id)

    async def list_refunds(self, transaction_id: str) -> list[GatewayRefund] | Unknown:
        return [refund for refund in self.refunds if refund.transaction_id == transaction_id]

    def _said(self, key: str) -> Truth | None:
        said = self.says.get(key)
        if isinstance(said, UnreadableAmount):
            raise said
        return said


class Desk:
    """A house with that gateway, and what a person at the desk does."""

    def __init__(self, house: House, gateway: Odd, trips: Network) -> None:
        self.house = house
        self.gateway = gateway
        self.network = trips
        self.box = Box(house.db)

    async def paid(self, *seats: str, took: Money | None = None, trip: UUID | None = None) -> tuple[UUID, UUID]:
        """A booking for which the gateway took that much (None: what was due), and its payment."""
        item = Item(trip=trip or self.network.bus(), seats=seats or ("1A",))
        booking = (await reserve(self.house, Reservation(items=(item,)))).booking
        payment = (await initiate(self.house, Intent(booking=booking))).payment.id
        if took is not None:
            self.gateway.takes[str(payment)] = took
        await settle_payment(self.house, payment)
        return booking, payment

    async def review(self, payment: UUID, action: Any, *, reason: str = WHY, staff: Staff = FEMI) -> Payment:
        return await review(self.house, payment=payment, action=action, reason=reason, staff=staff)

    async def state(self, booking: UUID) -> str:
        async with self.house.db.reader() as reader:
            return (await booking_reads.by_id(reader, booking=booking)).standing

    async def refunds(self, booking: UUID) -> list[int]:
        async with self.house.db.reader() as reader:
            return sorted(refund.amount for refund in await payment_reads.refunds_of(reader, booking=booking))

    async def events(self, booking: UUID) -> Counter[str]:
        rows = await self.box.rows("SELECT action FROM audit_event WHERE subject_id = %s", booking)
        return Counter(row["action"] for row in rows)

    async def tickets(self, booking: UUID) -> int:
        found: int = await self.box.value(
            "SELECT count(*) FROM ticket WHERE booking_id = %s AND state = 'valid'", booking
        )
        return found


@pytest.fixture
async def desk(box: Box, fresh_url: str) -> AsyncIterator[Desk]:
    trips = await Network().build(box.db)
    gateway = Odd()
    async with another_house(fresh_url, gateway) as house:
        yield Desk(house, gateway, trips)
        assert not [finding for finding in await examine(house) if not finding.ok]


def short(missing: int = 1000) -> Money:
    return Money(STANDARD_UGX - missing, "UGX")


async def attempt(work: Any) -> Any:
    try:
        return await work
    except KitiError as refused:
        return refused


# ------------------------------------------------------------------ accept, send back, close


async def test_too_little_is_accepted_with_a_reason_and_the_operator_gets_so_much_less(desk: Desk) -> None:
    booking, payment = await desk.paid(took=short())
    accepted = await desk.review(payment, "accept")
    assert (accepted.state, await desk.state(booking), await desk.tickets(booking)) == ("captured", "confirmed", 1)
    owed = (
        "SELECT sum(CASE WHEN credit = %s THEN amount ELSE -amount END)::bigint FROM transfer"
        " WHERE booking_id = %s AND %s IN (debit, credit)"
    )
    operator = f"ticket_liability:{desk.network.bus_line.operator.id}"
    for account, amount in ((operator, STANDARD_UGX - 1000), ("ticket_liability:unspent", 0)):
        assert await desk.box.value(owed, account, booking, account) == amount
    detail = await desk.box.value(
        "SELECT detail FROM audit_event WHERE subject_id = %s AND action = 'payment.accepted'", booking
    )
    assert (detail["shortfall"], detail["reason"]) == (1000, WHY)
    for _ in range(2):
        assert (await desk.review(payment, "accept")).state == "captured"
    assert (await desk.events(booking))["payment.accepted"] == 1
    # Nobody gets more back than came.
    with pytest.raises(RefundExceedsCharge):
        await refund_payment(desk.house, payment=payment, amount=STANDARD_UGX, reason=WHY, staff=FEMI)
    line = (await desk.box.rows("SELECT trip_id, seat FROM booking_seat WHERE booking_id = %s", booking))[0]
    whole = Part(seats=frozenset({(line["trip_id"], line["seat"])}))
    await cancel_part(desk.house, booking=booking, part=whole, actor="guest")
    assert await desk.refunds(booking) == [STANDARD_UGX - 1000]


async def test_of_several_short_payments_the_largest_is_accepted_and_the_others_go_back(desk: Desk) -> None:
    booking, payment = await desk.paid(took=short())
    told = desk.gateway.truth(str(payment))
    desk.gateway.says["second"] = msgspec.structs.replace(told, transaction_id="second", amount=Money(500, "UGX"))
    await settle_payment(desk.house, payment, transaction_id="second")
    assert await desk.refunds(booking) == []
    await desk.review(payment, "accept")
    assert (await desk.state(booking), await desk.refunds(booking)) == ("confirmed", [500])


async def test_another_currency_is_never_accepted_and_goes_back(desk: Desk) -> None:
    booking, payment = await desk.paid(took=Money(STANDARD_UGX, "KES"))
    with pytest.raises(WrongState):
        await desk.review(payment, "accept")
    assert await desk.state(booking) == "awaiting_payment"
    for _ in range(2):
        assert (await desk.review(payment, "refund")).state == "captured"
    assert await desk.refunds(booking) == [STANDARD_UGX]
    assert (await desk.events(booking))["payment.sent_back"] == 1


async def test_accepting_and_sending_back_many_times_at_once_is_one_of_them_once(desk: Desk) -> None:
    for _ in range(4):
        booking, payment = await desk.paid(took=short())
        actions = ["accept", "refund"] * 6
        await asyncio.gather(*(attempt(desk.review(payment, action)) for action in actions))
        events = await desk.events(booking)
        if await desk.state(booking) == "confirmed":
            assert (events["payment.accepted"], events["payment.sent_back"]) == (1, 0)
            assert (await desk.refunds(booking), await desk.tickets(booking)) == ([], 1)
        else:
            assert (events["payment.accepted"], events["payment.sent_back"]) == (0, 1)
            assert (await desk.refunds(booking), await desk.tickets(booking)) == ([STANDARD_UGX - 1000], 0)


async def test_money_for_seats_that_are_gone_or_paid_otherwise_can_only_go_back(desk: Desk) -> None:
    trip = desk.network.bus()
    gone, payment = await desk.paid("1A", took=short(), trip=trip)
    await desk.box.rows("UPDATE booking SET hold_expires_at = kiti_now() - interval '1 second' WHERE id = %s", gone)
    await desk.box.rows("UPDATE seat_claim SET expires_at = kiti_now() WHERE owner_id = %s", gone)
    await desk.paid("1A", trip=trip)
    with pytest.raises(SeatsTaken):
        await desk.review(payment, "accept")
    await desk.review(payment, "refund")
    assert (await desk.refunds(gone), await desk.tickets(gone)) == ([STANDARD_UGX - 1000], 0)

    otherwise, first = await desk.paid(took=short())
    second = (await initiate(desk.house, Intent(booking=otherwise))).payment.id
    await settle_payment(desk.house, second)
    assert await desk.state(otherwise) == "confirmed"
    with pytest.raises(WrongState):
        await desk.review(first, "accept")
    await desk.review(first, "refund")
    assert (await desk.refunds(otherwise), await desk.tickets(otherwise)) == ([STANDARD_UGX - 1000], 1)


async def test_a_case_is_closed_only_where_no_money_is(desk: Desk) -> None:
    booking, payment = await desk.paid(took=short())
    with pytest.raises(WrongState):
        await desk.review(payment, "close")
    await desk.review(payment, "refund")
    item = Item(trip=desk.network.bus(), seats=("1A",))
    booking = (await reserve(desk.house, Reservation(items=(item,)))).booking
    unclear = (await initiate(desk.house, Intent(booking=booking))).payment
    async with desk.house.db.transaction() as tx:
        await payments.move(tx, payment=unclear, to="review", reason="The gateway has not said for days.")
    with pytest.raises(WrongState):  # it says that it has the money
        await desk.review(unclear.id, "close")
    desk.gateway.says[str(unclear.id)] = Unknown(reason="silence")
    with pytest.raises(GatewayUnclear):
        await desk.review(unclear.id, "close")
    del desk.gateway.says[str(unclear.id)]
    desk.gateway.silent = True
    for _ in range(2):
        assert (await desk.review(unclear.id, "close")).state == "failed"
    assert (await desk.events(booking))["payment.closed"] == 1
    # Money that comes after all still finds its booking.
    desk.gateway.silent = False
    assert (await settle_payment(desk.house, unclear.id)).state == "captured"
    assert await desk.state(booking) == "confirmed"


async def test_money_that_cannot_be_told_is_closed_once_the_gateway_has_paid_it_back(desk: Desk) -> None:
    item = Item(trip=desk.network.bus(), seats=("1A",))
    booking = (await reserve(desk.house, Reservation(items=(item,)))).booking
    payment = (await initiate(desk.house, Intent(booking=booking))).payment.id
    odd = UnreadableAmount("60000.5 UGX", transaction_id="77", reference=str(payment))
    desk.gateway.says[str(payment)] = odd
    assert (await settle_payment(desk.house, payment)).state == "review"
    for action in ("accept", "refund", "close"):
        with pytest.raises(WrongState):
            await desk.review(payment, action)
    back = desk.gateway.truth(str(payment)).fee_exact
    desk.gateway.refunds.append(
        GatewayRefund(
            refund_id="1", transaction_id="77", reference="", amount_exact=back, status="succeeded", failure_reason=""
        )
    )
    assert (await desk.review(payment, "close")).state == "failed"


async def test_only_staff_of_the_platform_with_a_reason_decide(desk: Desk) -> None:
    booking, payment = await desk.paid(took=short())
    pearl = Operator(id=uuid4(), code="pearl", name="Pearl", timezone="UTC")
    for role in ("operator_staff", "operator_finance"):
        with pytest.raises(NotAllowed):
            await desk.review(payment, "accept", staff=staff_of(role, pearl))
    with pytest.raises(InvalidInput):
        await desk.review(payment, "accept", reason="  ")
    assert await desk.state(booking) == "awaiting_payment"
    await desk.review(payment, "refund")


async def test_the_api_decides_too_and_staff_of_operators_may_not(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, amount=STANDARD_UGX - 1000)
    await house.payment_until(payment, "REVIEW")
    path = f"/api/payments/{payment['paymentId']}/review"
    body = {"action": "accept", "reason": WHY}
    assert (await house.api.post(path, json=body)).status_code == 401
    pearl = await staff_headers(house, "operator_finance", "pearl")
    assert (await house.api.post(path, json=body, headers=pearl)).status_code == 403
    finance = await staff_headers(house, "platform_finance")
    assert (await house.api.post(path, json={"action": "burn", "reason": WHY}, headers=finance)).status_code == 422
    asked = await house.api.post(path, json={"action": "ask", "reason": WHY}, headers=finance)
    assert (asked.status_code, asked.json()["status"]) == (200, "REVIEW")
    answer = await house.api.post(path, json=body, headers=finance)
    assert (answer.status_code, answer.json()["status"]) == (200, "COMPLETED")
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    again = await house.api.post(path, json={"action": "refund", "reason": WHY}, headers=finance)
    assert (again.status_code, again.json()["code"]) == (409, "CONFLICT")
    await house.doctor()


# ------------------------------------------------------------------ money under a reference of nobody


async def unclaimed(desk: Desk, amount: Money, *, transaction: str = "4711") -> str:
    """A transaction of the gateway that reconciliation could not place."""
    any_truth = Captured(transaction_id=transaction, reference="typed by hand", amount=amount, fee_exact=Decimal(0))
    desk.gateway.says[transaction] = any_truth
    today = datetime.now(UTC).date()
    detail = "We have no charge."
    found = Break(transaction_id=transaction, kind="missing_ours", day=today, booking_id=None, detail=detail)
    async with desk.house.db.transaction() as tx:
        await payments.put_breaks(tx, gateway="flutterwave", day=today, breaks=[found])
    return transaction


async def test_money_of_nobody_is_given_to_a_payment_once_and_stays_settled(desk: Desk) -> None:
    bookings, attempts = [], []
    for _ in range(3):
        item = Item(trip=desk.network.bus(), seats=("1A",))
        bookings.append((await reserve(desk.house, Reservation(items=(item,)))).booking)
        attempts.append((await initiate(desk.house, Intent(booking=bookings[-1]))).payment.id)
    transaction = await unclaimed(desk, Money(STANDARD_UGX, "UGX"))

    async def give(payment: UUID) -> Any:
        return await attach(
            desk.house,
            gateway="flutterwave",
            transaction_id=transaction,
            payment=payment,
            reason=WHY,
            staff=FEMI,
        )

    answers = await asyncio.gather(*(attempt(give(payment)) for payment in attempts * 3))
    assert sum(isinstance(answer, Payment) for answer in answers) == 1
    assert sorted([await desk.state(booking) for booking in bookings]) == ["awaiting_payment"] * 2 + ["confirmed"]
    assert await desk.box.value("SELECT count(*) FROM charge WHERE transaction_id = %s", transaction) == 1
    # The next comparison finds the same, and a person has decided about it already.
    await unclaimed(desk, Money(STANDARD_UGX, "UGX"))
    with pytest.raises(PaymentChanged):
        await give(attempts[0])


async def test_money_of_nobody_for_a_booking_that_was_paid_goes_back(desk: Desk) -> None:
    booking, payment = await desk.paid()
    transaction = await unclaimed(desk, Money(STANDARD_UGX, "UGX"))
    await attach(desk.house, gateway="flutterwave", transaction_id=transaction, payment=payment, reason=WHY, staff=FEMI)
    assert (await desk.refunds(booking), await desk.tickets(booking)) == ([STANDARD_UGX], 1)


async def test_money_of_another_payment_of_ours_is_not_given_away(desk: Desk) -> None:
    _, payment = await desk.paid()
    _, other = await desk.paid()
    transaction = await unclaimed(desk, Money(STANDARD_UGX, "UGX"))
    told = desk.gateway.says[transaction]
    assert isinstance(told, Captured)
    desk.gateway.says[transaction] = msgspec.structs.replace(told, reference=str(other))
    with pytest.raises(WrongState):
        await attach(
            desk.house, gateway="flutterwave", transaction_id=transaction, payment=payment, reason=WHY, staff=FEMI
        )
    await close_unclaimed(desk.house, gateway="flutterwave", transaction_id=transaction, reason=WHY, staff=FEMI)
    with pytest.raises(PaymentChanged):
        await close_unclaimed(desk.house, gateway="flutterwave", transaction_id=transaction, reason=WHY, staff=FEMI)


# ------------------------------------------------------------------ too much, and twice


async def test_the_excess_goes_back_once_however_many_press_the_button_and_the_fare_stays(desk: Desk) -> None:
    booking, payment = await desk.paid(took=Money(STANDARD_UGX + 700, "UGX"))

    async def press() -> Any:
        return await attempt(
            refund_payment(desk.house, payment=payment, amount=None, reason=WHY, staff=FEMI, excess=True)
        )

    answers = await asyncio.gather(*(press() for _ in range(10)))
    assert sum(isinstance(answer, RefundExceedsCharge) for answer in answers) == 9
    assert await desk.refunds(booking) == [700]
    with pytest.raises(InvalidInput):
        await refund_payment(desk.house, payment=payment, amount=1, reason=WHY, staff=FEMI, excess=True)
    _, plain = await desk.paid()
    with pytest.raises(RefundExceedsCharge):
        await refund_payment(desk.house, payment=plain, amount=None, reason=WHY, staff=FEMI, excess=True)


steps = st.lists(
    st.sampled_from(["excess", "all", "seat 1A", "seat 1B", "seat 1C"]) | st.integers(1, 70_000), max_size=7
)


@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(excess=st.integers(0, 5_000), steps=steps)
def test_whatever_goes_back_in_whatever_order_price_and_excess_never_take_of_one_another(
    excess_world: "ExcessWorld", excess: int, steps: list[str | int]
) -> None:
    excess_world.run(excess, steps)


class ExcessWorld:
    """A desk in a loop of its own, for examples that Hypothesis makes."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.gateway = Odd()
        self.context = another_house(url, self.gateway)
        house = self.runner.run(self._open())
        self.desk = Desk(house, self.gateway, self.runner.run(Network().build(house.db)))

    async def _open(self) -> House:
        return await self.context.__aenter__()

    async def _close(self) -> None:
        assert not [finding for finding in await examine(self.desk.house) if not finding.ok]
        await self.context.__aexit__(None, None, None)

    def close(self) -> None:
        self.runner.run(self._close())
        self.runner.close()

    def run(self, excess: int, steps: list[str | int]) -> None:
        self.runner.run(self._example(excess, steps))

    async def _example(self, excess: int, steps: list[str | int]) -> None:
        fares = 3 * STANDARD_UGX
        trip = self.desk.network.bus()
        booking, payment = await self.desk.paid("1A", "1B", "1C", took=Money(fares + excess, "UGX"), trip=trip)
        for step in steps:
            before = sum(await self.desk.refunds(booking))
            done = await attempt(self._step(booking, payment, trip, step))
            if step == "excess" and not isinstance(done, KitiError):
                assert 0 < sum(await self.desk.refunds(booking)) - before <= excess
            row = (
                await self.desk.box.rows(
                    "SELECT refund_reserved, excess_reserved FROM charge WHERE booking_id = %s", booking
                )
            )[0]
            assert row["refund_reserved"] == sum(await self.desk.refunds(booking))
            assert row["excess_reserved"] <= excess
            assert row["refund_reserved"] - row["excess_reserved"] <= fares
        if await self.desk.state(booking) == "cancelled":
            # All fares and the excess were due back, and so all that is left went.
            assert sum(await self.desk.refunds(booking)) == fares + excess

    async def _step(self, booking: UUID, payment: UUID, trip: UUID, step: str | int) -> Any:
        house = self.desk.house
        if isinstance(step, str) and step.startswith("seat "):
            part = Part(seats=frozenset({(trip, step.removeprefix("seat "))}))
            return await cancel_part(house, booking=booking, part=part, actor="guest")
        amount = step if isinstance(step, int) else None
        return await refund_payment(
            house, payment=payment, amount=amount, reason=WHY, staff=FEMI, excess=step == "excess"
        )


@pytest.fixture
def excess_world(fresh_url: str) -> Any:
    world = ExcessWorld(fresh_url)
    yield world
    world.close()


async def test_however_many_attempts_are_paid_at_once_one_buys_the_seats_and_the_rest_goes_back(
    house: RunningHouse,
) -> None:
    booking = await house.reserve(house.network.bus(), ["1A", "1B"])
    attempts = []
    for _ in range(5):
        attempts.append(await house.initiate(booking))
        await house.sim.pay(attempts[-1], "decline")
        await house.payment_until(attempts[-1], "FAILED")
    attempts.append(await house.initiate(booking))
    await asyncio.gather(*(house.sim.pay(payment, force=True) for payment in attempts for _ in range(2)))
    await house.booking_until(booking, "CONFIRMED")
    charges = await until(lambda: house.charges(booking), lambda found: len(found) >= len(attempts))
    purposes = Counter(charge["purpose"] for charge in charges)
    assert purposes == {"fulfils": 1, "surplus": len(charges) - 1}
    refunds = await house.refunds_until(booking, "succeeded", count=len(charges) - 1)
    assert {refund["amount"] for refund in refunds} == {2 * STANDARD_UGX}
    assert [ticket["status"] for ticket in await house.tickets(booking)] == ["VALID", "VALID"]
    # What is cancelled afterwards is the one that bought the seats, and it goes back once as well.
    assert (await cancel(house, booking)).json()["refund"]["amount"] == 2 * STANDARD_UGX
    await house.refunds_until(booking, "succeeded", count=len(charges))
    for payment in attempts:
        assert (await house.payment(payment))["status"] == "REFUNDED"
    await house.doctor()
