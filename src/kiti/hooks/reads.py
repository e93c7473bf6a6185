"""Reading hooks: endpoints, what is due, the log."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import msgspec

from kiti.core import encryption
from kiti.core.encryption import EncryptedOtherwise
from kiti.core.errors import NotFound
from kiti.db import Reader, load
from kiti.hooks.model import Endpoint, EventType, Listener, Record, State

sql = load("kiti.hooks")

LABEL = "webhook secret"
NO_SUCH_ENDPOINT = "There is no such endpoint."
MOST_ENDPOINTS = 200
MOST_ROUNDS = 100
LAST = UUID(int=2**128 - 1)


class Due(msgspec.Struct, frozen=True):
    """An endpoint with something to send."""

    id: UUID
    is_failing: bool


class _Id(msgspec.Struct, frozen=True):
    id: UUID


class _Sealed(msgspec.Struct, frozen=True):
    id: UUID
    secret: bytes


async def endpoint(reader: Reader, *, endpoint: UUID) -> Endpoint:
    """One of them; raises NotFound."""
    found = await reader.maybe(sql.by_id, Endpoint, endpoint=endpoint)
    if found is None:
        raise NotFound(NO_SUCH_ENDPOINT)
    return found


async def endpoints(reader: Reader, *, operator: UUID | None) -> list[Endpoint]:
    """Up to MOST_ENDPOINTS of an operator, or all for None; those that are disabled last."""
    return await reader.many(sql.endpoints, Endpoint, operator=operator, limit=MOST_ENDPOINTS)


async def listened_to(reader: Reader, *, type_: EventType) -> Callable[[], Awaitable[bool]]:
    """Ask whether any endpoint is told of such events; the answer, when called for."""
    rows = await reader.ask(sql.listened_to, _Id, type=type_)

    async def answer() -> bool:
        return bool(await rows())

    return answer


async def due(reader: Reader, *, but: Sequence[UUID], only: UUID | None, limit: int) -> list[Due]:
    """Up to `limit` endpoints with something to send now, but some, or only one; those that fail come last."""
    return await reader.many(sql.due_endpoints, Due, but=list(but), chosen=only, limit=limit)


async def log(
    reader: Reader, *, endpoint: UUID, states: Sequence[State], before: tuple[UUID, int] | None, limit: int
) -> list[Record]:
    """Deliveries to an endpoint in some states, the newest event first, after a place (event, round) in that order."""
    event, round_ = before or (LAST, 0)
    return await reader.many(
        sql.log, Record, endpoint=endpoint, states=list(states), before=event, before_round=round_, limit=limit
    )


async def rounds(reader: Reader, *, endpoint: UUID, event: UUID) -> list[Record]:
    """How often an endpoint was told of an event, the last time first; raises NotFound where it never was."""
    found = await reader.many(sql.rounds, Record, endpoint=endpoint, event=event, limit=MOST_ROUNDS)
    if not found:
        raise NotFound("The endpoint was never told of such an event, or it was more than 30 days ago.")
    return found


async def unreadable_secrets(reader: Reader, *, secret: str) -> list[UUID]:
    """Endpoints whose secret does not open with today's JWT_SECRET."""
    wrong = []
    for row in await reader.many(sql.secrets, _Sealed, limit=MOST_ENDPOINTS):
        try:
            encryption.decrypt(row.secret, label=LABEL, bound_to=row.id.bytes, secret=secret)
        except EncryptedOtherwise:
            wrong.append(row.id)
    return wrong


def keys_of(listener: Listener, *, secret: str) -> list[str]:
    """With which deliveries are signed, the newest first; raises EncryptedOtherwise."""
    sealed = [listener.secret] if listener.previous_secret is None else [listener.secret, listener.previous_secret]
    return [encryption.decrypt(one, label=LABEL, bound_to=listener.id.bytes, secret=secret).decode() for one in sealed]
