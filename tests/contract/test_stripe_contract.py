"""What only Stripe does, shown against the simulator: authorise and capture, pages with an end, Connect, disputes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import stripe
from tests.box import Box
from tests.contract.gateways import Simulator, StripeCheckout, a_checkout, new_reference

from kiti.core.money import Money
from kiti.gateways.gateway import (
    Authorised,
    Captured,
    CheckoutOpened,
    CheckoutRequest,
    Declined,
    Destination,
    Disputes,
    GatewayDispute,
    GatewayPayout,
    GatewayRefund,
    Missing,
    PayoutRequest,
    Payouts,
    Pending,
    RefundRequest,
    Rejected,
    Unknown,
    UnreadableAmount,
)
from kiti.gateways.stripe import Stripe

PROVIDER = StripeCheckout()


@pytest.fixture
async def gateway(simulator: Simulator) -> AsyncIterator[Stripe]:
    adapter = PROVIDER.adapter(simulator)
    yield adapter
    await adapter.close()


async def opened(gateway: Stripe, **changes: Any) -> tuple[CheckoutRequest, str]:
    request = a_checkout(PROVIDER, **changes)
    page = await gateway.open_checkout(request)
    assert isinstance(page, CheckoutOpened)
    assert page.url is not None
    return request, page.url


async def authorised(gateway: Stripe, simulator: Simulator, **changes: Any) -> tuple[CheckoutRequest, str]:
    request, _ = await opened(gateway, **changes)
    [transaction] = simulator.pay(request.reference)
    return request, transaction


async def captured(gateway: Stripe, simulator: Simulator) -> str:
    request, transaction = await authorised(gateway, simulator)
    taken = await gateway.capture(transaction, reference=request.reference, amount=request.amount)
    assert isinstance(taken, Captured)
    return transaction


def told(simulator: Simulator, reference: str, kind: str) -> list[dict[str, Any]]:
    return list(simulator.state(reference)["stripe"][kind])


@pytest.mark.parametrize(
    ("amount", "units"),
    [
        (Money(50_000, "UGX"), 5_000_000),
        (Money(1, "UGX"), 100),
        (Money(12_345, "RWF"), 12_345),
        (Money(12_345, "XAF"), 12_345),
        (Money(150_050, "KES"), 150_050),
    ],
)
async def test_amounts_are_said_in_stripes_own_units(
    gateway: Stripe, simulator: Simulator, amount: Money, units: int
) -> None:
    request, _ = await opened(gateway, amount=amount)
    [session] = told(simulator, request.reference, "sessions")
    assert (session["amount_total"], session["currency"]) == (units, amount.currency.lower())


@pytest.mark.parametrize(("minutes", "expected"), [(1, 31), (20, 31), (90, 90), (9_999, 24 * 60 - 1)])
async def test_a_page_lives_as_long_as_stripe_lets_it(
    gateway: Stripe, simulator: Simulator, minutes: int, expected: int
) -> None:
    request, _ = await opened(gateway, session_minutes=minutes)
    [session] = told(simulator, request.reference, "sessions")
    assert abs(session["expires_at"] - session["created"] - expected * 60) <= 2


async def test_a_page_authorises_and_the_capture_takes(gateway: Stripe, simulator: Simulator) -> None:
    request, transaction = await authorised(gateway, simulator)
    kept = Authorised(transaction_id=transaction, reference=request.reference, amount=request.amount)
    assert await gateway.lookup(request.reference) == kept
    assert await gateway.verify(transaction) == kept
    taken = await gateway.capture(transaction, reference=request.reference, amount=request.amount)
    assert isinstance(taken, Captured)
    assert taken == await gateway.lookup(request.reference)
    again = await gateway.capture(transaction, reference=request.reference, amount=request.amount)
    assert again == taken
    assert isinstance(await gateway.cancel(transaction, reference=request.reference), Rejected)


async def test_what_is_let_go_takes_nothing_and_cannot_be_captured(gateway: Stripe, simulator: Simulator) -> None:
    request, transaction = await authorised(gateway, simulator)
    assert isinstance(await gateway.cancel(transaction, reference=request.reference), Declined)
    assert isinstance(await gateway.cancel(transaction, reference=request.reference), Declined)
    assert isinstance(await gateway.capture(transaction, reference=request.reference, amount=request.amount), Rejected)
    assert isinstance(await gateway.lookup(request.reference), Declined)
    [intent] = told(simulator, request.reference, "intents")
    assert (intent["status"], intent["amount_received"]) == ("canceled", 0)


@pytest.mark.parametrize("fault", [{"http_status_after": 503}, {"drop_connection_after": True}, {"latency_ms": 4000}])
async def test_a_capture_without_an_answer_is_unknown_and_asked_again_it_is_the_same(
    gateway: Stripe, simulator: Simulator, fault: dict[str, Any]
) -> None:
    request, transaction = await authorised(gateway, simulator)
    simulator.fail(match="POST *capture", times=1, **fault)
    asked: dict[str, Any] = {"reference": request.reference, "amount": request.amount}
    assert isinstance(await gateway.capture(transaction, **asked), Unknown)
    assert isinstance(await gateway.capture(transaction, **asked), Captured)
    [intent] = told(simulator, request.reference, "intents")
    assert intent["amount_received"] == 5_000_000


async def test_a_decline_is_no_end_while_the_page_is_open(gateway: Stripe, simulator: Simulator) -> None:
    request, url = await opened(gateway)
    [transaction] = simulator.pay(request.reference, "decline")
    assert await gateway.lookup(request.reference) == Pending(transaction_id=transaction, reference=request.reference)
    assert isinstance(await gateway.verify(transaction), Pending)
    assert await gateway.close_checkout(url)
    assert await gateway.lookup(request.reference) == Declined(
        transaction_id=transaction, reference=request.reference, reason="Your card was declined."
    )


async def test_a_question_of_the_bank_is_told(gateway: Stripe, simulator: Simulator) -> None:
    request, _ = await opened(gateway)
    simulator.post("/_sim/stripe/press", {"reference": request.reference, "action": "require-action"})
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Pending)
    assert truth.requires_action


async def test_a_page_that_was_paid_cannot_be_closed(gateway: Stripe, simulator: Simulator) -> None:
    request, url = await opened(gateway)
    simulator.pay(request.reference)
    assert not await gateway.close_checkout(url)
    assert isinstance(await gateway.lookup(request.reference), Authorised)


async def test_an_expired_page_on_which_nobody_tried_is_missing(gateway: Stripe, simulator: Simulator) -> None:
    request, _ = await opened(gateway)
    simulator.post("/_sim/stripe/expire", {"reference": request.reference})
    assert await gateway.lookup(request.reference) == Missing()


async def test_a_reference_is_found_among_many_of_its_time(gateway: Stripe, simulator: Simulator) -> None:
    request, transaction = await authorised(gateway, simulator)
    for _ in range(105):
        assert isinstance(await gateway.open_checkout(a_checkout(PROVIDER)), CheckoutOpened)
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Authorised)
    assert truth.transaction_id == transaction


async def test_a_page_is_made_once_however_often_it_is_asked_for(gateway: Stripe, simulator: Simulator) -> None:
    request, _ = await opened(gateway)
    again = await gateway.open_checkout(request)
    assert isinstance(again, CheckoutOpened | Unknown), "the same page; or, a second later, a key with another end"
    assert len(told(simulator, request.reference, "sessions")) == 1


async def test_money_in_a_currency_that_nobody_here_counts_goes_to_review(
    gateway: Stripe, simulator: Simulator
) -> None:
    transaction = await captured(gateway, simulator)
    simulator.fail(match="GET /v1/payment_intents/*", lie={"currency": "jpy"})
    with pytest.raises(UnreadableAmount) as caught:
        await gateway.verify(transaction)
    assert caught.value.transaction_id == transaction


async def test_a_refund_is_made_once_for_a_reference(gateway: Stripe, simulator: Simulator) -> None:
    transaction = await captured(gateway, simulator)
    asked = RefundRequest(reference=new_reference(), transaction_id=transaction, amount=Money(10_000, "UGX"))
    first, second = await gateway.refund(asked), await gateway.refund(asked)
    assert isinstance(first, GatewayRefund)
    assert isinstance(second, GatewayRefund)
    assert first.refund_id == second.refund_id
    assert await gateway.list_refunds(transaction) == [await gateway.refund_status(first.refund_id)]


async def test_a_refund_that_failed_may_be_asked_for_again(gateway: Stripe, simulator: Simulator) -> None:
    PROVIDER.keep_refunds_waiting(simulator)
    transaction = await captured(gateway, simulator)
    asked = RefundRequest(reference=new_reference(), transaction_id=transaction, amount=Money(50_000, "UGX"))
    first = await gateway.refund(asked)
    assert isinstance(first, GatewayRefund)
    PROVIDER.end_refund(simulator, first.refund_id, well=False)
    second = await gateway.refund(asked)
    assert isinstance(second, GatewayRefund)
    assert second.refund_id != first.refund_id
    assert second.status == "pending"


def a_payout(reference: str, *, kind: str = "connected", account: str = "acct_1Operator") -> PayoutRequest:
    return PayoutRequest(
        reference=reference,
        amount=Money(75_000, "UGX"),
        destination=Destination(kind=kind, country="UG", bank="", account=account, name="Nile Coaches"),  # type: ignore[arg-type]
        narration="Week 47",
    )


async def test_an_operator_is_paid_once_and_found_again(gateway: Stripe, simulator: Simulator) -> None:
    assert isinstance(gateway, Payouts)
    reference = new_reference()
    assert await gateway.find_payout(reference) == Missing()
    simulator.fail(match="POST /v1/transfers", times=1, http_status_after=503)
    assert isinstance(await gateway.pay_out(a_payout(reference)), Unknown)
    found = await gateway.find_payout(reference)
    assert isinstance(found, GatewayPayout)
    assert (found.amount_exact, found.fee_exact) == (Decimal(75_000), Decimal(0))
    assert found.status == "succeeded"
    assert await gateway.pay_out(a_payout(reference)) == found
    assert len(told(simulator, reference, "transfers")) <= 1


async def test_only_connected_accounts_are_paid(gateway: Stripe, simulator: Simulator) -> None:
    before = simulator.calls("POST /v1/transfers")
    assert isinstance(await gateway.pay_out(a_payout(new_reference(), kind="bank")), Rejected)
    assert isinstance(await gateway.pay_out(a_payout(new_reference(), account="../refunds")), Rejected)
    assert simulator.calls("POST /v1/transfers") == before


async def disputed(gateway: Stripe, simulator: Simulator) -> tuple[str, GatewayDispute]:
    transaction = await captured(gateway, simulator)
    made = simulator.post("/_sim/stripe/disputes", {"payment_intent": transaction})
    today = datetime.now(UTC).date()
    listed = await gateway.disputes_between(today, today)
    assert isinstance(listed, list)
    [found] = [dispute for dispute in listed if dispute.dispute_id == made["id"]]
    return transaction, found


async def test_a_dispute_is_listed_with_its_payment_and_its_end(gateway: Stripe, simulator: Simulator) -> None:
    assert isinstance(gateway, Disputes)
    transaction, found = await disputed(gateway, simulator)
    assert (found.transaction_id, found.amount, found.status) == (transaction, Money(50_000, "UGX"), "open")
    assert found.reference
    assert found.answer_by is not None
    long_ago = datetime.now(UTC).date() - timedelta(days=400)
    assert await gateway.disputes_between(long_ago, long_ago) == []


@pytest.mark.parametrize(("accept", "status"), [(True, "accepted"), (False, "open")])
async def test_a_dispute_is_answered_once_and_asking_again_does_no_harm(
    gateway: Stripe,
    simulator: Simulator,
    accept: bool,  # noqa: FBT001 - pytest's way
    status: str,
) -> None:
    _, found = await disputed(gateway, simulator)
    for _ in range(2):
        answered = await gateway.answer_dispute(found.dispute_id, accept=accept, comment="They travelled.")
        assert isinstance(answered, GatewayDispute)
        assert answered.status == status
    assert isinstance(await gateway.answer_dispute("du_unknown", accept=accept, comment=""), Rejected)
    assert isinstance(await gateway.answer_dispute("../refunds", accept=accept, comment=""), Rejected)


async def test_money_verbs_are_out_of_bounds_inside_a_transaction(
    gateway: Stripe, simulator: Simulator, box: Box
) -> None:
    request, transaction = await authorised(gateway, simulator)
    today = datetime.now(UTC).date()
    async with box.db.transaction():
        for call in (
            lambda: gateway.capture(transaction, reference=request.reference, amount=request.amount),
            lambda: gateway.cancel(transaction, reference=request.reference),
            lambda: gateway.pay_out(a_payout(new_reference())),
            lambda: gateway.find_payout(new_reference()),
            lambda: gateway.disputes_between(today, today),
            lambda: gateway.answer_dispute("du_1", accept=True, comment=""),
        ):
            with pytest.raises(AssertionError, match="inside a transaction"):
                await call()
    assert isinstance(await gateway.verify(transaction), Authorised)


async def test_a_key_with_another_body_is_no_proof_that_nothing_was_done(gateway: Stripe, simulator: Simulator) -> None:
    """Stripe refuses it as used before: then something was done under it."""
    request, _ = await opened(gateway)
    other = a_checkout(PROVIDER, reference=request.reference, amount=Money(70_000, "UGX"))
    assert isinstance(await gateway.open_checkout(other), Unknown)
    assert len(told(simulator, request.reference, "sessions")) == 1


def test_nothing_is_told_to_stripe_about_this_machine() -> None:
    assert not stripe.enable_telemetry
