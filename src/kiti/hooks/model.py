"""Endpoints, events, deliveries, and when a delivery is tried again. Pure; `docs/states.md` is drawn from TRANSITIONS.

Wire format: Standard Webhooks, https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import random
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec
from standardwebhooks import Webhook

# What an endpoint may be told of.
EventType = Literal[
    "booking.confirmed",
    "booking.changed",
    "booking.cancelled",
    "booking.expired",
    "payment.captured",
    "payment.failed",
    "payment.review",
    "refund.requested",
    "refund.succeeded",
    "refund.failed",
    "ticket.used",
    "trip.cancelled",
    "settlement.paid",
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
# What is sent to try an endpoint out, whatever it listens to.
TEST = "endpoint.test"
VERSION = 1

State = Literal["pending", "sending", "delivered", "failed"]
TRANSITIONS: dict[State, tuple[State, ...]] = {
    "pending": ("sending",),
    "sending": ("delivered", "pending", "failed"),
    "delivered": (),
    "failed": (),
}

MINUTE, HOUR = 60, 3600
# The specification's: at once, then after so many seconds; three days and a bit in all.
WAITS_SECONDS = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
MAX_ATTEMPTS = len(WAITS_SECONDS) + 1
# Each wait is up to this much longer, so that what failed together does not come back together.
JITTER = 0.1
LONGEST_RETRY_AFTER_SECONDS = 24 * HOUR
# For how long an endpoint that is too busy is left alone altogether.
LONGEST_REST_SECONDS = HOUR
# Longer than any attempt may take: after that whoever took it has died.
LEASE_SECONDS = 60
FAILING_DAYS = 5
KEEP_DAYS = 30

SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 - not a secret, the beginning of all of them
USUAL_OVERLAP_HOURS = 24
LONGEST_OVERLAP_HOURS = 7 * 24
MOST_PER_OWNER = 20

GONE = 410
BUSY = {429, 503}
OK = range(200, 300)
# What is said of a payment or a refund as a whole, whoever has a part in it.
WHOLE = frozenset({"amount", "reason"})


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a booking: `detail` goes beside what is told of every booking. With `trip` it is about that alone."""

    type: EventType
    booking: UUID
    trip: UUID | None = None
    detail: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A URL of somebody, and what it is told. `operator` is a code; None: of the platform, told of all operators."""

    id: UUID
    operator_id: UUID | None
    operator: str | None
    url: str
    description: str
    event_types: Sequence[str]
    created_at: datetime
    previous_until: datetime | None
    failing_since: datetime | None
    rests_until: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    now: datetime

    @property
    def standing(self) -> str:
        """In a word: disabled, failing, resting or well."""
        if self.disabled_at is not None:
            return "disabled"
        if self.failing_since is not None:
            return "failing"
        return "resting" if self.rests_until is not None and self.rests_until > self.now else "well"


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as who sends to it needs it; secrets as they are stored."""

    id: UUID
    operator: str | None
    url: str
    secret: bytes
    previous_secret: bytes | None
    is_failing: bool


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One that was taken to be sent, with the event that it tells of."""

    subject_id: UUID
    event_id: UUID
    round: int
    attempts: int
    type: str
    created_at: datetime
    is_shared: bool
    data: dict[str, Any]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as the log shows it."""

    subject_id: UUID
    event_id: UUID
    endpoint_id: UUID
    round: int
    type: str
    happened_at: datetime
    is_shared: bool
    data: dict[str, Any]
    state: State
    attempts: int
    act_after: datetime | None
    attempted_at: datetime | None
    status: int | None
    reason: str | None
    snippet: str | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of an attempt; `wait_seconds` until the next one, where it is pending again.

    `is_gone`: they never want to hear from us again. `rest_seconds`: they have asked to be left alone for so long.
    """

    delivery: Delivery
    state: Literal["delivered", "pending", "failed"]
    status: int | None = None
    reason: str | None = None
    snippet: str | None = None
    wait_seconds: int | None = None
    is_gone: bool = False
    rest_seconds: int | None = None


def new_secret() -> str:
    """A fresh secret as integrators are given it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def body_of(
    *, type_: str, created_at: datetime, is_shared: bool, data: Mapping[str, Any], operator: str | None
) -> bytes:
    """The body that is sent: the same bytes whenever it is made."""
    moment = created_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    seen = seen_by(operator, data, is_shared=is_shared)
    return msgspec.json.encode({"type": type_, "version": VERSION, "timestamp": moment, "data": seen})


def headers_of(*, event: UUID, body: bytes, keys: Sequence[str], now: datetime) -> dict[str, str]:
    """Who we are and that we are it: a signature by each key, the newest first."""
    moment = now.astimezone(UTC)
    signatures = [Webhook(key).sign(msg_id=str(event), timestamp=moment, data=body.decode()) for key in keys]
    return {
        "Content-Type": "application/json",
        "User-Agent": "Kiti-Webhooks/1",
        "webhook-id": str(event),
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def seen_by(operator: str | None, data: Mapping[str, Any], *, is_shared: bool) -> dict[str, Any]:
    """What of an event an operator (its code) may know: its own trips, and no amount that others have a part in.

    Why something happened to money may name all of it, in the gateway's words or ours, so that is not told either.
    """
    if operator is None or "trips" not in data:
        return dict(data)
    own = [trip for trip in data["trips"] if trip["operator"] == operator]
    seen = {**data, "trips": own, "amount": sum(trip["amount"] for trip in own)}
    if is_shared:
        for name, part in seen.items():
            if isinstance(part, dict) and "amount" in part:
                seen[name] = {**part, **dict.fromkeys(WHOLE & part.keys())}
    return seen


def answered(delivery: Delivery, *, status: int, snippet: str, retry_after_seconds: int | None) -> Outcome:
    """They have answered: any 2xx is delivered, 410 is never again, all else is tried again while it may be."""
    if status in OK:
        return Outcome(delivery=delivery, state="delivered", status=status, snippet=snippet)
    reason = f"HTTP {status}"
    if status == GONE:
        return Outcome(delivery=delivery, state="failed", status=status, reason=reason, snippet=snippet, is_gone=True)
    asked = None
    if status in BUSY and retry_after_seconds is not None:
        asked = min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS)
    outcome = _again(delivery, reason=reason, status=status, snippet=snippet, at_least_seconds=asked or 0)
    return outcome if asked is None else msgspec.structs.replace(outcome, rest_seconds=min(asked, LONGEST_REST_SECONDS))


def not_answered(delivery: Delivery, *, reason: str) -> Outcome:
    """They have not: they may have it or not, and are told again."""
    return _again(delivery, reason=reason)


def wait_seconds(attempts: int, *, jitter: float) -> int:
    """How long to wait after so many attempts; `jitter` from 0 to 1."""
    return round(WAITS_SECONDS[attempts - 1] * (1 + JITTER * jitter))


def _again(
    delivery: Delivery,
    *,
    reason: str,
    status: int | None = None,
    snippet: str | None = None,
    at_least_seconds: int = 0,
) -> Outcome:
    # A test is for somebody who looks at it now.
    if delivery.attempts >= MAX_ATTEMPTS or delivery.type == TEST:
        return Outcome(delivery=delivery, state="failed", status=status, reason=reason, snippet=snippet)
    wait = wait_seconds(delivery.attempts, jitter=random.random())  # noqa: S311 - spreads load, keeps no secret
    return Outcome(
        delivery=delivery,
        state="pending",
        status=status,
        reason=reason,
        snippet=snippet,
        wait_seconds=max(wait, at_least_seconds),
    )
