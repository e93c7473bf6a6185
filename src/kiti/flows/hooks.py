"""Look after webhook endpoints: make them, rotate their secrets, see what they were told, tell it once more.

Whoever may do that for an operator reaches its endpoints alone; the command line acts for the platform.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.core import text
from kiti.core.errors import InvalidInput, KitiError, NotFound
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.staff import require
from kiti.hooks import actions as hooks
from kiti.hooks import reads as hook_reads
from kiti.hooks.model import (
    EVENT_TYPES,
    LONGEST_OVERLAP_HOURS,
    USUAL_OVERLAP_HOURS,
    Endpoint,
    Record,
    State,
    body_of,
)
from kiti.people import reads as people_reads
from kiti.people.model import Permission, Staff

PERMISSION: Permission = "hooks.manage"
PAGE_LINES = 50
REPLAY_LIMIT = 1000
STATES: tuple[State, ...] = ("pending", "sending", "delivered", "failed")
BY_STAFF = "Disabled by hand."


class EndpointDisabled(KitiError):
    """The endpoint is told nothing now."""


class Made(msgspec.Struct, frozen=True):
    """A new endpoint and its secret, which is shown this once."""

    id: UUID
    secret: str


class Lines(msgspec.Struct, frozen=True):
    """Deliveries, the newest event first; `next_before` is the cursor of the page after, None if there is none."""

    records: Sequence[Record]
    next_before: tuple[UUID, int] | None


async def add_endpoint(
    house: House,
    *,
    url: str,
    event_types: Sequence[str],
    description: str = "",
    operator_code: str | None = None,
    staff: Staff | None = None,
) -> Made:
    """Make an endpoint of an operator, or of the platform; staff of an operator make their own.

    Raises InvalidInput, NotFound for an operator that is none, NotAllowed, TooManyEndpoints.
    """
    if staff is not None:
        require(staff, PERMISSION)
    house.caller.check(url)
    types = _types(event_types)
    called = text.clean(description, field="description")

    async def work(tx: Transaction) -> Made:
        operator = None if staff is None else staff.bound
        if operator_code is not None:
            operator = (await people_reads.operator_by_code(tx, code=operator_code)).id
            if staff is not None:
                require(staff, PERMISSION, operator=operator)
        endpoint, key = await hooks.add(
            tx,
            operator=operator,
            url=url,
            description=called,
            event_types=types,
            secret=house.settings.jwt_secret,
        )
        await audit.record(tx, events=[_event(endpoint, staff, "hook.added", url=url)])
        return Made(endpoint, key)

    return await house.db.run(work)


async def list_endpoints(house: House, *, staff: Staff | None = None) -> list[Endpoint]:
    """Those within reach, the disabled ones last. Raises NotAllowed."""
    if staff is not None:
        require(staff, PERMISSION)
    async with house.db.reader() as reader:
        return await hook_reads.endpoints(reader, operator=None if staff is None else staff.bound)


async def find_endpoint(house: House, *, endpoint: UUID, staff: Staff | None = None) -> Endpoint:
    """One of them; raises NotFound, NotAllowed."""
    if staff is not None:
        require(staff, PERMISSION)
    async with house.db.reader() as reader:
        found = await hook_reads.endpoint(reader, endpoint=endpoint)
    if staff is not None and staff.bound is not None and staff.bound != found.operator_id:
        # In the words for one that is not there: whose endpoint it is concerns nobody else.
        raise NotFound(hook_reads.NO_SUCH_ENDPOINT)
    return found


async def rotate_secret(
    house: House, *, endpoint: UUID, overlap_hours: int = USUAL_OVERLAP_HOURS, staff: Staff | None = None
) -> str:
    """A new secret; deliveries are signed with the one before too for some hours. Raises NotFound, InvalidInput."""
    if not 0 <= overlap_hours <= LONGEST_OVERLAP_HOURS:
        raise InvalidInput("overlap", f"The old secret is good for 0 to {LONGEST_OVERLAP_HOURS} hours more.")
    await find_endpoint(house, endpoint=endpoint, staff=staff)

    async def work(tx: Transaction) -> str:
        key = await hooks.rotate(tx, endpoint=endpoint, overlap_hours=overlap_hours, secret=house.settings.jwt_secret)
        await audit.record(tx, events=[_event(endpoint, staff, "hook.rotated", overlapHours=str(overlap_hours))])
        return key

    return await house.db.run(work)


async def disable_endpoint(house: House, *, endpoint: UUID, staff: Staff | None = None) -> None:
    """Tell it nothing any more; what was due waits. Raises NotFound, NotAllowed."""
    await find_endpoint(house, endpoint=endpoint, staff=staff)

    async def work(tx: Transaction) -> None:
        if await hooks.disable(tx, endpoint=endpoint, reason=BY_STAFF):
            await audit.record(tx, events=[_event(endpoint, staff, "hook.disabled", reason=BY_STAFF)])

    await house.db.run(work)


async def enable_endpoint(house: House, *, endpoint: UUID, staff: Staff | None = None) -> None:
    """Tell it things again, what was due first. Raises NotFound, NotAllowed."""
    await find_endpoint(house, endpoint=endpoint, staff=staff)

    async def work(tx: Transaction) -> None:
        if await hooks.enable(tx, endpoint=endpoint):
            await audit.record(tx, events=[_event(endpoint, staff, "hook.enabled")])

    await house.db.run(work)


async def try_endpoint(house: House, *, endpoint: UUID, staff: Staff | None = None) -> UUID:
    """Queue an `endpoint.test` for it, which is tried once; the event's id. Raises NotFound, EndpointDisabled."""
    await _enabled(house, endpoint, staff)
    return await house.db.run(lambda tx: hooks.announce_test(tx, endpoint=endpoint))


