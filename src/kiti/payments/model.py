"""Payments, charges and refunds; their states and transitions. `docs/states.md` is drawn from them.

An attempt begins as `created`: written down with its amount and its parts, the seats held for it, and nobody asked.
Just before its gateway is asked it becomes `submitting`, in a transaction of its own. Were both one transaction,
`created` would be a word that nobody ever sees; apart, the move means three things:

- Whoever makes it is the one who asks, and nobody else ever does.
- What is `created` was asked of nobody. It can be called off or given up without a look at the gateway, where after a
  crash in `submitting` two minutes of "unknown there" have to pass.
- A release between the two calls the attempt off, and no page is opened that somebody might pay on.

It costs one short transaction more. The move is only made within SUBMIT_WITHIN_SECONDS: an attempt that is older is
abandoned, and the next call to pay opens another one in its place; without one the poller makes it `expired`.

Every opening and every change of state is a row of `payment_history`, and of `refund_history`, written in the same
transaction.
"""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

import msgspec

from kiti.core.money import Money

PaymentState = Literal[
    "created",
    "submitting",
    "unknown",
    "pending",
    "requires_action",
    "authorised",
    "captured",
    "failed",
    "expired",
    "cancelled",
    "review",
]
RefundState = Literal["requested", "submitting", "unknown", "pending", "succeeded", "failed", "needs_attention"]
Channel = Literal["hosted", "direct"]
Purpose = Literal["fulfils", "unfulfillable", "surplus"]

OPEN: frozenset[PaymentState] = frozenset({
    "created", "submitting", "unknown", "pending", "requires_action", "authorised",
})  # fmt: skip
# Open, and nothing is taken or kept ready yet: what may be called off by us alone.
WAITING: frozenset[PaymentState] = frozenset({"created", "pending", "requires_action"})
# After so long an attempt that was created is never submitted any more. A process that is well takes milliseconds.
SUBMIT_WITHIN_SECONDS = 6

# failed and expired may still become captured: the money that came late. So may what was authorised late.
PAYMENT_TRANSITIONS: dict[PaymentState, tuple[PaymentState, ...]] = {
    "created": ("submitting", "expired", "cancelled"),
    "submitting": (
        "pending",
        "requires_action",
        "unknown",
        "authorised",
        "captured",
        "failed",
        "expired",
        "cancelled",
        "review",
    ),
    "unknown": ("pending", "requires_action", "authorised", "captured", "failed", "expired", "review"),
    "pending": ("requires_action", "authorised", "captured", "failed", "expired", "cancelled", "review"),
    "requires_action": ("pending", "authorised", "captured", "failed", "expired", "cancelled", "review"),
    "authorised": ("captured", "failed", "review"),
    "captured": (),
    "failed": ("authorised", "captured", "review"),
    "expired": ("authorised", "captured", "failed", "review"),
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
    def is_abandoned(self) -> bool:
        """Whether its gateway was never asked, and never will be: whoever opened it has died, or stood still."""
        return self.state == "created" and self.now - self.created_at > timedelta(seconds=SUBMIT_WITHIN_SECONDS)

    @property
    def is_direct(self) -> bool:
        """Whether `phone` was asked to approve it; else it is paid on a page of the gateway's."""
        return self.channel == "direct"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a payment's history; the first one comes from `new`."""

    at: datetime
    from_state: str
    to_state: PaymentState
    reason: str


class RefundStep(msgspec.Struct, frozen=True, kw_only=True):
    """The same of a refund."""

    at: datetime
    from_state: str
    to_state: RefundState
    reason: str


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

    @property
    def excess(self) -> int:
        """What of it is beyond the price of what it buys."""
        return max(0, self.amount.amount - self.payment.total.amount) if self.purpose == "fulfils" else 0


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
    # What goes back or may have to: refunds, what was lost in disputes, and `disputed`, which may be lost or not.
    refund_reserved: int
    disputed: int
    # What came beyond the price, and what of that went back. What is in dispute is of neither until it is lost.
    excess: int
    excess_reserved: int

    @property
    def left(self) -> int:
        """What can go back."""
        return self.amount - self.refund_reserved

    @property
    def excess_left(self) -> int:
        """What of the excess can go back."""
        return min(self.left, self.excess - self.excess_reserved)

    def of_excess(self, amount: int) -> int:
        """What of an amount is from the excess where the price goes back first."""
        price_gone = self.refund_reserved - self.disputed - self.excess_reserved
        return max(0, amount - (self.amount - self.excess - price_gone))


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
# Whose books differ. The gateway tells twice: transaction by transaction, and by what it settles.
Sides = Literal["ledger_gateway", "ledger_settlement", "settlement_bank", "ledger_dispute"]


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """Where two books differ about a transaction, or about `settlement <id>`; `day` is the transaction's."""

    transaction_id: str
    kind: BreakKind
    sides: Sides = "ledger_gateway"
    day: date
    booking_id: UUID | None
    detail: str


class OpenBreak(msgspec.Struct, frozen=True, kw_only=True):
    """One that was found, since `found_at`; `resolution` is what a person said who closed it, or empty."""

    id: UUID
    transaction_id: str
    gateway: str
    kind: BreakKind
    sides: Sides
    day: date
    booking_id: UUID | None
    detail: str
    found_at: datetime
    resolved_at: datetime | None
    assigned_to: str
    resolved_by: str
    resolution: str
    now: datetime

    @property
    def age_days(self) -> int:
        """For how many whole days it has been known."""
        return (self.now - self.found_at).days


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison that was made, and how many breaks were open after it."""

    began_at: datetime
    ended_at: datetime
    days: int
    transactions: int
    settlements: int
    repaired: int
    silent: int
    still_open: int
