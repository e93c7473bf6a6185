"""Idempotency keys, before the routes: the same key and body get the same answer, another body an error.

Source: docs.stripe.com/api/idempotent_requests. What was refused for its parameters is not kept.
"""

import hashlib
import json
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send

from kiti.simulator.machine import Machine

PREFIX: Final = "/v1/"
LONGEST_KEY: Final = 255
KEPT_FROM: Final = 500


class Replay:
    """ASGI: keeps the answers to POSTs below `/v1` that carry a key; everything else passes through."""

    def __init__(self, app: ASGIApp, *, machine: Machine) -> None:
        self._app = app
        self._machine = machine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as before, or for the first time."""
        key = _key(scope)
        if key is None:
            await self._app(scope, receive, send)
            return
        body = await _whole(receive)
        digest = hashlib.sha256(f"{scope['path']}\n".encode() + body).hexdigest()
        kept = self._machine.store.one("SELECT digest, status, body FROM stripe_answer WHERE key = ?", key)
        if kept is None:
            status, answer = await self._run(scope, body)
            if status < 400 or status >= KEPT_FROM:  # noqa: PLR2004 - HTTP's classes
                self._machine.store.run(
                    "INSERT OR IGNORE INTO stripe_answer (key, digest, status, body) VALUES (?, ?, ?, ?)",
                    *(key, digest, status, answer),
                )
            await _answer(send, status, answer)
        elif kept["digest"] != digest:
            await _answer(send, 400, _reused(key))
        else:
            await _answer(send, kept["status"], bytes(kept["body"]), is_replayed=True)

    async def _run(self, scope: Scope, body: bytes) -> tuple[int, bytes]:
        status = 500
        content = bytearray()
        messages: list[HTTPReceiveMessage] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> HTTPReceiveMessage:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def keep(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                content.extend(message["body"])

        await self._app(scope, again, keep)
        return status, bytes(content)


def _key(scope: Scope) -> str | None:
    if scope["type"] != ScopeType.HTTP or scope["method"] != "POST" or not scope["path"].startswith(PREFIX):
        return None
    key = dict(scope["headers"]).get(b"idempotency-key", b"").decode("latin-1")
    return key[:LONGEST_KEY] or None


async def _whole(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message["body"]
        if not message.get("more_body"):
            return bytes(body)


def _reused(key: str) -> bytes:
    message = (
        "Keys for idempotent requests can only be used with the same parameters they were first used with."
        f" Try using a key other than '{key}' if you meant to execute a different request."
    )
    return json.dumps({"error": {"type": "idempotency_error", "message": message}}).encode()


async def _answer(send: Send, status: int, body: bytes, *, is_replayed: bool = False) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if is_replayed:
        headers.append((b"idempotent-replayed", b"true"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
