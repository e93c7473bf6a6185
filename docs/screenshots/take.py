"""Redraws the pictures in this folder: `make screenshots`.

Starts the demo on free ports with a database of its own, buys tickets in a phone-sized and a desktop-sized Chromium,
and keeps a picture of every page. `--url` takes pictures of a demo that runs already, `--into` puts them elsewhere.
"""

import argparse
import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import URLError

from playwright.async_api import Browser, Page, async_playwright

HERE = Path(__file__).parent
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_TIMEOUT_SECONDS = 90
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}


class Camera:
    """A page and where its pictures go."""

    def __init__(self, page: Page, into: Path, suffix: str) -> None:
        self.page = page
        self._into = into
        self._suffix = suffix

    async def take(self, name: str, *, whole: bool = True) -> None:
        """One picture, of the whole page or of what the screen shows."""
        path = self._into / f"{name}-{self._suffix}.png"
        size = self.page.viewport_size
        assert size is not None
        if whole:
            # A screen as tall as the page: what sticks to an edge of the screen stands at that of the picture.
            height = await self.page.evaluate("document.documentElement.scrollHeight")
            await self.page.set_viewport_size({"width": size["width"], "height": max(height, size["height"])})
        await self.page.screenshot(path=path, animations="disabled")
        await self.page.set_viewport_size(size)
        print(path.name, path.stat().st_size // 1024, "KB")  # noqa: T201 - a script that says what it does


async def main() -> None:
    """Parse the arguments, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a demo that runs already")
    parser.add_argument("--into", type=Path, default=HERE)
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    if arguments.url:
        await _take_all(arguments.url, arguments.into)
        return
    with _demo() as url:
        await _take_all(url, arguments.into)


async def _take_all(url: str, into: Path) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=os.environ.get("KITI_CHROMIUM") or shutil.which("chromium"), args=FLAGS
        )
        for size, name in ((PHONE, "phone"), (DESKTOP, "desktop")):
            camera = await _camera(browser, into, name, size, url)
            await _buy(camera)
            await _look_around(camera)
        await _look_dark(await _camera(browser, into, "dark", PHONE, url, dark=True))
        await browser.close()


async def _camera(
    browser: Browser, into: Path, suffix: str, size: dict[str, int], url: str, *, dark: bool = False
) -> Camera:
    context = await browser.new_context(
        viewport=size,  # type: ignore[arg-type] # a TypedDict of width and height
        base_url=url,
        locale="en",
        color_scheme="dark" if dark else "light",
    )
    return Camera(await context.new_page(), into, suffix)


async def _buy(camera: Camera) -> None:
    page = camera.page
    await page.goto("/")
    await camera.take("home")
    await page.goto(f"/trips?from=KLA&to=KGL&date={_day(3)}&passengers=2")
    await camera.take("trips")
    await _open_trip(page, "Korongo Coaches")
    await page.get_by_role("button", name="Best seats for me").click()
    await page.wait_for_selector("input:checked")
    await camera.take("seats")
    await page.get_by_role("button", name="Continue").click()
    await page.fill("#phone", "12")
    await page.fill("#name-1", "Amina Nakato")
    await page.fill("#name-2", "Okello James")
    await page.get_by_role("button", name="Continue to payment").click()
    await camera.take("travellers")
    await page.fill("#phone", "+256 772 123456")
    await page.get_by_role("button", name="Continue to payment").click()
    await camera.take("pay")
    await page.get_by_role("button", name="Pay UGX").click()
    await page.wait_for_url("**/pay/**")
    await page.get_by_role("button", name="Decline").click()
    await page.wait_for_selector("text=Try again")
    await camera.take("not-paid")
    await page.get_by_role("link", name="Try again").click()
    await page.get_by_role("button", name="Pay UGX").click()
    await page.get_by_text("When things go wrong").click()
    await page.fill("#delay_seconds", "5")
    await page.get_by_role("button", name="Pay late").click()
    await page.wait_for_selector("text=Look now")
    await camera.take("waiting")
    await page.wait_for_url("**/ticket", timeout=60_000)
    await camera.take("ticket")


async def _look_around(camera: Camera) -> None:
    page = camera.page
    await page.goto("/find")
    await camera.take("find")
    await page.locator(".mine a").first.click()
    await camera.take("booking")
    await page.goto("/nowhere")
    await camera.take("nowhere")
    await page.goto("/docs")
    await page.locator("summary", has_text="/api/stops").click()
    await camera.take("docs", whole=False)
    await page.goto(f"/trips?from=KLA&to=KGL&date={_day(3)}&passengers=2")
    await _open_trip(page, "Nyika Express")
    await camera.take("seats-double-decker")
    await page.goto(f"/trips?from=EBB&to=KGA&date={_day(2)}")
    await _open_trip(page, "Korongo Coaches")
    await camera.take("seats-ferry")
    await page.goto(page.url + "&view=list")
    await camera.take("seats-list", whole=False)


async def _look_dark(camera: Camera) -> None:
    page = camera.page
    await page.goto("/")
    await camera.take("home")
    await page.goto(f"/trips?from=KLA&to=KGL&date={_day(3)}&passengers=2&lang=sw")
    await camera.take("trips-swahili")
    await _open_trip(page, "Korongo Coaches")
    await page.locator(".pick button").click()
    await page.wait_for_selector("input:checked")
    await camera.take("seats-swahili")
    await page.goto("/?lang=fr")
    await camera.take("home-french")


async def _open_trip(page: Page, operator: str) -> None:
    await page.locator(".trips > li", has_text=operator).first.locator("a").click()
    await page.wait_for_selector("#seats")


def _day(ahead: int) -> str:
    return (datetime.now(UTC) + timedelta(days=ahead)).date().isoformat()


@contextmanager
def _demo() -> Iterator[str]:
    """`kiti demo` as a process of its own, its data in a directory that goes away afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="kiti-pictures-") as data:
        environment = {**os.environ, "KITI_PORT": str(port), "KITI_DATA_DIR": data, "DATABASE_URL": ""}
        process = subprocess.Popen([sys.executable, "-m", "kiti", "demo"], env=environment, start_new_session=True)
        try:
            _wait_until_ready(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"The demo ended with exit code {process.returncode}.")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):  # noqa: S310 - our own address
                return
        except (URLError, OSError):
            time.sleep(0.3)  # not listening yet
    raise SystemExit(f"{url} was not ready after {START_TIMEOUT_SECONDS} seconds.")


if __name__ == "__main__":
    asyncio.run(main())
