"""Integrators hear of holds that lapse, of statements that are paid, of money that a person sends back."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from tests.box import Box
from tests.earnings import open_earnings
from tests.hooked import Desk, open_desk
from tests.integration.test_payouts import APPROVER, MONTH_SECONDS
from tests.integration.test_payouts import Desk as PayDesk
from tests.integration.test_review import FEMI, WHY, Odd
from tests.network import STANDARD_UGX, Network
from tests.obliging import another_house
from tests.paying_bank import open_bank

from kiti.core.money import Money
from kiti.flows.checkout import Intent, initiate
from kiti.flows.holds import expire_seats
from kiti.flows.plan import Item, Reservation
from kiti.flows.reserve import reserve
from kiti.flows.review import review
from kiti.flows.settle import settle_payment
from kiti.flows.settlements import approve
from kiti.hooks.model import seen_by

URL = "http://127.0.0.1:9/hooks"


@pytest.fixture
async def desk(fresh_url: str) -> AsyncIterator[Desk]:
    async with open_desk(fresh_url) as there:
        yield there


async def listen(box: Box, *types: str, operator: UUID | None = None) -> None:
    """An endpoint that nothing is sent to: what would be is looked at here."""
    await box.rows(
        "INSERT INTO webhook_endpoint (id, operator_id, url, event_types, secret, created_at)"
        " VALUES (gen_random_uuid(), %s, %s, %s, '\\x00', now())",
        operator,
        URL,
        list(types),
    )


async def told(desk: Any) -> list[tuple[str, dict[str, Any]]]:
    rows = await desk.box.rows("SELECT type, data FROM hook_event ORDER BY id")
    return [(row["type"], row["data"]) for row in rows]


async def test_holds_that_lapse_are_told_once_each_however_many_sweep(desk: Desk) -> None:
    await desk.add(URL, "booking.expired")
    trip = desk.network.bus()
    held = [await desk.hold(trip, seat) for seat in ("1A", "1B", "2A")]
    sold = await desk.sell(trip, "2B")
    await desk.box.travel(minutes=16)
    assert (await expire_seats(desk.house.db)).expired == 3
    assert (await expire_seats(desk.house.db)).expired == 0
    found = await told(desk)
    assert {type_ for type_, _ in found} == {"booking.expired"}
    assert {data["bookingId"] for _, data in found} == {str(one.booking) for one in held}
    assert len(found) == 3
    assert str(sold.booking) not in str(found)
    for _, data in found:
        assert (data["status"], data["trips"][0]["operator"]) == ("EXPIRED", "pearl")


@pytest.mark.parametrize("types", [(), ("booking.confirmed",)], ids=["nobody listens", "somebody to something else"])
async def test_where_nobody_listens_a_sweep_writes_nothing(desk: Desk, types: tuple[str, ...]) -> None:
    if types:
        await desk.add(URL, *types)
    await desk.hold(desk.network.bus(), "1A")
    await desk.box.travel(minutes=16)
    assert (await expire_seats(desk.house.db)).expired == 1
    assert await told(desk) == []


async def test_a_statement_that_was_paid_is_told_to_its_operator_and_the_platform(fresh_url: str) -> None:
    async with open_earnings(fresh_url) as earnings, open_bank() as bank:
        await earnings.terms(earnings.pearl)
        await earnings.buy(trip := earnings.network.bus(), "1A")
        await earnings.after(trip)
        await earnings.recognise()
        await earnings.box.travel(seconds=MONTH_SECONDS)
        (made,) = await earnings.settle()
        await approve(earnings.house, settlement=made["id"], staff=APPROVER)
        desk = PayDesk(earnings, bank, made["id"])
        lake = earnings.network.lake_line.operator.id
        for operator in (None, earnings.pearl, lake):
            await listen(earnings.box, "settlement.paid", operator=operator)
        payout = await desk.request()
        await desk.go_on()
        ((type_, data),) = await told(earnings)
        assert type_ == "settlement.paid"
        assert (data["settlementId"], data["payoutId"]) == (str(made["id"]), str(payout))
        assert (data["operator"], data["amount"], data["currency"]) == ("pearl", STANDARD_UGX, "UGX")
        assert seen_by("pearl", data, is_shared=False) == data
        whom = (
            "SELECT operator_id FROM hook_delivery"
            " INNER JOIN webhook_endpoint ON webhook_endpoint.id = hook_delivery.endpoint_id"
        )
        assert {row["operator_id"] for row in await earnings.box.rows(whom)} == {None, earnings.pearl}
        for table in ("hook_event", "webhook_endpoint"):
            await earnings.box.rows(f"DELETE FROM {table}")


async def test_money_that_a_person_sends_back_is_told_with_its_purpose(fresh_url: str, box: Box) -> None:
    trips = await Network().build(box.db)
    gateway = Odd()
    async with another_house(fresh_url, gateway) as house:
        await listen(box, "payment.captured", "refund.requested")
        booking = (await reserve(house, Reservation(items=(Item(trip=trips.bus(), seats=("1A",)),)))).booking
        payment = (await initiate(house, Intent(booking=booking))).payment.id
        gateway.takes[str(payment)] = Money(100, "UGX")
        await settle_payment(house, payment)
        await review(house, payment=payment, action="refund", reason=WHY, staff=FEMI)
        rows = await box.rows("SELECT type, data FROM hook_event ORDER BY created_at, id")
        assert [row["type"] for row in rows] == ["payment.captured", "refund.requested"]
        captured = rows[0]["data"]["payment"]
        assert (captured["paymentId"], captured["amount"]) == (str(payment), 100)
        assert (captured["purpose"], captured["status"]) == ("UNFULFILLABLE", "COMPLETED")
