"""What the contract is run against: each provider's adapter with its end of the simulator.

A new adapter is one more entry of PROVIDERS; what only that provider does has a test file of its own.
"""

import base64
import hashlib
import hmac
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import httpx
import pytest
from tests.contract.drawer import Drawer

from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.flows.cash import OpenTill
from kiti.gateways.cash import Cash
from kiti.gateways.flutterwave import Flutterwave
from kiti.gateways.flutterwave_v4 import FlutterwaveV4
from kiti.gateways.gateway import (
    Authorised,
    Authorising,
    Captured,
    CheckoutRequest,
    Destination,
    Gateway,
    Method,
    RefundRequest,
)
from kiti.gateways.stripe import Stripe
from kiti.simulator.stripe.signing import signature

TIMEOUT_SECONDS = 2.0
MOBILE = Destination(kind="mobile_money", country="UG", bank="MTN", account="+256772000001", name="Pearl Coaches")
CONNECTED = Destination(kind="connected", country="UG", bank="", account="acct_1Operator", name="Pearl Coaches")
NOWHERE = Destination(kind="bank", country="", bank="", account="", name="")
NOT_DECLARED = "the gateway does not declare this"
Delivery = tuple[dict[str, str], bytes]


class Simulator:
    """A running simulator. Amounts are as the provider speaks them."""

    secret_key = "FLWSECK_TEST-contract"
    webhook_hash = "contract-webhook-hash"
    stripe_secret_key = "sk_test_contract"
    stripe_webhook_secret = "whsec_contract"
    v4_client_id = "contract-client"
    v4_client_secret = "contract-client-secret"
    v4_webhook_secret = "contract-v4-webhook-secret"

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.url = str(client.base_url).rstrip("/")

    def be_good(self) -> None:
        self._client.delete("/_sim/faults").raise_for_status()
        self.configure(
            fee_bearer="merchant",
            refund_outcome="paid",
            refund_delay_seconds=0.0,
            not_found_http_status=400,
            transfer_outcome="successful",
            transfer_delay_seconds=0.0,
            v4_next_action="payment_instruction",
            v4_token_seconds=600.0,
        )

    def fail(self, **fault: Any) -> None:
        self.post("/_sim/faults", {"api": fault})

    def configure(self, **changes: Any) -> None:
        self.post("/_sim/config", changes)

    def pay(self, reference: str, action: str = "pay", **options: Any) -> list[str]:
        told = self.post("/_sim/pay", {"tx_ref": reference, "action": action, **options})
        return [str(identity) for identity in told["transaction_ids"]]

    def set_refund(self, refund_id: str, **state: Any) -> None:
        self.post(f"/_sim/refunds/{refund_id.rpartition('_')[2]}", state)

    def set_transfer(self, payout_id: str, **state: Any) -> None:
        self.post(f"/_sim/transfers/{payout_id.rpartition('_')[2]}", state)

    def revoke_tokens(self) -> None:
        self.post("/_sim/v4/revoke-tokens", {})

    def state(self, reference: str | None) -> dict[str, Any]:
        asked = {} if reference is None else {"tx_ref": reference}
        answer = self._client.get("/_sim/state", params=asked).raise_for_status()
        return dict(answer.json())

    def calls(self, call: str) -> int:
        return int(self.state("nothing")["calls"].get(call, 0))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return dict(self._client.post(path, json=body).raise_for_status().json())


