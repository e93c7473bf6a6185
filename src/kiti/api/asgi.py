"""The few words of ASGI 3 that what stands before the framework speaks.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec

from kiti.api import problems

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
NOT_MODIFIED = 304
_PROBLEM = (b"content-type", problems.MEDIA_TYPE.encode())


class Body(msgspec.Struct):
    """What has been read of a request: `whole` unless it is too long, or the caller has gone."""

    messages: Sequence[Message]
    data: bytes
    whole: bool

    def replay(self, receive: Receive) -> Receive:
        """What was read once more, and then what comes."""
        waiting = list(reversed(self.messages))

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        return again


def header(headers: Headers, name: bytes) -> bytes | None:
    """The first header of that name, which is in lower case."""
    return next((value for key, value in headers if key == name), None)


async def read(scope: Scope, receive: Receive, *, most_bytes: int) -> Body:
    """The body, unless it is longer than `most_bytes`."""
    declared = header(scope["headers"], b"content-length")
    messages: list[Message] = []
    data = b""
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return Body(messages, data, whole=False)
        data += message.get("body", b"")
        if len(data) > most_bytes:
            return Body(messages, data, whole=False)
        # Servers hand a body over in one piece, and say only with the next message that it was all.
        if not message.get("more_body") or declared == str(len(data)).encode():
            return Body(messages, data, whole=True)


async def answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """A whole response."""
    # What is not modified has a length that is not told here.
    length = () if status == NOT_MODIFIED else ((b"content-length", str(len(body)).encode()),)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, told: problems.Answer) -> None:
    """A problem document."""
    await answer(send, told.status, told.body, (_PROBLEM, (b"cache-control", b"no-store"), *encoded(told.headers)))


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
