"""Statements over the API, in the office and on the command line, as those see them who may."""

import csv
import re
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.earnings import BANK
from tests.house import JsonObject, RunningHouse
from tests.network import STANDARD_UGX
from tests.staff import Employee, employ, staff_headers

from kiti.settlements.actions import put_terms
from kiti.settlements.model import Terms


@pytest.fixture
async def settled(own_house: RunningHouse) -> RunningHouse:
    """A bus with two bookings has left, a month is over, and its statement is made by the jobs."""
    house = own_house
    trip = house.network.bus()
    await house.buy(trip, ["1A"])
    await house.buy(trip, ["1B", "1C"])
    leaves = await house.box.value("SELECT departs_at - kiti_now() AS wait FROM trip WHERE id = %s", trip)
    await house.box.travel(seconds=(leaves + timedelta(minutes=5)).total_seconds())
    await house.job("recognise-revenue")
    await house.box.travel(minutes=33 * 24 * 60)
    await house.job("calculate-settlements")
    async with house.box.db.transaction() as tx:
        terms = Terms(
            operator_id=house.network.bus_line.operator.id,
            currency="UGX",
            period="monthly",
            minimum_payout=0,
            gateway="flutterwave",
            destination=BANK,
            set_by="staff:boss",
        )
        await put_terms(tx, terms=terms)
    return house


async def statements(house: RunningHouse, headers: dict[str, str], **query: Any) -> list[JsonObject]:
    answer = await house.api.get("/api/settlements", headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["settlements"])


async def at_desk(house: RunningHouse, who: Employee) -> httpx.AsyncClient:
    """A browser that is logged in."""
    browser = httpx.AsyncClient(base_url=house.base_url, timeout=30, headers={"origin": house.base_url})
    page = (await browser.get("/office/login")).text
    form = {"email": who.email, "password": who.password, "form": token_of(page), "next": "/office/settlements"}
    answer = await browser.post("/office/login", data=form)
    assert answer.headers["location"] == "/office/settlements", answer.text
    return browser


def token_of(page: str) -> str:
    found = re.search(r'name="form" value="([^"]+)"', page)
    assert found, page
    return found[1]


async def test_statements_are_listed_shown_and_downloaded_by_those_who_may(settled: RunningHouse) -> None:
    house = settled
    finance = await staff_headers(house, "platform_finance")
    (one,) = await statements(house, finance, operator="pearl", status="DRAFT")
    assert (one["gross"], one["net"], one["status"]) == (3 * STANDARD_UGX, 3 * STANDARD_UGX, "DRAFT")
    assert await statements(house, finance, status="PAID") == []
    assert await statements(house, finance, operator="lake") == []
    path = f"/api/settlements/{one['settlementId']}"
    first = (await house.api.get(path, headers=finance, params={"limit": 1})).json()
    rest = (await house.api.get(path, headers=finance, params={"after": first["nextAfter"]})).json()
    assert sum(line["net"] for line in [*first["lines"], *rest["lines"]]) == one["net"]
    assert rest["nextAfter"] is None
    for form, begins in (("csv", b"booking,trip"), ("xlsx", b"PK"), ("pdf", b"%PDF-")):
        file = await house.api.get(f"{path}.{form}", headers=finance)
        assert (file.status_code, file.content[: len(begins)]) == (200, begins)
        assert f"pearl-{one['periodStart']}" in file.headers["content-disposition"]

    pearl, other = [await staff_headers(house, "operator_finance", code) for code in ("pearl", "lake")]
    door = await staff_headers(house, "operator_staff", "pearl")
    assert len(await statements(house, pearl)) == 1
    assert await statements(house, other) == []
    assert await statements(house, other, operator="pearl") == []
    for address in (path, f"{path}.csv"):
        assert (await house.api.get(address, headers=other)).status_code == 403
        assert (await house.api.get(address, headers=door)).status_code == 403
        assert (await house.api.get(address)).status_code == 401
    assert (await house.api.get("/api/settlements", headers=door)).status_code == 403
    for wrong, status in (
        (f"/api/settlements/{uuid4()}", 404),
        ("/api/settlements/nothing", 404),
        (f"{path}.docx", 404),
        (f"{path}?after=x", 422),
        ("/api/settlements?status=odd", 422),
    ):
        assert (await house.api.get(wrong, headers=finance)).status_code == status, wrong


