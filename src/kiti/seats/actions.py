"""Taking, keeping and giving up seats. Every verb is all or nothing for each owner."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from kiti.core.errors import KitiError, NotFound
from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.seats.model import Claimed, Lost, Want

sql = load("kiti.seats")

_Key = tuple[UUID, str, int]


class SeatsOccupied(KitiError):
    """Somebody has these seats, so they cannot be blocked."""

    def __init__(self, seats: Sequence[str]) -> None:
        super().__init__(f"Somebody has {', '.join(seats)}. Move them first.")
        self.seats = list(seats)


class _Row(msgspec.Struct, frozen=True):
    trip_id: UUID
    seat: str
    leg: int
    owner_id: UUID
    claimed_at: datetime
    expires_at: datetime | None


async def claim(
    tx: Transaction, *, wants: Sequence[Want], ttl_seconds: Mapping[UUID, int]
) -> dict[UUID, Claimed | Lost]:
    """Claim the seats of many owners at once; each owner gets all they want or nothing.

    `ttl_seconds` says for each owner how long. No seat-leg may be wanted by two owners of one call. Acquiring,
    extending and taking over expired claims are all this verb. What a loser had got is given up again before
    this returns, so only winners' claims are left to commit.
    """
    return await _claim(tx, wants=wants, ttls=[ttl_seconds[want.owner] for want in wants for _ in want.legs])


async def confirm(tx: Transaction, *, wants: Sequence[Want]) -> dict[UUID, Claimed | Lost]:
    """Claim for ever: over a free seat, an expired claim or one's own."""
    return await _claim(tx, wants=wants, ttls=[None for want in wants for _ in want.legs])


async def release(tx: Transaction, *, wants: Iterable[Want]) -> int:
    """Give up the seat-legs that still belong to their owners; how many did."""
    keys = sorted((want.trip, want.seat, leg, want.owner) for want in wants for leg in want.legs)
    return await tx.execute(
        sql.release,
        trips=[key[0] for key in keys],
        seats=[key[1] for key in keys],
        legs=[key[2] for key in keys],
        owners=[key[3] for key in keys],
    )


async def block(
    tx: Transaction, *, trip: UUID, seats: Sequence[str], from_seq: int, to_seq: int, reason: str, actor: str
) -> UUID:
    """Take seats off sale until the block is lifted; its id. Raises SeatsOccupied where somebody has one."""
    blocked = new_id()
    wants = [Want(owner=blocked, trip=trip, seat=seat, from_seq=from_seq, to_seq=to_seq) for seat in seats]
    outcome = (await confirm(tx, wants=wants))[blocked]
    if isinstance(outcome, Lost):
        raise SeatsOccupied([seat for _, seat in outcome.seats])
    await tx.execute(sql.note_block, trip=trip, id=blocked, reason=reason, actor=actor)
    return blocked


async def unblock(tx: Transaction, *, trip: UUID, block: UUID) -> int:
    """Put a block's seats on sale again; how many seat-legs. Raises NotFound for a block that is not in force."""
    if await tx.execute(sql.lift_block, trip=trip, id=block) != 1:
        raise NotFound("There is no such block, or it was lifted already.")
    return await tx.execute(sql.release_owner, trip=trip, owner=block)


async def release_bookings(tx: Transaction, *, bookings: Sequence[UUID]) -> int:
    """Give up every seat-leg that these bookings still have; how many they had."""
    return await tx.execute(sql.release_bookings, bookings=list(bookings))


async def _claim(tx: Transaction, *, wants: Sequence[Want], ttls: Sequence[int | None]) -> dict[UUID, Claimed | Lost]:
    keys: list[_Key] = [(want.trip, want.seat, leg) for want in wants for leg in want.legs]
    assert len(set(keys)) == len(keys), "a seat-leg is wanted twice in one statement"
    rows = await tx.many(
        sql.claim,
        _Row,
        trips=[key[0] for key in keys],
        seats=[key[1] for key in keys],
        legs=[key[2] for key in keys],
        owners=[want.owner for want in wants for _ in want.legs],
        ttls=list(ttls),
    )
    got: dict[UUID, list[_Row]] = defaultdict(list)
    for row in rows:
        got[row.owner_id].append(row)
    wanted: dict[UUID, list[Want]] = defaultdict(list)
    for want in wants:
        wanted[want.owner].append(want)
    outcome = {owner: _judge(theirs, got[owner]) for owner, theirs in wanted.items()}
    losers = [want for want in wants if isinstance(outcome[want.owner], Lost) and got[want.owner]]
    if losers:
        await release(tx, wants=losers)
    return outcome


def _judge(wants: Sequence[Want], got: Sequence[_Row]) -> Claimed | Lost:
    have = {(row.trip_id, row.seat, row.leg) for row in got}
    missing = {
        (want.trip, want.seat): None
        for want in wants
        if any((want.trip, want.seat, leg) not in have for leg in want.legs)
    }
    if missing:
        return Lost(seats=tuple(missing))
    # All rows of an owner are written by one statement with one time to live.
    return Claimed(claimed_at=got[0].claimed_at, expires_at=got[0].expires_at)
