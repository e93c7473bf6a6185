"""A place in line: a number, the time at which it is admitted, sealed so that nobody can make one. Pure.

The time is fixed when the place is given. It follows from the generic cell rate algorithm (ITU-T I.371, annex A) with
one cell for each place: places are admitted `1 / rate` apart, and `burst` at once after a pause that was long enough.
"""

import math
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from kiti.core.tokens import seal, unseal

# A place lets in one person: somebody who loses seats to others a few times, not a crowd that shares it.
PLACE_ATTEMPTS = 10
SEAL = "place"

# Wire format of a token, before it is sealed: room, number, Unix microseconds of admission and of expiry, big-endian.
_TOKEN = struct.Struct(">16sQqq")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Times are kept to the microsecond, so what they differ by may be off by a few.
_EXACT_TO_SECONDS = 5e-6


class NewRoom(msgspec.Struct, frozen=True, kw_only=True):
    """A room to be opened before trips; `opens_at` None: now."""

    id: UUID
    name: str
    rate_per_second: float
    burst: int
    window_seconds: int
    opens_at: datetime | None
    trips: Sequence[UUID]


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """An open room. The place `next_number` would be admitted at `next_admission`, or at once if that has passed."""

    id: UUID
    name: str
    rate_per_second: float
    burst: int
    window_seconds: int
    next_number: int
    next_admission: datetime
    opens_at: datetime
    trips: Sequence[UUID]

    def ahead(self, *, number: int, admits_at: datetime, now: datetime) -> int:
        """How many places with lower numbers are not admitted yet: they stand `1 / rate` apart."""
        between_seconds = (admits_at - now).total_seconds() - _EXACT_TO_SECONDS
        return max(0, min(number - 1, math.ceil(between_seconds * self.rate_per_second) - 1))

    def waiting(self, now: datetime) -> int:
        """How many places are given out and not admitted yet."""
        return self.ahead(number=self.next_number, admits_at=self.next_admission, now=now)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The place `number` of a room, good from `admits_at` until `expires_at`."""

    room: UUID
    number: int
    admits_at: datetime
    expires_at: datetime

    def token(self, *, secret: str) -> str:
        """96 URL-safe characters."""
        times = (_microseconds(self.admits_at), _microseconds(self.expires_at))
        return seal(_TOKEN.pack(self.room.bytes, self.number, *times), label=SEAL, secret=secret)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive places as the database gave them: the first number and its time, which may have passed."""

    id: UUID
    first_number: int
    first_admission: datetime
    rate_per_second: float
    window_seconds: int
    now: datetime

    def place(self, nth: int) -> Place:
        """The place that is `nth` of the run, counted from 0."""
        admits_at = max(self.now, self.first_admission + timedelta(seconds=nth / self.rate_per_second))
        return Place(
            room=self.id,
            number=self.first_number + nth,
            admits_at=admits_at,
            expires_at=admits_at + timedelta(seconds=self.window_seconds),
        )


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to reserve with a place. `instead_of` is its booking that does not count any more, if there is one."""

    room: UUID
    number: int
    instead_of: UUID | None = None


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What was done with a place: attempts to reserve, and what was booked."""

    room_id: UUID
    number: int
    uses: int
    booking_id: UUID | None


class Booked(msgspec.Struct, frozen=True, kw_only=True):
    """A booking that was made with a place."""

    use: Use
    booking: UUID


def read_place(token: str, *, secret: str) -> Place | None:
    """The place that a token of ours stands for, whatever the time; None for anything else."""
    message = unseal(token, label=SEAL, secret=secret)
    if message is None or len(message) != _TOKEN.size:
        return None
    room, number, admits_at, expires_at = _TOKEN.unpack(message)
    return Place(room=UUID(bytes=room), number=number, admits_at=_instant(admits_at), expires_at=_instant(expires_at))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _instant(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
