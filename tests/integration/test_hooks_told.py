"""Integrators hear of what becomes of bookings: each event once, signed, by servers and commands as they run."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from rich.console import Console
from tests.house import JsonObject, RunningHouse, holder, until
from tests.network import STANDARD_UGX
from tests.receiver import Receiver, always, fine
from tests.staff import staff_headers

from kiti.app import create_asgi, open_house, work
from kiti.cli import Composition, kiti
from kiti.cli import hooks as commands


class Ear:
    """An integrator who listens to everything, and its endpoint."""

    def __init__(self, house: RunningHouse, receiver: Receiver, endpoint: str, secret: str) -> None:
        self.house = house
        self.receiver = receiver
        self.endpoint = endpoint
        self.secret = secret

    async def hears(self, subject: Any, *types: str) -> dict[str, JsonObject]:
        """Wait for these events and no others of a booking or trip; the bodies by type. Each came once, and signed."""

        async def look() -> list[str]:
            await self.house.job("deliver-webhooks")
            return sorted(told.type for told in self._of(subject))

        await until(look, lambda found: len(found) >= len(types), every_seconds=0.1)
        told = self._of(subject)
        assert sorted(one.type for one in told) == sorted(types)
        assert set(Counter(one.id for one in told).values()) <= {1}
        assert all(one.is_signed_by(self.secret) for one in told)
        return {one.type: one.body["data"] for one in told}

    def _of(self, subject: Any) -> list[Any]:
        return [
            told
            for told in self.receiver.told
            if str(subject) in {told.body["data"].get("bookingId"), told.body["data"].get("tripId")}
        ]


async def add(house: RunningHouse, url: str, *more: str) -> tuple[str, str]:
    """`kiti hooks add`: the endpoint and its secret."""
    code, output = await house.kiti("hooks", "add", "--url", url, *more)
    assert code == 0, output
    endpoint, secret = re.search(r"Endpoint (\S+)", output), re.search(r"^whsec_\S+$", output, re.MULTILINE)
    assert endpoint is not None
    assert secret is not None
    return endpoint[1], secret[0]


@pytest.fixture(scope="module")
async def ear(house: RunningHouse) -> AsyncIterator[Ear]:
    async with Receiver().listening() as receiver:
        endpoint, secret = await add(house, receiver.url)
        yield Ear(house, receiver, endpoint, secret)
        await house.box.rows(
            "UPDATE webhook_endpoint SET disabled_at = now(), disabled_reason = 'The test is over.' WHERE id = %s",
            endpoint,
        )


async def test_a_paid_booking_is_told_once_though_the_gateway_tells_of_it_many_times(
    house: RunningHouse, ear: Ear
) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A", "1B"])
    (transaction,) = (await house.sim.state(payment))["transactions"]
    await house.sim.replay(transaction["id"], copies=5, concurrency=5)
    await house.poll(payment)
    told = await ear.hears(booking["bookingId"], "booking.confirmed", "payment.captured")
    confirmed, captured = told["booking.confirmed"], told["payment.captured"]["payment"]
    assert (confirmed["status"], confirmed["reference"]) == ("CONFIRMED", booking["reference"])
    assert confirmed["trips"][0]["seats"] == ["1A", "1B"]
    assert (captured["paymentId"], captured["status"]) == (payment["paymentId"], "COMPLETED")
    assert (captured["amount"], captured["purpose"]) == (2 * STANDARD_UGX, "FULFILS")


async def test_a_hold_that_nobody_pays_for_is_told_to_nobody(house: RunningHouse, ear: Ear) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    await house.api.delete(f"/api/bookings/{booking['bookingId']}/hold", headers=holder(booking))
    await ear.hears(booking["bookingId"])
    rows = await house.box.rows("SELECT 1 FROM hook_event WHERE subject_id = %s", booking["bookingId"])
    assert rows == []


async def test_a_decline_and_a_cancellation_with_its_refund_are_told(house: RunningHouse, ear: Ear) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    first = await house.initiate(booking)
    await house.sim.pay(first, "decline")
    await house.payment_until(first, "FAILED")
    await house.sim.pay(await house.initiate(booking))
    await house.booking_until(booking, "CONFIRMED")
    answer = await house.api.post(f"/api/bookings/{booking['bookingId']}/cancel", headers=holder(booking))
    assert answer.status_code == 200
    await house.refunds_until(booking, "succeeded")
    told = await ear.hears(
        booking["bookingId"],
        *("payment.failed", "payment.captured", "booking.confirmed", "booking.cancelled"),
        *("refund.requested", "refund.succeeded"),
    )
    assert (told["payment.failed"]["status"], told["payment.failed"]["payment"]["status"]) == ("HELD", "FAILED")
    assert told["booking.cancelled"]["status"] == "CANCELLED"
    for type_, status in (("refund.requested", "REQUESTED"), ("refund.succeeded", "SUCCEEDED")):
        refund = told[type_]["refund"]
        assert (refund["refundId"], refund["status"]) == (answer.json()["refundId"], status)
        assert refund["amount"] == STANDARD_UGX


async def test_a_refund_that_the_gateway_could_not_pay_is_told(house: RunningHouse, ear: Ear) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    await house.sim.config(refund_outcome="failed")
    try:
        await house.api.post(f"/api/bookings/{booking['bookingId']}/cancel", headers=holder(booking))
        await house.refunds_until(booking, "needs_attention")
    finally:
        await house.sim.config(refund_outcome="paid")
    told = await ear.hears(
        booking["bookingId"],
        *("booking.confirmed", "payment.captured", "booking.cancelled", "refund.requested", "refund.failed"),
    )
    assert told["refund.failed"]["refund"]["reason"]


async def test_money_that_is_not_what_was_due_is_told_as_a_review(house: RunningHouse, ear: Ear) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, amount=100, force=True)
    await house.payment_until(payment, "REVIEW")
    told = await ear.hears(booking["bookingId"], "payment.review")
    review = told["payment.review"]["payment"]
    assert (review["amount"], review["status"]) == (100, "REVIEW")
    assert "100" in review["reason"]


async def test_other_seats_are_told_and_a_boarding(house: RunningHouse, ear: Ear) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    swaps = {"swaps": [{"from": "1A", "to": "2A"}]}
    answer = await house.api.post(f"/api/bookings/{booking['bookingId']}/seats", json=swaps, headers=holder(booking))
    assert answer.status_code == 200
    door = await staff_headers(house, "operator_staff", "pearl")
    for _ in range(2):
        answer = await house.api.post(
            "/api/tickets/verify", json={"code": f"{booking['reference']}-2A", "where": "Gate 1"}, headers=door
        )
        assert answer.status_code == 200
    told = await ear.hears(
        booking["bookingId"], "booking.confirmed", "payment.captured", "booking.changed", "ticket.used"
    )
    assert told["booking.changed"]["trips"][0]["seats"] == ["2A"]
    assert (told["ticket.used"]["ticket"]["seat"], told["ticket.used"]["ticket"]["where"]) == ("2A", "Gate 1")


async def test_a_cancelled_trip_is_told_and_each_of_its_bookings(house: RunningHouse, ear: Ear) -> None:
    trip = house.network.bus()
    booking, _ = await house.buy(trip, ["1A"])
    for _ in range(2):
        await house.kiti("trips", "cancel", str(trip), "--reason", "No driver.")
    await house.refunds_until(booking, "succeeded")
    of_trip = await ear.hears(trip, "trip.cancelled")
    assert of_trip["trip.cancelled"]["reason"] == "No driver."
    assert of_trip["trip.cancelled"]["operator"] == "pearl"
    told = await ear.hears(
        booking["bookingId"],
        *("booking.confirmed", "payment.captured", "booking.cancelled", "refund.requested", "refund.succeeded"),
    )
    assert told["booking.cancelled"]["trips"][0]["status"] == "CANCELLED"


async def test_endpoints_are_looked_after_from_the_command_line(
    house: RunningHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)

    async def hooks(*arguments: str, code: int = 0) -> str:
        """The command in this process: starting one for each takes its time."""
        composition = Composition(open_house=open_house, work=work, create_asgi=create_asgi)
        output = StringIO()
        monkeypatch.setattr(commands, "console", Console(file=output, soft_wrap=True))
        got = await asyncio.to_thread(CliRunner().invoke, kiti, ["hooks", *arguments], obj=composition)
        assert got.exit_code == code, (got.output, got.exception)
        return output.getvalue() + got.output + str(got.exception or "")

    async with Receiver().listening() as receiver:
        added = await hooks("add", "--url", receiver.url, "--event", "trip.cancelled", "--operator", "pearl")
        endpoint, secret = added.split()[1], added.split()[-1]
        await hooks("test", endpoint)
        assert receiver.types == ["endpoint.test"]
        fresh = (await hooks("rotate", endpoint, "--overlap-hours", "1")).split()[-1]
        receiver.answer = always(500, b"not today")
        assert "HTTP 500 not today" in await hooks("test", endpoint, code=1)
        event = receiver.told[-1].id
        for key in (secret, fresh):
            assert receiver.told[-1].is_signed_by(key)
        assert event in await hooks("log", endpoint, "--failed")
        assert "failing since" in await hooks("list")
        receiver.answer = fine
        await hooks("replay", endpoint, event)
        await hooks("test", endpoint)
        assert receiver.ids[event] == 2
        await hooks("disable", endpoint)
        assert "Disabled by hand" in await hooks("list")
        assert "Enable it first" in await hooks("test", endpoint, code=1)
        await hooks("enable", endpoint)
        assert "0 events are delivered" in await hooks("replay", endpoint, "--failed")
        assert "Name an event" in await hooks("replay", endpoint, code=2)
        assert "There is no such endpoint" in await hooks("log", str(UUID(int=1)), code=1)
        assert "no operator 'nobody'" in await hooks("add", "--url", receiver.url, "--operator", "nobody", code=1)
        assert "no fragment" in await hooks("add", "--url", "https://a@b.example/", code=1)
        await hooks("disable", endpoint)


async def test_the_job_says_on_the_command_line_how_far_it_has_come(house: RunningHouse, ear: Ear) -> None:
    code, output = await house.kiti("jobs", "run", "deliver-webhooks")
    assert code == 0, output
    assert re.search(r"deliver-webhooks: \d+ processed, 0 failed", output)
