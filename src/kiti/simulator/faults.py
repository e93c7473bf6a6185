"""Faults on demand, and the gate that applies them to `/v3`.

The gate stands before the routes: it checks the bearer key, counts the call, and gives at most one
fault to a request. The routes behind it know nothing of faults.
"""

import asyncio
import re
from collections import Counter
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeVar

import msgspec
from litestar.types import ASGIApp, Message, Receive, Scope, Send

VERIFY_ONLY: Final = "GET /v3/transactions/*verify*"
NUMBER_IN_PATH: Final = re.compile(r"(?<=/)\d+(?=/|$)")
OUTAGE: Final = "An error occurred. Please contact support"
TOO_MANY_REQUESTS: Final = 429
ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class Lie(msgspec.Struct, forbid_unknown_fields=True):
    """Fields to say instead of the truth; amounts in major units."""

    amount: float | None = None
    currency: str | None = None
    tx_ref: str | None = None
    status: str | None = None

    def told_about(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the data with the lie in it."""
        return data | {k: v for k, v in msgspec.structs.asdict(self).items() if v is not None}


class ApiFault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong with a request to `/v3`.

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
        return fnmatchcase(call, VERIFY_ONLY if narrow else self.match)


class WebhookFault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong with a webhook.

    `match` is `charge`, `refund`, `transfer` or `*`. `duplicate` sends so many copies more.
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


class Gate:
    """ASGI: authentication, counting and faults for `/v3`; everything else passes through."""

    def __init__(
        self, app: ASGIApp, *, faults: Faults, secret_key: str, not_found_http_status: Any
    ) -> None:
        self._app = app
        self._faults = faults
        self._bearer = f"Bearer {secret_key}".encode()
        self._not_found_http_status = not_found_http_status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or have it meet its fault."""
        if scope["type"] != "http" or not scope["path"].startswith("/v3/"):
            await self._app(scope, receive, send)
            return
        call = f"{scope['method']} {scope['path']}"
        self._faults.calls[NUMBER_IN_PATH.sub("{id}", call)] += 1
        if dict(scope["headers"]).get(b"authorization") != self._bearer:
            await _answer(send, 401, _error("Invalid authorization key"))
            return
        fault = self._faults.for_call(call)
        if fault is None:
            await self._app(scope, receive, send)
        else:
            await self._meet(fault, scope, receive, send)

    async def _meet(self, fault: ApiFault, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(fault.latency_ms / 1000)
        if fault.drop_connection_before:
            await _hang_up(send)
        elif fault.http_status is not None:
            await _answer(send, fault.http_status, _error(_outage_message(fault.http_status)))
        elif fault.not_found:
            status = self._not_found_http_status()
            await _answer(send, status, _error("No transaction was found for this id"))
        else:
            status, body = await self._run(scope, receive)
            await _answer_badly(fault, send, status, body)

    async def _run(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        status = 500
        body = bytearray()

        async def keep(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                body.extend(message["body"])

        await self._app(scope, receive, keep)
        return status, bytes(body)


async def _answer_badly(fault: ApiFault, send: Send, status: int, body: bytes) -> None:
    """Answer with the fault, now that the effect has happened."""
    if fault.drop_connection_after:
        await _hang_up(send)
    elif fault.http_status_after is not None:
        error = _error(_outage_message(fault.http_status_after))
        await _answer(send, fault.http_status_after, error)
    elif fault.malformed:
        await _answer(send, status, body[: len(body) // 2])
    elif fault.lie is not None:
        await _answer(send, status, _falsified(body, fault.lie))
    else:
        await _answer(send, status, body)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _hang_up(send: Send) -> None:
    """Close the connection in mid-answer: the server does so when a body stays short."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"4096")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


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


def _falsified(body: bytes, lie: Lie) -> bytes:
    envelope = msgspec.json.decode(body)
    match envelope["data"]:
        case dict(data):
            envelope["data"] = lie.told_about(data)
        case list(rows):
            envelope["data"] = [lie.told_about(row) for row in rows]
        case _:
            return body
    return ENCODER.encode(envelope)


def _error(message: str) -> bytes:
    return ENCODER.encode({"status": "error", "message": message, "data": None})


def _outage_message(status: int) -> str:
    return "Too many requests" if status == TOO_MANY_REQUESTS else OUTAGE
