"""Writing hooks: tell of events, look after endpoints, take deliveries to be sent, say what became of them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from kiti.core import encryption
from kiti.core.errors import KitiError, NotFound
from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.hooks.model import (
    FAILING_DAYS,
    KEEP_DAYS,
    LEASE_SECONDS,
    MAX_ATTEMPTS,
    MOST_PER_OWNER,
    TEST,
    Announcement,
    Delivery,
    EventType,
    Listener,
    Outcome,
    new_secret,
)
from kiti.hooks.reads import LABEL, NO_SUCH_ENDPOINT

sql = load("kiti.hooks")

SENDER_DIED = "Whoever sent it died before saying what was answered."
REASON_LENGTH = 300


class TooManyEndpoints(KitiError):
    """An operator, or the platform, has as many endpoints as one may have."""


class OnItsWay(KitiError):
    """The event is being delivered to this endpoint already, or was never told to it."""


class _Number(msgspec.Struct, frozen=True):
    number: int


class _Round(msgspec.Struct, frozen=True):
    round: int


async def announce(tx: Transaction, *, announcements: Sequence[Announcement]) -> None:
    """Tell of events of bookings, as these stand now, whoever listens. One statement, that nobody waits for."""
    if not announcements:
        return
    await tx.send(
        sql.announce,
        ids=[new_id() for _ in announcements],
        bookings=[one.booking for one in announcements],
        types=[one.type for one in announcements],
        trips=[one.trip for one in announcements],
        details=[msgspec.json.encode(one.detail) for one in announcements],
    )


async def announce_of_operator(
    tx: Transaction, *, type_: EventType, subject: UUID, operator: UUID, data: dict[str, Any]
) -> None:
    """Tell of an event that belongs to one operator and to no booking."""
    await tx.send(
        sql.announce_of_operator,
        id=new_id(),
        type=type_,
        subject=subject,
        operator=operator,
        data=msgspec.json.encode(data).decode(),
    )


async def announce_test(tx: Transaction, *, endpoint: UUID) -> UUID:
    """Tell an endpoint that it is one; the event's id."""
    event = new_id()
    await tx.execute(sql.announce_test, id=event, endpoint=endpoint, type=TEST)
    return event


async def add(
    tx: Transaction, *, operator: UUID | None, url: str, description: str, event_types: Sequence[str], secret: str
) -> tuple[UUID, str]:
    """Make an endpoint: its id, and the secret, which nobody can be shown again. Raises TooManyEndpoints."""
    await tx.execute(sql.serialise_making)
    if (await tx.one(sql.number_of_owner, _Number, operator=operator)).number >= MOST_PER_OWNER:
        raise TooManyEndpoints(f"There are {MOST_PER_OWNER} endpoints already. Disable one first.")
    endpoint, key = new_id(), new_secret()
    await tx.execute(
        sql.add,
        id=endpoint,
        operator=operator,
        url=url,
        description=description,
        event_types=list(event_types),
        secret=_sealed(key, endpoint, secret),
    )
    return endpoint, key


async def rotate(tx: Transaction, *, endpoint: UUID, overlap_hours: int, secret: str) -> str:
    """A new secret; the one before signs too for so many hours, the one before that no more. Raises NotFound."""
    key = new_secret()
    changed = await tx.execute(
        sql.rotate, endpoint=endpoint, overlap_hours=overlap_hours, secret=_sealed(key, endpoint, secret)
    )
    if changed != 1:
        raise NotFound(NO_SUCH_ENDPOINT)
    return key


async def disable(tx: Transaction, *, endpoint: UUID, reason: str) -> bool:
    """Tell it nothing any more; whether it was told things until now."""
    return await tx.execute(sql.disable, endpoint=endpoint, reason=reason) == 1


async def enable(tx: Transaction, *, endpoint: UUID) -> bool:
    """Tell it things again, those first that were not delivered; whether it was disabled."""
    return await tx.execute(sql.enable, endpoint=endpoint) == 1