async def test_statements_are_asked_for_by_the_days_of_their_period(settled: RunningHouse) -> None:
    finance = await staff_headers(settled, "platform_finance")
    (one,) = await statements(settled, finance)
    first, last = (date.fromisoformat(one[name]) for name in ("periodStart", "periodEnd"))
    day = timedelta(days=1)
    for query, found in (
        ({"since": last}, 1),
        ({"since": last + day}, 0),
        ({"until": first}, 1),
        ({"until": first - day}, 0),
        ({"since": first + day, "until": last - day}, 1),
    ):
        assert len(await statements(settled, finance, **query)) == found, query
    for wrong in (f"since={last}&until={first}", "since=soon", "until=2026-02-30"):
        answer = await settled.api.get(f"/api/settlements?{wrong}", headers=finance)
        assert answer.status_code in {400, 422}, wrong
        assert answer.headers["content-type"] == "application/problem+json"


async def test_the_office_shows_a_statement_and_one_person_approves_it_for_another_to_pay(
    settled: RunningHouse,
) -> None:
    house = settled
    (row,) = await house.box.rows("SELECT id FROM settlement")
    path = f"/office/settlements/{row['id']}"
    approver = await at_desk(house, await employ(house.box.db, "platform_finance"))
    listed = (await approver.get("/office/settlements?state=draft")).text
    assert path in listed
    assert "UGX\u00a0180,000" in listed
    assert path not in (await approver.get("/office/settlements?state=paid")).text
    await _is_exported_as_filtered(approver, str(row["id"]))
    page = (await approver.get(path)).text
    assert "Approve" in page
    assert (await approver.get(f"{path}/csv")).content.startswith(b"booking,trip")
    assert (await approver.get(f"{path}/exe")).status_code == 404
    assert (await approver.post(f"{path}/approve")).status_code == 403
    said = await approver.post(f"{path}/approve", data={"form": token_of(page)})
    assert said.headers["location"] == f"{path}?done=approved"
    after = (await approver.get(said.headers["location"])).text
    assert "The statement is approved." in after
    assert f"{path}/pay" not in after
    again = await approver.post(f"{path}/approve", data={"form": token_of(after)})
    assert again.status_code == 409
    refused = await approver.post(f"{path}/pay", data={"form": token_of(after)})
    assert refused.status_code == 403
    payer = await at_desk(house, await employ(house.box.db, "platform_finance"))
    assert f"{path}/pay" in (await payer.get(path)).text
    theirs = await at_desk(house, await employ(house.box.db, "operator_finance", "pearl"))
    seen = (await theirs.get(path)).text
    assert f"{path}/pay" not in seen
    assert (await theirs.post(f"{path}/pay", data={"form": token_of(seen)})).status_code == 403
    strangers = await at_desk(house, await employ(house.box.db, "operator_finance", "lake"))
    assert (await strangers.get(path)).status_code == 403
    assert (await strangers.get(f"{path}/pdf")).status_code == 403
    for browser in (approver, payer, theirs, strangers):
        await browser.aclose()


async def _is_exported_as_filtered(browser: httpx.AsyncClient, statement: str) -> None:
    """By state, operator, and days that the period has in common with the filter."""

    async def export(query: str) -> list[dict[str, str]]:
        answer = await browser.get(f"/office/settlements.csv?{query}")
        assert answer.status_code == 200, answer.text
        return list(csv.DictReader(answer.text.splitlines()))

    (line,) = await export("state=draft&operator=pearl")
    assert (line["statement"], line["currency"], line["net"]) == (statement, "UGX", "180000")
    first, last = date.fromisoformat(line["first day"]), date.fromisoformat(line["last day"])
    one = timedelta(days=1)
    for query, found in (
        (f"since={last}", [line]),
        (f"until={first}", [line]),
        (f"since={first - one}&until={last + one}", [line]),
        (f"since={last + one}", []),
        (f"until={first - one}", []),
        ("state=paid", []),
        ("operator=lake", []),
    ):
        assert await export(query) == found, query