class Provider(Protocol):
    """One gateway: its adapter, and how the simulator is made to do there what the contract is about.

    What is below `keep_payouts_waiting` is asked only of gateways that declare the verbs.
    """

    # Whether the gateway asks a database of ours, and not a simulator.
    keeps_books: bool = False
    method: Method
    # As the simulator counts calls and matches faults.
    open_call: str
    refund_call: str
    refund_fault: str
    unknown_transaction: str
    unknown_refund: str
    unknown_page: str
    amounts: Sequence[Money]

    # Where payouts can go, where they cannot, and whether they may be under way for a while.
    destination: Destination = NOWHERE
    wrong_destination: Destination | None = None
    payouts_wait: bool = False
    payout_call: str = ""
    # The calls that list settlements and disputes, and what quotes fees, as faults match them.
    settlements_fault: str = ""
    disputes_fault: str = ""
    unknown_dispute: str = ""
    fees_fault: str = ""
    capture_fault: str = ""

    def adapter(self, simulator: Simulator, *, url: str = "") -> Gateway:
        """An adapter that speaks to the simulator, or to `url`."""

    async def expect_refund(self, asked: RefundRequest) -> None:
        """Do what a flow has done before it asks for a refund; where the gateway has its own books, nothing."""
        del asked

    async def pay(self, simulator: Simulator, gateway: Gateway, reference: str) -> str:
        """Have the money taken; the gateway's transaction."""

    def keep_refunds_waiting(self, simulator: Simulator) -> None:
        """Refunds stay as they are until `end_refund`."""
        del simulator

    async def end_refund(self, simulator: Simulator, refund_id: str, *, well: bool) -> None:
        """Pay a refund out, or have it fail."""

    def deliveries(self, simulator: Simulator, reference: str) -> list[Delivery]:
        """The webhooks about a payment so far: headers and body."""

    def keep_payouts_waiting(self, simulator: Simulator) -> None:
        """Payouts stay as they are until `end_payout`; nothing to do where they never wait."""
        del simulator

    def end_payout(self, simulator: Simulator, payout_id: str, *, well: bool) -> None:
        """Have a payout arrive, or fail; nothing to do where what is sent has arrived."""
        del simulator, payout_id, well

    def payouts_made(self, simulator: Simulator, reference: str) -> int:
        """How many payouts of our reference the gateway has."""
        raise AssertionError(NOT_DECLARED, simulator, reference)

    def settle(self, simulator: Simulator, currency: str) -> str:
        """Pay out what was taken in a currency and not paid out yet; the settlement."""
        raise AssertionError(NOT_DECLARED, simulator, currency)

    def dispute(self, simulator: Simulator, transaction: str) -> str:
        """Have a traveller's bank want all of it back; the dispute."""
        raise AssertionError(NOT_DECLARED, simulator, transaction)

    def end_dispute(self, simulator: Simulator, dispute: str, status: Literal["won", "lost"]) -> None:
        """Have the banks decide."""
        raise AssertionError(NOT_DECLARED, simulator, dispute, status)


class AnyFlutterwave(Provider):
    """What both versions have in common: the simulator keeps one memory for them, and each has its own words for it."""

    amounts = (Money(150_050, "KES"), Money(50_000, "UGX"), Money(12_345, "XOF"))
    unknown_page = "http://127.0.0.1/pay/none"
    destination = MOBILE
    payouts_wait = True
    # Which prefix the simulator's ids have here, and which version settles.
    version: Literal["v3", "v4"]
    # What lists transactions, and what lists refunds.
    charges_call: str
    refunds_call: str

    def identity(self, transaction: str) -> str:
        """The simulator's transaction, as this version calls it."""
        return transaction

    @abstractmethod
    def proof(self, simulator: Simulator, body: bytes) -> dict[str, str]:
        """The header that makes a webhook authentic."""

    async def pay(self, simulator: Simulator, gateway: Gateway, reference: str) -> str:  # noqa: ARG002 - one step here
        [transaction] = simulator.pay(reference)
        return self.identity(transaction)

    def keep_refunds_waiting(self, simulator: Simulator) -> None:
        simulator.configure(refund_outcome="stuck")

    async def end_refund(self, simulator: Simulator, refund_id: str, *, well: bool) -> None:
        state = {"status": "completed-momo"} if well else {"disburse_status": "failed"}
        simulator.set_refund(refund_id, **state)

    def deliveries(self, simulator: Simulator, reference: str) -> list[Delivery]:
        bodies = [json.dumps(row["body"]).encode() for row in simulator.state(reference)["deliveries"]]
        return [({**self.proof(simulator, body), "content-type": "application/json"}, body) for body in bodies]

    def keep_payouts_waiting(self, simulator: Simulator) -> None:
        simulator.configure(transfer_outcome="stuck")

    def end_payout(self, simulator: Simulator, payout_id: str, *, well: bool) -> None:
        failed = {"status": "FAILED", "complete_message": "Insufficient funds"}
        simulator.set_transfer(payout_id, **({"status": "SUCCESSFUL"} if well else failed))

    def payouts_made(self, simulator: Simulator, reference: str) -> int:
        return sum(row["reference"] == reference for row in simulator.state(None)["transfers"])

    def settle(self, simulator: Simulator, currency: str) -> str:
        [settlement] = simulator.post("/_sim/settle", {"currency": currency, "version": self.version})["settlement_ids"]
        return self.name_of("stm", settlement)

    def dispute(self, simulator: Simulator, transaction: str) -> str:
        order = {"transaction_id": int(transaction.rpartition("_")[2]), "comment": "I never travelled"}
        return self.name_of("cbk", simulator.post("/_sim/chargebacks", order)["id"])

    def end_dispute(self, simulator: Simulator, dispute: str, status: Literal["won", "lost"]) -> None:
        simulator.post(f"/_sim/chargebacks/{dispute.rpartition('_')[2]}", {"status": status})

    def name_of(self, kind: str, number: int) -> str:
        """The simulator's row, as this version calls it."""
        return str(number) if self.version == "v3" else f"{kind}_{number}"


