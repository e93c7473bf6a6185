"""Faults on demand: what they are and which one comes next."""

from collections import Counter
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeVar

import msgspec

VERIFY_ONLY: Final = ("GET /v3/transactions/*verify*", "GET /v4/charges*")


class Lie(msgspec.Struct, forbid_unknown_fields=True):
    """Fields to say instead of the truth; amounts in major units."""

    amount: float | None = None
    currency: str | None = None
    tx_ref: str | None = None
    status: str | None = None

    def told_about(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the data with the lie in it."""
        told = {k: v for k, v in msgspec.structs.asdict(self).items() if v is not None}
        if "reference" in data and "tx_ref" in told:
            told["reference"] = told.pop("tx_ref")
        return data | told


class ApiFault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong with a request to `/v3`, `/v4` or the token endpoint (Flutterwave), or to `/v1` (Stripe).

    `match` is a glob over `"METHOD /v3/path"`. `http_status` answers without any effect,
    `http_status_after` lets the effect happen first (Flutterwave's 503 after 28 s), and so do
    `drop_connection_before` and `drop_connection_after`: the connection closes in mid-answer.
    `malformed` cuts the answer's JSON in half. `lie` rewrites `data`; `not_found` answers as for an
    unknown transaction. These two meet only the verify calls, unless `match` says otherwise.
    """

    match: str = "*"
    times: int | None = None
    latency_ms: int = 0
    http_status: int | None = None
    http_status_after: int | None = None
    drop_connection_before: bool = False
    drop_connection_after: bool = False
    malformed: bool = False
    lie: Lie | None = None
    not_found: bool = False

    def meets(self, call: str) -> bool:
        """Whether the fault is meant for this `"METHOD /path"`."""
        narrow = self.match == "*" and (self.lie is not None or self.not_found)
        return any(fnmatchcase(call, pattern) for pattern in (VERIFY_ONLY if narrow else (self.match,)))


class WebhookFault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong with a webhook.

    `match` is `charge`, `refund`, `transfer`, `dispute` or `*`. `duplicate` sends so many copies more.
    `reorder` holds webhooks until so many are there, then sends them last first; after
    `hold_seconds` they go out anyway. `drop` never sends. `lie` changes what the webhook says while
    verify tells the truth. `shape` is `event` or `legacy` (flat charges, wrapped transfers).
    `verif_hash` signs with another secret.
    """

    match: str = "*"
    times: int | None = None
    duplicate: int = 0
    delay_ms: int = 0
    reorder: int = 0
    hold_seconds: float = 5.0
    drop: bool = False
    lie: Lie | None = None
    shape: Literal["event", "legacy"] = "event"
    verif_hash: str | None = None

    def meets(self, kind: str) -> bool:
        """Whether the fault is meant for webhooks of this kind."""
        return self.match in {"*", kind}


Fault = TypeVar("Fault", ApiFault, WebhookFault)


class Faults:
    """The faults that wait for a request or a webhook, and the count of calls."""

    def __init__(self) -> None:
        self.api: list[ApiFault] = []
        self.webhooks: list[WebhookFault] = []
        self.calls: Counter[str] = Counter()

    def for_call(self, call: str) -> ApiFault | None:
        """Take the first fault that meets the call, and count it down."""
        return _take(self.api, call)

    def for_webhook(self, kind: str) -> WebhookFault | None:
        """Take the first fault that meets the kind of webhook, and count it down."""
        return _take(self.webhooks, kind)

    def clear(self) -> None:
        """Forget every fault; the call counts stay."""
        self.api.clear()
        self.webhooks.clear()


def _take(faults: list[Fault], subject: str) -> Fault | None:
    for fault in faults:
        if not fault.meets(subject):
            continue
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                faults.remove(fault)
        return fault
    return None
