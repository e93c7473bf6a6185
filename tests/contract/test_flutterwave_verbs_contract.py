"""What Flutterwave can do beside hosted pages and refunds, shown against the simulator."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.contract.gateways import FlutterwaveV3Checkout, Simulator, a_checkout, new_reference
from tests.house import until

from kiti.core.money import Money
from kiti.gateways.flutterwave import Flutterwave
from kiti.gateways.gateway import (
    Captured,
    Destination,
    DirectCharges,
    DirectRequest,
    Disputes,
    FeeQuotes,
    GatewayDispute,
    GatewayPayout,
    GatewaySettlement,
    Guarded,
    Missing,
    PayoutRequest,
    Payouts,
    Pending,
    Prompted,
    Rejected,
    Settlements,
    Share,
    Subaccount,
    SubaccountRequest,
    Subaccounts,
    Unavailable,
    Unknown,
)

PHONES = {
    "KES": "+254712345678",
    "UGX": "+256772123456",
    "RWF": "+250788123456",
    "GHS": "+233241234567",
    "ZMW": "+260961234567",
    "TZS": "+255712345678",
    "XAF": "+237670123456",
    "XOF": "+2250700123456",
}
LOST_ANSWERS: list[dict[str, Any]] = [
    {"http_status_after": 503},
    {"drop_connection_after": True},
    {"malformed": True},
    {"latency_ms": 4000},
]
NO_ANSWERS: list[dict[str, Any]] = [{"http_status": 503}, {"http_status": 429}, *LOST_ANSWERS]
TODAY = datetime.now(UTC).date()
MOBILE = Destination(kind="mobile_money", country="UG", bank="MPS", account="+256700000001", name="Pearl Coaches")
CONNECTED = Destination(kind="connected", country="UG", bank="", account="acct_1", name="Pearl Coaches")

PROVIDER = FlutterwaveV3Checkout()


@pytest.fixture
async def gateway(simulator: Simulator) -> AsyncIterator[Flutterwave]:
    adapter = PROVIDER.adapter(simulator)
    assert isinstance(adapter, Flutterwave)
    yield adapter
    await adapter.close()


def a_charge(currency: str = "KES", **changes: Any) -> DirectRequest:
    asked: dict[str, Any] = {
        "reference": new_reference(),
        "amount": Money(50_000, currency),
        "phone": PHONES[currency],
        "customer_email": "",
        "customer_name": "Asha Nabirye",
        "return_url": "https://kiti.example/return",
    }
    return DirectRequest(**{**asked, **changes})


def a_payout(**changes: Any) -> PayoutRequest:
    asked: dict[str, Any] = {
        "reference": new_reference(),
        "amount": Money(500_000, "UGX"),
        "destination": MOBILE,
        "narration": "Week 12",
    }
    return PayoutRequest(**{**asked, **changes})


async def ended(gateway: Flutterwave, request: PayoutRequest) -> GatewayPayout:
    """The payout, once it is no longer under way."""

    async def ask() -> GatewayPayout:
        found = await gateway.find_payout(request.reference)
        assert isinstance(found, GatewayPayout)
        return found

    return await until(ask, lambda found: found.status != "pending")


async def paid(gateway: Flutterwave, simulator: Simulator, amount: Money) -> str:
    request = a_checkout(PROVIDER, amount=amount, method="CARD")
    await gateway.open_checkout(request)
    return simulator.pay(request.reference)[0]


def test_the_adapter_says_by_its_type_what_it_can_do(gateway: Flutterwave) -> None:
    for protocol in (DirectCharges, Disputes, FeeQuotes, Guarded, Payouts, Settlements, Subaccounts):
        assert isinstance(gateway, protocol)


@pytest.mark.parametrize("currency", sorted(PHONES))
async def test_a_phone_is_asked_and_its_approval_is_found(
    gateway: Flutterwave, simulator: Simulator, currency: str
) -> None:
    request = a_charge(currency)
    prompted = await gateway.charge(request)
    assert isinstance(prompted, Prompted)
    assert (prompted.url is not None) == (currency in {"UGX", "RWF", "GHS"})
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Pending)
    simulator.pay(request.reference)
    truth = await gateway.lookup(request.reference)
    assert isinstance(truth, Captured)
    assert (truth.reference, truth.amount) == (request.reference, request.amount)


@pytest.mark.parametrize("fault", NO_ANSWERS, ids=str)
async def test_a_charge_without_an_answer_is_unknown_and_not_repeated(
    gateway: Flutterwave, simulator: Simulator, fault: dict[str, Any]
) -> None:
    before = simulator.calls("POST /v3/charges")
    simulator.fail(match="POST /v3/charges", **fault)
    outcome = await gateway.charge(a_charge())
    assert isinstance(outcome, Unknown)
    assert simulator.calls("POST /v3/charges") == before + 1


@pytest.mark.parametrize("fault", LOST_ANSWERS, ids=str)
async def test_a_charge_whose_answer_was_lost_is_found_by_its_reference(
    gateway: Flutterwave, simulator: Simulator, fault: dict[str, Any]
) -> None:
    request = a_charge()
    simulator.fail(match="POST /v3/charges", **fault)
    assert isinstance(await gateway.charge(request), Unknown)
    simulator.be_good()
    found = await until(lambda: gateway.lookup(request.reference), lambda truth: not isinstance(truth, Missing))
    assert isinstance(found, Pending)
    assert isinstance(await gateway.charge(request), Unknown), "refused because it was done before"


async def test_a_refused_key_is_no_fault_of_the_payment(gateway: Flutterwave, simulator: Simulator) -> None:
    for status in (401, 403):
        simulator.fail(match="POST *", http_status=status)
        assert isinstance(await gateway.charge(a_charge()), Unavailable)
        assert isinstance(await gateway.open_checkout(a_checkout(PROVIDER)), Unavailable)
        simulator.be_good()


async def test_a_gateway_that_rests_is_not_asked_and_says_so(gateway: Flutterwave, simulator: Simulator) -> None:
    assert not gateway.is_resting()
    simulator.fail(match="*", http_status=500)
    for _ in range(5):
        await gateway.charge(a_charge())
    assert gateway.is_resting()
    before = simulator.calls("POST /v3/charges")
    assert isinstance(await gateway.charge(a_charge()), Unavailable)
    assert simulator.calls("POST /v3/charges") == before


async def test_no_refusal_makes_it_rest(gateway: Flutterwave, simulator: Simulator) -> None:
    simulator.fail(match="*", http_status=400)
    for _ in range(10):
        await gateway.charge(a_charge())
    assert not gateway.is_resting()


async def test_a_phone_of_another_country_is_not_asked(gateway: Flutterwave, simulator: Simulator) -> None:
    before = simulator.calls("POST /v3/charges")
    for request in (a_charge(phone=PHONES["UGX"]), a_charge(phone=""), a_charge(amount=Money(50_000, "NGN"))):
        assert isinstance(await gateway.charge(request), Rejected)
    assert simulator.calls("POST /v3/charges") == before


async def test_the_fee_is_told_before_the_payment_to_the_last_fraction(
    gateway: Flutterwave, simulator: Simulator
) -> None:
    assert await gateway.fee_of(Money(20, "RWF")) == Decimal("0.58")
    assert await gateway.fee_of(Money(150_050, "KES")) == Decimal(4351)
    simulator.fail(match="GET /v3/transactions/fee", http_status=503)
    assert isinstance(await gateway.fee_of(Money(20, "RWF")), Unknown)


async def test_a_payout_goes_from_new_to_paid(gateway: Flutterwave, simulator: Simulator) -> None:
    request = a_payout()
    started = await gateway.pay_out(request)
    assert isinstance(started, GatewayPayout)
    assert started == GatewayPayout(
        payout_id=started.payout_id,
        reference=request.reference,
        amount_exact=Decimal(500_000),
        fee_exact=Decimal(500),
        status="pending",
        failure_reason="",
    )
    done = await ended(gateway, request)
    assert done.status == "succeeded"


async def test_a_payout_that_fails_says_why(gateway: Flutterwave, simulator: Simulator) -> None:
    simulator.configure(transfer_outcome="failed")
    request = a_payout(amount=Money(1_050, "KES"))
    await gateway.pay_out(request)
    done = await ended(gateway, request)
    assert done.status == "failed"
    assert "Insufficient funds" in done.failure_reason
    assert (done.amount_exact, done.fee_exact) == (Decimal(1_050), Decimal(4_500))


@pytest.mark.parametrize("fault", LOST_ANSWERS, ids=str)
async def test_a_payout_whose_answer_was_lost_is_found_and_never_made_twice(
    gateway: Flutterwave, simulator: Simulator, fault: dict[str, Any]
) -> None:
    simulator.configure(transfer_outcome="stuck")
    request = a_payout()
    simulator.fail(match="POST /v3/transfers", **fault)
    assert isinstance(await gateway.pay_out(request), Unknown)
    simulator.be_good()
    found = await until(lambda: gateway.find_payout(request.reference), lambda told: told != Missing())
    assert isinstance(found, GatewayPayout)
    assert isinstance(await gateway.pay_out(request), Unknown), "the reference was used before"


async def test_a_payout_that_nobody_made_is_missing_and_silence_is_unknown(
    gateway: Flutterwave, simulator: Simulator
) -> None:
    assert await gateway.find_payout(new_reference()) == Missing()
    simulator.fail(match="GET *", http_status=503)
    assert isinstance(await gateway.find_payout(new_reference()), Unknown)
    refused = await gateway.pay_out(a_payout(destination=CONNECTED))
    assert isinstance(refused, Rejected)


async def test_a_refused_payout_was_certainly_not_made(gateway: Flutterwave) -> None:
    request = a_payout(amount=Money(0, "UGX"))
    assert isinstance(await gateway.pay_out(request), Rejected)
    assert await gateway.find_payout(request.reference) == Missing()


async def test_a_payment_is_split_to_the_operators_account(gateway: Flutterwave, simulator: Simulator) -> None:
    asked = SubaccountRequest(
        destination=Destination(kind="bank", country="NG", bank="044", account="0690000031", name="Lagos Lines"),
        platform_percent=Decimal("2.5"),
        email="lines@example.com",
        phone="+2348000000001",
    )
    opened = await gateway.open_subaccount(asked)
    assert isinstance(opened, Subaccount)
    assert (opened.account, opened.platform_percent) == ("0690000031", Decimal("2.5"))
    known = await gateway.subaccounts()
    assert isinstance(known, list)
    assert opened in known
    request = a_checkout(
        PROVIDER,
        amount=Money(500_000, "NGN"),
        method="BANK_TRANSFER",
        shares=(Share(subaccount_id=opened.subaccount_id, amount=Money(487_500, "NGN")),),
    )
    await gateway.open_checkout(request)
    [link] = simulator.state(request.reference)["links"]
    assert link["subaccounts"] == [
        {"id": opened.subaccount_id, "transaction_charge_type": "flat_subaccount", "transaction_charge": 4875}
    ]
    simulator.fail(match="* /v3/subaccounts", http_status_after=503)
    assert isinstance(await gateway.open_subaccount(asked), Unknown)
    assert isinstance(await gateway.subaccounts(), Unknown)


async def test_a_settlement_is_told_with_every_transaction_and_fraction(
    gateway: Flutterwave, simulator: Simulator
) -> None:
    transaction = await paid(gateway, simulator, Money(20, "RWF"))
    [settlement] = simulator.settle("RWF")
    found = await gateway.settlements_between(TODAY, TODAY)
    assert isinstance(found, list)
    [told] = [one for one in found if one.settlement_id == str(settlement)]
    assert isinstance(told, GatewaySettlement)
    [line] = [line for line in told.lines if line.transaction_id == transaction]
    assert (line.gross_exact, line.fee_exact) == (Decimal(20), Decimal("0.58"))
    assert told.gross_exact == sum(line.gross_exact for line in told.lines)
    assert told.net_exact == told.gross_exact - told.fee_exact - told.refund_exact - told.chargeback_exact
    assert (told.currency, told.day, told.is_paid) == ("RWF", TODAY, True)


async def test_settlements_of_other_days_are_left_out_and_silence_is_unknown(
    gateway: Flutterwave, simulator: Simulator
) -> None:
    await paid(gateway, simulator, Money(20, "TZS"))
    simulator.settle("TZS")
    assert await gateway.settlements_between(TODAY - timedelta(days=9), TODAY - timedelta(days=2)) == []
    simulator.fail(match="GET /v3/settlements/*", http_status=503)
    assert isinstance(await gateway.settlements_between(TODAY, TODAY), Unknown)
    simulator.be_good()
    simulator.fail(match="GET /v3/settlements", http_status=401)
    assert isinstance(await gateway.settlements_between(TODAY, TODAY), Unknown)


async def test_a_settlement_may_take_more_than_it_gives(gateway: Flutterwave, simulator: Simulator) -> None:
    transaction = await paid(gateway, simulator, Money(1_000, "ZMW"))
    simulator.settle("ZMW")
    simulator.dispute(transaction)
    await paid(gateway, simulator, Money(100, "ZMW"))
    [settlement] = simulator.settle("ZMW")
    found = await gateway.settlements_between(TODAY, TODAY)
    assert isinstance(found, list)
    [told] = [one for one in found if one.settlement_id == str(settlement)]
    assert (told.chargeback_exact, told.net_exact) == (Decimal(1_000), Decimal(100) - told.fee_exact - 1_000)


async def test_a_dispute_is_told_and_can_be_accepted_twice(gateway: Flutterwave, simulator: Simulator) -> None:
    transaction = await paid(gateway, simulator, Money(150_050, "KES"))
    dispute = simulator.dispute(transaction, comment="I never travelled")
    found = await gateway.disputes_between(TODAY, TODAY)
    assert isinstance(found, list)
    [told] = [one for one in found if one.dispute_id == dispute]
    assert (told.transaction_id, told.amount, told.status) == (transaction, Money(150_050, "KES"), "open")
    assert told.reason == "I never travelled"
    assert told.answer_by is not None
    assert timedelta(hours=47) < told.answer_by - datetime.now(UTC) <= timedelta(hours=48)
    for _ in range(2):
        accepted = await gateway.answer_dispute(dispute, accept=True, comment="")
        assert isinstance(accepted, GatewayDispute)
        assert accepted.status == "accepted"
    assert isinstance(await gateway.answer_dispute(dispute, accept=False, comment="https://x.example"), Rejected)


async def test_a_dispute_is_contested_with_a_link_to_the_proof(gateway: Flutterwave, simulator: Simulator) -> None:
    transaction = await paid(gateway, simulator, Money(50_000, "UGX"))
    dispute = simulator.dispute(transaction)
    bare = await gateway.answer_dispute(dispute, accept=False, comment="They travelled.")
    assert isinstance(bare, Rejected)
    assert "prooflink" in bare.reason
    comment = "They travelled: https://kiti.example/proof/1 shows it."
    simulator.fail(match="PUT *", http_status_after=503)
    assert isinstance(await gateway.answer_dispute(dispute, accept=False, comment=comment), Unknown)
    simulator.be_good()
    contested = await gateway.answer_dispute(dispute, accept=False, comment=comment)
    assert isinstance(contested, GatewayDispute)
    assert contested.status == "open", "declined by us, undecided by the banks"
    for ending in ("won", "lost"):
        simulator.end_dispute(dispute, ending)
        found = await gateway.disputes_between(TODAY, TODAY)
        assert isinstance(found, list)
        assert [one.status for one in found if one.dispute_id == dispute] == [ending]


async def test_disputes_that_cannot_be_had_are_unknown(gateway: Flutterwave, simulator: Simulator) -> None:
    assert isinstance(await gateway.answer_dispute("../1", accept=True, comment=""), Rejected)
    assert isinstance(await gateway.answer_dispute("999999", accept=True, comment=""), Rejected)
    simulator.fail(match="* /v3/chargebacks*", http_status=503)
    assert isinstance(await gateway.disputes_between(TODAY, TODAY), Unknown)
    assert isinstance(await gateway.answer_dispute("1", accept=True, comment=""), Unknown)
