"""Answers that no honest Stripe gives, or too rarely for the simulator."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import msgspec
import pytest
from tests.scripted_server import ScriptedServer, answer
from tests.unit.test_stripe_wire import INTENT

from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.gateways.gateway import Authorising, Captured, CheckoutRequest, Disputes, Payouts, RefundRequest, Unknown
from kiti.gateways.stripe import Stripe

REFUND = {"id": "re_1", "amount": 1_000, "currency": "ugx", "status": "pending", "payment_intent": "pi_1"}
ASKED = RefundRequest(reference="refund-1", transaction_id="pi_1", amount=Money(10, "UGX"))
NOTHING: dict[str, Any] = {"object": "list", "data": [], "has_more": False}


def said(data: object, status: int = 200) -> bytes:
    return answer(status, msgspec.json.encode(data))


@asynccontextmanager
async def gateway_that_hears(*answers: bytes) -> AsyncIterator[tuple[Stripe, ScriptedServer]]:
    server = ScriptedServer(*answers)
    async with server.listening() as url:
        gateway = Stripe(base_url=url, secret_key="sk_test_x", webhook_secret="whsec_x", timeout_seconds=5)
        yield gateway, server
        await gateway.close()


def a_checkout() -> CheckoutRequest:
    return CheckoutRequest(
        reference=str(new_id()),
        amount=Money(100, "UGX"),
        method="CARD",
        customer_email="asha@example.org",
        customer_name="Asha",
        customer_phone="",
        return_url="https://kiti.example/return",
        session_minutes=15,
        description="Kampala to Mbarara",
    )


async def test_it_can_do_what_only_some_gateways_can() -> None:
    async with gateway_that_hears() as (gateway, _):
        assert isinstance(gateway, Authorising)
        assert isinstance(gateway, Disputes)
        assert isinstance(gateway, Payouts)


@pytest.mark.parametrize("url", [None, "javascript:alert(1)", "/c/pay/1", "", "https://pay.example/" + "x" * 4096])
async def test_a_traveller_is_not_sent_to_what_is_no_web_address(url: str | None) -> None:
    async with gateway_that_hears(said({"id": "cs_test_1", "object": "checkout.session", "url": url})) as (gateway, _):
        assert isinstance(await gateway.open_checkout(a_checkout()), Unknown)


async def test_the_truth_about_another_payment_is_no_answer() -> None:
    other = said({**INTENT, "id": "pi_2", "object": "payment_intent"})
    async with gateway_that_hears(other) as (gateway, _):
        assert isinstance(await gateway.verify("pi_1"), Unknown)
    async with gateway_that_hears(other) as (gateway, _):
        assert isinstance(await gateway.capture("pi_1", reference="r", amount=Money(1, "UGX")), Unknown)


async def test_a_refund_of_another_payment_is_no_answer() -> None:
    async with gateway_that_hears(said(NOTHING), said({**REFUND, "payment_intent": "pi_2"})) as (gateway, _):
        assert isinstance(await gateway.refund(ASKED), Unknown)


async def test_another_refund_is_no_answer() -> None:
    async with gateway_that_hears(said({**REFUND, "id": "re_2"})) as (gateway, _):
        assert isinstance(await gateway.refund_status("re_1"), Unknown)


async def test_nothing_is_refunded_while_the_refunds_there_are_cannot_be_seen() -> None:
    async with gateway_that_hears(said({**NOTHING, "data": [{"id": 7}]})) as (gateway, server):
        assert isinstance(await gateway.refund(ASKED), Unknown)
        assert len(server.requests) == 1


async def test_a_list_without_an_end_proves_nothing() -> None:
    async with gateway_that_hears(said({**NOTHING, "data": [REFUND], "has_more": True})) as (gateway, _):
        assert isinstance(await gateway.list_refunds("pi_1"), Unknown)


async def test_a_failure_that_stripe_only_repeats_is_asked_about_under_another_key() -> None:
    """For a day the same key brings back the same answer, an outage of then included."""
    body = b'{"error":{"type":"api_error","message":"Something went wrong"}}'
    replayed = answer(500, body).replace(b"\r\n\r\n", b"\r\nIdempotent-Replayed: true\r\n\r\n", 1)
    taken = said({**INTENT, "object": "payment_intent"})
    async with gateway_that_hears(replayed, taken) as (gateway, server):
        found = await gateway.capture("pi_1", reference="r", amount=Money(50_000, "UGX"))
        assert isinstance(found, Captured)
        keys = [_key(request) for request in server.requests]
    assert keys[0] == "pay_r_capture"
    assert keys[1].startswith("pay_r_capture_")


async def test_a_failure_of_now_is_not_asked_about_again() -> None:
    body = b'{"error":{"type":"api_error","message":"Something went wrong"}}'
    async with gateway_that_hears(answer(500, body)) as (gateway, server):
        assert isinstance(await gateway.capture("pi_1", reference="r", amount=Money(1, "UGX")), Unknown)
        assert len(server.requests) == 1


async def test_an_answer_that_is_too_long_is_not_read_to_its_end() -> None:
    long = said({**INTENT, "object": "payment_intent", "description": "x" * (9 * 1024 * 1024)})
    async with gateway_that_hears(long) as (gateway, _):
        found = await gateway.verify("pi_1")
        assert isinstance(found, Unknown)
        assert "bytes" in found.reason


async def test_a_reference_that_does_not_tell_its_time_is_not_called_missing() -> None:
    async with gateway_that_hears() as (gateway, _):
        assert isinstance(await gateway.lookup("41f1ee2c-5d0f-4f37-9d51-1f9d1b7cbb07"), Unknown)
        assert isinstance(await gateway.lookup("payment-1"), Unknown)


async def test_a_day_with_a_payment_whose_fee_is_not_known_yet_cannot_be_compared() -> None:
    row = {**INTENT, "object": "payment_intent", "latest_charge": None}
    async with gateway_that_hears(said({**NOTHING, "data": [row]})) as (gateway, _):
        assert isinstance(await gateway.captured_on(date(2026, 11, 24)), Unknown)


@pytest.mark.parametrize("amount", ["x", "1.5", "NaN", "150"])
async def test_what_is_no_amount_of_stripes_is_refused(amount: str) -> None:
    async with gateway_that_hears() as (gateway, _):
        assert gateway.from_wire("5000000", "UGX") == Money(50_000, "UGX")
        assert gateway.to_wire(Money(50_000, "UGX")) == 5_000_000
        with pytest.raises(ValueError, match=r"amount|number"):
            gateway.from_wire(amount, "UGX")


def _key(request: bytes) -> str:
    lines = request.decode("latin-1").split("\r\n")
    return next(line.partition(": ")[2] for line in lines if line.lower().startswith("idempotency-key:"))
