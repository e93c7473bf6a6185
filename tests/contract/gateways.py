"""What the contract is run against: each adapter, and the simulator's control API."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import httpx

from kiti.core.money import Money
from kiti.gateways.flutterwave import Flutterwave
from kiti.gateways.gateway import CheckoutRequest, Gateway

TIMEOUT_SECONDS = 2.0


class Simulator:
    """A running simulator. Amounts are in major units, as it speaks them."""

    secret_key = "FLWSECK_TEST-contract"
    webhook_hash = "contract-webhook-hash"

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
        )

    def fail(self, **fault: Any) -> None:
        self._post("/_sim/faults", {"api": fault})

    def configure(self, **changes: Any) -> None:
        self._post("/_sim/config", changes)

    def pay(self, reference: str, action: str = "pay", **options: Any) -> list[str]:
        told = self._post("/_sim/pay", {"tx_ref": reference, "action": action, **options})
        return [str(identity) for identity in told["transaction_ids"]]

    def set_refund(self, refund_id: str, **state: Any) -> None:
        self._post(f"/_sim/refunds/{refund_id}", state)

    def settle(self, currency: str) -> list[int]:
        return list(self._post("/_sim/settle", {"currency": currency})["settlement_ids"])

    def dispute(self, transaction: str, **order: Any) -> str:
        return str(self._post("/_sim/chargebacks", {"transaction_id": int(transaction), **order})["id"])

    def end_dispute(self, dispute: str, status: str) -> None:
        self._post(f"/_sim/chargebacks/{dispute}", {"status": status})

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


ADAPTERS: Mapping[str, Callable[[Simulator], Gateway]] = {"flutterwave": flutterwave}


def new_reference() -> str:
    return str(uuid4())


def a_checkout(**changes: Any) -> CheckoutRequest:
    asked: dict[str, Any] = {
        "reference": new_reference(),
        "amount": Money(50_000, "UGX"),
        "method": "MOBILE_MONEY",
        "customer_email": "asha@example.org",
        "customer_name": "Asha Nabirye",
        "customer_phone": "+256700000001",
        "return_url": "https://kiti.example/return",
        "session_minutes": 15,
        "description": "Kampala to Mbarara",
    }
    return CheckoutRequest(**{**asked, **changes})
