"""The gate before the gateways' APIs: it checks the bearer key or token, counts the call, and applies faults.

A request meets at most one fault. The routes behind the gate know nothing of faults.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Final
from weakref import WeakValueDictionary

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from kiti.simulator.faults import ApiFault, Lie
from kiti.simulator.machine import Machine
from kiti.simulator.v4.errors import envelope
from kiti.simulator.wire import ENCODER, NO_TRANSACTION

ID_IN_PATH: Final = re.compile(r"(?<=/)(?:\d+|[a-z]{2,4}_\w+)(?=/|$)")
V3: Final = "/v3/"
V4: Final = "/v4/"
STRIPE: Final = "/v1/"
IDENTITY_PROVIDER: Final = "/idp/"
IDEMPOTENCY_KEY: Final = re.compile(r"[A-Za-z0-9]{12,255}", re.ASCII)
BAD_REQUEST: Final = 400
SAVED_HTTP_STATUSES: Final = range(200, 300)
OUTAGE: Final = "An error occurred. Please contact support"
TOO_MANY_REQUESTS: Final = 429


class Gate:
    """ASGI: authentication, counting and faults for Flutterwave's v3, v4 and token endpoint, and for Stripe.

    All else passes through.
    """

    def __init__(self, app: ASGIApp, *, machine: Machine) -> None:
        self._app = app
        self._machine = machine
        self._keys: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or have it meet its fault."""
        if scope["type"] != ScopeType.HTTP or not scope["path"].startswith((V3, V4, IDENTITY_PROVIDER, STRIPE)):
            await self._app(scope, receive, send)
            return
        call = f"{scope['method']} {scope['path']}"
        faults = self._machine.faults
        faults.calls[ID_IN_PATH.sub("{id}", call)] += 1
        if not self._lets_in(scope["path"], dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")):
            await _answer(send, 401, _error(scope["path"], 401, "Invalid authorization key"))
            return
        fault = faults.for_call(call)
        if fault is None:
            await self._serve(scope, receive, send)
        else:
            await self._meet(fault, scope, receive, send)

    def _lets_in(self, path: str, authorization: str) -> bool:
        config = self._machine.config
        key = authorization.removeprefix("Bearer ")
        if path.startswith(IDENTITY_PROVIDER):
            return True
        if path.startswith(V4):
            return self._machine.tokens.get(key, 0.0) > time.time()
        expected = config.stripe_secret_key if path.startswith(STRIPE) else config.secret_key
        return bool(expected) and authorization == f"Bearer {expected}"

    async def _meet(self, fault: ApiFault, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(fault.latency_ms / 1000)
        if fault.drop_connection_before:
            await _hang_up(send)
        elif fault.http_status is not None:
            await _answer(send, fault.http_status, _outage(scope["path"], fault.http_status))
        elif fault.not_found:
            gone = 404 if scope["path"].startswith((V4, STRIPE)) else self._machine.config.not_found_http_status
            await _answer(send, gone, _error(scope["path"], gone, NO_TRANSACTION))
        else:
            status, body = await _collected(self._serve, scope, receive)
            await _answer_badly(fault, scope["path"], send, status, body)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request have its effect; a POST of v4 under a known key has had it, and is answered as before."""
        key = dict(scope["headers"]).get(b"x-idempotency-key", b"").decode("latin-1")
        if not scope["path"].startswith(V4) or scope.get("method") != "POST" or not key:
            await self._app(scope, receive, send)
            return
        if IDEMPOTENCY_KEY.fullmatch(key) is None:
            await _answer(send, BAD_REQUEST, _error(V4, BAD_REQUEST, "X-Idempotency-Key is invalid"))
            return
        # Two at once: the second waits for the first one's answer.
        lock = self._keys.setdefault(key, asyncio.Lock())
        async with lock:
            await self._serve_once(key, scope, receive, send)

    async def _serve_once(self, key: str, scope: Scope, receive: Receive, send: Send) -> None:
        store = self._machine.store
        kept = store.one("SELECT status, body FROM v4_answer WHERE key = ?", key)
        if kept is not None:
            await _answer(send, kept["status"], kept["body"].encode(), ((b"x-idempotency-cache-hit", b"true"),))
            return
        status, body = await _collected(self._app, scope, receive)
        if status in SAVED_HTTP_STATUSES:
            store.run(
                "INSERT INTO v4_answer (key, status, body, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                *(key, status, body.decode(), time.time()),
            )
        await _answer(send, status, body)


async def _collected(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[int, bytes]:
    """Let the application answer, and keep the answer."""
    status = 500
    body = bytearray()

    async def keep(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            body.extend(message["body"])

    await app(scope, receive, keep)
    return status, bytes(body)


async def _answer_badly(fault: ApiFault, path: str, send: Send, status: int, body: bytes) -> None:
    """Answer with the fault, now that the effect has happened."""
    if fault.drop_connection_after:
        await _hang_up(send)
    elif fault.http_status_after is not None:
        error = _outage(path, fault.http_status_after)
        await _answer(send, fault.http_status_after, error)
    elif fault.malformed:
        await _answer(send, status, body[: len(body) // 2])
    elif fault.lie is not None:
        await _answer(send, status, _falsified(body, fault.lie))
    else:
        await _answer(send, status, body)


async def _answer(send: Send, status: int, body: bytes, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    headers = [
        *more,
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


def _falsified(body: bytes, lie: Lie) -> bytes:
    envelope = msgspec.json.decode(body)
    match envelope.get("data"):
        case dict(data):
            envelope["data"] = lie.told_about(data)
        case list(rows):
            envelope["data"] = [lie.told_about(row) for row in rows]
        case _ if "object" in envelope:
            envelope = lie.told_about(envelope)
        case _:
            return body
    return ENCODER.encode(envelope)


def _error(path: str, http_status: int, message: str) -> bytes:
    """A refusal in the words of the gateway that was asked."""
    if path.startswith(STRIPE):
        return ENCODER.encode({"error": {"type": "api_error", "message": message}})
    if path.startswith(V4):
        return ENCODER.encode(envelope(http_status, message))
    return ENCODER.encode({"status": "error", "message": message, "data": None})


def _outage(path: str, http_status: int) -> bytes:
    return _error(path, http_status, "Too many requests" if http_status == TOO_MANY_REQUESTS else OUTAGE)
