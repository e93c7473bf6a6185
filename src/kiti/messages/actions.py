"""Writing messages: queue them with the change that they tell of, take them to be sent, say what became of them."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.messages.model import LEASE_SECONDS, MAX_DOUBTS, Channel, Event, Message, NewMessage, Outcome

sql = load("kiti.messages")

SENDER_DIED = "Whoever sent it died before saying whether it went out."
REASON_LENGTH = 300


async def enqueue(
    tx: Transaction,
    *,
    booking: UUID,
    event: Event,
    recipients: Mapping[Channel, str],
    language: str,
    subject: UUID | None = None,
    data: Mapping[str, str | int] | None = None,
) -> None:
    """Tell recipients of one event, each at most once; an empty recipient is nobody."""
    await enqueue_many(
        tx,
        new=[
            NewMessage(
                booking=booking,
                event=event,
                channel=channel,
                recipient=recipient,
                language=language,
                subject=subject,
                data=data or {},
            )
            for channel, recipient in recipients.items()
            if recipient
        ],
    )


async def enqueue_many(tx: Transaction, *, new: Sequence[NewMessage]) -> None:
    """Queue messages of many bookings with one statement, that nobody waits for; none for none."""
    if not new:
        return
    await tx.send(
        sql.enqueue,
        bookings=[message.booking for message in new],
        ids=[new_id() for _ in new],
        events=[message.key for message in new],
        channels=[message.channel for message in new],
        recipients=[message.recipient for message in new],
        languages=[message.language for message in new],
        data=[msgspec.json.encode(message.data) for message in new],
    )


async def take(tx: Transaction, *, limit: int) -> list[Message]:
    """Up to `limit` messages that are due, for the caller alone to send within LEASE_SECONDS."""
    return await tx.many(sql.take, Message, limit=limit, lease_seconds=LEASE_SECONDS)


async def recover(tx: Transaction, *, limit: int) -> int:
    """Queue again, or park, up to `limit` messages whose sender has died; how many."""
    return await tx.execute(sql.recover, limit=limit, max_doubts=MAX_DOUBTS, reason=SENDER_DIED)


async def finish(tx: Transaction, *, outcomes: Sequence[Outcome]) -> int:
    """Write down what became of attempts; how many of them were still the callers' to tell of."""
    return await tx.execute(
        sql.finish,
        bookings=[outcome.message.booking_id for outcome in outcomes],
        ids=[outcome.message.id for outcome in outcomes],
        attempts=[outcome.message.attempts for outcome in outcomes],
        states=[outcome.state for outcome in outcomes],
        waits_seconds=[outcome.wait_seconds for outcome in outcomes],
        provider_ids=[outcome.provider_id for outcome in outcomes],
        reasons=[outcome.reason and outcome.reason[:REASON_LENGTH] for outcome in outcomes],
        doubts=[int(outcome.is_doubtful) for outcome in outcomes],
    )


async def queue_again(tx: Transaction, *, booking: UUID, message: UUID, attempts: int) -> bool:
    """Queue a message that is parked after so many attempts; False where it is not, or not any more."""
    return await tx.execute(sql.queue_again, booking=booking, id=message, attempts=attempts) == 1
