"""What the contract is run against: each adapter, and the simulator's control API."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import httpx
import msgspec

from kiti.core.money import Money
from kiti.gateways.flutterwave import Flutterwave
from kiti.gateways.flutterwave_v4 import FlutterwaveV4
from kiti.gateways.gateway import CheckoutRequest, Gateway

TIMEOUT_SECONDS = 2.0


class Simulator:
    """A running simulator. Amounts are in major units, as it speaks them."""

    secret_key = "FLWSECK_TEST-contract"
    webhook_hash = "contract-webhook-hash"
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
        self._post("/_sim/faults", {"api": fault})

    def configure(self, **changes: Any) -> None:
        self._post("/_sim/config", changes)

    def pay(self, reference: str, action: str = "pay", **options: Any) -> list[str]:
        told = self._post("/_sim/pay", {"tx_ref": reference, "action": action, **options})
        return [str(identity) for identity in told["transaction_ids"]]

    def set_refund(self, refund_id: str, **state: Any) -> None:
        self._post(f"/_sim/refunds/{refund_id.rpartition('_')[2]}", state)

    def set_transfer(self, payout_id: str, **state: Any) -> None:
        self._post(f"/_sim/transfers/{payout_id.rpartition('_')[2]}", state)

    def revoke_tokens(self) -> None:
        self._post("/_sim/v4/revoke-tokens", {})

    def state(self, reference: str) -> dict[str, Any]:
        answer = self._client.get("/_sim/state", params={"tx_ref": reference}).raise_for_status()
        return dict(answer.json())

    def calls(self, call: str) -> int:
        return int(self.state("nothing")["calls"].get(call, 0))

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return dict(self._client.post(path, json=body).raise_for_status().json())


def flutterwave(simulator: Simulator, *, url: str = "") -> Gateway:
    return Flutterwave(
        base_url=f"{url or simulator.url}/v3",
        secret_key=simulator.secret_key,
        webhook_hash=simulator.webhook_hash,
        timeout_seconds=TIMEOUT_SECONDS,
    )


def flutterwave_v4(simulator: Simulator, *, url: str = "") -> FlutterwaveV4:
    base = url or simulator.url
    return FlutterwaveV4(
        base_url=f"{base}/v4",
        token_url=f"{base}/idp/realms/flutterwave/protocol/openid-connect/token",
        client_id=simulator.v4_client_id,
        client_secret=simulator.v4_client_secret,
        webhook_secret=simulator.v4_webhook_secret,
        timeout_seconds=TIMEOUT_SECONDS,
    )


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter of the contract, and the words of its gateway: calls as the simulator counts them, ids, headers."""

    make: Callable[..., Gateway]
    open_page: str
    refund: str
    charges: str
    lookup: str
    refunds: str
    identity: Callable[[str], str]
    unknown: str
    unknown_refund: str
    sign: Callable[[Simulator, bytes], dict[str, str]]


SUBJECTS: Mapping[str, Subject] = {
    "flutterwave": Subject(
        make=flutterwave,
        open_page="POST /v3/payments",
        refund="POST /v3/transactions/{id}/refund",
        charges="GET /v3/transactions",
        lookup="GET /v3/transactions/verify_by_reference",
        refunds="GET /v3/refunds",
        identity=str,
        unknown="999",
        unknown_refund="1",
        sign=lambda simulator, _body: {"verif-hash": simulator.webhook_hash},
    ),
    "flutterwave_v4": Subject(
        make=flutterwave_v4,
        open_page="POST /v4/checkout/sessions",
        refund="POST /v4/refunds",
        charges="GET /v4/charges",
        lookup="GET /v4/charges",
        refunds="GET /v4/refunds",
        identity=lambda transaction: f"chg_{transaction}",
        unknown="chg_999",
        unknown_refund="rfd_1",
        sign=lambda simulator, body: {"flutterwave-signature": signature(body, simulator.v4_webhook_secret)},
    ),
}


def signature(body: bytes, secret: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()


def new_reference() -> str:
    return str(uuid4())


def a_checkout(**changes: Any) -> CheckoutRequest:
    asked: dict[str, Any] = {
        "reference": new_reference(),
        "amount": Money(50_000, "UGX"),
        "method": "CARD",
        "customer_email": "asha@example.org",
        "customer_name": "Asha Nabirye",
        "customer_phone": "+256700000001",
        "return_url": "https://kiti.example/return",
        "session_minutes": 15,
        "description": "Kampala to Mbarara",
    }
    return CheckoutRequest(**{**asked, **changes})
