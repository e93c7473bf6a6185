"""Staff, their roles, and what each role may do. Pure; `kiti.flows.staff.require` is the one place that asks.

A permission says what may be done, the operator of an account says to whose things. Staff of the platform belong to no
operator and see all of them.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

import msgspec

Role = Literal["operator_staff", "operator_finance", "platform_finance", "platform_admin"]
Permission = Literal[
    "tickets.verify",
    "seats.block",
    "bookings.see",
    "bookings.move",
    "payments.see",
    "payments.review",
    "refunds.see",
    "refunds.make",
    "cash.take",
    "settlements.see",
    "settlements.approve",
    "staff.manage",
    "hooks.manage",
    "messages.resend",
]

PERMISSIONS: frozenset[Permission] = frozenset(get_args(Permission))
PLATFORM_ROLES: frozenset[Role] = frozenset({"platform_finance", "platform_admin"})
MAY: Mapping[Role, frozenset[Permission]] = {
    "operator_staff": frozenset({
        "tickets.verify", "seats.block", "bookings.see", "bookings.move", "cash.take", "messages.resend",
    }),
    "operator_finance": frozenset({
        "bookings.see", "payments.see", "refunds.see", "settlements.see", "hooks.manage",
    }),
    "platform_finance": frozenset({
        "bookings.see", "payments.see", "payments.review", "refunds.see", "refunds.make", "settlements.see",
        "settlements.approve", "messages.resend",
    }),
    "platform_admin": PERMISSIONS,
}  # fmt: skip

# Wrong passwords in a row before an account rests, for how long at first, and at most: it doubles each time.
TRIES = 5
FIRST_REST_SECONDS = 60
LONGEST_REST_SECONDS = 15 * 60

SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 200
SESSION_SECONDS = 12 * 3600
IDLE_SECONDS = 30 * 60
TOKEN_SECONDS = 15 * 60


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """For whom somebody works."""

    id: UUID
    code: str
    name: str
    timezone: str


class Staff(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose account is good; `operator` None: staff of the platform."""

    id: UUID
    email: str
    name: str
    role: Role
    operator: Operator | None

    def can(self, permission: Permission) -> bool:
        """Whether the role has this permission."""
        return permission in MAY[self.role]

    def sees(self, operator: UUID) -> bool:
        """Whether the things of that operator are within reach."""
        return self.operator is None or self.operator.id == operator

    @property
    def bound(self) -> UUID | None:
        """The operator to whom every query of this person is bounded; None: to none."""
        return None if self.operator is None else self.operator.id

    @property
    def actor(self) -> str:
        """As the audit log calls them."""
        return f"staff:{self.id}"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account as those who look after accounts see it."""

    staff: Staff
    disabled_at: datetime | None
    locked_until: datetime | None
    last_seen_at: datetime | None


class NewStaff(msgspec.Struct, frozen=True, kw_only=True):
    """An account to be made; `email` in lower case."""

    id: UUID
    email: str
    name: str
    role: Role
    operator: UUID | None
    password_hash: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A try at a password that the account allows; it counts as failed until it has turned out right."""

    id: UUID
    password_hash: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that is logged in; `csrf` is the key of its forms' tokens."""

    id: bytes
    staff: Staff
    csrf: bytes
    created_at: datetime
