"""`Idempotency-Key` on every call that changes something, before the framework sees it.

A reservation stores its answer in its own transaction (`express`). Everything else takes its key first, is answered by
the framework, and leaves the answer under the key before the caller hears it. Webhooks and jobs have their own rules.
"""

from collections.abc import Callable
from urllib.parse import parse_qsl

from kiti.api import problems
from kiti.api.asgi import Application, Body, Message, Receive, Scope, Send, answer, header, read, refuse
from kiti.core.errors import InvalidInput
from kiti.flows import idempotency
from kiti.flows.house import House
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

        async def keep(message: Message) -> None:
            messages.append(message)

        try:
            await self._framework(scope, body.replay(receive), keep)
        except BaseException:
            await idempotency.give_up(self._house(), key, lock)
            raise
        status = int(messages[0]["status"])
        if is_repeatable(status):
            media_type = (header(messages[0]["headers"], b"content-type") or b"").decode()
            whole = b"".join(message.get("body", b"") for message in messages[1:])
            await idempotency.finish(self._house(), key, lock, status=status, media_type=media_type, body=whole)
        else:
            await idempotency.give_up(self._house(), key, lock)
        for message in messages:
            await send(message)


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
