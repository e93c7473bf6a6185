"""Answers about phones, payouts, settlements and chargebacks that no honest gateway gives: none is believed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.scripted_server import ScriptedServer, answer

from kiti.core.money import Money
from kiti.gateways.flutterwave import Flutterwave, methods
from kiti.gateways.flutterwave.payouts import payout_status
from kiti.gateways.gateway import (
    Destination,
    DirectRequest,
    GatewayDispute,
    PayoutRequest,
    Prompted,
    Rejected,
    SubaccountRequest,
    Unavailable,
    Unknown,
)

DAY = date(2026, 3, 1)
TRANSFER = {"id": 5, "reference": "payout-1", "currency": "UGX", "amount": 100, "fee": 5, "status": "NEW"}
SETTLEMENT: dict[str, Any] = {
    "id": 7,
    "currency": "RWF",
    "status": "completed",
    "due_date": "2026-03-01T10:00:00.000Z",
    "gross_amount": 20,
    "app_fee": 0.58,
    "merchant_fee": 0.1,
    "stampduty_charge": 0.02,
    "refund": 0,
    "chargeback": 0,
    "net_amount": 19.3,
    "transaction_count": 1,
    "transactions": [{"id": 41, "tx_ref": "payment-1", "charged_amount": 20, "app_fee": 0.58}],
}
CHARGEBACK = {
    "id": 9,
    "status": "initiated",
    "transaction_id": 41,
    "amount": 100,
    "created_at": "2026-03-01T10:00:00.000Z",
}
TRANSACTION = {"id": 41, "tx_ref": "payment-1", "status": "successful", "currency": "UGX", "amount": 100}
CHARGE = DirectRequest(
    reference="payment-1",
    amount=Money(100, "KES"),
    phone="+254712345678",
    customer_email="",
    customer_name="Asha",
    return_url="https://kiti.example/return",
)
PAYOUT = PayoutRequest(
    reference="payout-1",
    amount=Money(100, "UGX"),
    destination=Destination(kind="bank", country="UG", bank="044", account="0690000031", name="Pearl"),
    narration="",
)


def said(data: object, **more: object) -> bytes:
    return answer(200, msgspec.json.encode({"status": "success", "message": "said", "data": data, **more}))


@asynccontextmanager
async def gateway_that_hears(*answers: bytes) -> AsyncIterator[Flutterwave]:
    server = ScriptedServer(*answers)
    async with server.listening() as url:
        gateway = Flutterwave(base_url=f"{url}/v3", secret_key="k", webhook_hash="h", timeout_seconds=5)
        yield gateway
        await gateway.close()


@pytest.mark.parametrize(
    "told",
    [
        said(None),
        said(None, meta={"authorization": {"mode": "redirect", "redirect": "javascript:alert(1)"}}),
        said(None, meta={"authorization": {"mode": "callback", "redirect": "https://pay.example/1"}}),
        said({"tx_ref": "payment-2", "status": "pending"}),
        said({"status": "pending"}),
        said("pending"),
        said(None, meta="authorise"),
    ],
)
async def test_a_charge_is_not_taken_to_have_begun_unless_it_is_said_plainly(told: bytes) -> None:
    async with gateway_that_hears(told) as gateway:
        assert isinstance(await gateway.charge(CHARGE), Unknown)


async def test_a_charge_that_failed_at_once_is_refused_and_one_with_page_and_transaction_leads_there() -> None:
    failed = said({"tx_ref": "payment-1", "status": "failed", "processor_response": "Wallet is blocked"})
    async with gateway_that_hears(failed) as gateway:
        assert await gateway.charge(CHARGE) == Rejected(reason="Wallet is blocked")
    way = {"authorization": {"mode": "redirect", "redirect": "https://pay.example/1"}}
    async with gateway_that_hears(said({"tx_ref": "payment-1", "status": "pending"}, meta=way)) as gateway:
        assert await gateway.charge(CHARGE) == Prompted(url="https://pay.example/1")


async def test_a_door_that_is_shut_is_no_refusal_of_the_payment_whatever_stands_on_it() -> None:
    for status in (401, 403):
        async with gateway_that_hears(answer(status, b"<h1>Forbidden</h1>")) as gateway:
            assert isinstance(await gateway.charge(CHARGE), Unavailable)


@pytest.mark.parametrize(
    "change", [{"reference": "payout-2"}, {"amount": "?"}, {"currency": "??"}, {"fee": -1}], ids=str
)
async def test_a_payout_that_is_told_wrongly_is_unknown(change: dict[str, Any]) -> None:
    async with gateway_that_hears(said({**TRANSFER, **change})) as gateway:
        assert isinstance(await gateway.pay_out(PAYOUT), Unknown)
    async with gateway_that_hears(said({**TRANSFER, "reference": "payout-1", "amount": "?"})) as gateway:
        assert isinstance(await gateway.find_payout("payout-1"), Unknown)


async def test_of_several_payouts_with_one_reference_the_one_that_did_not_fail_counts() -> None:
    rows = [{**TRANSFER, "id": 6, "status": "FAILED"}, TRANSFER, {**TRANSFER, "id": 4, "reference": "payout-2"}]
    async with gateway_that_hears(said(rows, meta={"page_info": {"total_pages": 1}})) as gateway:
        found = await gateway.find_payout("payout-1")
    assert getattr(found, "payout_id", None) == "5"


@pytest.mark.parametrize(
    ("said_status", "means"),
    [("NEW", "pending"), ("PENDING", "pending"), ("successful", "succeeded"), ("FAILED", "failed"), ("Odd", "pending")],
)
def test_a_payout_is_neither_out_nor_back_because_of_a_strange_word(said_status: str, means: str) -> None:
    assert payout_status(said_status) == means


async def test_a_subaccount_of_somebody_else_is_no_answer() -> None:
    asked = SubaccountRequest(
        destination=PAYOUT.destination, platform_percent=Decimal(5), email="a@example.com", phone="+256772123456"
    )
    row = {"id": 1, "subaccount_id": "RS_1", "account_bank": "044", "account_number": "1", "business_name": "X"}
    async with gateway_that_hears(said({**row, "split_value": 0.05})) as gateway:
        assert isinstance(await gateway.open_subaccount(asked), Unknown)
    for value, reading in ((0.05, list), ("?", Unknown)):
        told = said(
            [{**row, "split_value": value}, {**row, "id": 2, "split_type": "flat"}],
            meta={"page_info": {"total_pages": 1}},
        )
        async with gateway_that_hears(told) as gateway:
            assert isinstance(await gateway.subaccounts(), reading)


async def settlements(*changes: dict[str, Any], listed: dict[str, Any] | None = None) -> Any:
    one_page = {"page_info": {"total_pages": 1}}
    alone = [said({**SETTLEMENT, **change}) for change in changes]
    async with gateway_that_hears(said([{**SETTLEMENT, **(listed or {})}], meta=one_page), *alone) as gateway:
        return await gateway.settlements_between(DAY, DAY)


async def test_all_that_a_gateway_keeps_is_its_fee() -> None:
    [told] = await settlements({})
    assert (told.gross_exact, told.fee_exact, told.net_exact) == (Decimal(20), Decimal("0.70"), Decimal("19.3"))
    assert told.gross_exact - told.fee_exact == told.net_exact
    assert told.day == DAY


@pytest.mark.parametrize(
    "change",
    [{"id": 8}, {"transaction_count": 2}, {"net_amount": None}, {"currency": "??"}, {"app_fee": "?"}, {"status": 1}],
    ids=str,
)
async def test_a_settlement_that_is_not_told_whole_is_unknown(change: dict[str, Any]) -> None:
    assert isinstance(await settlements(change), Unknown)


async def test_a_settlement_without_a_day_or_a_number_spoils_the_list() -> None:
    assert isinstance(await settlements({}, listed={"due_date": None}), Unknown)
    assert isinstance(await settlements({}, listed={"id": "../1"}), Unknown)


async def test_a_dispute_without_currency_is_told_in_that_of_its_transaction() -> None:
    one_page = {"page_info": {"total_pages": 1}}
    async with gateway_that_hears(said([CHARGEBACK], meta=one_page), said(TRANSACTION)) as gateway:
        [told] = await gateway.disputes_between(DAY, DAY)  # type: ignore[misc] # a list, says the next line
    assert isinstance(told, GatewayDispute)
    assert (told.amount, told.reference, told.answer_by) == (Money(100, "UGX"), "payment-1", None)
    for bad in ({**CHARGEBACK, "amount": "?"}, {**CHARGEBACK, "amount": 0.5}):
        async with gateway_that_hears(said([bad], meta=one_page), said(TRANSACTION)) as gateway:
            assert isinstance(await gateway.disputes_between(DAY, DAY), Unknown)
    gone = answer(400, b'{"status":"error","message":"No transaction was found for this id","data":null}')
    async with gateway_that_hears(said([CHARGEBACK], meta=one_page), gone) as gateway:
        assert isinstance(await gateway.disputes_between(DAY, DAY), Unknown)
    async with gateway_that_hears(said({**CHARGEBACK, "id": 10})) as gateway:
        assert isinstance(await gateway.answer_dispute("9", accept=True, comment=""), Unknown)


@pytest.mark.parametrize(
    ("phone", "currency", "network"),
    [
        ("+233241234567", "GHS", "MTN"),
        ("+233501234567", "GHS", "VODAFONE"),
        ("+233271234567", "GHS", "TIGO"),
        ("+260971234567", "ZMW", "AIRTEL"),
        ("+237650123456", "XAF", "MTN"),
        ("+237690123456", "XAF", "ORANGEMONEY"),
        ("+256772123456", "UGX", None),
    ],
)
def test_the_network_of_a_phone_is_told_where_the_gateway_wants_it(
    phone: str, currency: str, network: str | None
) -> None:
    assert methods.network_of(phone) == network
    assert methods.objection_to_phone(phone, currency=currency) is None


@pytest.mark.parametrize(
    ("phone", "currency", "objection"),
    [
        ("+233301234567", "GHS", "network"),
        ("+256772123456", "KES", "Kenya"),
        ("+237690123456", "XOF", "Burkina Faso, Côte d'Ivoire, Senegal"),
        ("+254712345678", "NGN", "No phone"),
        ("nonsense", "KES", "Kenya"),
    ],
)
def test_a_phone_that_cannot_pay_is_told_why(phone: str, currency: str, objection: str) -> None:
    assert objection in str(methods.objection_to_phone(phone, currency=currency))
