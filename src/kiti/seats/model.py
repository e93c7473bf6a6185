"""Seat claims: the words, and the pure choice of good seats."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

SeatStatus = Literal["AVAILABLE", "HELD", "BOOKED", "BLOCKED"]


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """One owner wants one seat from stop `from_seq` to stop `to_seq` of a trip: the legs between them."""

    owner: UUID
    trip: UUID
    seat: str
    from_seq: int
    to_seq: int

    @property
    def legs(self) -> range:
        """Leg i runs from stop i to stop i + 1."""
        return range(self.from_seq, self.to_seq)


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the owner wanted is theirs until `expires_at` (the database's clock); None: for ever."""

    claimed_at: datetime
    expires_at: datetime | None


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody else has these seats; nothing of the owner's request was kept."""

    seats: tuple[tuple[UUID, str], ...]


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A seat that is not free somewhere on the segment."""

    seat: str
    sold: bool
    blocked: bool

    @property
    def status(self) -> SeatStatus:
        """BLOCKED by staff, BOOKED for ever, or HELD for some minutes."""
        if self.blocked:
            return "BLOCKED"
        return "BOOKED" if self.sold else "HELD"


class HeldSeat(msgspec.Struct, frozen=True, kw_only=True):
    """A seat-leg that somebody has; `expires_at` None: for ever."""

    trip_id: UUID
    seat: str
    leg: int
    owner_id: UUID
    claimed_at: datetime
    expires_at: datetime | None


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Seats that staff took off sale between two stops, and why."""

    id: UUID
    reason: str
    actor: str
    created_at: datetime
    seats: list[str]
    from_seq: int
    to_seq: int


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a free seat is in the vehicle and what it is, for choosing good ones."""

    number: str
    deck: int
    row: int
    column: int
    seat_class: str = "STANDARD"
    is_window: bool = False
    is_aisle: bool = False
    is_accessible: bool = False


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What a party would like. The class and one accessible seat are conditions, a window is a preference."""

    seat_class: str | None = None
    accessible: bool = False
    window: bool = False


NO_WISHES = Wishes()


def best_seats(free: list[Place], count: int, wishes: Wishes = NO_WISHES, *, choice: int = 0) -> list[str] | None:
    """`count` seats that belong together; None where the conditions cannot be met.

    Side by side in one row if possible, else in as few and as near rows as can be. Of several choices the one
    that leaves the fewest single seats alone is best, then the one that grants the preference, then the front.
    `choice` takes another one instead of the best, so that many who ask at once do not all want the same seats.
    """
    fitting = [place for place in free if wishes.seat_class in {None, place.seat_class}]
    if len(fitting) < count:
        return None
    ordered = sorted(fitting, key=lambda place: (place.deck, place.row, place.column))
    together = [
        (_stranded(run, at, count), run[at : at + count])
        for run in _runs(ordered)
        for at in range(len(run) - count + 1)
    ]
    apart = [(0, ordered[at : at + count]) for at in range(len(ordered) - count + 1)]
    for choices in (together, apart):
        granted = [found for found in choices if not wishes.accessible or any(p.is_accessible for p in found[1])]
        if granted:
            granted.sort(key=lambda found: _rank(found[0], found[1], wishes))
            return [place.number for place in granted[choice % len(granted)][1]]
    return _around_accessible(ordered, count)


def nearest_seats(free: Sequence[Place], count: int, *, around: Sequence[Place]) -> list[str] | None:
    """The `count` seats nearest to any of those that a party has already; None where fewer are free."""
    assert around, "nearest to nothing"

    def distance(place: Place) -> tuple[int, int, int]:
        return min(
            (abs(place.deck - one.deck), abs(place.row - one.row), abs(place.column - one.column)) for one in around
        )

    near = sorted(free, key=lambda place: (distance(place), place.is_accessible, place.row, place.column))
    return [place.number for place in near[:count]] if len(near) >= count else None


def _rank(stranded: int, chosen: list[Place], wishes: Wishes) -> tuple[int, int, int, int, int, int]:
    first, last = chosen[0], chosen[-1]
    spread = (last.deck - first.deck) * 1000 + last.row - first.row
    misses = int(wishes.window and not any(place.is_window for place in chosen))
    # Accessible seats are kept for those who ask for them, as long as there are others.
    misplaced = 0 if wishes.accessible else sum(place.is_accessible for place in chosen)
    return spread, stranded, misses, misplaced, first.deck * 1000 + first.row, first.column


def _stranded(run: list[Place], at: int, count: int) -> int:
    """How many single seats are left alone in their row when this part of the run is taken."""
    return int(at == 1) + int(len(run) - at - count == 1)


def _runs(ordered: list[Place]) -> list[list[Place]]:
    """Seats in the same row whose columns touch."""
    runs: list[list[Place]] = []
    for place in ordered:
        last = runs[-1][-1] if runs else None
        touches = last is not None and (place.deck, place.row, place.column) == (last.deck, last.row, last.column + 1)
        if touches:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _around_accessible(ordered: list[Place], count: int) -> list[str] | None:
    """An accessible seat and the seats nearest to it; None where no accessible seat is free."""
    anchor = next((place for place in ordered if place.is_accessible), None)
    if anchor is None:
        return None
    near = sorted(ordered, key=lambda p: (abs(p.deck - anchor.deck), abs(p.row - anchor.row), p.row, p.column))
    return [place.number for place in near[:count]]
