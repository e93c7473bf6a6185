"""A message, its states and the transitions between them. `docs/states.md` is drawn from TRANSITIONS."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, cast
from uuid import UUID

import msgspec

State = Literal["queued", "sending", "sent", "parked"]
Channel = Literal["email", "sms"]
Event = Literal["held", "paid", "failed", "ticket", "changed", "reduced", "replaced", "cancelled", "refunded"]

# sending -> queued is another attempt: it certainly did not go out, or nobody knows and once more is harmless.
# parked -> queued is a person who wants it sent once more.
TRANSITIONS: dict[State, tuple[State, ...]] = {
    "queued": ("sending",),
    "sending": ("sent", "queued", "parked"),
    "sent": (),
    "parked": ("queued",),
}

# Waits 1, 2, 4 ... minutes and then six hours: a bit more than a day in all.
MAX_ATTEMPTS = 14
FIRST_WAIT_SECONDS = 60
LONGEST_WAIT_SECONDS = 6 * 3600
# A message whose fate nobody knows may have arrived. Sending it again shows it twice, not sending it may show it
# never; the first is the smaller harm, once. After the second doubt it is parked.
MAX_DOUBTS = 2
# Longer than any attempt may take: after that whoever took it has died.
LEASE_SECONDS = 180


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be queued. `data` is what the letter needs beside the booking as it stands when it is sent.

    `subject` tells several events of one kind apart: an attempt to pay, a refund.
    """

    booking: UUID
    event: Event
    channel: Channel
    recipient: str  # an address, or a number in E.164
    language: str
    subject: UUID | None = None
    data: Mapping[str, str | int] = msgspec.field(default_factory=dict)

    @property
    def key(self) -> str:
        """The event as it is unique within the booking."""
        return self.event if self.subject is None else f"{self.event}:{self.subject}"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was taken to be sent, with what its letter says of the booking as it stands now.

    `hold_expires_at` is when an unpaid booking's seats are given up; `now` is the database's clock.
    """

    booking_id: UUID
    id: UUID
    event: str
    channel: Channel
    recipient: str
    language: str
    attempts: int
    doubts: int
    data: dict[str, str | int]
    reference: str
    booking_state: str
    currency: str
    amount: int
    contact_name: str
    hold_expires_at: datetime
    now: datetime

    @property
    def kind(self) -> Event:
        """What happened, without what it happened to."""
        return cast("Event", self.event.partition(":")[0])

    @property
    def is_holding(self) -> bool:
        """Whether the booking's seats are held and not paid."""
        return self.booking_state in {"held", "awaiting_payment"} and self.hold_expires_at > self.now


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of an attempt to send a message; `wait_seconds` until the next one, where it is queued again."""

    message: Message
    state: Literal["sent", "queued", "parked"]
    reason: str | None = None
    provider_id: str | None = None
    wait_seconds: int | None = None
    is_doubtful: bool = False


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was given up, and why."""

    booking_id: UUID
    id: UUID
    event: str
    channel: Channel
    failure_reason: str


class ParkedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was given up, as a line for whoever looks after them."""

    booking_id: UUID
    id: UUID
    reference: str
    event: str
    channel: Channel
    recipient: str
    attempts: int
    created_at: datetime
    failure_reason: str

    @property
    def kind(self) -> Event:
        """What happened, without what it happened to."""
        return cast("Event", self.event.partition(":")[0])


def sent(message: Message, *, provider_id: str) -> Outcome:
    """It has been taken over by whoever delivers it."""
    return Outcome(message=message, state="sent", provider_id=provider_id)


def hopeless(message: Message, *, reason: str) -> Outcome:
    """It cannot be sent, or should not be any more."""
    return Outcome(message=message, state="parked", reason=reason)


def not_now(message: Message, *, reason: str) -> Outcome:
    """It certainly has not been sent: try again later, ever less often."""
    if message.attempts >= MAX_ATTEMPTS:
        return hopeless(message, reason=f"Given up after {message.attempts} attempts: {reason}")
    return Outcome(message=message, state="queued", reason=reason, wait_seconds=wait_seconds(message.attempts))


def doubtful(message: Message, *, reason: str) -> Outcome:
    """Nobody knows whether it has been sent: try again, but not often."""
    if message.doubts + 1 >= MAX_DOUBTS or message.attempts >= MAX_ATTEMPTS:
        why = f"It may have arrived or not: {reason}"
        return Outcome(message=message, state="parked", reason=why, is_doubtful=True)
    seconds = wait_seconds(message.attempts)
    return Outcome(message=message, state="queued", reason=reason, wait_seconds=seconds, is_doubtful=True)


def wait_seconds(attempts: int) -> int:
    """How long to wait after so many attempts."""
    return int(min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempts - 1)))
