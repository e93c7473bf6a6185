"""What waits in a queue for its batch, beside reservations, and what it is answered."""

from uuid import UUID

import msgspec

from kiti.bookings.model import Booking
from kiti.core.errors import KitiError
from kiti.flows.grouping import GroupCommit
from kiti.gateways.gateway import Captured
from kiti.payments.model import Payment


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a booking's seats for `minutes` from now."""

    booking: UUID
    minutes: int
    actor: str


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """Give a booking's seats back."""

    booking: UUID
    actor: str


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway has the money for a payment: confirm its booking."""

    payment: UUID
    booking: UUID
    truth: Captured


class Alone(msgspec.Struct, frozen=True):
    """Not the plain case: it wants a transaction of its own. Nothing was written for it."""


Extensions = GroupCommit[Extension, Booking | KitiError]
Releases = GroupCommit[Release, Booking | KitiError]
Captures = GroupCommit[Capture, Payment | Alone]