async def replay(house: House, *, endpoint: UUID, event: UUID, staff: Staff | None = None) -> int:
    """Deliver an event once more under its old id; the round. Raises NotFound, EndpointDisabled, OnItsWay."""
    await _enabled(house, endpoint, staff)

    async def work(tx: Transaction) -> int:
        made = await hooks.replay(tx, endpoint=endpoint, event=event)
        await audit.record(tx, events=[_event(endpoint, staff, "hook.replayed", event=str(event))])
        return made

    return await house.db.run(work)


async def replay_failed(house: House, *, endpoint: UUID, staff: Staff | None = None) -> int:
    """The same for what could not be delivered, up to REPLAY_LIMIT events at a time; how many."""
    await _enabled(house, endpoint, staff)

    async def work(tx: Transaction) -> int:
        made = await hooks.replay_failed(tx, endpoint=endpoint, limit=REPLAY_LIMIT)
        await audit.record(tx, events=[_event(endpoint, staff, "hook.replayed", events=str(made))])
        return made

    return await house.db.run(work)


async def log_of(
    house: House,
    *,
    endpoint: UUID,
    only_failed: bool = False,
    before: tuple[UUID, int] | None = None,
    limit: int = PAGE_LINES,
    staff: Staff | None = None,
) -> Lines:
    """A page of what an endpoint was told, from the cursor on. Raises NotFound, NotAllowed."""
    await find_endpoint(house, endpoint=endpoint, staff=staff)
    states: Sequence[State] = ("failed",) if only_failed else STATES
    async with house.db.reader() as reader:
        found = await hook_reads.log(reader, endpoint=endpoint, states=states, before=before, limit=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    return Lines(found[:limit], None if last is None else (last.event_id, last.round))


async def told(house: House, *, endpoint: UUID, event: UUID, staff: Staff | None = None) -> tuple[list[Record], bytes]:
    """Each round of telling an endpoint of an event, the last first, and the body. Raises NotFound, NotAllowed."""
    found = await find_endpoint(house, endpoint=endpoint, staff=staff)
    async with house.db.reader() as reader:
        rounds = await hook_reads.rounds(reader, endpoint=endpoint, event=event)
    first = rounds[0]
    body = body_of(
        type_=first.type,
        created_at=first.happened_at,
        is_shared=first.is_shared,
        data=first.data,
        operator=found.operator,
    )
    return rounds, body


async def _enabled(house: House, endpoint: UUID, staff: Staff | None) -> None:
    found = await find_endpoint(house, endpoint=endpoint, staff=staff)
    if found.disabled_at is not None:
        raise EndpointDisabled("The endpoint is disabled. Enable it first.")


def _types(chosen: Sequence[str]) -> list[str]:
    """In the order of EVENT_TYPES; raises InvalidInput."""
    unknown = set(chosen) - set(EVENT_TYPES)
    if unknown:
        raise InvalidInput("events", f"There is no event {', '.join(sorted(unknown))}.")
    if not chosen:
        raise InvalidInput("events", "Choose at least one event.")
    return [type_ for type_ in EVENT_TYPES if type_ in chosen]


def _event(endpoint: UUID, staff: Staff | None, action: str, **detail: str) -> Event:
    return Event(subject=endpoint, actor="cli" if staff is None else staff.actor, action=action, detail=detail)
