"""Gateways' webhooks are forgotten long after they were done with, a bounded number at a time."""

import hashlib
from collections.abc import AsyncIterator

import pytest
from tests.hooked import Desk, open_desk

from kiti.flows.upkeep import cleanup_idempotency
from kiti.payments import actions as payments

DAY_MINUTES = 24 * 60


@pytest.fixture
async def desk(fresh_url: str) -> AsyncIterator[Desk]:
    async with open_desk(fresh_url) as there:
        yield there


async def keep(desk: Desk, *bodies: bytes, done: bool) -> None:
    for body in bodies:
        digest = hashlib.sha256(body).digest()
        async with desk.house.db.transaction() as tx:
            assert await payments.receive_delivery(tx, gateway="flutterwave", digest=digest, body=body)
            if done:
                await payments.finish_delivery(tx, gateway="flutterwave", digest=digest, outcome="nothing to do")


async def kept(desk: Desk) -> set[bytes]:
    return {bytes(row["body"]) for row in await desk.box.rows("SELECT body FROM webhook_delivery")}


async def test_the_cleanup_forgets_what_was_done_with_long_ago_and_keeps_what_waits(desk: Desk) -> None:
    days = desk.house.settings.webhook_days
    await keep(desk, b"old 1", b"old 2", done=True)
    await keep(desk, b"waits", done=False)
    await desk.box.travel(minutes=DAY_MINUTES)
    await keep(desk, b"a day younger", done=True)
    await desk.box.travel(minutes=(days - 1) * DAY_MINUTES - 5)
    assert (await cleanup_idempotency(desk.house)).processed == 0
    await desk.box.travel(minutes=10)
    assert (await cleanup_idempotency(desk.house)).processed == 2
    assert await kept(desk) == {b"waits", b"a day younger"}
    assert (await cleanup_idempotency(desk.house)).processed == 0


async def test_a_batch_is_bounded_and_takes_the_oldest_first(desk: Desk) -> None:
    for body in (b"first", b"second", b"third"):
        await keep(desk, body, done=True)
        await desk.box.travel(minutes=1)
    await desk.box.travel(minutes=8 * DAY_MINUTES)
    async with desk.house.db.transaction() as tx:
        assert await payments.forget_deliveries(tx, keep_days=7, limit=2) == 2
    assert await kept(desk) == {b"third"}
