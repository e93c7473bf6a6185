"""What gateways promise of the verbs that only some have: authorise, pay out, settle, tell of disputes and fees.

A gateway that does not declare a verb has nothing to show, and says so.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.contract.gateways import Provider, Simulator, a_checkout, able, new_reference
from tests.house import until

from kiti.core.money import Money
from kiti.gateways.gateway import (
    Authorised,
    Authorising,
    Captured,
    CheckoutOpened,
    CheckoutRequest,
    Declined,
    Disputes,
    FeeQuotes,
    Gateway,
    GatewayDispute,
    GatewayPayout,
    GatewayRefund,
    GatewaySettlement,
    Guarded,
    Missing,
    PayoutRequest,
    Payouts,
    RefundRequest,
    Rejected,
    Settlements,
    Unknown,
)

LOST_ANSWERS: list[dict[str, Any]] = [{"http_status_after": 503}, {"drop_connection_after": True}, {"malformed": True}]
TODAY = datetime.now(UTC).date()
PROOF = "They travelled: https://kiti.example/proof/1 shows it."


async def opened(provider: Provider, gateway: Gateway, **changes: Any) -> CheckoutRequest:
    request = a_checkout(provider, **changes)
    assert isinstance(await gateway.open_checkout(request), CheckoutOpened)
    return request


async def paid(provider: Provider, gateway: Gateway, simulator: Simulator, **changes: Any) -> str:
    request = await opened(provider, gateway, **changes)
    return await provider.pay(simulator, gateway, request.reference)


def a_payout(provider: Provider, **changes: Any) -> PayoutRequest:
    asked: dict[str, Any] = {
        "reference": new_reference(),
        "amount": Money(500_000, "UGX"),
        "destination": provider.destination,
        "narration": "Week 12",
    }
    return PayoutRequest(**{**asked, **changes})


async def settlement(gateway: Settlements, identity: str) -> GatewaySettlement:
    found = await gateway.settlements_between(TODAY, TODAY)
    assert isinstance(found, list), found
    [told] = [one for one in found if one.settlement_id == identity]
    return told


async def disputed(provider: Provider, gateway: Gateway, simulator: Simulator) -> GatewayDispute:
    telling = able(gateway, Disputes)
    transaction = await paid(provider, gateway, simulator, amount=Money(50_000, "UGX"))
    return await dispute(telling, provider.dispute(simulator, transaction))


async def dispute(gateway: Disputes, identity: str) -> GatewayDispute:
    found = await gateway.disputes_between(TODAY, TODAY)
    assert isinstance(found, list), found
    [told] = [one for one in found if one.dispute_id == identity]
    return told


# -------------------------------------------------------------------- what it can do


def test_flags_and_verbs_say_the_same(gateway: Gateway) -> None:
    assert isinstance(gateway, Authorising) == gateway.capabilities.authorise_then_capture
    assert isinstance(gateway, Guarded) == gateway.capabilities.hosted_page, "a page is on another machine"
    assert isinstance(gateway, Settlements) == isinstance(gateway, Disputes) == isinstance(gateway, Guarded)


# -------------------------------------------------------------------- authorise, then capture


async def test_a_page_authorises_and_the_capture_takes_once(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    authorising = able(gateway, Authorising)
    request = await opened(provider, gateway)
    [transaction] = simulator.pay(request.reference)
    kept = Authorised(transaction_id=transaction, reference=request.reference, amount=request.amount)
    assert await gateway.lookup(request.reference) == kept
    assert await gateway.verify(transaction) == kept
    taken = await authorising.capture(transaction, reference=request.reference, amount=request.amount)
    assert isinstance(taken, Captured)
    assert taken == await gateway.lookup(request.reference)
    assert await authorising.capture(transaction, reference=request.reference, amount=request.amount) == taken
    assert isinstance(await authorising.cancel(transaction, reference=request.reference), Rejected)


async def test_what_is_let_go_takes_nothing_and_cannot_be_captured(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    authorising = able(gateway, Authorising)
    request = await opened(provider, gateway)
    [transaction] = simulator.pay(request.reference)
    for _ in range(2):
        assert isinstance(await authorising.cancel(transaction, reference=request.reference), Declined)
    captured = await authorising.capture(transaction, reference=request.reference, amount=request.amount)
    assert isinstance(captured, Rejected)
    assert isinstance(await gateway.lookup(request.reference), Declined)


@pytest.mark.parametrize("fault", [*LOST_ANSWERS, {"http_status": 503}], ids=str)
async def test_a_capture_without_an_answer_is_unknown_and_asked_again_it_is_taken_once(
    provider: Provider, gateway: Gateway, simulator: Simulator, fault: dict[str, Any]
) -> None:
    authorising = able(gateway, Authorising)
    request = await opened(provider, gateway)
    [transaction] = simulator.pay(request.reference)
    simulator.fail(match=provider.capture_fault, times=1, **fault)
    asked: dict[str, Any] = {"reference": request.reference, "amount": request.amount}
    assert isinstance(await authorising.capture(transaction, **asked), Unknown)
    taken = await authorising.capture(transaction, **asked)
    assert isinstance(taken, Captured)
    assert (taken.amount, await gateway.verify(transaction)) == (request.amount, taken)


# -------------------------------------------------------------------- fees


async def test_the_fee_is_told_before_the_payment_as_it_is_taken(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    quoting = able(gateway, FeeQuotes)
    for amount in (*provider.amounts, Money(20, "RWF")):
        quoted = await quoting.fee_of(amount)
        truth = await gateway.verify(await paid(provider, gateway, simulator, amount=amount))
        assert isinstance(truth, Captured)
        assert truth.fee_exact == quoted
    simulator.fail(match=provider.fees_fault, http_status=503)
    assert isinstance(await quoting.fee_of(provider.amounts[0]), Unknown)


# -------------------------------------------------------------------- payouts


async def test_a_payout_goes_from_sent_to_arrived(provider: Provider, gateway: Gateway, simulator: Simulator) -> None:
    paying = able(gateway, Payouts)
    provider.keep_payouts_waiting(simulator)
    request = a_payout(provider)
    started = await paying.pay_out(request)
    assert isinstance(started, GatewayPayout)
    assert (started.reference, started.amount_exact, started.failure_reason) == (
        request.reference,
        Decimal(500_000),
        "",
    )
    assert started.status == ("pending" if provider.payouts_wait else "succeeded")
    assert await paying.find_payout(request.reference) == started
    provider.end_payout(simulator, started.payout_id, well=True)
    done = await paying.find_payout(request.reference)
    assert isinstance(done, GatewayPayout)
    assert (done.payout_id, done.status) == (started.payout_id, "succeeded")


async def test_a_payout_that_fails_says_why(provider: Provider, gateway: Gateway, simulator: Simulator) -> None:
    paying = able(gateway, Payouts)
    if not provider.payouts_wait:
        pytest.skip("what is sent there has arrived")
    provider.keep_payouts_waiting(simulator)
    request = a_payout(provider, amount=Money(1_050, "KES"))
    started = await paying.pay_out(request)
    assert isinstance(started, GatewayPayout)
    provider.end_payout(simulator, started.payout_id, well=False)
    failed = await paying.find_payout(request.reference)
    assert isinstance(failed, GatewayPayout)
    assert (failed.status, failed.amount_exact) == ("failed", Decimal(1_050))
    assert "Insufficient funds" in failed.failure_reason


@pytest.mark.parametrize("fault", [*LOST_ANSWERS, {"latency_ms": 4000}], ids=str)
async def test_a_payout_whose_answer_was_lost_is_found_and_never_made_twice(
    provider: Provider, gateway: Gateway, simulator: Simulator, fault: dict[str, Any]
) -> None:
    paying = able(gateway, Payouts)
    provider.keep_payouts_waiting(simulator)
    request = a_payout(provider)
    simulator.fail(match=provider.payout_call, times=1, **fault)
    assert isinstance(await paying.pay_out(request), Unknown)
    found = await until(lambda: paying.find_payout(request.reference), lambda told: told != Missing())
    assert isinstance(found, GatewayPayout)
    again = await paying.pay_out(request)
    assert isinstance(again, Unknown) or again == found
    assert provider.payouts_made(simulator, request.reference) == 1


async def test_a_payout_that_nobody_made_is_missing_and_silence_is_unknown(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    paying = able(gateway, Payouts)
    assert await paying.find_payout(new_reference()) == Missing()
    simulator.fail(match="GET *", http_status=503)
    assert isinstance(await paying.find_payout(new_reference()), Unknown)


async def test_a_refused_payout_was_certainly_not_made(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    paying = able(gateway, Payouts)
    request = a_payout(provider, amount=Money(0, "UGX"))
    assert isinstance(await paying.pay_out(request), Rejected)
    assert await paying.find_payout(request.reference) == Missing()
    before = simulator.calls(provider.payout_call)
    if provider.wrong_destination is not None:
        assert isinstance(await paying.pay_out(a_payout(provider, destination=provider.wrong_destination)), Rejected)
    assert simulator.calls(provider.payout_call) == before


# -------------------------------------------------------------------- settlements


async def test_a_settlement_is_told_with_every_transaction_and_adds_up(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    settling = able(gateway, Settlements)
    transactions = {await paid(provider, gateway, simulator, amount=Money(20, "RWF")) for _ in range(3)}
    told = await settlement(settling, provider.settle(simulator, "RWF"))
    assert (told.currency, told.day, told.is_paid) == ("RWF", TODAY, True)
    lines = {line.transaction_id: line for line in told.lines}
    assert len(lines) == len(told.lines)
    for transaction in transactions:
        truth = await gateway.verify(transaction)
        assert isinstance(truth, Captured)
        line = lines[transaction]
        assert (line.gross_exact, line.fee_exact) == (Decimal(truth.amount.amount), truth.fee_exact)
        assert line.reference in {"", truth.reference}
    assert told.gross_exact == sum(line.gross_exact for line in told.lines)
    assert told.fee_exact == sum(line.fee_exact for line in told.lines)
    assert told.net_exact == parts(told)


async def test_a_settlement_holds_back_refunds_and_disputes_and_may_take_more_than_it_gives(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    settling = able(gateway, Settlements)
    first = await paid(provider, gateway, simulator, amount=Money(50_000, "ZMW"))
    second = await paid(provider, gateway, simulator, amount=Money(30_000, "ZMW"))
    provider.settle(simulator, "ZMW")
    asked = RefundRequest(reference=new_reference(), transaction_id=first, amount=Money(20_000, "ZMW"))
    refunded = await gateway.refund(asked)
    assert isinstance(refunded, GatewayRefund)
    contested = provider.dispute(simulator, second)
    await paid(provider, gateway, simulator, amount=Money(1_000, "ZMW"))
    told = await settlement(settling, provider.settle(simulator, "ZMW"))
    assert (told.refund_exact, told.chargeback_exact) == (Decimal(20_000), Decimal(30_000))
    assert told.gross_exact == 1_000
    assert told.net_exact == parts(told) < 0
    assert told.refund_ids in {(), (refunded.refund_id,)}
    assert told.dispute_ids in {(), (contested,)}


async def test_settlements_of_other_days_are_left_out_and_silence_is_unknown(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    settling = able(gateway, Settlements)
    await paid(provider, gateway, simulator, amount=Money(2_000, "TZS"))
    provider.settle(simulator, "TZS")
    assert await settling.settlements_between(TODAY - timedelta(days=9), TODAY - timedelta(days=2)) == []
    for fault in ({"http_status": 401}, {"http_status": 503}, {"malformed": True}):
        simulator.fail(match=provider.settlements_fault, **fault)
        assert isinstance(await settling.settlements_between(TODAY, TODAY), Unknown)
        simulator.be_good()


def parts(told: GatewaySettlement) -> Decimal:
    less = told.fee_exact + told.refund_exact + told.chargeback_exact + told.cost_exact + told.payout_exact
    return told.gross_exact - less


# -------------------------------------------------------------------- disputes


async def test_a_dispute_is_told_with_its_payment_and_its_end(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    told = await disputed(provider, gateway, simulator)
    truth = await gateway.verify(told.transaction_id)
    assert isinstance(truth, Captured)
    assert (told.reference, told.amount, told.status) == (truth.reference, Money(50_000, "UGX"), "open")
    assert told.reason
    assert told.answer_by is not None
    assert timedelta(hours=47) < told.answer_by - datetime.now(UTC) <= timedelta(days=30)
    long_ago = TODAY - timedelta(days=400)
    assert await able(gateway, Disputes).disputes_between(long_ago, long_ago) == []


async def test_a_dispute_is_given_in_to_once_and_asking_again_does_no_harm(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    told = await disputed(provider, gateway, simulator)
    answering = able(gateway, Disputes)
    for _ in range(2):
        accepted = await answering.answer_dispute(told.dispute_id, accept=True, comment="")
        assert isinstance(accepted, GatewayDispute)
        assert (accepted.status, accepted.amount) == ("accepted", told.amount)
    assert (await dispute(answering, told.dispute_id)).status == "accepted"
    assert isinstance(await answering.answer_dispute(told.dispute_id, accept=False, comment=PROOF), Rejected)


@pytest.mark.parametrize("ending", ["won", "lost"])
async def test_a_contested_dispute_is_open_until_the_banks_decide(
    provider: Provider, gateway: Gateway, simulator: Simulator, ending: Any
) -> None:
    told = await disputed(provider, gateway, simulator)
    answering = able(gateway, Disputes)
    simulator.fail(match=provider.disputes_fault, times=1, http_status_after=503)
    assert isinstance(await answering.answer_dispute(told.dispute_id, accept=False, comment=PROOF), Unknown)
    contested = await answering.answer_dispute(told.dispute_id, accept=False, comment=PROOF)
    assert isinstance(contested, GatewayDispute)
    assert contested.status == "open", "declined by us, undecided by the banks"
    provider.end_dispute(simulator, told.dispute_id, ending)
    assert (await dispute(answering, told.dispute_id)).status == ending


async def test_disputes_that_cannot_be_had_are_unknown_and_what_is_none_is_refused(
    provider: Provider, gateway: Gateway, simulator: Simulator
) -> None:
    answering = able(gateway, Disputes)
    before = simulator.state("nothing")["calls"]
    assert isinstance(await answering.answer_dispute("../1", accept=True, comment=""), Rejected)
    assert simulator.state("nothing")["calls"] == before
    assert isinstance(await answering.answer_dispute(provider.unknown_dispute, accept=True, comment=""), Rejected)
    simulator.fail(match=provider.disputes_fault, http_status=503)
    assert isinstance(await answering.disputes_between(TODAY, TODAY), Unknown)
    assert isinstance(await answering.answer_dispute(provider.unknown_dispute, accept=True, comment=""), Unknown)
