"""What the contract is run against: each provider's adapter with its end of the simulator.

A new adapter is one more entry of PROVIDERS; what only that provider does has a test file of its own.
"""

import base64
import hashlib
import hmac
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import httpx

from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.gateways.flutterwave import Flutterwave
from kiti.gateways.flutterwave_v4 import FlutterwaveV4
from kiti.gateways.gateway import Authorised, Authorising, Captured, CheckoutRequest, Gateway, Method
from kiti.gateways.stripe import Stripe
from kiti.simulator.stripe.signing import signature

TIMEOUT_SECONDS = 2.0
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

    def settle(self, currency: str) -> list[int]:
        return list(self.post("/_sim/settle", {"currency": currency})["settlement_ids"])

    def dispute(self, transaction: str, **order: Any) -> str:
        return str(self.post("/_sim/chargebacks", {"transaction_id": int(transaction), **order})["id"])

    def end_dispute(self, dispute: str, status: str) -> None:
        self.post(f"/_sim/chargebacks/{dispute}", {"status": status})

    def state(self, reference: str) -> dict[str, Any]:
        answer = self._client.get("/_sim/state", params={"tx_ref": reference}).raise_for_status()
        return dict(answer.json())

    def calls(self, call: str) -> int:
        return int(self.state("nothing")["calls"].get(call, 0))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return dict(self._client.post(path, json=body).raise_for_status().json())


class Provider(Protocol):
    """One gateway: its adapter, and how the simulator is made to do there what the contract is about."""

    method: Method
    # As the simulator counts calls and matches faults.
    open_call: str
    refund_call: str
    refund_fault: str
    unknown_transaction: str
    unknown_refund: str
    unknown_page: str
    amounts: Sequence[Money]

    def adapter(self, simulator: Simulator, *, url: str = "") -> Gateway:
        """An adapter that speaks to the simulator, or to `url`."""

    async def pay(self, simulator: Simulator, gateway: Gateway, reference: str) -> str:
        """Have the money taken; the gateway's transaction."""

    def keep_refunds_waiting(self, simulator: Simulator) -> None:
        """Refunds stay as they are until `end_refund`."""

    def end_refund(self, simulator: Simulator, refund_id: str, *, well: bool) -> None:
        """Pay a refund out, or have it fail."""

    def deliveries(self, simulator: Simulator, reference: str) -> list[Delivery]:
        """The webhooks about a payment so far: headers and body."""


class AnyFlutterwave(Provider):
    """What both versions have in common: the simulator keeps one memory for them, and each has its own words for it."""

    amounts = (Money(150_050, "KES"), Money(50_000, "UGX"), Money(12_345, "XOF"))
    unknown_page = "http://127.0.0.1/pay/none"
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

    def end_refund(self, simulator: Simulator, refund_id: str, *, well: bool) -> None:
        state = {"status": "completed-momo"} if well else {"disburse_status": "failed"}
        simulator.set_refund(refund_id, **state)

    def deliveries(self, simulator: Simulator, reference: str) -> list[Delivery]:
        bodies = [json.dumps(row["body"]).encode() for row in simulator.state(reference)["deliveries"]]
        return [({**self.proof(simulator, body), "content-type": "application/json"}, body) for body in bodies]


class FlutterwaveV3Checkout(AnyFlutterwave):
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

    def end_refund(self, simulator: Simulator, refund_id: str, *, well: bool) -> None:
        simulator.post(f"/_sim/stripe/refunds/{refund_id}", {"status": "succeeded" if well else "failed"})

    def deliveries(self, simulator: Simulator, reference: str) -> list[Delivery]:
        bodies = [
            json.dumps(event).encode()
            for event in simulator.state(reference)["stripe"]["events"]
            if event["type"].startswith(("payment_intent.", "checkout.session."))
        ]
        return [
            ({"stripe-signature": signature(body, secret=simulator.stripe_webhook_secret)}, body) for body in bodies
        ]


FLUTTERWAVES: Mapping[str, AnyFlutterwave] = {
    "flutterwave": FlutterwaveV3Checkout(),
    "flutterwave_v4": FlutterwaveV4Checkout(),
}
PROVIDERS: Mapping[str, Provider] = {**FLUTTERWAVES, "stripe": StripeCheckout()}


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
