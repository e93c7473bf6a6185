"""The total with all fees is seen from the first price on: in the API, on the pages, and from the command line."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from tests.conftest import fresh_database
from tests.house import JsonObject, RunningHouse
from tests.network import STANDARD_UGX
from tests.promises import broken, evidence, promise_of

from kiti.core.ids import new_id
from kiti.fees import actions as fees
from kiti.fees.model import FeeRule

BUS, FEE, TAX = STANDARD_UGX, 1_750, 9_153
TOTAL = BUS + FEE
SAID = "UGX\u00a061,750"


@pytest.fixture(scope="module")
async def priced(
    server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningHouse]:
    """A house in which the bus has a service fee and a tax within the fare, and cards cost more."""
    with fresh_database(server_url, template) as url:
        house = RunningHouse(url, tmp_path_factory.mktemp("priced"))
        try:
            await house.start()
            pearl = house.network.bus_line.operator.id
            await set_rule(house, "platform_fee", "traveller", operator_id=pearl, basis_points=250, fixed=250)
            await set_rule(house, "tax", "operator", operator_id=pearl, basis_points=1800)
            await set_rule(house, "commission", "operator", operator_id=pearl, basis_points=1000)
            yield house
        finally:
            await house.stop()


async def set_rule(house: RunningHouse, kind: Any, bearer: Any, **said: Any) -> None:
    rule = FeeRule(
        id=new_id(), kind=kind, borne_by=bearer, currency="UGX", valid_from=datetime(2020, 1, 1, tzinfo=UTC), **said
    )
    async with house.box.db.transaction() as tx:
        await fees.set_rule(tx, rule=rule)


def text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace("&nbsp;", "\u00a0").split(" "))


async def page(house: RunningHouse, path: str, booking: Any = None, **query: Any) -> str:
    token = {} if booking is None else {"token": booking["holdToken"]}
    answer = await house.api.get(path, params={**query, **token}, follow_redirects=True)
    house.api.cookies.clear()
    assert answer.status_code == 200, answer.text
    return text(answer.text)


async def on(house: RunningHouse, trip: UUID) -> date:
    day: date = await house.box.value("SELECT local_date FROM trip_stop WHERE trip_id = %s AND seq = 0", trip)
    return day


def lines(fee: int = FEE, tax: int = TAX) -> list[JsonObject]:
    return [
        {"kind": "PLATFORM_FEE", "amount": fee, "included": False, "rateBasisPoints": None},
        {"kind": "TAX", "amount": tax, "included": True, "rateBasisPoints": 1800},
    ]


async def test_a_search_and_a_trip_tell_the_fare_the_fees_and_the_total(priced: RunningHouse) -> None:
    trip = priced.network.bus()
    query = {"from": "KLA", "to": "KGL", "date": (await on(priced, trip)).isoformat()}
    found = (await priced.api.get("/api/trips/search", params=query)).json()["trips"]
    (mine,) = [one for one in found if one["tripId"] == str(trip)]
    assert (mine["price"]["amount"], mine["fees"], mine["total"]) == (
        BUS,
        lines(),
        {"amount": TOTAL, "currency": "UGX"},
    )
    detail = (await priced.api.get(f"/api/trips/{trip}")).json()
    (whole,) = [fare for fare in detail["fares"] if (fare["from"], fare["to"]) == ("KLA", "KGL")]
    assert (whole["price"]["amount"], whole["fees"], whole["total"]["amount"]) == (BUS, lines(), TOTAL)
    shuttle = priced.network.shuttle()
    free = (await priced.api.get(f"/api/trips/{shuttle}")).json()["fares"][0]
    assert (free["fees"], free["total"]) == ([], free["price"])


async def test_what_a_booking_costs_is_told_before_paying_and_paid_to_the_coin(priced: RunningHouse) -> None:
    booking = await priced.reserve(priced.network.bus(), ["1A", "1B"], **{"from": "KLA", "to": "KGL"})
    before = await priced.booking(booking)
    assert (before["amount"], before["fees"], before["total"]) == (2 * BUS, lines(3_250, 18_305), 2 * BUS + 3_250)
    assert (await priced.ask_to_pay(booking, amount=2 * BUS + 3_250)).status_code == 422
    assert (await priced.ask_to_pay(booking, total=2 * BUS)).status_code == 422
    payment = await priced.initiate(booking, amount=2 * BUS, total=2 * BUS + 3_250)
    assert (payment["amount"], payment["fee"], payment["total"]) == (2 * BUS, 3_250, 2 * BUS + 3_250)
    await priced.sim.pay(payment)
    paid = await priced.booking_until(booking, "CONFIRMED")
    assert (paid["fees"], paid["total"]) == (before["fees"], before["total"])
    assert (await priced.payment(payment))["status"] == "COMPLETED"
    known = evidence([promise_of(booking)], (await priced.sim.state())["transactions"])
    async with priced.box.db.pool.connection() as connection:
        assert await broken(connection, known) == {}
    await priced.is_well()


async def test_underpaying_by_the_fee_is_a_review(priced: RunningHouse) -> None:
    payment = await priced.initiate(await priced.reserve(priced.network.bus(), ["1A"]))
    await priced.sim.pay(payment, "pay", amount=BUS)
    assert (await priced.payment_until(payment, "REVIEW"))["total"] == TOTAL


async def test_every_page_on_the_way_shows_the_total_and_what_it_is_made_of(priced: RunningHouse) -> None:
    trip = priced.network.bus()
    assert SAID in await page(priced, "/")
    day = (await on(priced, trip)).isoformat()
    assert SAID in await page(priced, "/trips", **{"from": "KLA", "to": "KGL", "date": day})
    seats = await page(priced, f"/trips/{trip}/seats", **{"from": "KLA", "to": "KGL", "seats": "1A,1B"})
    assert SAID in seats
    assert "UGX\u00a0123,250" in seats
    contact = {"phone": "+256772123456", "name": "Amina"}
    booking = await priced.reserve(trip, ["1A"], contact=contact, passengers=[{"name": "Amina", "seatNumber": "1A"}])
    made_of = ("UGX\u00a060,000", "Service fee", "UGX\u00a01,750", "VAT 18% included", "UGX\u00a09,153", SAID)
    for step in ("/passengers", "/pay", ""):
        told = await page(priced, f"/bookings/{booking['bookingId']}{step}", booking)
        assert [one for one in made_of if one not in told] == [], step
    payment = await priced.initiate(booking)
    await priced.sim.pay(payment)
    await priced.booking_until(booking, "CONFIRMED")
    for step in ("/ticket", ""):
        told = await page(priced, f"/bookings/{booking['bookingId']}{step}", booking)
        assert [one for one in made_of if one not in told] == [], step
    assert "Ada ya huduma" in await page(priced, f"/bookings/{booking['bookingId']}", booking, lang="sw")
    assert "dont TVA 18 %" in await page(priced, f"/bookings/{booking['bookingId']}", booking, lang="fr")


async def test_where_ways_to_pay_differ_in_price_each_tells_its_own(priced: RunningHouse) -> None:
    lake = priced.network.shuttle_line.operator.id
    await set_rule(priced, "gateway_fee", "traveller", operator_id=lake, method="CARD", basis_points=200)
    contact = {"phone": "+256772123456", "name": "Amina"}
    booking = await priced.reserve(priced.network.shuttle(), ["1A"], contact=contact)
    payment = await priced.initiate(booking, paymentMethod="CARD")
    assert payment["fee"] == 300
    told = await page(priced, f"/bookings/{booking['bookingId']}/pay", booking)
    assert "Payment fee" in told
    assert "Pay UGX\u00a015,300" in told


async def test_staff_list_set_and_end_rules_on_the_command_line(priced: RunningHouse) -> None:
    code, said = await priced.kiti(
        *("fees", "set", "platform-fee", "--currency", "kes", "--operator", "lake"),
        *("--percent", "2.5", "--minimum", "5000", "--maximum", "25000"),
    )
    assert code == 0, said
    assert "platform fee of 2.5 %, at least KES 50, at most KES 250 (KES), borne by the traveller, for lake" in said
    rule = said.split(":")[0]
    code, listed = await priced.kiti("fees", "list")
    assert (code, "lake" in listed, "pearl" in listed) == (0, True, True)
    code, said = await priced.kiti("fees", "end", rule)
    assert (code, f"{rule} counts until" in said) == (0, True)
    for wrong in (
        ("gateway-fee", "--currency", "UGX"),
        ("tax", "--currency", "UGX", "--fixed", "5"),
        ("platform-fee", "--currency", "XXX"),
        ("platform-fee", "--currency", "UGX", "--percent", "1e2"),
        ("commission", "--currency", "UGX", "--operator", "nobody"),
    ):
        code, said = await priced.kiti("fees", "set", *wrong)
        assert (code, "Traceback" in said) != (0, False), wrong
        assert code in {1, 2}, said
