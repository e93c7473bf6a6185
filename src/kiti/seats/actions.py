"""Taking, keeping and giving up seats. Every verb is all or nothing for each owner."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from kiti.core.errors import KitiError, NotFound
from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.seats.model import Claimed, Lost, Want

sql = load("kiti.seats")

# Owner, trip, seat, leg.
_Key = tuple[UUID, UUID, str, int]


class SeatsOccupied(KitiError):
    """Somebody has these seats, so they cannot be blocked."""

    def __init__(self, seats: Sequence[str]) -> None:
        super().__init__(f"Somebody has {', '.join(seats)}. Move them first.")
        self.seats = list(seats)


async def claim(
    tx: Transaction, *, wants: Sequence[Want], ttl_seconds: Mapping[UUID, int]
) -> dict[UUID, Claimed | Lost]:
    """Claim the seats of many owners at once; each owner gets all they want or nothing.

    `ttl_seconds` says for each owner how long. No seat-leg may be wanted by two owners of one call. Acquiring,
    extending and taking over expired claims are all this verb. What a loser had got is given up again before
    this returns, so only winners' claims are left to commit.
    """
    return await _claim(tx, wants=wants, ttls=ttl_seconds)


async def confirm(tx: Transaction, *, wants: Sequence[Want]) -> dict[UUID, Claimed | Lost]:
    """Claim for ever: over a free seat, an expired claim or one's own."""
    return await _claim(tx, wants=wants, ttls={want.owner: None for want in wants})


async def release(tx: Transaction, *, wants: Iterable[Want]) -> int:
    """Give up the seat-legs that still belong to their owners; how many did."""
    return len(await _release(tx, wants=wants))


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
    tx.changed.add(trip)
    if await tx.execute(sql.lift_block, trip=trip, id=block) != 1:
        raise NotFound("There is no such block, or it was lifted already.")
    return await tx.execute(sql.release_owner, trip=trip, owner=block)


async def release_bookings(tx: Transaction, *, bookings: Sequence[UUID]) -> None:
    """Give up every seat-leg that these bookings still have, once their holds are over: nobody has to hear of it."""
    await tx.send(sql.release_bookings, bookings=list(bookings))


async def _claim(
    tx: Transaction, *, wants: Sequence[Want], ttls: Mapping[UUID, int | None]
) -> dict[UUID, Claimed | Lost]:
    wanted: dict[UUID, list[Want]] = {}
    for want in wants:
        wanted.setdefault(want.owner, []).append(want)
    # Two owners of one call who want the same seat-leg: PostgreSQL refuses to write a row twice in one statement.
    tx.changed.update([want.trip for want in wants])
    rows: list[tuple[bytes, datetime]] = await tx.many(
        sql.claim,
        tuple,
        trips=[want.trip for want in wants],
        seats=[want.seat for want in wants],
        from_seqs=[want.from_seq for want in wants],
        to_seqs=[want.to_seq for want in wants],
        owners=[want.owner for want in wants],
        ttls=[ttls[want.owner] for want in wants],
    )
    got = Counter([owner for owner, _ in rows])
    short = {
        owner: theirs
        for owner, theirs in wanted.items()
        if got[owner.bytes] < sum([want.to_seq - want.from_seq for want in theirs])
    }
    outcome: dict[UUID, Claimed | Lost] = {}
    if len(short) < len(wanted):
        claimed_at = rows[0][1]  # one statement, one clock
        for owner in wanted:
            if owner not in short:
                seconds = ttls[owner]
                expires_at = None if seconds is None else claimed_at + timedelta(seconds=seconds)
                outcome[owner] = Claimed(claimed_at=claimed_at, expires_at=expires_at)
    if short:
        partial = [want for owner, theirs in short.items() if got[owner.bytes] for want in theirs]
        had = await _release(tx, wants=partial) if partial else set()
        for owner, theirs in short.items():
            outcome[owner] = Lost(seats=_missing(theirs, had))
    return outcome


async def _release(tx: Transaction, *, wants: Iterable[Want]) -> set[_Key]:
    """Give up what is theirs among these; what was."""
    keys = [(want.owner, want.trip, want.seat, leg) for want in wants for leg in want.legs]
    tx.changed.update([key[1] for key in keys])
    rows: list[_Key] = await tx.many(
        sql.release,
        tuple,
        owners=[key[0] for key in keys],
        trips=[key[1] for key in keys],
        seats=[key[2] for key in keys],
        legs=[key[3] for key in keys],
    )
    return set(rows)


def _missing(wants: Sequence[Want], had: set[_Key]) -> tuple[tuple[UUID, str], ...]:
    """The seats of which not every leg was to be had, each once."""
    missing = {
        (want.trip, want.seat): None
        for want in wants
        if any((want.owner, want.trip, want.seat, leg) not in had for leg in want.legs)
    }
    return tuple(missing)


async def keep_until(tx: Transaction, *, wants: Sequence[Want], expires_at: datetime) -> int:
    """Let the seat-legs that one owner has claimed end at exactly this instant; how many there were."""
    (owner,) = {want.owner for want in wants}
    keys = sorted((want.trip, want.seat, leg) for want in wants for leg in want.legs)
    return await tx.execute(
        sql.keep_until,
        trips=[key[0] for key in keys],
        seats=[key[1] for key in keys],
        legs=[key[2] for key in keys],
        owner=owner,
        expires_at=expires_at,
    )
