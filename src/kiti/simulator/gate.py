"""The gate before `/v3` (Flutterwave) and `/v1` (Stripe): it checks the bearer key, counts calls, applies faults.

A request meets at most one fault. The routes behind the gate know nothing of faults.
"""

import asyncio
import re
from typing import Final

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from kiti.simulator.faults import ApiFault, Lie
from kiti.simulator.machine import Machine
from kiti.simulator.wire import ENCODER, NO_TRANSACTION

ID_IN_PATH: Final = re.compile(r"(?<=/)(?:\d+|[a-z]{2,4}_\w+)(?=/|$)")
FLUTTERWAVE: Final = "/v3/"
STRIPE: Final = "/v1/"
OUTAGE: Final = "An error occurred. Please contact support"
TOO_MANY_REQUESTS: Final = 429


class Gate:
    """ASGI: authentication, counting and faults for the gateways' APIs; everything else passes through."""

    def __init__(self, app: ASGIApp, *, machine: Machine) -> None:
        self._app = app
        self._machine = machine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or have it meet its fault."""
        if scope["type"] != ScopeType.HTTP or not scope["path"].startswith((FLUTTERWAVE, STRIPE)):
            await self._app(scope, receive, send)
            return
        call = f"{scope['method']} {scope['path']}"
        faults, config = self._machine.faults, self._machine.config
        faults.calls[ID_IN_PATH.sub("{id}", call)] += 1
        key = config.stripe_secret_key if scope["path"].startswith(STRIPE) else config.secret_key
        if not key or dict(scope["headers"]).get(b"authorization") != f"Bearer {key}".encode():
            await _answer(send, 401, _error(scope, "Invalid authorization key"))
            return
        fault = faults.for_call(call)
        if fault is None:
            await self._app(scope, receive, send)
        else:
            await self._meet(fault, scope, receive, send)

    async def _meet(self, fault: ApiFault, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(fault.latency_ms / 1000)
        if fault.drop_connection_before:
            await _hang_up(send)
        elif fault.http_status is not None:
            await _answer(send, fault.http_status, _error(scope, _outage_message(fault.http_status)))
        elif fault.not_found:
            status = 404 if scope["path"].startswith(STRIPE) else self._machine.config.not_found_http_status
            await _answer(send, status, _error(scope, NO_TRANSACTION))
        else:
            status, body = await self._run(scope, receive)
            await _answer_badly(fault, scope, send, status, body)

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


async def _answer_badly(fault: ApiFault, scope: Scope, send: Send, status: int, body: bytes) -> None:
    """Answer with the fault, now that the effect has happened."""
    if fault.drop_connection_after:
        await _hang_up(send)
    elif fault.http_status_after is not None:
        error = _error(scope, _outage_message(fault.http_status_after))
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


def _error(scope: Scope, message: str) -> bytes:
    if scope["path"].startswith(STRIPE):
        return ENCODER.encode({"error": {"type": "api_error", "message": message}})
    return ENCODER.encode({"status": "error", "message": message, "data": None})


def _outage_message(status: int) -> str:
    return "Too many requests" if status == TOO_MANY_REQUESTS else OUTAGE
