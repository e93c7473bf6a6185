"""What both versions of Flutterwave do, and what only v3 does, shown against the simulator."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from tests.contract.gateways import FLUTTERWAVES, AnyFlutterwave, Simulator, a_checkout, new_reference

from kiti.core.money import Money
from kiti.gateways.gateway import (
    Captured,
    CheckoutOpened,
    Declined,
    Disputes,
    Gateway,
    GatewayDispute,
    Missing,
    Pending,
    Rejected,
    Unknown,
    UnreadableAmount,
)

V3 = FLUTTERWAVES["flutterwave"]


@pytest.fixture(params=sorted(FLUTTERWAVES))
def version(request: pytest.FixtureRequest) -> AnyFlutterwave:
    return FLUTTERWAVES[request.param]


@pytest.fixture
async def gateway(version: AnyFlutterwave, simulator: Simulator) -> AsyncIterator[Gateway]:
    adapter = version.adapter(simulator)
    yield adapter
    await adapter.close()


@pytest.fixture
async def v3(simulator: Simulator) -> AsyncIterator[Gateway]:
    adapter = V3.adapter(simulator)
    yield adapter
    await adapter.close()


async def test_the_link_carries_what_was_asked_for(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator
) -> None:
    request = a_checkout(version)
    assert isinstance(await gateway.open_checkout(request), CheckoutOpened)
    [link] = simulator.state(request.reference)["links"]
    assert (link["amount"], link["currency"], link["session_minutes"]) == (50_000, "UGX", 15)


@pytest.mark.parametrize(
    ("amount", "method", "said"),
    [
        (Money(150_050, "NGN"), "BANK_TRANSFER", 1500.5),
        (Money(150_000, "KES"), "CARD", 1500),
        (Money(1, "USD"), "CARD", 0.01),
        (Money(12_345, "XOF"), "MOBILE_MONEY", 12345),
    ],
)
async def test_amounts_are_said_in_major_units(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator, amount: Money, method: str, said: float
) -> None:
    request = a_checkout(version, amount=amount, method=method)
    assert isinstance(await gateway.open_checkout(request), CheckoutOpened)
    simulator.pay(request.reference)
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert truth.amount == amount
    assert simulator.state(request.reference)["links"][0]["amount"] == said


async def test_a_traveller_without_email_gets_one_that_is_nobodys(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator
) -> None:
    request = a_checkout(version, customer_email="")
    assert isinstance(await gateway.open_checkout(request), CheckoutOpened)
    assert "256700000001@example.com" in str(simulator.state(request.reference)["links"][0]["customer"])


async def test_a_refusal_says_what_was_wrong(version: AnyFlutterwave, gateway: Gateway, simulator: Simulator) -> None:
    request = a_checkout(version, return_url="nowhere")
    outcome = await gateway.open_checkout(request)
    assert isinstance(outcome, Rejected)
    assert "redirect_url" in outcome.reason
    assert simulator.state(request.reference)["links"] == []


async def test_there_is_no_mobile_money_in_euros(version: AnyFlutterwave, gateway: Gateway) -> None:
    assert isinstance(
        await gateway.open_checkout(a_checkout(version, method="MOBILE_MONEY", amount=Money(5, "EUR"))), Rejected
    )


async def test_a_repeated_reference_is_not_called_certainly_undone(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator
) -> None:
    request = a_checkout(version)
    opened = await gateway.open_checkout(request)
    assert isinstance(opened, CheckoutOpened)
    again = await gateway.open_checkout(request)
    assert isinstance(again, Unknown) or again == opened
    assert len(simulator.state(request.reference)["links"]) == 1


async def test_a_closed_page_takes_no_money(v3: Gateway, simulator: Simulator) -> None:
    request = a_checkout(V3)
    opened = await v3.open_checkout(request)
    assert isinstance(opened, CheckoutOpened)
    assert await v3.close_checkout(str(opened.url))
    assert simulator.state(request.reference)["links"][0]["state"] == "disabled"


@pytest.mark.parametrize("http_status", [200, 400, 404])
async def test_what_nobody_began_to_pay_is_missing_whatever_the_status(
    v3: Gateway, simulator: Simulator, http_status: int
) -> None:
    simulator.configure(not_found_http_status=http_status)
    assert await v3.lookup(new_reference()) == Missing()
    assert await v3.verify("999") == Missing()


async def test_a_fee_may_be_a_fraction_of_a_minor_unit(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator
) -> None:
    request = a_checkout(version, amount=Money(20, "RWF"))
    await gateway.open_checkout(request)
    transaction = await version.pay(simulator, gateway, request.reference)
    expected = Captured(
        transaction_id=transaction,
        reference=request.reference,
        amount=Money(20, "RWF"),
        fee_exact=Decimal("0.58"),
    )
    assert await gateway.lookup(request.reference) == expected
    assert await gateway.verify(transaction) == expected


async def test_a_fee_that_the_customer_bears_is_no_fee_of_ours(v3: Gateway, simulator: Simulator) -> None:
    simulator.configure(fee_bearer="customer")
    request = a_checkout(V3, amount=Money(5_000, "KES"))
    await v3.open_checkout(request)
    simulator.pay(request.reference)
    truth = await v3.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert (truth.amount, truth.fee_exact) == (Money(5_000, "KES"), Decimal(0))


async def test_a_decline_a_late_payment_and_a_captured_second_try(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator
) -> None:
    request = a_checkout(version)
    await gateway.open_checkout(request)
    simulator.pay(request.reference, "decline")
    assert isinstance(await gateway.lookup(request.reference), Declined)
    simulator.pay(request.reference, "pay-late", delay_seconds=60, force=True)
    assert isinstance(await gateway.lookup(request.reference), Pending)
    [transaction] = map(version.identity, simulator.pay(request.reference, "pay", force=True))
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert truth.transaction_id == transaction


async def test_a_captured_transaction_is_found_behind_a_declined_one(v3: Gateway, simulator: Simulator) -> None:
    request = a_checkout(V3)
    await v3.open_checkout(request)
    [transaction] = simulator.pay(request.reference)
    simulator.fail(match="GET /v3/transactions/verify_by_reference", lie={"status": "failed"})
    truth = await v3.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert truth.transaction_id == transaction


async def test_a_decline_is_not_believed_while_the_list_cannot_be_seen(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator
) -> None:
    request = a_checkout(version)
    await gateway.open_checkout(request)
    simulator.pay(request.reference, "decline")
    simulator.fail(match=version.charges_call, malformed=True)
    assert isinstance(await gateway.lookup(request.reference), Unknown)


@pytest.mark.parametrize(
    ("lie", "amount"),
    [
        ({"amount": 1}, Money(1, "UGX")),
        ({"currency": "RWF"}, Money(50_000, "RWF")),
        ({"amount": 60_000}, Money(60_000, "UGX")),
    ],
)
async def test_other_money_than_asked_for_is_reported_as_told(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator, lie: dict[str, Any], amount: Money
) -> None:
    request = a_checkout(version)
    await gateway.open_checkout(request)
    simulator.pay(request.reference)
    simulator.fail(lie=lie)
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert truth.amount == amount


@pytest.mark.parametrize(
    "lie", [{"amount": 50_000.5}, {"currency": "JPY"}, {"currency": ""}, {"amount": -50_000}], ids=str
)
async def test_captured_money_that_cannot_be_counted_goes_to_review(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator, lie: dict[str, Any]
) -> None:
    request = a_checkout(version)
    await gateway.open_checkout(request)
    transaction = await version.pay(simulator, gateway, request.reference)
    simulator.fail(lie=lie)
    with pytest.raises(UnreadableAmount) as caught:
        await gateway.verify(transaction)
    assert (caught.value.transaction_id, caught.value.reference) == (transaction, request.reference)


async def test_a_status_that_nobody_knows_is_unknown(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator
) -> None:
    request = a_checkout(version)
    await gateway.open_checkout(request)
    simulator.pay(request.reference)
    simulator.fail(lie={"status": "flying"})
    assert isinstance(await gateway.lookup(request.reference), Unknown)


async def test_a_list_of_refunds_with_an_unreadable_page_is_no_proof_of_absence(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator
) -> None:
    request = a_checkout(version)
    await gateway.open_checkout(request)
    transaction = await version.pay(simulator, gateway, request.reference)
    simulator.fail(match=version.refunds_call, malformed=True)
    assert isinstance(await gateway.list_refunds(transaction), Unknown)


@pytest.mark.parametrize("action", ["pay", "decline"])
async def test_webhooks_tell_of_both_ends(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator, action: str
) -> None:
    request = a_checkout(version)
    await gateway.open_checkout(request)
    [transaction] = map(version.identity, simulator.pay(request.reference, action))
    deliveries = version.deliveries(simulator, request.reference)
    assert deliveries
    for headers, body in deliveries:
        event = gateway.read_webhook(headers, body)
        assert (event.kind, event.reference, event.transaction_id) == ("charge", request.reference, transaction)


async def test_a_dispute_is_contested_with_a_link_to_the_proof(
    version: AnyFlutterwave, gateway: Gateway, simulator: Simulator
) -> None:
    request = a_checkout(version)
    await gateway.open_checkout(request)
    dispute = version.dispute(simulator, await version.pay(simulator, gateway, request.reference))
    assert isinstance(gateway, Disputes)
    bare = await gateway.answer_dispute(dispute, accept=False, comment="They travelled.")
    assert isinstance(bare, Rejected)
    assert "prooflink" in bare.reason
    contested = await gateway.answer_dispute(dispute, accept=False, comment="See https://kiti.example/proof/1 for it.")
    assert isinstance(contested, GatewayDispute)
    [told] = [one for one in simulator.state(request.reference)["chargebacks"] if one["status"] == "declined"]
    assert told["meta"]["uploaded_proof"] == "https://kiti.example/proof/1"
