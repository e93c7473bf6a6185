"""A payment with its steps, and messages that were given up, in a browser at the desk."""

import csv
from uuid import UUID, uuid4

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.e2e.test_office import log_in
from tests.house import JsonObject, RunningHouse
from tests.network import STANDARD_UGX
from tests.staff import employ, staff_headers

from kiti.messages import actions as messages
from kiti.messages.model import NewMessage

pytestmark = pytest.mark.browser


async def parked(house: RunningHouse, booking: JsonObject, *, recipient: str) -> None:
    """A message that was given up as the mail server gives one up, of two days ago."""
    new = [
        NewMessage(
            booking=UUID(booking["bookingId"]),
            event="changed",
            channel="email",
            recipient=recipient,
            language="en",
            subject=uuid4(),
        )
    ]
    await house.box.db.run(lambda tx: messages.enqueue_many(tx, new=new))
    await house.box.rows(
        "UPDATE message SET state = 'parked', act_after = NULL, attempts = 3, failure_reason = 'no such mailbox',"
        " created_at = created_at - interval '2 days' WHERE recipient = %s",
        recipient,
    )


async def test_a_payment_is_opened_from_the_list_and_tells_its_steps(arrive: Arrive, house: RunningHouse) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    grace = await arrive(desktop=True)
    await log_in(grace, await employ(house.box.db, "operator_finance", "pearl"), path="/office/payments")
    await grace.page.get_by_role("link", name=f"Payment of {booking['reference']}").click()
    await expect(grace.page.get_by_role("heading", name=f"Payment of {booking['reference']}")).to_be_visible()
    steps = grace.page.get_by_role("region", name="Table of steps").locator("tbody th")
    assert await steps.all_inner_texts() == ["created", "submitting", "pending", "captured"]
    await expect(grace.page.locator("dt", has_text="part")).to_contain_text("Pearl Coaches")
    lake = await arrive(desktop=True)
    await log_in(lake, await employ(house.box.db, "operator_finance", "lake"))
    answer = await lake.page.goto(f"/office/payments/{payment['paymentId']}")
    assert answer is not None
    assert answer.status == 404
    await expect(lake.page.get_by_text(booking["reference"])).to_have_count(0)


async def test_a_payment_tells_what_has_become_of_its_refund_and_of_its_dispute(
    arrive: Arrive, house: RunningHouse
) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    admin = await staff_headers(house)
    half = {"amount": STANDARD_UGX // 2, "reason": "There was no air."}
    await house.api.post(f"/api/payments/{payment['paymentId']}/refund", json=half, headers=admin)
    await house.refunds_until(booking, "succeeded")
    (charge,) = await house.charges(booking)
    order = {"transaction_id": int(charge["transaction_id"]), "amount": 10_000}
    (await house.sim.http.post("/_sim/chargebacks", json=order)).raise_for_status()
    await house.job("poll-disputes")
    for is_desktop in (True, False):
        grace = await arrive(desktop=is_desktop)
        await log_in(grace, await employ(house.box.db, "platform_finance"))
        await grace.page.goto(f"/office/payments/{payment['paymentId']}")
        refund = grace.page.get_by_role("region", name="UGX 30,000 succeeded")
        await expect(refund.get_by_role("listitem").first).to_contain_text("requested")
        await expect(refund.get_by_role("listitem").last).to_contain_text("succeeded")
        dispute = grace.page.get_by_role("region", name="UGX 10,000 open")
        await expect(dispute.get_by_role("listitem")).to_contain_text("open")
        await expect(dispute.get_by_role("link", name="Look after it")).to_be_visible()


async def test_a_message_is_sent_again_once_however_often_the_button_is_pressed(
    arrive: Arrive, house: RunningHouse
) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    recipient = f"{uuid4().hex[:8]}@example.com"
    await parked(house, booking, recipient=recipient)
    grace, okello = await arrive(desktop=True), await arrive(desktop=True)
    who = await employ(house.box.db, "operator_staff", "pearl")
    for desk in (grace, okello):
        await log_in(desk, who, path="/office/messages")
    for desk, told in ((grace, "It goes out again within a minute."), (okello, "Nothing was sent by this")):
        await desk.page.get_by_role("button", name=f"to {recipient}").click()
        await desk.sees(told)
        await expect(desk.page.get_by_text(recipient)).to_have_count(0)
    resent = "SELECT count(*) FROM audit_event WHERE subject_id = %s AND action = 'message.resent'"
    assert await house.box.value(resent, booking["bookingId"]) == 1
    lake = await arrive(desktop=True)
    other = f"{uuid4().hex[:8]}@example.com"
    await parked(house, booking, recipient=other)
    await log_in(lake, await employ(house.box.db, "operator_staff", "lake"), path="/office/messages")
    await expect(lake.page.get_by_text(other)).to_have_count(0)
    finance = await arrive(desktop=True)
    await log_in(finance, await employ(house.box.db, "operator_finance", "pearl"))
    refused = await finance.page.goto("/office/messages")
    assert refused is not None
    assert refused.status == 403


async def test_the_command_line_lists_and_resends_what_was_given_up(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    recipient = f"{uuid4().hex[:8]}@example.com"
    await parked(house, booking, recipient=recipient)
    code, listed = await house.kiti("messages", "parked")
    assert code == 0
    (line,) = [line for line in listed.splitlines() if recipient in line]
    assert (booking["reference"] in line, "no such mailbox" in line) == (True, True)
    message = line.split()[0]
    assert (await house.kiti("messages", "resend", message))[0] == 0
    code, said = await house.kiti("messages", "resend", message)
    assert (code, "parked" in said) == (1, True)


async def test_statements_and_disputes_are_exported_as_they_are_filtered(arrive: Arrive, house: RunningHouse) -> None:
    grace = await arrive(desktop=True)
    await log_in(grace, await employ(house.box.db), path="/office/disputes")
    await grace.page.get_by_label("State").select_option("lost")
    await grace.page.get_by_role("button", name="Show").click()
    export = grace.page.get_by_role("link", name="Export CSV")
    await expect(export).to_have_attribute("href", "/office/disputes.csv?state=lost")
    await grace.page.goto("/office/settlements?state=paid&operator=pearl&since=2026-01-01&until=2026-01-31")
    await expect(export).to_have_attribute(
        "href", "/office/settlements.csv?state=paid&since=2026-01-01&until=2026-01-31&operator=pearl"
    )
    answer = await grace.page.request.get("/office/settlements.csv?state=paid&operator=nobody")
    assert list(csv.DictReader((await answer.text()).splitlines())) == []
    for wrong in ("settlements?since=2026-02-01&until=2026-01-01", "disputes?gateway=odd", "messages?channel=pigeon"):
        refused = await grace.page.goto(f"/office/{wrong}")
        assert refused is not None
        assert refused.status == 422
        await expect(grace.page.get_by_role("alert")).to_be_visible()