class FlutterwaveV3Checkout(AnyFlutterwave):
    version = "v3"
    wrong_destination = CONNECTED
    payout_call = "POST /v3/transfers"
    settlements_fault = "GET /v3/settlements*"
    disputes_fault = "* /v3/chargebacks*"
    unknown_dispute = "999999"
    fees_fault = "GET /v3/transactions/fee"
    method = "MOBILE_MONEY"
    open_call = "POST /v3/payments"
    refund_call = "POST /v3/transactions/{id}/refund"
    refund_fault = "POST *refund"
    unknown_transaction = "999"
    unknown_refund = "1"
    charges_call = "GET /v3/transactions"
    refunds_call = "GET /v3/refunds"

    def adapter(self, simulator: Simulator, *, url: str = "") -> Flutterwave:
        return Flutterwave(
            base_url=f"{url or simulator.url}/v3",
            secret_key=simulator.secret_key,
            webhook_hash=simulator.webhook_hash,
            timeout_seconds=TIMEOUT_SECONDS,
        )

    def proof(self, simulator: Simulator, body: bytes) -> dict[str, str]:  # noqa: ARG002 - v3 signs nothing
        return {"verif-hash": simulator.webhook_hash}


class FlutterwaveV4Checkout(AnyFlutterwave):
    version = "v4"
    wrong_destination = None
    payout_call = "POST /v4/direct-transfers"
    settlements_fault = "GET /v4/settlements*"
    disputes_fault = "* /v4/chargebacks*"
    unknown_dispute = "cbk_999999"
    method = "CARD"
    open_call = "POST /v4/checkout/sessions"
    refund_call = "POST /v4/refunds"
    refund_fault = "POST /v4/refunds"
    unknown_transaction = "chg_999"
    unknown_refund = "rfd_1"
    charges_call = "GET /v4/charges"
    refunds_call = "GET /v4/refunds"

    def adapter(self, simulator: Simulator, *, url: str = "") -> FlutterwaveV4:
        base = url or simulator.url
        return FlutterwaveV4(
            base_url=f"{base}/v4",
            token_url=f"{base}/idp/realms/flutterwave/protocol/openid-connect/token",
            client_id=simulator.v4_client_id,
            client_secret=simulator.v4_client_secret,
            webhook_secret=simulator.v4_webhook_secret,
            timeout_seconds=TIMEOUT_SECONDS,
        )

    def identity(self, transaction: str) -> str:
        return f"chg_{transaction}"

    def proof(self, simulator: Simulator, body: bytes) -> dict[str, str]:
        digest = hmac.digest(simulator.v4_webhook_secret.encode(), body, hashlib.sha256)
        return {"flutterwave-signature": base64.b64encode(digest).decode()}


