"""The office in a browser: log in, look, filter, export, log out; and what does not get past its door."""

import csv
import re
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.e2e.test_pages import AXE, LOOKS, SMALL_TARGETS, violations_of
from tests.e2e.traveller import Traveller
from tests.house import JsonObject, RunningHouse
from tests.integration.test_refunds import paid_twice
from tests.staff import Employee, employ

pytestmark = pytest.mark.browser


async def log_in(grace: Traveller, who: Employee, *, path: str = "/office") -> None:
    """Through the login page, wherever it is asked for; by keyboard alone."""
    await grace.page.goto(path)
    await expect(grace.page.get_by_label("E-mail")).to_be_focused()
    await grace.page.keyboard.type(who.email)
    await grace.page.keyboard.press("Tab")
    await grace.page.keyboard.type(who.password)
    await grace.page.keyboard.press("Enter")
    await grace.page.wait_for_url(re.compile(f"{re.escape(path)}$"))


async def put_in_review(house: RunningHouse, payment: JsonObject) -> None:
    await house.box.rows(
        "UPDATE payment SET state = 'review', failure_reason = 'Too little came: UGX 100' WHERE id = %s",
        payment["paymentId"],
    )


async def references(grace: Traveller) -> list[str]:
    return await grace.page.locator(".sheet tbody th").all_inner_texts()


