"""Finance in a browser: what differs with all sides beside one another, bank statements, disputes, all refunds."""

import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.e2e.test_office import _is_accessible, log_in
from tests.house import JsonObject, RunningHouse
from tests.office import INSPECTOR
from tests.staff import employ

from kiti.app import open_house
from kiti.core.money import Money
from kiti.core.settings import load
from kiti.flows.disputes import take_dispute
from kiti.flows.house import House
from kiti.flows.staff_refunds import refund_payment
from kiti.gateways.gateway import Disputes, GatewayDispute
from kiti.people.model import Staff

pytestmark = pytest.mark.browser
ADMIN: Staff = INSPECTOR


@asynccontextmanager
async def in_this_process(house: RunningHouse) -> AsyncIterator[House]:
    async with open_house(load({**house.environment, "DATABASE_URL": house.database_url})) as opened:
        yield opened


async def dispute(house: RunningHouse, booking: JsonObject, *, hours: float) -> bool:
    """A dispute about all of a booking's money; whether the gateway of this house takes answers."""
    (charge,) = await house.charges(booking)
    told = GatewayDispute(
        dispute_id=f"D-{booking['reference']}",
        transaction_id=charge["transaction_id"],
        reference="",
        amount=Money(charge["amount"], charge["currency"]),
        status="open",
        reason="Not as described.",
        answer_by=datetime.now(UTC) + timedelta(hours=hours),
    )
    async with in_this_process(house) as opened:
        await take_dispute(opened, "flutterwave", told)
        return isinstance(opened.gateway("flutterwave"), Disputes)


async def test_finance_looks_into_a_difference_and_closes_it(arrive: Arrive, house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    (charge,) = await house.charges(booking)
    await house.box.rows("UPDATE charge SET fee_exact = fee_exact + 0.5 WHERE booking_id = %s", booking["bookingId"])
    await house.job("reconcile-payments")
    grace = await arrive(desktop=True)
    await log_in(grace, await employ(house.box.db, "platform_finance"), path="/office/reconciliation?kind=fee")
    await grace.page.get_by_role("link", name=f"fee, {charge['transaction_id']}").click()
    await grace.sees("The gateway kept")
    for heading in ("Our books", "The gateway, now", "Settlement and bank", "Ledger below the booking"):
        await expect(grace.page.get_by_role("heading", name=heading)).to_be_visible()
    await expect(grace.page.get_by_text(booking["reference"])).to_be_visible()
    await _is_accessible(grace)
    await grace.page.get_by_role("button", name="I look into it").click()
    await grace.sees("It is yours.")
    await grace.page.get_by_label("Note").fill("Asked their support.")
    await grace.page.get_by_role("button", name="Note it").click()
    await grace.sees("Grace Auma noted: Asked their support.")
    await grace.page.get_by_label("Resolved by hand because").fill("They will correct it.")
    await grace.page.get_by_role("button", name="Close it").click()
    await grace.sees("They will correct it.")
    await house.job("reconcile-payments")
    exported = await grace.page.request.get("/office/reconciliation.csv?kind=fee&state=all")
    rows = {row["transaction"]: row for row in csv.DictReader(StringIO(await exported.text()))}
    assert rows[charge["transaction_id"]]["closed"], "a later comparison does not open what a person has closed"
    await house.box.rows("UPDATE charge SET fee_exact = fee_exact - 0.5 WHERE booking_id = %s", booking["bookingId"])


async def test_a_bank_statement_is_uploaded_once(arrive: Arrive, house: RunningHouse, tmp_path: Path) -> None:
    file = tmp_path / "statement.csv"
    file.write_text("date,amount,currency,reference,text\n2026-01-05,12.50,KES,a,b\n2026-01-05,12.50,KES,a,b\n")
    grace = await arrive(desktop=True)
    await log_in(grace, await employ(house.box.db, "platform_finance"), path="/office/reconciliation")
    await _is_accessible(grace)
    for new in (2, 0):
        await grace.page.get_by_label("Bank statement").set_input_files(file)
        await grace.page.get_by_role("button", name="Import").click()
        await grace.sees(f"{new} of them new")
    file.write_text("date,amount\n2026-01-05,1\n")
    await grace.page.get_by_label("Bank statement").set_input_files(file)
    await grace.page.get_by_role("button", name="Import").click()
    await grace.sees("currency, reference, text is missing")


async def test_a_dispute_waits_with_its_last_moment_and_can_be_answered(arrive: Arrive, house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    answerable = await dispute(house, booking, hours=30)
    grace = await arrive(desktop=True)
    await log_in(grace, await employ(house.box.db, "platform_finance"), path="/office/disputes")
    mine = grace.page.locator("section", has=grace.page.get_by_text(booking["reference"]))
    await expect(mine).to_contain_text("UGX 60,000")
    await expect(mine).to_contain_text("29 hours left")
    await _is_accessible(grace)
    if answerable:
        # The simulator knows no such dispute, so its answer is a refusal in its own words.
        await mine.get_by_label("Comment for the gateway").fill("https://example.com/proof")
        await mine.get_by_role("button", name="Contest").click()
        await grace.sees("The gateway refused the answer.")
    else:
        await expect(mine).to_contain_text("takes no answers from here")
    refused = await house.api.post(f"/api/bookings/{booking['bookingId']}/cancel", json={})
    assert refused.status_code in {401, 404, 409}
    await house.box.rows(
        "UPDATE dispute SET state = 'won', ended_at = kiti_now() WHERE booking_id = %s", booking["bookingId"]
    )


async def test_an_operator_sees_its_part_of_a_refund_and_no_other_s(arrive: Arrive, house: RunningHouse) -> None:
    both = await house.api.post(
        "/api/bookings/reserve",
        json={
            "items": [
                {"tripId": str(house.network.bus()), "seatNumbers": ["1A"]},
                {"tripId": str(house.network.shuttle()), "seatNumbers": ["1A"]},
            ]
        },
    )
    shared = both.json()
    payment = await house.initiate(shared)
    await house.sim.pay(payment)
    await house.booking_until(shared, "CONFIRMED")
    alone, of_pearl = await house.buy(house.network.bus(), ["1A"])
    async with in_this_process(house) as opened:
        for one in (payment, of_pearl):
            await refund_payment(opened, payment=UUID(one["paymentId"]), amount=None, reason="The road.", staff=ADMIN)
    lake = await arrive(desktop=True)
    await log_in(lake, await employ(house.box.db, "operator_finance", "lake"), path="/office/refunds")
    row = lake.page.locator("tr", has=lake.page.get_by_text(shared["reference"]))
    await expect(row).to_contain_text("UGX 15,000")
    await expect(lake.page.get_by_text(alone["reference"])).to_have_count(0)
    await _is_accessible(lake)
    exported = await lake.page.request.get("/office/refunds.csv")
    rows = {row["reference"]: row for row in csv.DictReader(StringIO(await exported.text()))}
    assert rows[shared["reference"]]["amount"] == "15000"
    for path in ("/office/reconciliation", "/office/reconciliation.csv", "/office/disputes", "/office/disputes.csv"):
        assert (await lake.page.request.get(path)).status == 403, path
    await house.refunds_until(shared, "succeeded")
    await lake.page.goto("/office/refunds?status=paid+back")
    await expect(row).to_contain_text("paid back")