class StripeCheckout(Provider):
    destination = CONNECTED
    wrong_destination = MOBILE
    payouts_wait = False
    payout_call = "POST /v1/transfers"
    settlements_fault = "GET /v1/payouts"
    disputes_fault = "* /v1/disputes*"
    unknown_dispute = "du_unknown"
    capture_fault = "POST *capture"
    method = "CARD"
    open_call = "POST /v1/checkout/sessions"
    refund_call = "POST /v1/refunds"
    refund_fault = "POST /v1/refunds"
    unknown_transaction = "pi_unknown"
    unknown_refund = "re_unknown"
    unknown_page = "http://127.0.0.1/c/pay/cs_test_none"
    amounts = (Money(150_050, "KES"), Money(50_000, "UGX"), Money(12_345, "XOF"), Money(70, "RWF"), Money(99, "USD"))

    def adapter(self, simulator: Simulator, *, url: str = "") -> Stripe:
        return Stripe(
            base_url=url or simulator.url,
            secret_key=simulator.stripe_secret_key,
            webhook_secret=simulator.stripe_webhook_secret,
            timeout_seconds=TIMEOUT_SECONDS,
        )

    async def pay(self, simulator: Simulator, gateway: Gateway, reference: str) -> str:
        """Authorise on the page, then capture: what the flows do with a gateway that is Authorising."""
        [transaction] = simulator.pay(reference)
        assert isinstance(gateway, Authorising)
        authorised = await gateway.verify(transaction)
        assert isinstance(authorised, Authorised)
        captured = await gateway.capture(transaction, reference=reference, amount=authorised.amount)
        assert isinstance(captured, Captured)
        return transaction

    def keep_refunds_waiting(self, simulator: Simulator) -> None:
        simulator.configure(refund_outcome="stuck")

    async def end_refund(self, simulator: Simulator, refund_id: str, *, well: bool) -> None:
        simulator.post(f"/_sim/stripe/refunds/{refund_id}", {"status": "succeeded" if well else "failed"})

    def payouts_made(self, simulator: Simulator, reference: str) -> int:
        return len(simulator.state(reference)["stripe"]["transfers"])

    def settle(self, simulator: Simulator, currency: str) -> str:
        [payout] = simulator.post("/_sim/stripe/settle", {"currency": currency})["payout_ids"]
        return str(payout)

    def dispute(self, simulator: Simulator, transaction: str) -> str:
        return str(simulator.post("/_sim/stripe/disputes", {"payment_intent": transaction})["id"])

    def end_dispute(self, simulator: Simulator, dispute: str, status: Literal["won", "lost"]) -> None:
        simulator.post(f"/_sim/stripe/disputes/{dispute}", {"status": status})

    def deliveries(self, simulator: Simulator, reference: str) -> list[Delivery]:
        bodies = [
            json.dumps(event).encode()
            for event in simulator.state(reference)["stripe"]["events"]
            if event["type"].startswith(("payment_intent.", "checkout.session."))
        ]
        return [
            ({"stripe-signature": signature(body, secret=simulator.stripe_webhook_secret)}, body) for body in bodies
        ]


class Counter(Provider):
    """Cash: no simulator, but the receipts in a database, written as the flows write them."""

    keeps_books = True
    method = "CASH"
    open_call = "nothing"
    refund_call = "nothing"
    refund_fault = "nothing"
    unknown_transaction = "0192f0c1-7a7e-7cc3-9d0e-3f2f6f1b2a10"
    unknown_refund = unknown_transaction
    unknown_page = ""
    amounts = (Money(150_050, "KES"), Money(50_000, "UGX"), Money(12_345, "XOF"))
    _drawer: Drawer

    def open(self, drawer: Drawer) -> None:
        """Have this counter write into a database."""
        self._drawer = drawer

    def adapter(self, simulator: Simulator, *, url: str = "") -> Cash:
        del simulator, url
        return Cash(OpenTill(self._drawer.db))

    async def pay(self, simulator: Simulator, gateway: Gateway, reference: str) -> str:
        del simulator, gateway
        return await self._drawer.take(reference, Money(50_000, "UGX"))

    async def expect_refund(self, asked: RefundRequest) -> None:
        await self._drawer.owe(asked)

    async def end_refund(self, simulator: Simulator, refund_id: str, *, well: bool) -> None:
        del simulator
        assert well, "a counter has the money or hands nothing out"
        await self._drawer.hand_out(refund_id)

    def deliveries(self, simulator: Simulator, reference: str) -> list[Delivery]:
        del simulator, reference
        return []


FLUTTERWAVES: Mapping[str, AnyFlutterwave] = {
    "flutterwave": FlutterwaveV3Checkout(),
    "flutterwave_v4": FlutterwaveV4Checkout(),
}
PROVIDERS: Mapping[str, Provider] = {**FLUTTERWAVES, "stripe": StripeCheckout(), "cash": Counter()}


def able(gateway: object, verbs: Any) -> Any:
    """The gateway, if it declares these verbs; else there is nothing to show."""
    if not isinstance(gateway, verbs):
        pytest.skip(f"declares no {verbs.__name__}")
    return gateway


def new_reference() -> str:
    return str(new_id())


def a_checkout(provider: Provider, **changes: Any) -> CheckoutRequest:
    asked: dict[str, Any] = {
        "reference": new_reference(),
        "amount": Money(50_000, "UGX"),
        "method": provider.method,
        "customer_email": "asha@example.org",
        "customer_name": "Asha Nabirye",
        "customer_phone": "+256700000001",
        "return_url": "https://kiti.example/return",
        "session_minutes": 15,
        "description": "Kampala to Mbarara",
    }
    return CheckoutRequest(**{**asked, **changes})
