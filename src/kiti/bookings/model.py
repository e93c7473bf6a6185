"""A booking, its states and the transitions between them. `docs/states.md` is drawn from TRANSITIONS."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

State = Literal["held", "awaiting_payment", "confirmed", "completed", "expired", "cancelled"]

# From a state to the states it may become. expired -> confirmed is the payment that came late and found its
# seats still free; expired -> awaiting_payment does not exist: whoever starts to pay holds seats.
TRANSITIONS: dict[State, tuple[State, ...]] = {
    "held": ("awaiting_payment", "confirmed", "expired", "cancelled"),
    "awaiting_payment": ("held", "confirmed", "expired", "cancelled"),
    "confirmed": ("completed", "cancelled"),
    "completed": (),
    "expired": ("confirmed",),
    "cancelled": (),
}

MAX_SEATS = 20
MAX_TRIPS = 6


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to reach about a booking; empty strings where the traveller has not said."""

    name: str = ""
    email: str = ""
    phone: str = ""  # E.164


class NewSeat(msgspec.Struct, frozen=True, kw_only=True):
    """One seat of a booking to be opened; `fare` in minor units of the booking's currency."""

    trip: UUID
    operator: UUID
    seat: str
    seat_class: str
    from_seq: int
    to_seq: int
    fare: int
    passenger_name: str = ""


class NewBooking(msgspec.Struct, frozen=True, kw_only=True):
    """A booking to be opened over seats that are claimed already, for `hold_seconds`."""

    id: UUID
    reference: str
    currency: str
    contact: Contact
    language: str
    seats: Sequence[NewSeat]
    amount: int
    hold_seconds: int


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """A booking as it stands. `now` is the database's clock when it was read."""

    id: UUID
    reference: str
    state: State
    currency: str
    amount: int
    contact_name: str
    contact_email: str
    contact_phone: str
    language: str
    created_at: datetime
    hold_until: datetime
    hold_expires_at: datetime
    hold_cap_at: datetime
    confirmed_at: datetime | None
    now: datetime

    @property
    def is_lapsed(self) -> bool:
        """Whether the hold is over, swept or not. Expired is not lost: the seats may still be free."""
        return self.state == "expired" or (
            self.state in {"held", "awaiting_payment"} and self.hold_expires_at <= self.now
        )

    @property
    def is_holding(self) -> bool:
        """Whether seats are held for a traveller who has not paid yet."""
        return self.state in {"held", "awaiting_payment"} and not self.is_lapsed

    @property
    def standing(self) -> State:
        """The state as a person should see it: a lapsed hold is expired before any cleaner has come by."""
        return "expired" if self.is_lapsed else self.state


class BookedSeat(msgspec.Struct, frozen=True, kw_only=True):
    """A seat line of a booking, in the traveller's order."""

    booking_id: UUID
    trip_id: UUID
    seat: str
    from_seq: int
    to_seq: int
    operator_id: UUID
    seat_class: str
    fare: int
    passenger_name: str


class CancelledSeat(msgspec.Struct, frozen=True, kw_only=True):
    """A seat line that was cancelled while others of its booking travel on.

    `refunded` is what the rules gave back of the fare: `percent` of its refundable part, less `fee`. Minor units.
    """

    booking_id: UUID
    trip_id: UUID
    seat: str
    from_seq: int
    to_seq: int
    operator_id: UUID
    seat_class: str
    fare: int
    passenger_name: str
    percent: int
    fee: int
    refunded: int
    cancelled_at: datetime


class PaidSeat(msgspec.Struct, frozen=True, kw_only=True):
    """A seat that a booking was paid for, whether anybody travels on it still or it was cancelled."""

    booking_id: UUID
    trip_id: UUID
    seat: str
    operator_id: UUID
    fare: int


class GivenBack(msgspec.Struct, frozen=True, kw_only=True):
    """A seat line that is to be cancelled, and what goes back for it; see CancelledSeat."""

    line: BookedSeat
    percent: int
    fee: int
    refunded: int


class Replacement(msgspec.Struct, frozen=True, kw_only=True):
    """A seat in the place of one that was lost while its payment was late; may be declined until `decline_until`."""

    trip_id: UUID
    lost_seat: str
    seat: str
    decline_until: datetime


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A booking by its id: one that was swept, moved or found."""

    id: UUID


class BookingName(msgspec.Struct, frozen=True, kw_only=True):
    """A booking by the name that people call it, and its state."""

    id: UUID
    reference: str
    state: State
