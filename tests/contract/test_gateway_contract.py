"""What every gateway adapter promises to the flows, shown against a simulator that fails on demand."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.box import Box
from tests.contract.gateways import Simulator, Subject, a_checkout, flutterwave, new_reference
from tests.simulated import free_port

from kiti.core.money import Money
from kiti.gateways.flutterwave_v4 import FlutterwaveV4
from kiti.gateways.gateway import (
    Captured,
    CheckoutOpened,
    Declined,
    Gateway,
    GatewayRefund,
    Missing,
    Pending,
    RefundRequest,
    Rejected,
    Unknown,
    UnreadableAmount,
)

# What a network or a gateway does to a call; `after` means that the call had its effect all the same.
LOST_ANSWERS: list[dict[str, Any]] = [
    {"http_status_after": 503},
    {"drop_connection_after": True},
    {"malformed": True},
    {"latency_ms": 4000},
]
NO_ANSWERS: list[dict[str, Any]] = [
    {"http_status": 503},
    {"http_status": 500},
    {"http_status": 429},
    {"drop_connection_before": True},
    *LOST_ANSWERS,
]


async def test_an_accepted_checkout_gives_a_page(gateway: Gateway, simulator: Simulator) -> None:
    request = a_checkout()
    opened = await gateway.open_checkout(request)
    assert isinstance(opened, CheckoutOpened)
    assert opened.url is not None
    assert opened.url.startswith("http")
    [link] = simulator.state(request.reference)["links"]
    assert (link["amount"], link["currency"], link["session_minutes"]) == (50_000, "UGX", 15)


@pytest.mark.parametrize(
    ("amount", "method", "said"),
    [
        (Money(150_050, "KES"), "BANK_TRANSFER", 1500.5),
        (Money(150_000, "KES"), "CARD", 1500),
        (Money(1, "USD"), "CARD", 0.01),
        (Money(12_345, "XOF"), "MOBILE_MONEY", 12345),
    ],
)
async def test_the_amount_arrives_to_the_last_digit(
    gateway: Gateway, simulator: Simulator, amount: Money, method: str, said: float
) -> None:
    request = a_checkout(amount=amount, method=method)
    assert isinstance(await gateway.open_checkout(request), CheckoutOpened)
    simulator.pay(request.reference)
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert truth.amount == amount
    assert simulator.state(request.reference)["links"][0]["amount"] == said


async def test_a_traveller_without_email_can_pay(gateway: Gateway, simulator: Simulator) -> None:
    request = a_checkout(customer_email="")
    assert isinstance(await gateway.open_checkout(request), CheckoutOpened)
    assert "256700000001@example.com" in str(simulator.state(request.reference)["links"][0]["customer"])


async def test_a_refused_checkout_was_certainly_not_opened(gateway: Gateway, simulator: Simulator) -> None:
    request = a_checkout(return_url="nowhere")
    outcome = await gateway.open_checkout(request)
    assert isinstance(outcome, Rejected)
    assert "redirect_url" in outcome.reason
    assert simulator.state(request.reference)["links"] == []


async def test_what_the_gateway_does_not_take_is_refused_without_asking_it(gateway: Gateway) -> None:
    assert isinstance(await gateway.open_checkout(a_checkout(method="CASH")), Rejected)
    assert isinstance(await gateway.open_checkout(a_checkout(amount=Money(5, "SCR"))), Rejected)
    assert isinstance(await gateway.open_checkout(a_checkout(method="MOBILE_MONEY", amount=Money(5, "EUR"))), Rejected)


@pytest.mark.parametrize("fault", NO_ANSWERS, ids=str)
async def test_a_checkout_without_an_answer_is_unknown_and_not_repeated(
    gateway: Gateway, subject: Subject, simulator: Simulator, fault: dict[str, Any]
) -> None:
    before = simulator.calls(subject.open_page)
    simulator.fail(match=subject.open_page, **fault)
    assert isinstance(await gateway.open_checkout(a_checkout()), Unknown)
    assert simulator.calls(subject.open_page) == before + 1


async def test_a_repeated_reference_is_not_called_certainly_undone(gateway: Gateway, simulator: Simulator) -> None:
    request = a_checkout()
    opened = await gateway.open_checkout(request)
    assert isinstance(opened, CheckoutOpened)
    again = await gateway.open_checkout(request)
    assert isinstance(again, Unknown) or again == opened
    assert len(simulator.state(request.reference)["links"]) == 1


async def test_a_closed_page_takes_no_money(gateway: Gateway, simulator: Simulator) -> None:
    request = a_checkout()
    opened = await gateway.open_checkout(request)
    assert isinstance(opened, CheckoutOpened)
    assert opened.url is not None
    if not gateway.capabilities.link_expiry:
        assert not await gateway.close_checkout(opened.url), "nobody believes a page to be closed that is open"
        return
    assert await gateway.close_checkout(opened.url)
    assert simulator.state(request.reference)["links"][0]["state"] == "disabled"
    assert await gateway.close_checkout(opened.url), "closed already is closed"
    assert not await gateway.close_checkout("http://127.0.0.1/pay/none")


@pytest.mark.parametrize("http_status", [200, 400, 404])
async def test_what_nobody_began_to_pay_is_missing(
    gateway: Gateway, subject: Subject, simulator: Simulator, http_status: int
) -> None:
    simulator.configure(not_found_http_status=http_status)
    assert await gateway.lookup(new_reference()) == Missing()
    assert await gateway.verify(subject.unknown) == Missing()


async def test_an_id_that_is_no_id_never_becomes_a_path(gateway: Gateway, simulator: Simulator) -> None:
    before = simulator.state("nothing")["calls"]
    for identity in ("", "1/refund", "../refunds", "1?x=y", "٣", "9" * 40):
        assert await gateway.verify(identity) == Missing()
        assert await gateway.refund_status(identity) == Missing()
        refund = RefundRequest(reference="r", transaction_id=identity, amount=Money(1, "UGX"))
        assert isinstance(await gateway.refund(refund), Rejected)
    assert simulator.state("nothing")["calls"] == before


async def test_captured_money_is_told_with_its_fee(gateway: Gateway, subject: Subject, simulator: Simulator) -> None:
    request = a_checkout(amount=Money(20, "RWF"))
    await gateway.open_checkout(request)
    [transaction] = map(subject.identity, simulator.pay(request.reference))
    expected = Captured(
        transaction_id=transaction,
        reference=request.reference,
        amount=Money(20, "RWF"),
        fee_exact=Decimal("0.58"),
    )
    assert await gateway.lookup(request.reference) == expected
    assert await gateway.verify(transaction) == expected


async def test_a_fee_that_the_customer_bears_is_no_fee_of_ours(gateway: Gateway, simulator: Simulator) -> None:
    if isinstance(gateway, FlutterwaveV4):
        pytest.skip("v4 does not tell what the customer was charged on top")
    simulator.configure(fee_bearer="customer")
    request = a_checkout(amount=Money(5_000, "KES"))
    await gateway.open_checkout(request)
    simulator.pay(request.reference)
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert (truth.amount, truth.fee_exact) == (Money(5_000, "KES"), Decimal(0))


async def test_a_decline_a_late_payment_and_a_captured_second_try(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    request = a_checkout()
    await gateway.open_checkout(request)
    simulator.pay(request.reference, "decline")
    assert isinstance(await gateway.lookup(request.reference), Declined)
    simulator.pay(request.reference, "pay-late", delay_seconds=60, force=True)
    assert isinstance(await gateway.lookup(request.reference), Pending)
    [transaction] = map(subject.identity, simulator.pay(request.reference, "pay", force=True))
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert truth.transaction_id == transaction


async def test_a_captured_transaction_is_found_behind_a_declined_one(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    request = a_checkout()
    await gateway.open_checkout(request)
    [transaction] = map(subject.identity, simulator.pay(request.reference))
    if subject.lookup == subject.charges:
        pytest.skip("the list is what is asked, and a captured one comes first in it")
    simulator.fail(match=subject.lookup, lie={"status": "failed"})
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert truth.transaction_id == transaction


async def test_a_decline_is_not_believed_while_the_list_cannot_be_seen(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    request = a_checkout()
    await gateway.open_checkout(request)
    simulator.pay(request.reference, "decline")
    simulator.fail(match=subject.charges, malformed=True)
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
    gateway: Gateway, simulator: Simulator, lie: dict[str, Any], amount: Money
) -> None:
    request = a_checkout()
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
    gateway: Gateway, subject: Subject, simulator: Simulator, lie: dict[str, Any]
) -> None:
    request = a_checkout()
    await gateway.open_checkout(request)
    [transaction] = map(subject.identity, simulator.pay(request.reference))
    simulator.fail(lie=lie)
    with pytest.raises(UnreadableAmount) as caught:
        await gateway.verify(transaction)
    assert (caught.value.transaction_id, caught.value.reference) == (transaction, request.reference)


async def test_a_status_that_nobody_knows_is_unknown(gateway: Gateway, simulator: Simulator) -> None:
    request = a_checkout()
    await gateway.open_checkout(request)
    simulator.pay(request.reference)
    simulator.fail(lie={"status": "flying"})
    assert isinstance(await gateway.lookup(request.reference), Unknown)


@pytest.mark.parametrize("fault", NO_ANSWERS, ids=str)
async def test_a_question_without_an_answer_is_unknown(
    gateway: Gateway, subject: Subject, simulator: Simulator, fault: dict[str, Any]
) -> None:
    request = a_checkout()
    await gateway.open_checkout(request)
    [transaction] = map(subject.identity, simulator.pay(request.reference))
    simulator.fail(match="GET *", **fault)
    async with asyncio.timeout(10):
        assert isinstance(await gateway.lookup(request.reference), Unknown)
        assert isinstance(await gateway.verify(transaction), Unknown)
        assert isinstance(await gateway.list_refunds(transaction), Unknown)
        assert isinstance(await gateway.refund_status(subject.unknown_refund), Unknown)


@pytest.mark.parametrize("fault", [{"http_status": 503}, {"drop_connection_before": True}], ids=str)
async def test_a_question_is_asked_again_after_a_passing_failure(
    gateway: Gateway, simulator: Simulator, fault: dict[str, Any]
) -> None:
    request = a_checkout()
    await gateway.open_checkout(request)
    simulator.pay(request.reference)
    simulator.fail(match="GET *", times=2, **fault)
    assert isinstance(await gateway.lookup(request.reference), Captured)


async def test_a_wrong_key_does_not_make_payments_missing(simulator: Simulator) -> None:
    gateway = flutterwave(simulator)
    request = a_checkout()
    await gateway.open_checkout(request)
    simulator.pay(request.reference)
    simulator.fail(match="*", http_status=401)
    assert isinstance(await gateway.lookup(request.reference), Unknown)
    assert isinstance(await gateway.open_checkout(a_checkout()), Rejected)
    await gateway.close()


async def test_after_many_failures_the_gateway_is_left_alone_for_a_while(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    simulator.fail(match="*", http_status=500)
    for _ in range(5):
        await gateway.open_checkout(a_checkout())
    before = simulator.calls(subject.open_page)
    outcome = await gateway.open_checkout(a_checkout())
    assert isinstance(outcome, Unknown)
    assert "circuit" in outcome.reason
    assert isinstance(await gateway.lookup(new_reference()), Unknown)
    assert simulator.calls(subject.open_page) == before


async def test_a_gateway_that_refuses_connections_is_unknown(simulator: Simulator) -> None:
    gateway = flutterwave(simulator, url=f"http://127.0.0.1:{free_port()}")
    assert isinstance(await gateway.open_checkout(a_checkout()), Unknown)
    assert isinstance(await gateway.lookup(new_reference()), Unknown)
    await gateway.close()


async def test_a_refund_goes_from_initiated_to_paid_out(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    simulator.configure(refund_outcome="stuck")
    transaction = await _paid(gateway, subject, simulator)
    asked = RefundRequest(reference="refund-1", transaction_id=transaction, amount=Money(20_000, "UGX"))
    started = await gateway.refund(asked)
    assert isinstance(started, GatewayRefund)
    assert started == GatewayRefund(
        refund_id=started.refund_id,
        transaction_id=transaction,
        reference="refund-1",
        amount_exact=Decimal(20_000),
        status="pending",
        failure_reason="",
    )
    assert await gateway.refund_status(started.refund_id) == started
    simulator.set_refund(started.refund_id, status="completed-momo")
    paid_out = await gateway.refund_status(started.refund_id)
    assert isinstance(paid_out, GatewayRefund)
    assert paid_out.status == "succeeded"


async def test_a_failed_disbursement_fails_the_refund(gateway: Gateway, subject: Subject, simulator: Simulator) -> None:
    simulator.configure(refund_outcome="stuck")
    transaction = await _paid(gateway, subject, simulator)
    started = await gateway.refund(
        RefundRequest(reference="refund-1", transaction_id=transaction, amount=Money(50_000, "UGX"))
    )
    assert isinstance(started, GatewayRefund)
    simulator.set_refund(started.refund_id, disburse_status="failed")
    failed = await gateway.refund_status(started.refund_id)
    assert isinstance(failed, GatewayRefund)
    assert failed.status == "failed"
    assert failed.failure_reason


async def test_a_refund_of_more_than_is_left_is_rejected(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    transaction = await _paid(gateway, subject, simulator)
    too_much = RefundRequest(reference="r", transaction_id=transaction, amount=Money(50_001, "UGX"))
    assert isinstance(await gateway.refund(too_much), Rejected)
    assert await gateway.list_refunds(transaction) == []


@pytest.mark.parametrize("fault", LOST_ANSWERS, ids=str)
async def test_a_refund_whose_answer_was_lost_is_found_in_the_list(
    gateway: Gateway, subject: Subject, simulator: Simulator, fault: dict[str, Any]
) -> None:
    transaction = await _paid(gateway, subject, simulator)
    before = simulator.calls(subject.refund)
    simulator.fail(match="POST *refund*", times=1, **fault)
    asked = RefundRequest(reference=new_reference(), transaction_id=transaction, amount=Money(7, "UGX"))
    assert isinstance(await gateway.refund(asked), Unknown)
    assert simulator.calls(subject.refund) == before + 1
    found = await _eventually_one(lambda: gateway.list_refunds(transaction))
    assert (found.reference, found.amount_exact) == (asked.reference, Decimal(7))


async def test_a_refund_that_never_arrived_is_not_in_the_list(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    transaction = await _paid(gateway, subject, simulator)
    simulator.fail(match="POST *refund*", times=1, drop_connection_before=True)
    asked = RefundRequest(reference="r", transaction_id=transaction, amount=Money(7, "UGX"))
    assert isinstance(await gateway.refund(asked), Unknown)
    assert await gateway.list_refunds(transaction) == []


async def test_the_list_has_every_refund_of_its_transaction_and_no_other(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    first, second = await _paid(gateway, subject, simulator), await _paid(gateway, subject, simulator)
    for number in range(23):
        for transaction in (first, second):
            asked = RefundRequest(
                reference=f"{transaction}-{number}", transaction_id=transaction, amount=Money(1, "UGX")
            )
            assert isinstance(await gateway.refund(asked), GatewayRefund)
    found = await gateway.list_refunds(first)
    assert isinstance(found, list)
    assert {refund.reference for refund in found} == {f"{first}-{number}" for number in range(23)}
    assert len(found) == 23


async def test_a_list_with_an_unreadable_page_is_no_proof_of_absence(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    transaction = await _paid(gateway, subject, simulator)
    simulator.fail(match=subject.refunds, malformed=True)
    assert isinstance(await gateway.list_refunds(transaction), Unknown)


async def test_a_day_s_list_has_all_that_was_captured_and_nothing_else(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    paid = {await _paid(gateway, subject, simulator) for _ in range(25)}
    declined = a_checkout()
    await gateway.open_checkout(declined)
    simulator.pay(declined.reference, "decline")
    found = await gateway.captured_on(datetime.now(UTC).date())
    assert not isinstance(found, Unknown)
    assert paid <= {told.transaction_id for told in found}
    assert declined.reference not in {told.reference for told in found}
    for told in found:
        if told.transaction_id in paid:
            assert told == await gateway.verify(told.transaction_id)
    assert await gateway.captured_on(datetime.now(UTC).date() - timedelta(days=400)) == []


async def test_a_day_s_list_with_an_unreadable_page_is_unknown(
    gateway: Gateway, subject: Subject, simulator: Simulator
) -> None:
    await _paid(gateway, subject, simulator)
    simulator.fail(match=subject.charges, malformed=True)
    assert isinstance(await gateway.captured_on(datetime.now(UTC).date()), Unknown)


async def test_a_refund_that_nobody_knows_is_missing(gateway: Gateway, subject: Subject) -> None:
    assert await gateway.refund_status(subject.unknown_refund) == Missing()


async def test_the_network_is_out_of_bounds_inside_a_transaction(
    gateway: Gateway, subject: Subject, simulator: Simulator, box: Box
) -> None:
    before = simulator.state("nothing")["calls"]
    asked = RefundRequest(reference="r", transaction_id=subject.unknown, amount=Money(1, "UGX"))
    async with box.db.transaction():
        for call in (
            lambda: gateway.open_checkout(a_checkout()),
            lambda: gateway.lookup("r"),
            lambda: gateway.verify(subject.unknown),
            lambda: gateway.refund(asked),
            lambda: gateway.list_refunds(subject.unknown),
            lambda: gateway.refund_status(subject.unknown_refund),
        ):
            with pytest.raises(AssertionError, match="inside a transaction"):
                await call()
    assert simulator.state("nothing")["calls"] == before


@pytest.mark.parametrize("action", ["pay", "decline"])
async def test_the_gateways_own_webhooks_say_where_to_look(
    gateway: Gateway, subject: Subject, simulator: Simulator, action: str
) -> None:
    request = a_checkout()
    await gateway.open_checkout(request)
    [transaction] = map(subject.identity, simulator.pay(request.reference, action))
    deliveries = simulator.state(request.reference)["deliveries"]
    assert deliveries
    for delivery in deliveries:
        body = json.dumps(delivery["body"]).encode()
        headers = {**subject.sign(simulator, body), "content-type": "application/json"}
        assert gateway.is_authentic(headers, body)
        event = gateway.read_webhook(headers, body)
        assert (event.kind, event.reference, event.transaction_id) == (
            "charge",
            request.reference,
            transaction,
        )


async def _paid(gateway: Gateway, subject: Subject, simulator: Simulator) -> str:
    request = a_checkout()
    assert isinstance(await gateway.open_checkout(request), CheckoutOpened)
    [transaction] = map(subject.identity, simulator.pay(request.reference))
    return transaction


async def _eventually_one(ask: Callable[[], Any]) -> GatewayRefund:
    """The only refund; a call that timed out may still be at work at the gateway."""
    for _ in range(50):
        found = await ask()
        if found:
            break
        await asyncio.sleep(0.2)
    assert isinstance(found, list)
    assert len(found) == 1
    [refund] = found
    assert isinstance(refund, GatewayRefund)
    return refund
