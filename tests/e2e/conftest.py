"""A headless Chromium against the running house. Without a Chromium these tests are skipped, and say so."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, async_playwright, expect
from tests.e2e.traveller import DESKTOP, PHONE, Traveller
from tests.house import RunningHouse

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Only for what never comes: a busy machine takes its time.
PATIENCE_MS = 30_000

Arrive = Callable[..., Awaitable[Traveller]]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests of a worker; each test has a profile of its own."""
    # Without windows that nobody sees, a browser takes a third less of a processor.
    found = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    executable = os.environ.get("KITI_CHROMIUM") or found
    if executable is None:
        reason = "There is no Chromium: install one, or name it in KITI_CHROMIUM."
        if os.environ.get("KITI_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    async with async_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        started = await playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield started
        await started.close()


@pytest.fixture
async def arrive(browser: Browser, house: RunningHouse) -> AsyncIterator[Arrive]:
    """Make a traveller with a phone, or with `desktop=True` at a desk, `javascript=False` on a very old device."""
    contexts: list[BrowserContext] = []

    async def make(
        *, desktop: bool = False, javascript: bool = True, at: RunningHouse = house, **options: Any
    ) -> Traveller:
        context = await browser.new_context(
            base_url=at.base_url,
            viewport=DESKTOP if desktop else PHONE,
            java_script_enabled=javascript,
            locale=options.pop("locale", "en-GB"),
            **options,
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        return Traveller(await context.new_page(), at)

    yield make
    for context in contexts:
        await context.close()
