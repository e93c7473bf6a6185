"""kill -9 between authorising and capturing: after a restart the seat is sold and paid once, or neither."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.house import JsonObject, RunningHouse, until
from tests.integration.test_crashes import Trap, armed, kill_in
from tests.integration.test_stripe import assert_sold_once, begin, intent, state

pytestmark = pytest.mark.storm

CAPTURE = "POST /v1/payment_intents/*/capture"
COUNTED = "POST /v1/payment_intents/{id}/capture"

# The last change of each transaction between the bank's yes and the ticket.
STEPS = [
    Trap("payment", "UPDATE", "NEW.state = 'authorised'"),
    Trap("charge", "INSERT"),
    Trap("ticket", "INSERT"),
]


@pytest.fixture(scope="module")
async def crash_house(
    server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningHouse]:
    from tests.conftest import fresh_database

    with fresh_database(server_url, template) as url:
        running = RunningHouse(url, tmp_path_factory.mktemp("stripe_crashes"))
        try:
            yield await running.start()
        finally:
            await running.stop()


async def converge(house: RunningHouse, booking: JsonObject, payment: JsonObject) -> None:
    await house.revive_jobs()

    async def ended() -> str:
        await house.poll(payment)
        return str((await house.booking(booking))["status"])

    await until(ended, lambda status: status == "CONFIRMED", every_seconds=0.1)
    await assert_sold_once(house, booking, payment)
    await house.is_well()


@pytest.mark.parametrize("in_commit", [False, True], ids=["undone", "committed unheard"])
@pytest.mark.parametrize("trap", STEPS, ids=str)
async def test_a_server_that_is_killed_between_authorising_and_the_ticket_sells_once(
    crash_house: RunningHouse,
    trap: Trap,
    in_commit: bool,  # noqa: FBT001 - pytest's way
) -> None:
    house = crash_house
    booking, payment = await begin(house)
    async with armed(house, trap, in_commit=in_commit) as holding:
        await house.sim.pay(payment)
        await kill_in(house, trap, holding, in_commit=in_commit)
    await house.restart()
    await converge(house, booking, payment)


async def test_a_server_that_is_killed_while_stripe_captures_learns_of_it(crash_house: RunningHouse) -> None:
    """Stripe takes the money only when nobody waits for its answer any more."""
    house = crash_house
    booking, payment = await begin(house)
    # What an earlier test left may be captured meanwhile, and be as slow.
    await house.sim.api_fault(match=CAPTURE, times=3, latency_ms=2_000)

    async def calls() -> int:
        return int((await house.sim.state("nothing"))["calls"].get(COUNTED, 0))

    before = await calls()
    await house.sim.pay(payment)
    await until(lambda: state(house, payment), lambda now: now == "authorised")
    await until(calls, lambda made: made > before)
    await asyncio.sleep(0.3)
    house.kill9()
    assert await state(house, payment) == "authorised"
    await until(lambda: intent(house, payment), lambda told: told["status"] == "succeeded")
    await house.restart()
    await converge(house, booking, payment)


async def test_the_poller_alone_carries_on_where_no_webhook_comes_any_more(own_house: RunningHouse) -> None:
    house = own_house
    booking, payment = await begin(house)
    trap = STEPS[0]
    async with armed(house, trap, in_commit=True) as holding:
        await house.sim.pay(payment, "pay-without-webhook")
        asking = asyncio.create_task(_return(house, payment))
        await kill_in(house, trap, holding, in_commit=True)
        await asyncio.gather(asking, return_exceptions=True)
    assert await state(house, payment) == "authorised"
    await house.restart()
    await converge(house, booking, payment)


async def _return(house: RunningHouse, payment: JsonObject) -> None:
    """The browser comes back from the page."""
    await house.api.get(f"/pay/{payment['paymentId']}/return")
