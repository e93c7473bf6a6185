"""The queue of what waits for a person: filtered by what it is about, whose, through which gateway and for how long."""

import csv
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.box import Box
from tests.house import RunningHouse
from tests.integration.test_review import FEMI, Desk, Odd, short, staff_of, unclaimed
from tests.integration.test_settlement_doorways import at_desk
from tests.network import STANDARD_UGX, Network
from tests.obliging import another_house
from tests.staff import employ

from kiti.core.errors import InvalidInput
from kiti.core.money import Money
from kiti.flows.checkout import Intent, initiate
from kiti.flows.plan import Item, Reservation
from kiti.flows.reserve import reserve
from kiti.flows.review_queue import Queue, filter_of, queue
from kiti.flows.settle import settle_payment
from kiti.gateways.gateway import UnreadableAmount
from kiti.people.model import Operator, Staff

NOTHING = dict.fromkeys(("reason", "operator", "gateway", "age"), "")


@pytest.fixture
async def desk(box: Box, fresh_url: str) -> AsyncIterator[Desk]:
    trips = await Network().build(box.db)
    async with another_house(fresh_url, gateway := Odd()) as house:
        yield Desk(house, gateway, trips)


async def look(desk: Desk, *, staff: Staff = FEMI, **typed: str) -> Queue:
    wanted = filter_of(desk.house, staff=staff, **{**NOTHING, **typed})
    return await queue(desk.house, staff=staff, wanted=wanted)


async def test_cases_are_told_apart_by_the_money_that_waits(desk: Desk) -> None:
    _, little = await desk.paid("1A", took=short())
    _, foreign = await desk.paid("1B", took=Money(STANDARD_UGX, "KES"))
    untold = await _never_told(desk)
    transaction = await unclaimed(desk, Money(STANDARD_UGX, "UGX"))
    everything = await look(desk)
    assert {line.id: line.kind for line in everything.reviews} == {
        little: "too_little",
        foreign: "other_currency",
        untold: "not_told",
    }
    for reason, payment in (("too_little", little), ("other_currency", foreign), ("not_told", untold)):
        found = await look(desk, reason=reason)
        assert [line.id for line in found.reviews] == [payment]
        assert (found.refunds, found.unclaimed) == ((), ())
    found = await look(desk, reason="unclaimed")
    assert ([one.transaction_id for one in found.unclaimed], found.reviews) == ([transaction], ())
    assert await look(desk, reason="refund") == Queue(refunds=[])


async def test_cases_are_filtered_by_operator_gateway_and_age(desk: Desk) -> None:
    _, of_pearl = await desk.paid("1A", took=short())
    _, of_lake = await desk.paid("1A", took=Money(1, "UGX"), trip=desk.network.shuttle())
    await unclaimed(desk, Money(STANDARD_UGX, "UGX"))
    assert {line.id for line in (await look(desk)).reviews} == {of_pearl, of_lake}
    found = await look(desk, operator="lake")
    assert ([line.id for line in found.reviews], found.unclaimed) == ([of_lake], ())
    assert len((await look(desk, gateway="flutterwave")).reviews) == 2
    assert await look(desk, age="1h") == Queue(reviews=[], refunds=[], unclaimed=[])
    await desk.box.travel(minutes=61)
    _, young = await desk.paid("3A", took=short())
    found = await look(desk, age="1h")
    assert {line.id for line in found.reviews} == {of_pearl, of_lake}
    assert young in {line.id for line in (await look(desk)).reviews}
    for field, odd in (("reason", "odd"), ("gateway", "odd"), ("age", "2y"), ("operator", "x" * 40)):
        with pytest.raises(InvalidInput):
            filter_of(desk.house, staff=FEMI, **{**NOTHING, field: odd})


async def test_an_operator_sees_its_own_cases_and_not_what_came(desk: Desk) -> None:
    _, of_pearl = await desk.paid("1A", took=short())
    _, of_lake = await desk.paid("1A", took=Money(1, "UGX"), trip=desk.network.shuttle())
    await unclaimed(desk, Money(STANDARD_UGX, "UGX"))
    line = desk.network.bus_line.operator
    pearl = staff_of("operator_finance", Operator(id=line.id, code=line.code, name=line.name, timezone="UTC"))
    found = await look(desk, staff=pearl, operator="lake")
    ((case,), others) = (found.reviews, found.unclaimed)
    assert (case.id, case.kind, case.came, case.came_currency) == (of_pearl, "too_little", None, None)
    assert others == ()
    assert case.id != of_lake


async def test_the_export_is_what_the_filter_lets_through(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, amount=100, force=True)
    await house.payment_until(payment, "REVIEW")
    async with aclosing(await at_desk(house, await employ(house.box.db, "platform_finance"))) as browser:
        rows = await _export(browser, "reason=too_little&operator=pearl")
        row = rows[payment["paymentId"]]
        assert (row["about"], row["reference"], row["gateway"]) == (
            "too little came",
            booking["reference"],
            "flutterwave",
        )
        assert (row["due"], row["came"], row["came currency"], row["hours"]) == ("60000", "100", "UGX", "0")
        assert payment["paymentId"] not in await _export(browser, "reason=other_currency")
        assert payment["paymentId"] not in await _export(browser, "operator=lake")
        wrong = await browser.get("/office/review?reason=odd")
        assert wrong.status_code == 422
        assert "There is no such reason." in wrong.text


async def _export(browser: httpx.AsyncClient, query: str) -> dict[str, dict[str, Any]]:
    answer = await browser.get(f"/office/review.csv?{query}")
    assert answer.status_code == 200, answer.text
    return {row["id"]: row for row in csv.DictReader(answer.text.splitlines())}


async def _never_told(desk: Desk) -> UUID:
    """A payment of which the gateway does not say in minor units how much it took."""
    item = Item(trip=desk.network.bus(), seats=("3A",))
    booking = (await reserve(desk.house, Reservation(items=(item,)))).booking
    payment = (await initiate(desk.house, Intent(booking=booking))).payment.id
    desk.gateway.says[str(payment)] = UnreadableAmount("odd", transaction_id="odd", reference=str(payment))
    await settle_payment(desk.house, payment)
    return payment
