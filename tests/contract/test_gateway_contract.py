"""What every gateway adapter promises to the flows, shown against a simulator that fails on demand."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import pytest
from tests.box import Box
from tests.contract.gateways import Provider, Simulator, a_checkout, able, new_reference
from tests.simulated import free_port

from kiti.core.money import Money
from kiti.gateways.gateway import (
    Authorising,
    Captured,
    CheckoutOpened,
    Disputes,
    FeeQuotes,
    Gateway,
    GatewayRefund,
    Guarded,
    Method,
    Missing,
    PayoutRequest,
    Payouts,
    RefundRequest,
    Rejected,
    Settlements,
    Unavailable,
    Unknown,
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


async def test_an_accepted_checkout_gives_a_page(provider: Provider, gateway: Gateway) -> None:
    paged(gateway)
    opened = await gateway.open_checkout(a_checkout(provider))
    assert isinstance(opened, CheckoutOpened)
    assert opened.url is not None
    assert opened.url.startswith("http")


async def test_the_amount_arrives_to_the_last_digit(provider: Provider, gateway: Gateway, simulator: Simulator) -> None:
    paged(gateway)
    for amount in provider.amounts:
        request = a_checkout(provider, amount=amount)
        assert isinstance(await gateway.open_checkout(request), CheckoutOpened)
        await provider.pay(simulator, gateway, request.reference)
        truth = await gateway.lookup(request.reference)
        assert isinstance(truth, Captured)
        assert truth.amount == amount


async def test_a_traveller_without_email_can_pay(provider: Provider, gateway: Gateway) -> None:
    paged(gateway)
    assert isinstance(await gateway.open_checkout(a_checkout(provider, customer_email="")), CheckoutOpened)


async def test_a_refused_checkout_was_certainly_not_opened(provider: Provider, gateway: Gateway) -> None:
    paged(gateway)
    request = a_checkout(provider, return_url="nowhere")
    outcome = await gateway.open_checkout(request)
    assert isinstance(outcome, Rejected)
    assert outcome.reason
    assert await gateway.lookup(request.reference) == Missing()


async def test_what_the_gateway_does_not_take_is_refused_without_asking_it(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    before = simulator.calls(provider.open_call)
    for method in set(get_args(Method)) - gateway.capabilities.methods:
        assert isinstance(await gateway.open_checkout(a_checkout(provider, method=method)), Rejected)
    if "SSP" not in gateway.capabilities.currencies:
        assert isinstance(await gateway.open_checkout(a_checkout(provider, amount=Money(5, "SSP"))), Rejected)
    assert simulator.calls(provider.open_call) == before


@pytest.mark.parametrize("fault", NO_ANSWERS, ids=str)
async def test_a_checkout_without_an_answer_is_unknown_and_not_repeated(
    provider: Provider, gateway: Gateway, simulator: Simulator, fault: dict[str, Any]
) -> None:
    paged(gateway)
    before = simulator.calls(provider.open_call)
    simulator.fail(match=provider.open_call, **fault)
    assert isinstance(await gateway.open_checkout(a_checkout(provider)), Unknown)
    assert simulator.calls(provider.open_call) == before + 1


async def test_a_closed_page_is_closed_and_an_unknown_one_is_not(provider: Provider, gateway: Gateway) -> None:
    paged(gateway)
    opened = await gateway.open_checkout(a_checkout(provider))
    assert isinstance(opened, CheckoutOpened)
    assert opened.url is not None
    assert not await gateway.close_checkout(provider.unknown_page)
    if not gateway.capabilities.link_expiry:
        assert not await gateway.close_checkout(opened.url), "nobody believes a page to be closed that is open"
        return
    assert await gateway.close_checkout(opened.url)
    assert await gateway.close_checkout(opened.url), "closed already is closed"


async def test_what_nobody_began_to_pay_is_missing(provider: Provider, gateway: Gateway) -> None:
    request = a_checkout(provider)
    await gateway.open_checkout(request)
    assert await gateway.lookup(request.reference) == Missing()
    assert await gateway.lookup(new_reference()) == Missing()
    assert await gateway.verify(provider.unknown_transaction) == Missing()


async def test_an_id_that_is_no_id_never_becomes_a_path(gateway: Gateway, simulator: Simulator) -> None:
    before = simulator.state("nothing")["calls"]
    for identity in ("", "1/refund", "../refunds", "1?x=y", "٣", "9" * 400):
        assert await gateway.verify(identity) == Missing()
        assert await gateway.refund_status(identity) == Missing()
        refund = RefundRequest(reference="r", transaction_id=identity, amount=Money(1, "UGX"))
        assert isinstance(await gateway.refund(refund), Rejected)
    assert simulator.state("nothing")["calls"] == before


async def test_captured_money_is_told_with_its_fee(provider: Provider, gateway: Gateway, simulator: Simulator) -> None:
    request = a_checkout(provider)
    await gateway.open_checkout(request)
    transaction = await provider.pay(simulator, gateway, request.reference)
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert (truth.transaction_id, truth.reference, truth.amount) == (transaction, request.reference, request.amount)
    assert (truth.fee_exact > 0) == isinstance(gateway, Guarded), "nobody keeps anything of cash"
    assert await gateway.verify(transaction) == truth


@pytest.mark.parametrize("fault", NO_ANSWERS, ids=str)
async def test_a_question_without_an_answer_is_unknown(
    provider: Provider, gateway: Gateway, simulator: Simulator, fault: dict[str, Any]
) -> None:
    able(gateway, Guarded)
    request = a_checkout(provider)
    await gateway.open_checkout(request)
    transaction = await provider.pay(simulator, gateway, request.reference)
    simulator.fail(match="GET *", **fault)
    async with asyncio.timeout(60):
        assert isinstance(await gateway.lookup(request.reference), Unknown)
        assert isinstance(await gateway.verify(transaction), Unknown)
        assert isinstance(await gateway.list_refunds(transaction), Unknown)
        assert isinstance(await gateway.refund_status(provider.unknown_refund), Unknown)


@pytest.mark.parametrize("fault", [{"http_status": 503}, {"drop_connection_before": True}], ids=str)
async def test_a_question_is_asked_again_after_a_passing_failure(
    provider: Provider, gateway: Gateway, simulator: Simulator, fault: dict[str, Any]
) -> None:
    able(gateway, Guarded)
    request = a_checkout(provider)
    await gateway.open_checkout(request)
    transaction = await provider.pay(simulator, gateway, request.reference)
    simulator.fail(match="GET *", times=2, **fault)
    assert isinstance(await gateway.verify(transaction), Captured)


@pytest.mark.parametrize("http_status", [401, 403])
async def test_a_wrong_key_is_no_fault_of_the_payment_and_makes_none_missing(
    provider: Provider, gateway: Gateway, simulator: Simulator, http_status: int
) -> None:
    able(gateway, Guarded)
    request = a_checkout(provider)
    await gateway.open_checkout(request)
    await provider.pay(simulator, gateway, request.reference)
    simulator.fail(match="*", http_status=http_status)
    assert isinstance(await gateway.lookup(request.reference), Unknown)
    assert isinstance(await gateway.open_checkout(a_checkout(provider)), Unavailable)


async def test_after_many_failures_the_gateway_is_left_alone_for_a_while_and_says_so(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    guarded = able(gateway, Guarded)
    assert not guarded.is_resting()
    simulator.fail(match="*", http_status=500)
    for _ in range(5):
        await gateway.open_checkout(a_checkout(provider))
    assert guarded.is_resting()
    before = simulator.state("nothing")["calls"]
    outcome = await gateway.open_checkout(a_checkout(provider))
    assert isinstance(outcome, Unavailable)
    assert "circuit" in outcome.reason
    assert isinstance(await gateway.lookup(new_reference()), Unknown)
    assert simulator.state("nothing")["calls"] == before


async def test_no_refusal_makes_a_gateway_rest(provider: Provider, gateway: Gateway, simulator: Simulator) -> None:
    guarded = able(gateway, Guarded)
    simulator.fail(match="*", http_status=400)
    for _ in range(10):
        await gateway.open_checkout(a_checkout(provider))
    assert not guarded.is_resting()


async def test_a_gateway_that_refuses_connections_is_unknown(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    able(gateway, Guarded)
    gateway = provider.adapter(simulator, url=f"http://127.0.0.1:{free_port()}")
    assert isinstance(await gateway.open_checkout(a_checkout(provider)), Unknown)
    assert isinstance(await gateway.lookup(new_reference()), Unknown)
    await gateway.close()


async def test_a_refund_goes_from_initiated_to_paid_out(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    provider.keep_refunds_waiting(simulator)
    transaction = await _paid(provider, gateway, simulator)
    asked = RefundRequest(reference=new_reference(), transaction_id=transaction, amount=Money(20_000, "UGX"))
    await provider.expect_refund(asked)
    started = await gateway.refund(asked)
    assert isinstance(started, GatewayRefund)
    assert started == GatewayRefund(
        refund_id=started.refund_id,
        transaction_id=transaction,
        reference=asked.reference,
        amount_exact=Decimal(20_000),
        status="pending",
        failure_reason="",
    )
    assert await gateway.refund_status(started.refund_id) == started
    await provider.end_refund(simulator, started.refund_id, well=True)
    paid_out = await gateway.refund_status(started.refund_id)
    assert isinstance(paid_out, GatewayRefund)
    assert paid_out.status == "succeeded"


async def test_a_failed_disbursement_fails_the_refund(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    able(gateway, Guarded)
    provider.keep_refunds_waiting(simulator)
    transaction = await _paid(provider, gateway, simulator)
    started = await gateway.refund(
        RefundRequest(reference=new_reference(), transaction_id=transaction, amount=Money(50_000, "UGX"))
    )
    assert isinstance(started, GatewayRefund)
    await provider.end_refund(simulator, started.refund_id, well=False)
    failed = await gateway.refund_status(started.refund_id)
    assert isinstance(failed, GatewayRefund)
    assert failed.status == "failed"
    assert failed.failure_reason


async def test_a_refund_of_more_than_is_left_is_rejected(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    able(gateway, Guarded)
    transaction = await _paid(provider, gateway, simulator)
    too_much = RefundRequest(reference=new_reference(), transaction_id=transaction, amount=Money(50_001, "UGX"))
    assert isinstance(await gateway.refund(too_much), Rejected)
    assert await gateway.list_refunds(transaction) == []


@pytest.mark.parametrize("fault", LOST_ANSWERS, ids=str)
async def test_a_refund_whose_answer_was_lost_is_found_in_the_list(
    provider: Provider, gateway: Gateway, simulator: Simulator, fault: dict[str, Any]
) -> None:
    able(gateway, Guarded)
    transaction = await _paid(provider, gateway, simulator)
    before = simulator.calls(provider.refund_call)
    simulator.fail(match=provider.refund_fault, times=1, **fault)
    asked = RefundRequest(reference=new_reference(), transaction_id=transaction, amount=Money(7, "UGX"))
    assert isinstance(await gateway.refund(asked), Unknown)
    assert simulator.calls(provider.refund_call) == before + 1
    found = await _eventually_one(lambda: gateway.list_refunds(transaction))
    assert (found.reference, found.amount_exact) == (asked.reference, Decimal(7))


async def test_a_refund_that_never_arrived_is_not_in_the_list(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    able(gateway, Guarded)
    transaction = await _paid(provider, gateway, simulator)
    simulator.fail(match=provider.refund_fault, times=1, drop_connection_before=True)
    asked = RefundRequest(reference=new_reference(), transaction_id=transaction, amount=Money(7, "UGX"))
    assert isinstance(await gateway.refund(asked), Unknown)
    assert await gateway.list_refunds(transaction) == []


async def test_the_list_has_every_refund_of_its_transaction_and_no_other(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    able(gateway, Guarded)
    first = await _paid(provider, gateway, simulator)
    second = await _paid(provider, gateway, simulator)
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


async def test_a_day_s_list_has_all_that_was_captured_and_nothing_else(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    paid = {await _paid(provider, gateway, simulator) for _ in range(25)}
    declined = a_checkout(provider)
    await gateway.open_checkout(declined)
    if gateway.capabilities.hosted_page:
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
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    able(gateway, Guarded)
    await _paid(provider, gateway, simulator)
    simulator.fail(match="GET *", malformed=True)
    assert isinstance(await gateway.captured_on(datetime.now(UTC).date()), Unknown)


async def test_a_refund_that_nobody_knows_is_missing(provider: Provider, gateway: Gateway) -> None:
    assert await gateway.refund_status(provider.unknown_refund) == Missing()


async def test_the_network_is_out_of_bounds_inside_a_transaction(
    provider: Provider, gateway: Gateway, simulator: Simulator, box: Box
) -> None:
    opened = await gateway.open_checkout(a_checkout(provider))
    assert isinstance(opened, CheckoutOpened)
    url, transaction, today = str(opened.url), provider.unknown_transaction, datetime.now(UTC).date()
    asked = RefundRequest(reference=new_reference(), transaction_id=transaction, amount=Money(1, "UGX"))
    before = simulator.state("nothing")["calls"]
    calls: list[Callable[[], Any]] = [
        lambda: gateway.open_checkout(a_checkout(provider)),
        lambda: gateway.lookup(new_reference()),
        lambda: gateway.verify(transaction),
        lambda: gateway.refund(asked),
        lambda: gateway.list_refunds(transaction),
        lambda: gateway.refund_status(provider.unknown_refund),
        lambda: gateway.captured_on(today),
        *_calls_of_what_it_declares(provider, gateway),
    ]
    if gateway.capabilities.link_expiry:
        calls.append(lambda: gateway.close_checkout(url))
    async with box.db.transaction():
        for call in calls:
            with pytest.raises(AssertionError, match="inside a transaction"):
                await call()
    assert simulator.state("nothing")["calls"] == before


async def test_the_gateways_own_webhooks_say_where_to_look(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    request = a_checkout(provider)
    await gateway.open_checkout(request)
    transaction = await provider.pay(simulator, gateway, request.reference)
    deliveries = provider.deliveries(simulator, request.reference)
    assert bool(deliveries) == isinstance(gateway, Guarded), "a counter sends none"
    assert not gateway.is_authentic({}, b"{}")
    for headers, body in deliveries:
        assert gateway.is_authentic(headers, body)
        event = gateway.read_webhook(headers, body)
        assert (event.kind, event.reference, event.transaction_id) == ("charge", request.reference, transaction)
        assert not gateway.is_authentic({}, body)


def paged(gateway: Gateway) -> None:
    """Skip where nobody pays on a page: what is asked for is not kept there either."""
    if not gateway.capabilities.hosted_page:
        pytest.skip("declares no hosted page")


def _calls_of_what_it_declares(provider: Provider, gateway: Gateway) -> Iterator[Callable[[], Any]]:
    today, amount = datetime.now(UTC).date(), Money(1, "UGX")
    if isinstance(gateway, Payouts):
        request = PayoutRequest(reference="r", amount=amount, destination=provider.destination, narration="Week 1")
        yield lambda: gateway.pay_out(request)
        yield lambda: gateway.find_payout(new_reference())
    if isinstance(gateway, Settlements):
        yield lambda: gateway.settlements_between(today, today)
    if isinstance(gateway, Disputes):
        yield lambda: gateway.disputes_between(today, today)
        yield lambda: gateway.answer_dispute(provider.unknown_dispute, accept=True, comment="")
    if isinstance(gateway, FeeQuotes):
        yield lambda: gateway.fee_of(amount)
    if isinstance(gateway, Authorising):
        yield lambda: gateway.capture(provider.unknown_transaction, reference="r", amount=amount)
        yield lambda: gateway.cancel(provider.unknown_transaction, reference="r")


async def _paid(provider: Provider, gateway: Gateway, simulator: Simulator) -> str:
    request = a_checkout(provider)
    assert isinstance(await gateway.open_checkout(request), CheckoutOpened)
    return await provider.pay(simulator, gateway, request.reference)


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
