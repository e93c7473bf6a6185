"""What Flutterwave can do beside hosted pages and refunds, shown against the simulator."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
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
    DirectRequest,
    GatewayPayout,
    Missing,
    PayoutRequest,
    Pending,
    Prompted,
    Rejected,
    Share,
    Subaccount,
    SubaccountRequest,
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
