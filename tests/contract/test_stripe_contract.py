"""What only Stripe does, shown against the simulator: authorise and capture, pages with an end, Connect, disputes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import stripe
from tests.contract.gateways import Simulator, StripeCheckout, a_checkout, new_reference

from kiti.core.money import Money
from kiti.gateways.gateway import (
    Authorised,
    Captured,
    CheckoutOpened,
    CheckoutRequest,
    Declined,
    GatewayPayout,
    GatewayRefund,
    GatewaySettlement,
    Missing,
    PayoutRequest,
    Pending,
    RefundRequest,
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


async def captured(gateway: Stripe, simulator: Simulator, **changes: Any) -> str:
    request, transaction = await authorised(gateway, simulator, **changes)
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
    await PROVIDER.end_refund(simulator, first.refund_id, well=False)
    second = await gateway.refund(asked)
    assert isinstance(second, GatewayRefund)
    assert second.refund_id != first.refund_id
    assert second.status == "pending"


async def test_a_key_with_another_body_is_no_proof_that_nothing_was_done(gateway: Stripe, simulator: Simulator) -> None:
    """Stripe refuses it as used before: then something was done under it."""
    request, _ = await opened(gateway)
    other = a_checkout(PROVIDER, reference=request.reference, amount=Money(70_000, "UGX"))
    assert isinstance(await gateway.open_checkout(other), Unknown)
    assert len(told(simulator, request.reference, "sessions")) == 1


def test_nothing_is_told_to_stripe_about_this_machine() -> None:
    assert not stripe.enable_telemetry


async def payout(gateway: Stripe, identity: str) -> GatewaySettlement:
    today = datetime.now(UTC).date()
    found = await gateway.settlements_between(today, today)
    assert isinstance(found, list), found
    [told] = [one for one in found if one.settlement_id == identity]
    return told


async def test_what_a_payout_lacks_for_disputes_and_transfers_has_its_name(
    gateway: Stripe, simulator: Simulator
) -> None:
    """Stripe asks fifteen units of money for a dispute, and what went to operators does not go to the bank."""
    amount = Money(9_000_000, "MWK")
    transaction = await captured(gateway, simulator, amount=amount)
    PROVIDER.dispute(simulator, transaction)
    sent = PayoutRequest(
        reference=new_reference(), amount=Money(70_000, "MWK"), destination=PROVIDER.destination, narration="Week 47"
    )
    assert isinstance(await gateway.pay_out(sent), GatewayPayout)
    told = await payout(gateway, PROVIDER.settle(simulator, "MWK"))
    assert [told.cost_exact, told.payout_exact, told.chargeback_exact] == [
        Decimal(1_500),
        Decimal(70_000),
        Decimal(9_000_000),
    ]
    less = told.fee_exact + told.refund_exact + told.chargeback_exact + told.cost_exact + told.payout_exact
    assert told.net_exact == told.gross_exact - less


async def test_a_refund_that_comes_back_within_one_payout_was_held_back_by_nobody(
    gateway: Stripe, simulator: Simulator
) -> None:
    PROVIDER.keep_refunds_waiting(simulator)
    transaction = await captured(gateway, simulator, amount=Money(50_000, "ETB"))
    refunds: list[str] = []
    for well in (True, False):
        asked = RefundRequest(reference=new_reference(), transaction_id=transaction, amount=Money(1_000, "ETB"))
        refund = await gateway.refund(asked)
        assert isinstance(refund, GatewayRefund)
        await PROVIDER.end_refund(simulator, refund.refund_id, well=well)
        refunds.append(refund.refund_id)
    told = await payout(gateway, PROVIDER.settle(simulator, "ETB"))
    assert (told.refund_exact, told.refund_ids) == (Decimal(1_000), (refunds[0],))


async def test_a_payout_that_is_on_its_way_is_not_paid(gateway: Stripe, simulator: Simulator) -> None:
    await captured(gateway, simulator, amount=Money(50_000, "BWP"))
    identity = PROVIDER.settle(simulator, "BWP")
    simulator.fail(match="GET /v1/payouts", lie={"status": "in_transit"})
    assert not (await payout(gateway, identity)).is_paid
