"""Messages that were given up, and sending one again because a person says so.

A press is at most one message: it is queued again by a guarded update that knows how often it was tried, so the
second of two presses finds nothing to do, and so does one on a page that is older than the last attempt. Attempts and
doubts are counted on: what was tried as often as may be is tried once more, and then parked again.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, get_args
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import reads as booking_reads
from kiti.core.clock import instant
from kiti.core.errors import InvalidInput, NotFound
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.office import days_of
from kiti.messages import actions as messages
from kiti.messages import reads as message_reads
from kiti.messages.model import Channel, ParkedLine

PAGE_LINES = 200
USUAL_DAYS = 30
LONGEST_DAYS = 370
LONGEST_CODE = 32
NO_SUCH_MESSAGE = "No message with this id is parked: it was sent again already, or there is none."


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which: queued on days (UTC) from `since` to `until`, by one channel, of one operator (its code); "" is any."""

    channel: Channel | Literal[""]
    operator: str
    since: date
    until: date


def filter_of(*, channel: str, operator: str, since: str, until: str) -> Filter:
    """A filter as it was typed, "" for the usual; raises InvalidInput."""
    if channel not in {"", *get_args(Channel)}:
        raise InvalidInput("channel", "There is no such channel.")
    if len(operator) > LONGEST_CODE:
        raise InvalidInput("operator", "An operator's code is shorter.")
    today = datetime.now(UTC).date()
    first, last = days_of(since, until, today=today, usual=USUAL_DAYS, longest=LONGEST_DAYS)
    return Filter(channel=channel, operator=operator, since=first, until=last)  # type: ignore[arg-type] # looked up above


async def parked_messages(
    house: House, *, wanted: Filter, operator: UUID | None, limit: int = PAGE_LINES
) -> Sequence[ParkedLine]:
    """Messages that were given up, the latest first; with `operator` those of bookings with its seats."""
    async with house.db.reader() as reader:
        return await message_reads.parked_like(
            reader,
            operator=operator,
            code=wanted.operator,
            channel=wanted.channel,
            since=instant(wanted.since, time(), timezone="UTC"),
            until=instant(wanted.until + timedelta(days=1), time(), timezone="UTC"),
            limit=limit,
        )


async def send_again(
    house: House, *, booking: UUID, message: UUID, attempts: int, operator: UUID | None, actor: str
) -> bool:
    """Queue a parked message once more; False where it is not parked any more, or was tried since: nothing happens.

    `attempts` is how often it had been tried when the person looked at it. Raises NotFound where the booking has no
    seats of `operator` (None: of whomever).
    """

    async def work(tx: Transaction) -> bool:
        operators = await booking_reads.operators_of(tx, booking=booking)
        if not operators or (operator is not None and operator not in operators):
            raise NotFound(NO_SUCH_MESSAGE)
        if not await messages.queue_again(tx, booking=booking, message=message, attempts=attempts):
            return False
        detail = {"message": str(message), "attempts": attempts}
        await audit.record(tx, events=[Event(subject=booking, actor=actor, action="message.resent", detail=detail)])
        return True

    return await house.db.run(work)


async def send_again_by_id(house: House, *, message: UUID, actor: str) -> bool:
    """The same where only its id is known: as it stands now. Raises NotFound where it is not parked."""
    async with house.db.reader() as reader:
        found = await message_reads.parked_by_id(reader, message=message)
    if found is None:
        raise NotFound(NO_SUCH_MESSAGE)
    return await send_again(
        house, booking=found.booking_id, message=message, attempts=found.attempts, operator=None, actor=actor
    )
