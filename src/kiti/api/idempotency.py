"""`Idempotency-Key` on every call that changes something, before the framework sees it.

A reservation stores its answer in its own transaction (`express`). Everything else takes its key first, is answered by
the framework, and leaves the answer under the key before the caller hears it; what could not be repeated leaves it in
its own transaction (`keeping`). Webhooks and jobs have their own rules.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec
from litestar import Request

from kiti.api import problems
from kiti.api.asgi import JSON, Application, Body, Message, Receive, Scope, Send, answer, header, read, refuse
from kiti.core.errors import InvalidInput
from kiti.db import Transaction
from kiti.flows import idempotency
from kiti.flows.house import House
from kiti.flows.idempotency import Done, Keep
from kiti.flows.sign_in import account_of_token
from kiti.idempotency.model import Key, Lock, Stored, key_of

HEADER = b"idempotency-key"
METHODS = {"POST", "PUT", "PATCH", "DELETE"}
# Who logs in sends a password and hears a token: neither is kept, and nobody may try passwords past the count.
EXEMPT = ("/api/payments/webhook/", "/api/jobs/", "/api/auth/")
LONGEST_BODY_BYTES = 64 * 1024
# Those that would be the same if the same were asked again. Never 409, 429 or 5xx: there a retry may fare better.
REPEATABLE_ERRORS = {400, 402, 404, 405, 413, 415, 422}
OK, NOT_OK = 200, 300
_REPLAYED = (b"idempotency-replayed", b"true")
_ONCE = "kiti.once"


class _Once(msgspec.Struct):
    """A request that has its key; `told` is the answer that its verb has put into its transaction."""

    key: Key
    lock: Lock
    told: bytes | None = None


class Idempotency:
    """Wraps the framework's application. `house` gives the house once the application has started."""

    def __init__(self, framework: Application, house: Callable[[], House]) -> None:
        self._framework = framework
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI 3 application."""
        if not _concerns(scope):
            return await self._framework(scope, receive, send)
        body = await read(scope, receive, most_bytes=LONGEST_BODY_BYTES)
        if not body.whole:  # the framework tells what is wrong with it, and does nothing
            return await self._framework(scope, body.replay(receive), send)
        try:
            key = key_for(scope, body.data, self._house())
            taken = await idempotency.begin(self._house(), key)
        except Exception as error:  # noqa: BLE001 - the table of problems answers every error, bugs included
            return await refuse(send, problems.of_any(error, path=scope["path"], method=scope["method"]))
        if isinstance(taken, Stored):
            return await replay(send, taken)
        return await self._answer_once(key, taken, scope, body, receive, send)

    async def _answer_once(self, key: Key, lock: Lock, scope: Scope, body: Body, receive: Receive, send: Send) -> None:
        messages: list[Message] = []
        once = scope[_ONCE] = _Once(key, lock)

        async def keep(message: Message) -> None:
            messages.append(message)

        try:
            await self._framework(scope, body.replay(receive), keep)
        except BaseException:
            await idempotency.give_up(self._house(), key, lock)
            raise
        status = int(messages[0]["status"])
        if once.told is not None and OK <= status < NOT_OK:
            return await answer(send, OK, once.told, (JSON,))
        # An error may have come before the commit of what was told, or after it: the key knows.
        stored = None if once.told is None else await idempotency.answer_of(self._house(), key)
        if stored is not None:
            return await replay(send, stored)
        await self._leave(once, status, messages)
        for message in messages:
            await send(message)
        return None

    async def _leave(self, once: _Once, status: int, messages: list[Message]) -> None:
        """Keep the framework's answer for retries, or let them try anew."""
        if is_repeatable(status):
            media_type = (header(messages[0]["headers"], b"content-type") or b"").decode()
            whole = b"".join(message.get("body", b"") for message in messages[1:])
            await idempotency.finish(
                self._house(), once.key, once.lock, status=status, media_type=media_type, body=whole
            )
        else:
            await idempotency.give_up(self._house(), once.key, once.lock)


def keeping(
    request: Request[Any, Any, Any], render: Callable[[Transaction, Done], Awaitable[Any]]
) -> Keep[Done] | None:
    """What leaves the answer under the request's key in the transaction of its verb; None without a key.

    `render` makes the answer, a 200, of what the verb has done. It asks the transaction and nobody else.
    """
    once = cast("MutableMapping[str, Any]", request.scope).get(_ONCE)
    if once is None:
        return None

    async def keep(tx: Transaction, done: Done) -> None:
        told = msgspec.json.encode(await render(tx, done))
        media_type = JSON[1].decode()
        await idempotency.keep_within(tx, once.key, once.lock, status=OK, media_type=media_type, body=told)
        once.told = told

    return keep


def key_for(scope: Scope, body: bytes, house: House) -> Key:
    """The request's key; raises InvalidInput for one that is malformed."""
    given = header(scope["headers"], HEADER) or b""
    try:
        return key_of(
            caller=_caller(scope, house),
            method=scope["method"],
            path=scope["path"],
            key=given.decode("latin-1"),
            body=body,
        )
    except ValueError as error:
        raise InvalidInput("Idempotency-Key", str(error)) from error


def _caller(scope: Scope, house: House) -> str:
    """Whose key it is: staff by their account, for their tokens change; others by what gives them the right."""
    credentials = (header(scope["headers"], b"authorization") or b"").decode("latin-1")
    scheme, _, token = credentials.partition(" ")
    account = account_of_token(house, token=token.strip()) if scheme.lower() == "bearer" else None
    if account is not None:
        return f"staff {account}"
    tokens = [value for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if name == "token"]
    return "\n".join([credentials, *tokens])


def is_repeatable(status: int) -> bool:
    """Whether a retry should hear this answer again."""
    return OK <= status < NOT_OK or status in REPEATABLE_ERRORS


async def replay(send: Send, stored: Stored) -> None:
    """Give the stored answer again."""
    assert stored.status is not None, "an answer that is not there yet"
    await answer(send, stored.status, stored.body, ((b"content-type", stored.media_type.encode()), _REPLAYED))


def _concerns(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] in METHODS
        and scope["path"].startswith("/api/")
        and not scope["path"].startswith(EXEMPT)
        and header(scope["headers"], HEADER) is not None
    )
