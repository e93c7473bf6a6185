"""Answers that no honest gateway gives, so that the simulator does not give them either."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from tests.scripted_server import ScriptedServer, answer

from kiti.core.money import Money
from kiti.gateways.flutterwave import Flutterwave
from kiti.gateways.flutterwave.lists import MOST_PAGES
from kiti.gateways.gateway import CheckoutRequest, GatewayRefund, RefundRequest, Unknown

TRANSACTION = {
    "id": 41,
    "tx_ref": "payment-1",
    "flw_ref": "KITI-TEST-1",
    "amount": 100,
    "currency": "UGX",
    "status": "successful",
    "created_at": "2026-02-01T08:00:00.000Z",
}
ROW = {"id": 7, "tx_id": 41, "amount_refunded": 10, "status": "completed", "comments": "refund-1"}
ASKED = RefundRequest(reference="refund-1", transaction_id="41", amount=Money(10, "UGX"))


def said(data: object, **more: object) -> bytes:
    return answer(200, msgspec.json.encode({"status": "success", "message": "said", "data": data, **more}))


@asynccontextmanager
async def gateway_that_hears(*answers: bytes) -> AsyncIterator[Flutterwave]:
    server = ScriptedServer(*answers)
    async with server.listening() as url:
        gateway = Flutterwave(base_url=f"{url}/v3", secret_key="k", webhook_hash="h", timeout_seconds=5)
        yield gateway
        await gateway.close()


@pytest.mark.parametrize("link", ["javascript:alert(1)", "/pay/1", "", "https://pay.example/" + "x" * 2048])
async def test_a_traveller_is_not_sent_to_what_is_no_web_address(link: str) -> None:
    request = CheckoutRequest(
        reference="payment-1",
        amount=Money(100, "UGX"),
        method="CARD",
        customer_email="asha@example.org",
        customer_name="Asha",
        customer_phone="",
        return_url="https://kiti.example/return",
        session_minutes=15,
        description="Kampala to Mbarara",
    )
    async with gateway_that_hears(said({"link": link})) as gateway:
        assert isinstance(await gateway.open_checkout(request), Unknown)


async def test_the_truth_about_another_transaction_is_no_answer() -> None:
    async with gateway_that_hears(said({**TRANSACTION, "id": 42})) as gateway:
        assert isinstance(await gateway.verify("41"), Unknown)


async def test_a_refund_of_another_transaction_is_no_answer() -> None:
    async with gateway_that_hears(said({**ROW, "tx_id": 42})) as gateway:
        assert isinstance(await gateway.refund(ASKED), Unknown)


async def test_another_refund_is_no_answer() -> None:
    async with gateway_that_hears(said({**ROW, "id": 8})) as gateway:
        assert isinstance(await gateway.refund_status("7"), Unknown)


async def test_a_refund_whose_transaction_is_gone_is_unknown() -> None:
    gone = answer(400, b'{"status":"error","message":"No transaction was found for this id","data":null}')
    async with gateway_that_hears(said(ROW), gone) as gateway:
        assert isinstance(await gateway.refund_status("7"), Unknown)
        assert isinstance(await gateway.list_refunds("41"), Unknown)


async def test_a_refund_with_an_unreadable_amount_is_no_leave_to_refund_again() -> None:
    async with gateway_that_hears(said(TRANSACTION), said([{**ROW, "amount_refunded": "?"}])) as gateway:
        assert isinstance(await gateway.list_refunds("41"), Unknown)


@pytest.mark.parametrize("meta", [{"page_info": {"total_pages": MOST_PAGES + 1}}, {"page_info": "many"}], ids=str)
async def test_a_list_that_was_not_seen_to_its_end_proves_nothing(meta: dict[str, Any]) -> None:
    async with gateway_that_hears(said(TRANSACTION), said([ROW], meta=meta)) as gateway:
        assert isinstance(await gateway.list_refunds("41"), Unknown)


async def test_a_list_without_page_numbers_is_read_until_nothing_new_comes() -> None:
    pages = [said([ROW]), said([{**ROW, "id": 8}]), said([{**ROW, "id": 8}])]
    async with gateway_that_hears(said({**TRANSACTION, "created_at": None}), *pages) as gateway:
        found = await gateway.list_refunds("41")
    assert isinstance(found, list)
    assert [refund.refund_id for refund in found] == ["7", "8"]
    assert all(isinstance(refund, GatewayRefund) for refund in found)
