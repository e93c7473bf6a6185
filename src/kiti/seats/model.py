"""Seat claims: the words, and the pure choice of good seats."""

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

    @property
    def status(self) -> SeatStatus:
        """BOOKED for ever, or HELD for some minutes."""
        return "BOOKED" if self.sold else "HELD"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a free seat is in the vehicle, for choosing good ones."""

    number: str
    deck: int
    row: int
    column: int


def best_adjacent(free: list[Place], count: int) -> list[str] | None:
    """`count` seats that belong together: side by side if possible, else in as few and as near rows as can be.

    None where fewer than `count` are free. Front rows go first; a run that leaves no single seat behind is
    preferred to one that does.
    """
    if len(free) < count:
        return None
    ordered = sorted(free, key=lambda p: (p.deck, p.row, p.column))
    runs = _runs(ordered)
    exact = [run for run in runs if len(run) == count]
    roomy = [run for run in runs if len(run) > count]
    # A run that is one seat longer would strand a single seat; take it only when nothing else fits.
    roomy.sort(key=lambda run: len(run) == count + 1)
    for run in exact + roomy:
        return [place.number for place in run[:count]]
    return [place.number for place in _nearest(ordered, count)]


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


def _nearest(ordered: list[Place], count: int) -> list[Place]:
    """The window of `count` free seats in reading order that spans the fewest rows."""
    windows = (ordered[i : i + count] for i in range(len(ordered) - count + 1))
    return min(windows, key=lambda w: ((w[-1].deck - w[0].deck) * 1000 + w[-1].row - w[0].row, w[0].deck, w[0].row))
