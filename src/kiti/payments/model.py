"""Payments, charges and refunds; their states and transitions. `docs/states.md` is drawn from them."""

from datetime import date, datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import msgspec

from kiti.core.money import Money

PaymentState = Literal["submitting", "unknown", "pending", "captured", "failed", "expired", "cancelled", "review"]
RefundState = Literal["requested", "submitting", "unknown", "pending", "succeeded", "failed", "needs_attention"]
Channel = Literal["hosted", "direct"]
Purpose = Literal["fulfils", "unfulfillable", "surplus"]

OPEN: frozenset[PaymentState] = frozenset({"submitting", "unknown", "pending"})

# failed and expired may still become captured: the money that came late.
PAYMENT_TRANSITIONS: dict[PaymentState, tuple[PaymentState, ...]] = {
    "submitting": ("pending", "unknown", "captured", "failed", "expired", "cancelled", "review"),
    "unknown": ("pending", "captured", "failed", "expired", "review"),
    "pending": ("captured", "failed", "expired", "cancelled", "review"),
    "captured": (),
    "failed": ("captured", "review"),
    "expired": ("captured", "failed", "review"),
    "cancelled": ("captured", "review"),
    "review": ("captured", "failed"),
}

REFUND_TRANSITIONS: dict[RefundState, tuple[RefundState, ...]] = {
    "requested": ("submitting",),
    "submitting": ("pending", "succeeded", "failed", "unknown", "needs_attention"),
    "unknown": ("submitting", "pending", "succeeded", "failed", "needs_attention"),
    "pending": ("succeeded", "failed", "needs_attention"),
    "succeeded": (),
    "failed": ("needs_attention",),
    "needs_attention": ("submitting", "succeeded"),
}


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to pay for a booking. Its id is the reference that the gateway sees."""

    booking_id: UUID
    id: UUID
    gateway: str
    method: str
    state: PaymentState
    amount: int
    fee: int
    currency: str
    return_url: str
    checkout_url: str | None
    failure_reason: str | None
    created_at: datetime
    expires_at: datetime
    polls: int
    channel: Channel
    phone: str
    now: datetime

    @property
    def total(self) -> Money:
        """What the traveller pays: the seats and the fee on top."""
        return Money(self.amount + self.fee, self.currency)

    @property
    def is_open(self) -> bool:
        """Whether this attempt may still be paid by itself."""
        return self.state in OPEN

    @property
    def is_direct(self) -> bool:
        """Whether `phone` was asked to approve it; else it is paid on a page of the gateway's."""
        return self.channel == "direct"


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """What may be paid with a method through a gateway, or with `is_on` False may not; the lowest priority comes first.

    `operator_id` None is every operator, `country` (ISO 3166, where the journey begins) None anywhere.
    """

    id: UUID
    operator_id: UUID | None
    currency: str
    country: str | None
    method: str
    gateway: str
    priority: int
    is_on: bool


class NewCharge(msgspec.Struct, frozen=True, kw_only=True):
    """Money that a gateway took for an attempt, to be written down; `fee_exact` in minor units of its currency."""

    payment: Payment
    transaction_id: str
    purpose: Purpose
    amount: Money
    fee_exact: Decimal


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """Money that a gateway took, and what it was good for."""

    booking_id: UUID
    gateway: str
    transaction_id: str
    payment_id: UUID
    purpose: Purpose
    amount: int
    currency: str
    fee_exact: Decimal
    captured_at: datetime
    refund_reserved: int


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """Money on its way back. Its id goes to the gateway as the reference."""

    booking_id: UUID
    id: UUID
    gateway: str
    transaction_id: str
    amount: int
    currency: str
    reason: str
    state: RefundState
    gateway_refund_id: str | None
    failure_reason: str | None
    attempts: int
    created_at: datetime
    act_after: datetime | None
    now: datetime

    @property
    def is_in_flight(self) -> bool:
        """Whether a request without an answer may still be under way, so that its absence proves nothing."""
        asked = self.state in {"submitting", "unknown"}
        return asked and self.act_after is not None and self.act_after > self.now


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What has been refunded of a payment and is being refunded, in minor units."""

    captured: int
    refunded: int
    refunding: int


BreakKind = Literal["missing_ours", "missing_theirs", "amount", "fee", "status", "duplicate"]


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """Where a gateway's books and ours differ about a transaction."""

    transaction_id: str
    kind: BreakKind
    booking_id: UUID | None
    detail: str


class OpenBreak(msgspec.Struct, frozen=True, kw_only=True):
    """One that is there still, since `found_at`."""

    transaction_id: str
    gateway: str
    kind: BreakKind
    day: date
    booking_id: UUID | None
    detail: str
    found_at: datetime
    now: datetime

    @property
    def age_days(self) -> int:
        """For how many whole days it has been known."""
        return (self.now - self.found_at).days
