"""Statements, their states, the periods that they are for, and payouts. `docs/states.md` is drawn from the tables."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

import msgspec

from kiti.core.clock import instant, local
from kiti.core.money import Money
from kiti.gateways.gateway import Destination

Period = Literal["daily", "weekly", "monthly"]
State = Literal["draft", "approved", "paying", "paid", "failed", "reconciled", "carried"]
LineKind = Literal["gross", "refund", "commission", "fee", "other"]
PayoutState = Literal[
    "requested", "submitting", "unknown", "pending", "succeeded", "reconciled", "failed", "needs_attention"
]

# failed -> paying is another payout under another reference; paid -> failed is money that the bank sent back.
TRANSITIONS: dict[State, tuple[State, ...]] = {
    "draft": ("approved", "carried"),
    "approved": ("paying",),
    "paying": ("paid", "failed"),
    "paid": ("reconciled", "failed"),
    "failed": ("paying",),
    "reconciled": (),
    "carried": (),
}

PAYOUT_TRANSITIONS: dict[PayoutState, tuple[PayoutState, ...]] = {
    "requested": ("submitting",),
    "submitting": ("submitting", "unknown", "pending", "succeeded", "failed", "needs_attention"),
    "unknown": ("submitting", "pending", "succeeded", "failed", "needs_attention"),
    "pending": ("succeeded", "failed", "needs_attention"),
    "succeeded": ("reconciled", "failed"),
    "reconciled": (),
    "failed": (),
    "needs_attention": ("pending", "succeeded", "failed"),
}

DECEMBER = 12


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How often an operator is settled with in a currency, and where the money goes.

    A statement below `minimum_payout` (minor units) is carried over into the next one.
    """

    operator_id: UUID
    currency: str
    period: Period
    minimum_payout: int
    gateway: str
    destination: Destination
    set_by: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """The days of a period, from `first` to before `after`."""

    first: date
    after: date


class Unsettled(msgspec.Struct, frozen=True, kw_only=True):
    """An operator with entries that no statement has, the first of them posted at `first_at`."""

    operator_id: UUID
    timezone: str
    currency: str
    period: Period
    minimum_payout: int
    settled_until: datetime | None
    first_at: datetime
    now: datetime


class NewSettlement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement to be made of all entries posted before `ends_at` that no other has."""

    id: UUID
    operator_id: UUID
    currency: str
    period: Period
    starts_at: datetime
    ends_at: datetime
    timezone: str


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What lines come to, in minor units: all above zero as a rule; `other` and `carried` as the operator sees them."""

    gross: int = 0
    refunds: int = 0
    commission: int = 0
    fees: int = 0
    other: int = 0
    carried: int = 0

    @property
    def net(self) -> int:
        """What is to be paid; below zero where the operator owes it."""
        return self.gross - self.refunds - self.commission - self.fees + self.other + self.carried


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement of one operator, period and currency; amounts in minor units."""

    id: UUID
    operator_id: UUID
    operator_code: str
    operator_name: str
    currency: str
    period: Period
    starts_at: datetime
    ends_at: datetime
    timezone: str
    state: State
    attempts: int
    gross: int
    refunds: int
    commission: int
    fees: int
    other: int
    carried: int
    net: int
    carried_into: UUID | None
    made_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    gateway: str | None
    kind: Literal["bank", "mobile_money", "connected"] | None
    country: str | None
    bank: str | None
    account: str | None
    account_name: str | None

    @property
    def first_day(self) -> date:
        """In the operator's time zone."""
        return local(self.starts_at, timezone=self.timezone).date()

    @property
    def last_day(self) -> date:
        """The last one that belongs to it."""
        return local(self.ends_at, timezone=self.timezone).date() - timedelta(days=1)

    @property
    def total(self) -> Money:
        """What is to be paid."""
        return Money(self.net, self.currency)

    @property
    def destination(self) -> Destination | None:
        """Where the money goes; None before somebody has approved it."""
        if self.kind is None:
            return None
        return Destination(
            kind=self.kind,
            country=self.country or "",
            bank=self.bank or "",
            account=self.account or "",
            name=self.account_name or "",
        )


class StatementLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one booking, or its part in one trip, comes to in a statement, as the operator sees it in minor units.

    `subject_id` is the booking; for a line of no booking the settlement that the entry hangs below, and `reference` is
    empty. `net` is the sum of the rest.
    """

    subject_id: UUID
    trip_id: UUID | None
    reference: str
    route: str
    departs_at: datetime | None
    gross: int
    refund: int
    commission: int
    fee: int
    other: int
    net: int


class Payout(msgspec.Struct, frozen=True, kw_only=True):
    """Money on its way to an operator. Its id goes to the gateway as the reference."""

    id: UUID
    settlement_id: UUID
    operator_id: UUID
    gateway: str
    kind: Literal["bank", "mobile_money", "connected"]
    country: str
    bank: str
    account: str
    account_name: str
    amount: int
    currency: str
    state: PayoutState
    attempts: int
    gateway_payout_id: str | None
    fee_exact: Decimal | None
    failure_reason: str | None
    requested_by: str
    created_at: datetime
    act_after: datetime | None
    now: datetime

    @property
    def is_in_flight(self) -> bool:
        """Whether a request without an answer may still be under way, so that its absence proves nothing."""
        asked = self.state in {"submitting", "unknown"}
        return asked and self.act_after is not None and self.act_after > self.now

    @property
    def destination(self) -> Destination:
        """Where it goes."""
        return Destination(
            kind=self.kind, country=self.country, bank=self.bank, account=self.account, name=self.account_name
        )


def span_of(period: Period, day: date) -> Span:
    """The period that a day lies in: the day, the week from Monday on, the month."""
    match period:
        case "daily":
            return Span(first=day, after=day + timedelta(days=1))
        case "weekly":
            monday = day - timedelta(days=day.weekday())
            return Span(first=monday, after=monday + timedelta(days=7))
        case "monthly":
            first = day.replace(day=1)
            is_december = first.month == DECEMBER
            after = date(first.year + is_december, 1 if is_december else first.month + 1, 1)
            return Span(first=first, after=after)


def next_period(unsettled: Unsettled) -> tuple[datetime, datetime]:
    """From when to when the next statement is for.

    It is the period of the first entry that no statement has; but a period that was settled stays settled, so what
    came into the books late, or after the terms have changed, is in the statement that begins where the last one ended.
    """
    settled = unsettled.settled_until
    moment = unsettled.first_at if settled is None else max(unsettled.first_at, settled)
    span = span_of(unsettled.period, local(moment, timezone=unsettled.timezone).date())
    starts = instant(span.first, time(), timezone=unsettled.timezone)
    ends = instant(span.after, time(), timezone=unsettled.timezone)
    return starts if settled is None else max(starts, settled), ends


class NewSubaccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account for an operator at a gateway; `bank` is its code of one, `platform_percent` what would stay ours."""

    operator_id: UUID
    gateway: str
    bank: str
    account: str
    country: str
    name: str
    platform_percent: Decimal
    email: str
    phone: str


class OperatorSubaccount(NewSubaccount, frozen=True, kw_only=True):
    """The same as written down; without `subaccount_id` it is not known whether the gateway has opened it."""

    operator_code: str
    subaccount_id: str | None
