"""Disputes (chargebacks), their states and transitions. `docs/states.md` is drawn from TRANSITIONS."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

DisputeState = Literal["open", "won", "lost", "accepted"]
Answer = Literal["accept", "contest"]
AnswerState = Literal["submitting", "sent", "refused"]

TRANSITIONS: dict[DisputeState, tuple[DisputeState, ...]] = {
    "open": ("won", "lost", "accepted"),
    "won": (),
    "lost": (),
    "accepted": (),
}

# The traveller has the money back, and we have not.
GONE: frozenset[DisputeState] = frozenset({"lost", "accepted"})
# So many hours before the last moment staff are reminded, each time once.
REMIND_HOURS = (48, 24, 6)


class NewDispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute to be written down; `reserved` is the part of the amount that was not refunded before."""

    booking: UUID
    id: UUID
    gateway: str
    dispute_id: str
    transaction_id: str
    amount: int
    currency: str
    reserved: int
    reason: str
    answer_by: datetime | None
    attention: str


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as it stands; `attempts` counts how often the gateway was asked to take an answer."""

    booking_id: UUID
    id: UUID
    gateway: str
    dispute_id: str
    transaction_id: str
    amount: int
    currency: str
    reserved: int
    state: DisputeState
    reason: str
    answer_by: datetime | None
    opened_at: datetime
    ended_at: datetime | None
    answer: Answer | None
    answer_state: AnswerState | None
    answer_comment: str
    answer_failure: str
    attempts: int
    act_after: datetime | None
    attention: str
    reminders: int
    now: datetime

    @property
    def can_be_answered(self) -> bool:
        """Whether a person may say now what is to be done."""
        return self.state == "open" and self.answer_state in {None, "refused"}

    @property
    def hours_left(self) -> float | None:
        """Until the last moment for an answer; below zero once it has passed, None where there is none."""
        return None if self.answer_by is None else (self.answer_by - self.now).total_seconds() / 3600

    @property
    def reminders_due(self) -> int:
        """How many reminders should have gone out by now."""
        left = self.hours_left
        if not self.can_be_answered or left is None:
            return 0
        return sum(left <= hours for hours in REMIND_HOURS)


class DisputeLine(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as a line of the office, with the booking's reference."""

    dispute: Dispute
    reference: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a dispute's history."""

    at: datetime
    actor: str
    from_state: str
    to_state: str
    reason: str