@pytest.mark.parametrize("javascript", [True, False], ids=["with script", "without"])
async def test_finance_logs_in_sees_a_payment_filters_exports_and_logs_out(
    arrive: Arrive,
    house: RunningHouse,
    tmp_path: Path,
    javascript: bool,  # noqa: FBT001 - pytest's way
) -> None:
    paid, _ = await house.buy(house.network.bus(), ["1A", "1B"])
    open_ = await house.reserve(house.network.bus(), ["1A"])
    await house.initiate(open_)
    grace = await arrive(desktop=True, javascript=javascript)
    who = await employ(house.box.db, "operator_finance", "pearl")
    await log_in(grace, who, path="/office/payments")
    row = grace.page.locator("tr", has=grace.page.get_by_text(paid["reference"]))
    await expect(row).to_contain_text("UGX 120,000")
    await expect(row).to_contain_text("paid")
    assert open_["reference"] in await references(grace)
    await grace.page.get_by_label("Status").select_option("paid")
    await grace.page.get_by_role("button", name="Show").click()
    await grace.page.wait_for_url(re.compile("status=paid"))
    assert paid["reference"] in await references(grace)
    assert open_["reference"] not in await references(grace)
    async with grace.page.expect_download() as download:
        await grace.page.get_by_role("link", name="Export CSV").click()
    file = tmp_path / "payments.csv"
    await (await download.value).save_as(file)
    with file.open(newline="") as opened:
        rows = {row["reference"]: row for row in csv.DictReader(opened)}
    assert (rows[paid["reference"]]["amount"], rows[paid["reference"]]["currency"]) == ("120000", "UGX")
    assert open_["reference"] not in rows
    await grace.page.get_by_role("button", name="Log out", exact=True).click()
    await grace.page.wait_for_url(re.compile("/office/login$"))
    await grace.page.goto("/office/payments")
    await expect(grace.page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_staff_of_one_operator_see_no_payment_and_no_amount_of_another(
    arrive: Arrive, house: RunningHouse
) -> None:
    of_pearl, payment = await house.buy(house.network.bus(), ["1A"])
    of_lake, _ = await house.buy(house.network.shuttle(), ["1A"])
    await put_in_review(house, payment)
    both = await house.api.post(
        "/api/bookings/reserve",
        json={
            "items": [
                {"tripId": str(house.network.bus()), "seatNumbers": ["1A"]},
                {"tripId": str(house.network.shuttle()), "seatNumbers": ["1A"]},
            ]
        },
    )
    assert both.status_code == 201, both.text
    await house.initiate(both.json())
    grace = await arrive(desktop=True)
    await log_in(grace, await employ(house.box.db, "operator_finance", "lake"), path="/office/payments")
    found = await references(grace)
    assert of_pearl["reference"] not in found
    assert {of_lake["reference"], both.json()["reference"]} <= set(found)
    shared = grace.page.locator("tr", has=grace.page.get_by_text(both.json()["reference"]))
    await expect(shared).to_contain_text("UGX 15,000")
    await expect(shared).not_to_contain_text("75,000")
    await grace.page.goto("/office/review")
    await expect(grace.page.get_by_text(of_pearl["reference"])).to_have_count(0)
    exported = await grace.page.request.get("/office/payments.csv")
    assert of_pearl["reference"] not in await exported.text()
    admin = await arrive(desktop=True)
    await log_in(admin, await employ(house.box.db), path="/office/review")
    row = admin.page.locator("tr", has=admin.page.get_by_text(of_pearl["reference"]))
    await expect(row).to_contain_text("Too little came: UGX 100")
    await expect(row).to_contain_text("0 min")
    await row.get_by_role("button", name="Ask the gateway").click()
    await admin.sees("The gateway was asked. The payment is in review still.")
    asked = (
        "SELECT count(*) FROM audit_event WHERE subject_id = %s AND action = 'payment.asked' AND actor LIKE 'staff:%%'"
    )
    assert await house.box.value(asked, of_pearl["bookingId"]) == 1


async def test_platform_finance_accepts_one_payment_and_sends_the_excess_of_another_back(
    arrive: Arrive, house: RunningHouse
) -> None:
    short, over = await house.reserve(house.network.bus(), ["1A"]), await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(short)
    await house.sim.pay(payment, amount=59_000)
    await house.payment_until(payment, "REVIEW")
    await house.sim.pay(await house.initiate(over), amount=60_700)
    await house.booking_until(over, "CONFIRMED")
    femi = await arrive(desktop=True)
    await log_in(femi, await employ(house.box.db, "platform_finance"), path="/office/review")
    row = femi.page.locator("tr", has=femi.page.get_by_text(short["reference"]))
    await expect(row).to_contain_text("UGX 60,000")
    await expect(row).to_contain_text("UGX 59,000")
    await row.get_by_label("Why").fill("Agreed by phone.")
    await row.get_by_role("button", name="Accept").click()
    await femi.sees("Done: what came was accepted, and the booking is confirmed.")
    await house.booking_until(short, "CONFIRMED")
    await femi.page.goto("/office/payments")
    line = femi.page.locator("tr", has=femi.page.get_by_text(over["reference"]))
    await expect(line).to_contain_text("UGX 700 too much")
    await line.get_by_role("button", name="Send back the excess").click()
    await femi.sees("The excess is on its way back.")
    (refund,) = await house.refunds_until(over, "succeeded")
    assert refund["amount"] == 700
    await expect(line).not_to_contain_text("too much")


async def test_platform_finance_sends_a_refund_that_the_gateway_refused_once_more(
    arrive: Arrive, house: RunningHouse
) -> None:
    await house.sim.config(refund_outcome="failed")
    booking, _ = await paid_twice(house)
    await house.refunds_until(booking, "needs_attention")
    await house.sim.config(refund_outcome="paid")
    okello = await arrive(desktop=True)
    await log_in(okello, await employ(house.box.db, "operator_finance", "pearl"), path="/office/review")
    row = okello.page.locator("tr", has=okello.page.get_by_text(booking["reference"]))
    await expect(row).to_contain_text("UGX")
    await expect(okello.page.get_by_role("button", name="Send")).to_have_count(0)
    femi = await arrive(desktop=True)
    await log_in(femi, await employ(house.box.db, "platform_finance"), path="/office/review")
    await femi.page.get_by_role("button", name=f"Send the refund of {booking['reference']} again").click()
    await femi.sees("The gateway was asked for the refund.")
    await house.refunds_until(booking, "succeeded")


async def test_whoever_has_no_right_to_a_page_is_told_so(arrive: Arrive, house: RunningHouse) -> None:
    dora = await arrive(desktop=True)
    await log_in(dora, await employ(house.box.db, "operator_staff", "pearl"))
    await expect(dora.page.get_by_role("main").get_by_role("link")).to_have_text(
        ["Cash at a counter", "Messages that were given up"]
    )
    await expect(dora.page.get_by_role("link", name="Payments")).to_have_count(0)
    for path in ("/office/payments", "/office/payments.csv", "/office/review"):
        answer = await dora.page.request.get(path)
        assert answer.status == 403, path
        assert "Your role does not include" in await answer.text()


async def test_mistakes_at_the_door_keep_the_address_and_say_one_thing(arrive: Arrive, house: RunningHouse) -> None:
    grace = await arrive()
    who = await employ(house.box.db)
    for email in (who.email, "nobody@kiti.example"):
        await grace.page.goto("/office/login")
        await grace.page.fill("#email", email)
        await grace.page.fill("#password", "wrong password")
        await grace.page.get_by_role("button", name="Log in").click()
        await grace.sees("This e-mail address and password do not open an account.")
        await expect(grace.page.get_by_label("E-mail")).to_have_value(email)
        await expect(grace.page.get_by_label("Password")).to_have_value("")


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites_and_new_at_each_login(
    arrive: Arrive, house: RunningHouse
) -> None:
    grace = await arrive()
    who = await employ(house.box.db)
    secrets = []
    for _ in range(2):
        await grace.page.context.clear_cookies(name="kiti_login")
        await log_in(grace, who)
        (cookie,) = [found for found in await grace.page.context.cookies() if found["name"] == "kiti_office"]
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Lax"
        secrets.append(cookie["value"])
        await grace.page.get_by_role("button", name="Log out", exact=True).click()
        await grace.page.wait_for_url(re.compile("/office/login$"))
    assert secrets[0] != secrets[1]
    again = await arrive()
    await again.page.context.add_cookies([{"name": "kiti_office", "value": secrets[1], "url": house.base_url}])
    await again.page.goto("/office")
    await expect(again.page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_a_form_without_its_sessions_token_or_from_elsewhere_is_refused(
    arrive: Arrive, house: RunningHouse
) -> None:
    who, other = await employ(house.box.db), await employ(house.box.db)
    tokens = []
    for employee in (other, who):
        grace = await arrive()
        await log_in(grace, employee)
        tokens.append(await grace.page.locator("input[name=form]").first.get_attribute("value") or "")
    cookies = {found["name"]: found["value"] for found in await grace.page.context.cookies()}
    origin = {"origin": house.base_url}
    async with httpx.AsyncClient(base_url=house.base_url, cookies={"kiti_office": cookies["kiti_office"]}) as browser:
        for data in ({}, {"form": ""}, {"form": "00"}, {"form": tokens[0]}):
            for path in ("/office/logout", "/office/sessions/end"):
                assert (await browser.post(path, data=data, headers=origin)).status_code == 403
        for elsewhere in ({}, {"origin": "https://evil.example"}, {**origin, "sec-fetch-site": "cross-site"}):
            refused = await browser.post("/office/logout", data={"form": tokens[1]}, headers=elsewhere)
            assert refused.status_code == 403
        assert (await browser.get("/office")).status_code == 200
        login = {"email": who.email, "password": who.password}
        assert (await browser.post("/office/login", data=login, headers=origin)).status_code == 403
        gone = await browser.post("/office/logout", data={"form": tokens[1]}, headers=origin)
        assert (gone.status_code, gone.headers["location"]) == (303, "/office/login")
        assert (await browser.get("/office")).status_code == 303


async def test_a_person_can_log_out_their_other_browsers(arrive: Arrive, house: RunningHouse) -> None:
    who = await employ(house.box.db)
    phone, desk = await arrive(), await arrive(desktop=True)
    await log_in(phone, who)
    await log_in(desk, who)
    await desk.page.get_by_role("button", name="Log out all other browsers").click()
    await desk.sees("One other browser is logged out.")
    await phone.page.goto("/office")
    await expect(phone.page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_login_leads_back_to_the_page_that_was_asked_for_and_never_elsewhere(
    arrive: Arrive, house: RunningHouse
) -> None:
    who = await employ(house.box.db)
    async with httpx.AsyncClient(base_url=house.base_url) as browser:
        asked = await browser.get("/office/payments?status=paid")
        assert asked.headers["location"] == "/office/login?next=%2Foffice%2Fpayments%3Fstatus%3Dpaid"
    for away in ("//evil.example", "https://evil.example", "/trips", "/office/../trips"):
        grace = await arrive()
        await grace.page.goto(f"/office/login?next={away}")
        await grace.page.fill("#email", who.email)
        await grace.page.fill("#password", who.password)
        await grace.page.get_by_role("button", name="Log in").click()
        await grace.page.wait_for_url(re.compile("/office/?$"))


async def test_pages_of_the_list_follow_on_one_another(arrive: Arrive, house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    await house.box.rows(
        "INSERT INTO payment (booking_id, id, gateway, method, state, amount, fee, currency, created_at, expires_at)"
        " SELECT %s, (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - n), 12, '0') || '7000'"
        " || '8000' || lpad(to_hex(n), 12, '0'))::uuid,"
        " 'flutterwave', 'CARD', 'cancelled', 1000, 0, 'UGX', now(), now() FROM generate_series(1, 120) AS n",
        booking["bookingId"],
    )
    grace = await arrive(desktop=True)
    await log_in(grace, await employ(house.box.db), path="/office/payments?status=failed")
    seen: list[str] = []
    for _ in range(3):
        seen += await grace.page.locator(".sheet .id").all_inner_texts()
        older = grace.page.get_by_role("link", name="Older")
        if await older.count() == 0:
            break
        await older.click()
        await grace.page.wait_for_url(re.compile(f"before={seen[-1]}"))
    assert len(set(seen)) == len(seen)
    assert len(seen) >= 120
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize(
    "query", ["status=x", "since=x", "until=9999-12-31", "since=2026-02-01&until=2026-01-01", "before=1"]
)
async def test_a_filter_that_cannot_be_is_said_above_the_usual_one(
    arrive: Arrive, house: RunningHouse, query: str
) -> None:
    grace = await arrive(desktop=True)
    await log_in(grace, await employ(house.box.db))
    answer = await grace.page.goto(f"/office/payments?{query}")
    assert answer is not None
    assert answer.status == 422
    await expect(grace.page.get_by_role("alert")).to_be_visible()


async def test_the_office_is_accessible(arrive: Arrive, house: RunningHouse) -> None:
    _, payment = await house.buy(house.network.bus(), ["1A"])
    await put_in_review(house, payment)
    who = await employ(house.box.db)
    for look, scheme in LOOKS:
        grace = await arrive(color_scheme=scheme)
        await grace.page.set_viewport_size(look)
        await grace.page.goto("/office/login")
        await _is_accessible(grace)
        await log_in(grace, who)
        one = f"/office/payments/{payment['paymentId']}"
        for path in ("/office", "/office/payments", one, "/office/review", "/office/messages", "/office/settlements"):
            await grace.page.goto(path)
            await _is_accessible(grace)


async def _is_accessible(grace: Traveller) -> None:
    await grace.page.evaluate(AXE)
    violations = await violations_of(grace.page)
    assert violations == [], grace.path
    assert await grace.page.evaluate(SMALL_TARGETS) == [], grace.path
    width = await grace.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0, f"{grace.path} scrolls sideways"
