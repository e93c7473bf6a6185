"""What is Flutterwave v4's own: tokens that end, keys that are known, phones that ask, transfers."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from tests.contract.gateways import FlutterwaveV4Checkout, Simulator, a_checkout, new_reference

from kiti.core.money import Money
from kiti.gateways.flutterwave_v4 import FlutterwaveV4
from kiti.gateways.gateway import (
    Captured,
    CheckoutOpened,
    Declined,
    Destination,
    GatewayPayout,
    GatewayRefund,
    Missing,
    PayoutRequest,
    Payouts,
    Pending,
    RefundRequest,
    Rejected,
    Unknown,
)

PROVIDER = FlutterwaveV4Checkout()
TOKEN_CALL = "POST /idp/realms/flutterwave/protocol/openid-connect/token"
CHARGE_CALL = "POST /v4/orchestration/direct-charges"
TRANSFER_CALL = "POST /v4/direct-transfers"
PHONE = Destination(kind="mobile_money", country="UG", bank="MTN", account="+256772000001", name="Pearl Coaches")


@pytest.fixture
async def v4(simulator: Simulator) -> AsyncIterator[FlutterwaveV4]:
    adapter = PROVIDER.adapter(simulator)
    yield adapter
    await adapter.close()


def by_phone(**changes: Any) -> Any:
    return a_checkout(PROVIDER, **{"method": "MOBILE_MONEY", "customer_phone": "+256772000001", **changes})


async def test_many_callers_without_a_token_ask_for_one(v4: FlutterwaveV4, simulator: Simulator) -> None:
    before = simulator.calls(TOKEN_CALL)
    answers = await asyncio.gather(*(v4.lookup(new_reference()) for _ in range(20)))
    assert set(answers) == {Missing()}
    assert simulator.calls(TOKEN_CALL) == before + 1


async def test_a_caller_who_gives_up_takes_the_token_from_nobody(v4: FlutterwaveV4, simulator: Simulator) -> None:
    simulator.fail(match=TOKEN_CALL, times=1, latency_ms=300)
    impatient = asyncio.create_task(v4.lookup(new_reference()))
    patient = asyncio.create_task(v4.lookup(new_reference()))
    await asyncio.sleep(0.1)
    impatient.cancel()
    assert await patient == Missing()


async def test_a_token_is_exchanged_before_it_ends(v4: FlutterwaveV4, simulator: Simulator) -> None:
    simulator.configure(v4_token_seconds=2)
    await v4.lookup(new_reference())
    before = simulator.calls(TOKEN_CALL)
    await asyncio.sleep(1.7)  # a fifth of its time is left
    assert await v4.lookup(new_reference()) == Missing()
    assert simulator.calls(TOKEN_CALL) == before + 1


async def test_a_token_that_is_turned_away_is_exchanged_once_and_the_call_is_made(
    v4: FlutterwaveV4, simulator: Simulator
) -> None:
    await v4.lookup(new_reference())
    before, charges = simulator.calls(TOKEN_CALL), simulator.calls(CHARGE_CALL)
    simulator.revoke_tokens()
    request = by_phone()
    opened = await asyncio.gather(v4.open_checkout(request), v4.lookup(new_reference()), v4.lookup(new_reference()))
    assert opened[0] == CheckoutOpened(url=None)
    assert simulator.calls(CHARGE_CALL) == charges + 2
    assert simulator.calls(TOKEN_CALL) in range(before + 1, before + 4)
    assert len(simulator.state(request.reference)["transactions"]) == 1


async def test_a_gateway_that_turns_every_token_away_is_not_asked_forever(
    v4: FlutterwaveV4, simulator: Simulator
) -> None:
    simulator.fail(match="GET /v4/charges", http_status=401)
    before = simulator.calls("GET /v4/charges")
    assert isinstance(await v4.lookup(new_reference()), Unknown)
    assert simulator.calls("GET /v4/charges") == before + 2


@pytest.mark.parametrize(
    "fault",
    [{"http_status": 503}, {"drop_connection_before": True}, {"malformed": True}, {"latency_ms": 4000}],
    ids=str,
)
async def test_without_a_token_nothing_is_sent_and_nothing_is_known(
    v4: FlutterwaveV4, simulator: Simulator, fault: dict[str, Any]
) -> None:
    simulator.fail(match=TOKEN_CALL, **fault)
    before = simulator.calls(CHARGE_CALL)
    assert isinstance(await v4.open_checkout(by_phone()), Unknown)
    assert isinstance(await v4.lookup(new_reference()), Unknown)
    assert simulator.calls(CHARGE_CALL) == before


async def test_wrong_credentials_refuse_a_payment_and_make_none_missing(simulator: Simulator) -> None:
    stranger = FlutterwaveV4(
        base_url=f"{simulator.url}/v4",
        token_url=f"{simulator.url}/idp/realms/flutterwave/protocol/openid-connect/token",
        client_id="somebody",
        client_secret="else",
        webhook_secret="whatever",
        timeout_seconds=2.0,
    )
    refused = await stranger.open_checkout(by_phone())
    assert isinstance(refused, Rejected)
    assert "credentials" in refused.reason
    assert isinstance(await stranger.lookup(new_reference()), Unknown)
    await stranger.close()


@pytest.mark.parametrize(
    ("phone", "amount"),
    [
        ("+256772000001", Money(50_000, "UGX")),
        ("+256701000001", Money(50_000, "UGX")),
        ("+250788000001", Money(9_000, "RWF")),
        ("+254722000001", Money(150_050, "KES")),
    ],
)
async def test_mobile_money_is_approved_on_the_phone_without_a_page(
    v4: FlutterwaveV4, simulator: Simulator, phone: str, amount: Money
) -> None:
    request = by_phone(customer_phone=phone, amount=amount)
    assert await v4.open_checkout(request) == CheckoutOpened(url=None)
    assert isinstance(await v4.lookup(request.reference), Pending)
    simulator.pay(request.reference)
    truth = await v4.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert truth.amount == amount


@pytest.mark.parametrize("phone", ["", "+254722000001", "+256200000001", "nonsense"])
async def test_a_number_that_does_not_tell_its_network_pays_on_a_page(
    v4: FlutterwaveV4, simulator: Simulator, phone: str
) -> None:
    request = by_phone(customer_phone=phone)
    opened = await v4.open_checkout(request)
    assert isinstance(opened, CheckoutOpened)
    assert opened.url is not None
    assert len(simulator.state(request.reference)["links"]) == 1


async def test_a_network_that_wants_to_show_a_page_gets_the_traveller(v4: FlutterwaveV4, simulator: Simulator) -> None:
    simulator.configure(v4_next_action="redirect_url")
    opened = await v4.open_checkout(by_phone())
    assert isinstance(opened, CheckoutOpened)
    assert "/approve/" in str(opened.url)


@pytest.mark.parametrize("wanted", ["requires_otp", "requires_pin", "requires_additional_fields", "requires_capture"])
async def test_what_cannot_be_asked_here_is_refused_in_plain_words(
    v4: FlutterwaveV4, simulator: Simulator, wanted: str
) -> None:
    simulator.configure(v4_next_action=wanted)
    refused = await v4.open_checkout(by_phone())
    assert isinstance(refused, Rejected)
    assert "another way to pay" in refused.reason


async def test_a_next_step_that_nobody_knows_is_unknown(v4: FlutterwaveV4, simulator: Simulator) -> None:
    simulator.configure(v4_next_action="sing_a_song")
    assert isinstance(await v4.open_checkout(by_phone()), Unknown)


@pytest.mark.parametrize(
    "fault",
    [{"latency_ms": 4000}, {"drop_connection_after": True}, {"http_status_after": 503}, {"malformed": True}],
    ids=str,
)
async def test_a_charge_whose_answer_was_lost_is_found_and_never_made_twice(
    v4: FlutterwaveV4, simulator: Simulator, fault: dict[str, Any]
) -> None:
    request = by_phone()
    simulator.fail(match=CHARGE_CALL, times=1, **fault)
    assert isinstance(await v4.open_checkout(request), Unknown)
    for _ in range(50):
        if await v4.lookup(request.reference) != Missing():
            break
        await asyncio.sleep(0.2)
    assert isinstance(await v4.lookup(request.reference), Pending)
    assert await v4.open_checkout(request) == CheckoutOpened(url=None)
    assert len(simulator.state(request.reference)["transactions"]) == 1


async def test_the_same_key_with_another_body_is_not_believed(v4: FlutterwaveV4, simulator: Simulator) -> None:
    request = by_phone(amount=Money(50_000, "UGX"))
    await v4.open_checkout(request)
    dearer = by_phone(reference=request.reference, amount=Money(60_000, "UGX"))
    assert isinstance(await v4.open_checkout(dearer), Unknown)
    page = a_checkout(PROVIDER, amount=Money(50_000, "UGX"))
    await v4.open_checkout(page)
    assert isinstance(
        await v4.open_checkout(a_checkout(PROVIDER, reference=page.reference, amount=Money(1, "UGX"))), Unknown
    )
    assert len(simulator.state(request.reference)["transactions"]) == 1


async def test_a_refund_that_is_asked_for_twice_goes_out_once(v4: FlutterwaveV4, simulator: Simulator) -> None:
    charge = await _paid(v4, simulator)
    asked = RefundRequest(reference=new_reference(), transaction_id=charge, amount=Money(700, "UGX"))
    first, second = await asyncio.gather(v4.refund(asked), v4.refund(asked))
    third = await v4.refund(asked)
    assert isinstance(first, GatewayRefund)
    assert first == second == third
    listed = await v4.list_refunds(charge)
    assert isinstance(listed, list)
    assert [refund.reference for refund in listed] == [asked.reference]


async def test_a_refund_that_failed_and_is_sent_once_more_is_another_one(
    v4: FlutterwaveV4, simulator: Simulator
) -> None:
    simulator.configure(refund_outcome="stuck")
    charge = await _paid(v4, simulator)
    asked = RefundRequest(reference=new_reference(), transaction_id=charge, amount=Money(700, "UGX"))
    failed = await v4.refund(asked)
    assert isinstance(failed, GatewayRefund)
    simulator.set_refund(failed.refund_id, disburse_status="failed")
    again = await v4.refund(
        RefundRequest(
            reference=asked.reference, transaction_id=charge, amount=asked.amount, instead_of=failed.refund_id
        )
    )
    assert isinstance(again, GatewayRefund)
    assert again.refund_id != failed.refund_id


async def test_a_declined_charge_says_why(v4: FlutterwaveV4, simulator: Simulator) -> None:
    request = by_phone()
    await v4.open_checkout(request)
    simulator.pay(request.reference, "decline")
    truth = await v4.lookup(request.reference)
    assert isinstance(truth, Declined)
    assert truth.reason == "Declined"


async def test_a_known_customer_is_found_and_not_made_again(v4: FlutterwaveV4, simulator: Simulator) -> None:
    address = f"{new_reference()}@example.org"
    for _ in range(2):
        assert isinstance(await v4.open_checkout(a_checkout(PROVIDER, customer_email=address)), CheckoutOpened)


@pytest.mark.parametrize(
    "destination",
    [
        Destination(kind="bank", country="UG", bank="044", account="0690000031", name="Pearl Coaches"),
        PHONE,
        Destination(kind="connected", country="UG", bank="", account="00118468", name="Pearl"),
    ],
    ids=lambda destination: destination.kind,
)
async def test_a_payout_is_sent_once_and_found_by_our_reference(
    v4: FlutterwaveV4, simulator: Simulator, destination: Destination
) -> None:
    assert isinstance(v4, Payouts)
    simulator.configure(transfer_outcome="stuck")
    request = _payout(destination)
    sent = await v4.pay_out(request)
    assert isinstance(sent, GatewayPayout)
    assert (sent.reference, sent.amount_exact, sent.status) == (request.reference, Decimal(90_000), "pending")
    assert await v4.pay_out(request) == sent
    simulator.set_transfer(sent.payout_id, status="SUCCESSFUL")
    found = await v4.find_payout(request.reference)
    assert isinstance(found, GatewayPayout)
    assert (found.payout_id, found.status, found.fee_exact) == (sent.payout_id, "succeeded", Decimal(500))


async def test_a_payout_is_found_behind_many_others(v4: FlutterwaveV4, simulator: Simulator) -> None:
    first = _payout()
    await v4.pay_out(first)
    for _ in range(55):
        await v4.pay_out(_payout())
    assert isinstance(await v4.find_payout(first.reference), GatewayPayout)


def _payout(destination: Destination = PHONE) -> PayoutRequest:
    return PayoutRequest(
        reference=new_reference(), amount=Money(90_000, "UGX"), destination=destination, narration="Week 27"
    )


async def _paid(v4: FlutterwaveV4, simulator: Simulator) -> str:
    request = by_phone()
    assert isinstance(await v4.open_checkout(request), CheckoutOpened)
    [transaction] = simulator.pay(request.reference)
    return f"chg_{transaction}"
