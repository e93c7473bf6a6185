"""The gate before `/v3`: it checks the bearer key, counts the call, and applies faults.

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

NUMBER_IN_PATH: Final = re.compile(r"(?<=/)\d+(?=/|$)")
OUTAGE: Final = "An error occurred. Please contact support"
TOO_MANY_REQUESTS: Final = 429


class Gate:
    """ASGI: authentication, counting and faults for `/v3`; everything else passes through."""

    def __init__(self, app: ASGIApp, *, machine: Machine) -> None:
        self._app = app
        self._machine = machine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or have it meet its fault."""
        if scope["type"] != ScopeType.HTTP or not scope["path"].startswith("/v3/"):
            await self._app(scope, receive, send)
            return
        call = f"{scope['method']} {scope['path']}"
        faults, config = self._machine.faults, self._machine.config
        faults.calls[NUMBER_IN_PATH.sub("{id}", call)] += 1
        if dict(scope["headers"]).get(b"authorization") != f"Bearer {config.secret_key}".encode():
            await _answer(send, 401, _error("Invalid authorization key"))
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
            await _answer(send, fault.http_status, _error(_outage_message(fault.http_status)))
        elif fault.not_found:
            status = self._machine.config.not_found_http_status
            await _answer(send, status, _error(NO_TRANSACTION))
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
