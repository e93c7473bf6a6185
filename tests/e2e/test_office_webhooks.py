"""Webhook endpoints in the office: made, tried out, replayed, disabled; the secret is shown once."""

import re

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.e2e.test_office import log_in
from tests.e2e.test_pages import AXE, LOOKS, SMALL_TARGETS, violations_of
from tests.e2e.traveller import Traveller
from tests.house import RunningHouse, until
from tests.receiver import Receiver, always, fine
from tests.staff import employ

pytestmark = pytest.mark.browser

ONE = re.compile(r"/office/webhooks/[0-9a-f-]{36}(\?done=[a-z-]+)?$")


async def add(finance: Traveller, url: str) -> str:
    """Through the form; the secret."""
    await finance.page.goto("/office/webhooks")
    await finance.page.get_by_label("Address").fill(url)
    await finance.page.get_by_label("Description").fill("Our shop")
    await finance.page.get_by_role("button", name="Add").click()
    return await finance.page.locator(".secret").inner_text()


@pytest.mark.parametrize("javascript", [True, False], ids=["with script", "without"])
async def test_finance_makes_an_endpoint_tries_it_out_and_replays_what_failed(
    arrive: Arrive,
    house: RunningHouse,
    javascript: bool,  # noqa: FBT001 - pytest's way
) -> None:
    finance = await arrive(desktop=True, javascript=javascript)
    await log_in(finance, await employ(house.box.db, "operator_finance", "pearl"), path="/office/webhooks")
    async with Receiver(always(500, b"<b>broken</b>")).listening() as receiver:
        secret = await add(finance, receiver.url)
        assert secret.startswith("whsec_")
        await finance.page.get_by_role("link", name="All webhooks").click()
        await finance.page.get_by_role("link", name=receiver.url).first.click()
        await finance.page.wait_for_url(ONE)
        await expect(finance.page.locator(".secret")).to_have_count(0)
        booking, _ = await house.buy(house.network.bus(), ["1A"])
        await finance.page.get_by_role("button", name="Send a test").click()
        await finance.sees("is on its way")

        async def told() -> int:
            await house.job("deliver-webhooks")
            return len(receiver.told)

        await until(told, lambda number: number >= 3)
        await house.box.rows("UPDATE hook_delivery SET state = 'failed', act_after = NULL WHERE state = 'pending'")
        receiver.answer = fine
        await finance.page.get_by_role("link", name="Only what failed").click()
        await finance.page.get_by_role("link", name="booking.confirmed").click()
        await expect(finance.page.locator(".payload")).to_contain_text(booking["reference"])
        await finance.sees("<b>broken</b>")
        await finance.page.get_by_role("button", name="Deliver again").click()
        await finance.sees("The event is delivered once more.")
        await until(told, lambda number: number >= 4)
        assert receiver.told[-1].is_signed_by(secret)
        assert receiver.ids[receiver.told[-1].id] >= 2
        await finance.page.get_by_role("button", name="New secret").click()
        assert await finance.page.locator(".secret").inner_text() != secret
        await finance.page.get_by_role("button", name="Disable").click()
        await finance.sees("Disabled by hand.")
        await finance.page.get_by_role("button", name="Enable").click()
        await finance.page.get_by_role("button", name="Disable").click()
        await finance.sees("The endpoint is told nothing any more.")


async def test_a_wrong_address_is_said_beside_what_was_typed(arrive: Arrive, house: RunningHouse) -> None:
    grace = await arrive(desktop=True)
    await log_in(grace, await employ(house.box.db), path="/office/webhooks")
    await grace.page.get_by_label("Address").fill("https://user@shop.example.com/")
    await grace.page.get_by_label("ticket.used").uncheck()
    await grace.page.get_by_role("button", name="Add").click()
    await expect(grace.page.get_by_role("alert")).to_contain_text("no user, no fragment")
    await expect(grace.page.get_by_label("Address")).to_have_value("https://user@shop.example.com/")
    await expect(grace.page.get_by_label("ticket.used")).not_to_be_checked()


async def test_who_may_not_look_after_endpoints_sees_none(arrive: Arrive, house: RunningHouse) -> None:
    async with Receiver().listening() as receiver:
        pearl = await arrive(desktop=True)
        await log_in(pearl, await employ(house.box.db, "operator_finance", "pearl"), path="/office/webhooks")
        await add(pearl, receiver.url)
        await pearl.page.get_by_role("link", name="All webhooks").click()
        await pearl.page.get_by_role("link", name=receiver.url).click()
        await pearl.page.wait_for_url(ONE)
        path = pearl.path
        await pearl.page.get_by_role("button", name="Disable").click()
    lake = await arrive(desktop=True)
    await log_in(lake, await employ(house.box.db, "operator_finance", "lake"), path="/office/webhooks")
    await expect(lake.page.get_by_text(receiver.url)).to_have_count(0)
    assert (await lake.page.request.get(path)).status == 404
    finance = await arrive(desktop=True)
    await log_in(finance, await employ(house.box.db, "platform_finance"))
    await expect(finance.page.get_by_role("link", name="Webhooks")).to_have_count(0)
    assert (await finance.page.request.get(path)).status == 403


async def test_the_pages_are_accessible(arrive: Arrive, house: RunningHouse) -> None:
    who = await employ(house.box.db)
    async with Receiver().listening() as receiver:
        first = await arrive(desktop=True)
        await log_in(first, who, path="/office/webhooks")
        await add(first, receiver.url)
        await first.page.get_by_role("button", name="Send a test").click()
        await first.page.wait_for_url(ONE)
        one = first.path.partition("?")[0]
        await first.page.get_by_role("link", name="endpoint.test").click()
        await first.page.wait_for_url(re.compile("/office/webhooks/[0-9a-f-]{36}/[0-9a-f-]{36}$"))
        event = first.path
        for look, scheme in LOOKS:
            grace = await arrive(color_scheme=scheme)
            await grace.page.set_viewport_size(look)
            await log_in(grace, who, path="/office/webhooks")
            for path in ("/office/webhooks", one, event):
                await grace.page.goto(path)
                await grace.page.evaluate(AXE)
                assert await violations_of(grace.page) == [], path
                assert await grace.page.evaluate(SMALL_TARGETS) == [], path
                width = await grace.page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                assert width <= 0, f"{path} scrolls sideways"
        await first.page.goto(one)
        await first.page.get_by_role("button", name="Disable").click()
