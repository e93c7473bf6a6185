"""The express lane: the two calls that a sale hammers, answered without the framework.

Routing, dependencies and responses of the framework cost more than a reservation itself. So a plain `POST` or `GET` of
`/api/bookings/reserve` is answered here, by the same functions as there; whatever is unusual about a request (its
body does not decode, a parameter is unknown, it comes in pieces) goes on to the framework as it came, and is refused
there with all that it has to say about it. What the two calls are stands in `Reservations`, OpenAPI included.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec

from kiti.api import problems, wire
from kiti.api.bookings import hold_seats, seat_map_shape
from kiti.flows import show
from kiti.flows.house import House

PATH = "/api/bookings/reserve"
SHORT_BODY_BYTES = 16 * 1024
LONGEST_QUERY_BYTES = 512
LONGEST_STOP = 120
KEEP_MAPS = 256
NOT_MODIFIED = 304
PARAMETERS = {"tripId", "from", "to"}

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", problems.MEDIA_TYPE.encode())


class Express:
    """Wraps the framework's application. `house` gives the house once the application has started."""

    def __init__(self, framework: Application, house: Callable[[], House]) -> None:
        self._framework = framework
        self._house = house
        self._body = msgspec.json.Decoder(wire.ReserveBody)
        self._encode = msgspec.json.Encoder().encode
        # Bodies by ETag: it says all that is in one.
        self._maps: OrderedDict[str, bytes] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI 3 application."""
        if scope["type"] == "http" and scope["path"] == PATH:
            if scope["method"] == "POST":
                return await self._reserve(scope, receive, send)
            if scope["method"] == "GET":
                return await self._seats(scope, receive, send)
        return await self._framework(scope, receive, send)

    async def _reserve(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        body = message.get("body", b"")
        data = self._decode(body) if _is_whole_json(scope["headers"], len(body)) else None
        if data is None:
            return await self._framework(scope, _first(message, receive), send)
        try:
            held = self._encode(await hold_seats(self._house(), data))
        except Exception as error:  # noqa: BLE001 - the table of problems answers every error, bugs included
            return await _refuse(send, scope, error)
        return await _answer(send, 201, held, (_JSON,))

    async def _seats(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = _query(scope["query_string"])
        if query is None:
            return await self._framework(scope, receive, send)
        trip, from_code, to_code = query
        try:
            found = await show.seat_map(self._house(), trip, from_code=from_code, to_code=to_code)
        except Exception as error:  # noqa: BLE001 - as above
            return await _refuse(send, scope, error)
        headers = ((b"etag", found.etag.encode()), (b"cache-control", b"no-cache"))
        if _header(scope["headers"], b"if-none-match") == headers[0][1]:
            return await _answer(send, NOT_MODIFIED, b"", headers)
        body = self._maps.get(found.etag)
        if body is None:
            body = self._maps[found.etag] = self._encode(seat_map_shape(found))
            if len(self._maps) > KEEP_MAPS:
                self._maps.popitem(last=False)
        return await _answer(send, 200, body, (_JSON, *headers))

    def _decode(self, body: bytes) -> wire.ReserveBody | None:
        if len(body) > SHORT_BODY_BYTES:
            return None
        try:
            return self._body.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None  # the framework tells what is wrong with it


def _query(text: bytes) -> tuple[UUID, str | None, str | None] | None:
    """Trip and stops, None where the framework has to look at them."""
    if len(text) > LONGEST_QUERY_BYTES:
        return None
    try:
        pairs = parse_qsl(text.decode("ascii"), strict_parsing=True, max_num_fields=len(PARAMETERS))
        given = dict(pairs)
        if len(given) != len(pairs) or not given.keys() <= PARAMETERS:
            return None
        stops = given.get("from"), given.get("to")
        if any(stop is not None and len(stop) > LONGEST_STOP for stop in stops):
            return None
        return UUID(given["tripId"]), *stops
    except (ValueError, KeyError):
        return None


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for key, value in headers if key == name), None)


def _is_whole_json(headers: Iterable[tuple[bytes, bytes]], length: int) -> bool:
    """Whether the body is JSON, and so much of it as has come is all of it."""
    kind = declared = b""
    for name, value in headers:
        if name == b"content-type":
            kind = value
        elif name == b"content-length":
            declared = value
    return kind.startswith(b"application/json") and declared == str(length).encode()


def _first(message: Message, receive: Receive) -> Receive:
    """`message`, which was taken already, and then what comes."""
    waiting = [message]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


async def _refuse(send: Send, scope: Scope, error: Exception) -> None:
    answer = problems.of_any(error, path=scope["path"], method=scope["method"])
    more = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    await _answer(send, answer.status, answer.body, (_PROBLEM, (b"cache-control", b"no-store"), *more))


async def _answer(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    # What is not modified has a length that is not told here.
    length = () if status == NOT_MODIFIED else ((b"content-length", str(len(body)).encode()),)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})
