"""What a traveller does in a browser, in a traveller's words."""

import re
from datetime import date
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from playwright.async_api import Page, ViewportSize, expect
from tests.house import RunningHouse

PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
NUMBER = "+256 772 123456"


class Traveller:
    """A browser with a page, and what is done in it. `page` is Playwright's."""

    def __init__(self, page: Page, house: RunningHouse) -> None:
        self.page = page
        self.house = house

    async def search(self, trip: UUID, *, origin: str = "Kampala", destination: str = "Kigali") -> None:
        """From the home page to the trips of the day on which this one runs."""
        await self.page.goto("/")
        await self.page.fill("#from", origin)
        await self.page.fill("#to", destination)
        await self.page.fill("#date", (await self._day(trip)).isoformat())
        await self.page.click("text=Show trips")

    async def open_map(self, trip: UUID, *, origin: str = "KLA", destination: str = "KGL", more: str = "") -> None:
        """Straight to the seat map."""
        await self.page.goto(f"/trips/{trip}/seats?from={origin}&to={destination}{more}")

    async def choose(self, *seats: str) -> None:
        """Press on seats of the map."""
        for seat in seats:
            await self.page.locator("label.seat", has=self.page.locator(f"input[value='{seat}']")).click()

    async def go_on(self) -> None:
        """From the seat map to the names, if the seats are still free."""
        await self.page.click("text=Continue")

    async def introduce(self, *names: str, phone: str = NUMBER) -> None:
        """Fill in the names and the phone number, and go on to pay."""
        for number, name in enumerate(names, 1):
            await self.page.fill(f"#name-{number}", name)
        await self.page.fill("#phone", phone)
        await self.page.click("text=Continue to payment")

    async def pay(self, button: str = "Pay UGX", *, method: str = "Mobile money") -> None:
        """Choose a method, go to the gateway's page, press a button there."""
        await self.page.get_by_label(method).check()
        await self.page.get_by_role("button", name=re.compile("^Pay")).click()
        await self.page.wait_for_url(re.compile(f"^(?!{re.escape(self.house.base_url)})"))
        if button not in {"Pay UGX", "Decline", "Cancel and return"}:
            await self.page.click("summary")
        await self.page.get_by_role("button", name=button).click()

    async def has_paid_late(self) -> None:
        """The money for which the open page waits comes now."""
        await self.house.sim.pay(self.path.rpartition("/")[2], force=True)

    async def sees(self, text: str) -> None:
        """The page has this text, visibly, soon."""
        await expect(self.page.get_by_text(text).first).to_be_visible()

    async def chosen(self) -> list[str]:
        """The seats with a tick."""
        values: list[str] = await self.page.locator("input[name=seat]:checked").evaluate_all(
            "(all) => all.map(one => one.value)"
        )
        return values

    @property
    def path(self) -> str:
        """The path of the page that is open."""
        return urlsplit(self.page.url).path

    async def _day(self, trip: UUID) -> date:
        day: Any = await self.house.box.value("SELECT service_date FROM trip WHERE id = %s", trip)
        assert isinstance(day, date)
        return day
