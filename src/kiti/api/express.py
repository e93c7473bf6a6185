"""The express lane: the two calls that a sale hammers, answered without the framework.

Routing, dependencies and responses of the framework cost more than a reservation itself. So `/api/bookings/reserve` is
answered here, by the same functions as there. What is unusual about a request (another kind of body, one that is too
long, a parameter that there is not) goes on to the framework as it came, and is refused there with all that it has to
say about it. What the two calls are stands in `Reservations`, OpenAPI included.
"""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec

from kiti.api import problems, wire
from kiti.api.asgi import JSON, NOT_MODIFIED, Application, Receive, Scope, Send, answer, header, read, refuse
from kiti.api.bookings import reservation_of, reserved_shape, seat_map_shape
from kiti.api.idempotency import HEADER, key_for, replay
from kiti.core.errors import InvalidInput, KitiError, NotFound
from kiti.flows import idempotency, show
from kiti.flows.house import House
from kiti.flows.plan import Keyed, Plan
from kiti.flows.waiting import reserve_admitted
from kiti.idempotency.model import Key, Lock, Stored

PATH = "/api/bookings/reserve"
PLACE = b"kiti-place"
LONGEST_BODY_BYTES = 64 * 1024
LONGEST_QUERY_BYTES = 512
LONGEST_STOP = 120
KEEP_MAPS = 256
PARAMETERS = {"tripId", "from", "to"}


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
        kind = header(scope["headers"], b"content-type")
        if kind is None or not kind.startswith(JSON[1]):
            return await self._framework(scope, receive, send)
        body = await read(scope, receive, most_bytes=LONGEST_BODY_BYTES)
        if not body.whole or not body.data:
            return await self._framework(scope, body.replay(receive), send)
        place = (header(scope["headers"], PLACE) or b"").decode("latin-1")
        try:
            if header(scope["headers"], HEADER) is None:
                held = await self._hold(body.data, place)
            else:
                told = await self._hold_once(key_for(scope, body.data, self._house()), body.data, place)
                if isinstance(told, Stored):
                    return await replay(send, told)
                held = told
        except Exception as error:  # noqa: BLE001 - the table of problems answers every error, bugs included
            return await refuse(send, problems.of_any(error, path=PATH, method="POST"))
        return await answer(send, 201, held, (JSON,))

    async def _hold(self, body: bytes, place: str) -> bytes:
        house = self._house()
        reserved = await reserve_admitted(house, reservation_of(self._decode(body)), place=place)
        return self._encode(reserved_shape(house, reserved.plan, reserved.reference, reserved.expires_at))

    async def _hold_once(self, key: Key, body: bytes, place: str) -> bytes | Stored:
        """The answer of this request, or of the one before it with the same key."""
        house = self._house()
        before = await idempotency.remembered(house, key, was_taken=False)
        if before is not None:
            return before

        def render(plan: Plan, reference: str, expires_at: datetime) -> bytes:
            return self._encode(reserved_shape(house, plan, reference, expires_at))

        try:
            reservation, keyed = reservation_of(self._decode(body)), Keyed(key, render)
            return (await reserve_admitted(house, reservation, place=place, keyed=keyed)).answer
        except (InvalidInput, NotFound, msgspec.DecodeError) as error:
            told = problems.of_any(error, path=PATH, method="POST")
            lock = await idempotency.begin(house, key)
            if isinstance(lock, Lock):
                media_type = problems.MEDIA_TYPE
                await idempotency.finish(house, key, lock, status=told.status, media_type=media_type, body=told.body)
            raise
        except KitiError as error:
            # The first request may have been answered meanwhile, and then these are its own seats.
            quicker = await idempotency.remembered(house, key, was_taken=False)
            if quicker is not None:
                return quicker
            if isinstance(error, idempotency.KeyInUse):
                await idempotency.make_room(house, key)
            raise

    def _decode(self, body: bytes) -> wire.ReserveBody:
        """The body; raises ValidationError for one of another shape, DecodeError for what is no JSON at all."""
        try:
            return self._body.decode(body)
        except msgspec.ValidationError:
            # The decoder stops at the first thing that does not fit; what comes behind it may be no JSON.
            try:
                msgspec.json.decode(body)
            except (ValueError, RecursionError) as error:
                raise msgspec.DecodeError(str(error)) from error
            raise

    async def _seats(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = _query(scope["query_string"])
        if query is None:
            return await self._framework(scope, receive, send)
        trip, from_code, to_code = query
        try:
            found = await show.seat_map(self._house(), trip, from_code=from_code, to_code=to_code)
        except Exception as error:  # noqa: BLE001 - as above
            return await refuse(send, problems.of_any(error, path=PATH, method="GET"))
        headers = ((b"etag", found.etag.encode()), (b"cache-control", b"no-cache"))
        if header(scope["headers"], b"if-none-match") == headers[0][1]:
            return await answer(send, NOT_MODIFIED, b"", headers)
        body = self._maps.get(found.etag)
        if body is None:
            body = self._maps[found.etag] = self._encode(seat_map_shape(found))
            if len(self._maps) > KEEP_MAPS:
                self._maps.popitem(last=False)
        return await answer(send, 200, body, (JSON, *headers))


def _query(text: bytes) -> tuple[UUID, str | None, str | None] | None:
    """Trip and stops, None where the framework has to look at them."""
    if len(text) > LONGEST_QUERY_BYTES:
        return None
    try:
        pairs = parse_qsl(text.decode("ascii"), strict_parsing=True, max_num_fields=len(PARAMETERS))
        given = dict(pairs)
        stops = given.get("from"), given.get("to")
        if len(given) != len(pairs) or not given.keys() <= PARAMETERS:
            return None
        if any(stop is not None and len(stop) > LONGEST_STOP for stop in stops):
            return None
        return UUID(given["tripId"]), *stops
    except (ValueError, KeyError):
        return None