async def take(tx: Transaction, *, endpoint: UUID, at_once: int) -> tuple[Listener, list[Delivery]] | None:
    """What is due for an endpoint, for the caller alone to send within LEASE_SECONDS; None: it is told nothing now.

    However many take at once, no more than `at_once` are under way to it, and one to an endpoint that fails.
    """
    listener = await tx.maybe(sql.lock_listener, Listener, endpoint=endpoint)
    if listener is None:
        return None
    bound = 1 if listener.is_failing else at_once
    taken = await tx.many(sql.take, Delivery, endpoint=endpoint, at_once=bound, lease_seconds=LEASE_SECONDS)
    return listener, taken


async def recover(tx: Transaction, *, limit: int) -> int:
    """Make up to `limit` deliveries pending again whose sender has died; how many."""
    return await tx.execute(sql.recover, limit=limit, max_attempts=MAX_ATTEMPTS, reason=SENDER_DIED)


async def finish(tx: Transaction, *, endpoint: UUID, outcomes: Sequence[Outcome]) -> int:
    """Write down what became of attempts; how many of them were still the caller's to tell of."""
    told = await tx.execute(
        sql.finish,
        endpoint=endpoint,
        subjects=[outcome.delivery.subject_id for outcome in outcomes],
        events=[outcome.delivery.event_id for outcome in outcomes],
        rounds=[outcome.delivery.round for outcome in outcomes],
        attempts=[outcome.delivery.attempts for outcome in outcomes],
        states=[outcome.state for outcome in outcomes],
        waits_seconds=[outcome.wait_seconds for outcome in outcomes],
        statuses=[outcome.status for outcome in outcomes],
        reasons=[outcome.reason and outcome.reason[:REASON_LENGTH] for outcome in outcomes],
        snippets=[outcome.snippet for outcome in outcomes],
    )
    rest_seconds = max((outcome.rest_seconds or 0 for outcome in outcomes), default=0)
    if rest_seconds:
        await tx.execute(sql.rest, endpoint=endpoint, seconds=rest_seconds)
    return told


async def judge(tx: Transaction, *, endpoint: UUID, outcomes: Sequence[Outcome]) -> str | None:
    """Note whether an endpoint answers; why it is disabled now, if it is: it said so, or has failed for days."""
    if any(outcome.is_gone for outcome in outcomes):
        reason = "It answered 410 Gone."
        return reason if await disable(tx, endpoint=endpoint, reason=reason) else None
    if any(outcome.state == "delivered" for outcome in outcomes):
        await tx.execute(sql.note_success, endpoint=endpoint)
        return None
    if not any(outcome.rest_seconds is None for outcome in outcomes):
        return None  # whoever says when to come back is there
    await tx.execute(sql.note_failure, endpoint=endpoint)
    reason = f"Nothing could be delivered for {FAILING_DAYS} days."
    disabled = await tx.execute(sql.disable_failing, endpoint=endpoint, days=FAILING_DAYS, reason=reason)
    return reason if disabled else None


async def replay(tx: Transaction, *, endpoint: UUID, event: UUID) -> int:
    """Deliver an event once more, under the same id; the round. Raises OnItsWay."""
    made = await tx.maybe(sql.replay, _Round, endpoint=endpoint, event=event)
    if made is None:
        raise OnItsWay("This event is on its way to the endpoint, or was never meant for it.")
    return made.round


async def replay_failed(tx: Transaction, *, endpoint: UUID, limit: int) -> int:
    """The same for up to `limit` events that could not be delivered, the oldest first; how many."""
    return await tx.execute(sql.replay_failed, endpoint=endpoint, limit=limit)


async def forget(tx: Transaction, *, limit: int) -> int:
    """Delete up to `limit` events older than KEEP_DAYS with their deliveries; how many."""
    return await tx.execute(sql.forget, limit=limit, keep_days=KEEP_DAYS)


def _sealed(key: str, endpoint: UUID, secret: str) -> bytes:
    return encryption.encrypt(key.encode(), label=LABEL, bound_to=endpoint.bytes, secret=secret)
