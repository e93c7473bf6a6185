"""Writing idempotency keys."""

from collections.abc import Sequence

from psycopg.errors import UniqueViolation

from kiti.db import Transaction, load
from kiti.idempotency.model import KEEP_HOURS, LOCK_SECONDS, Key, Lock

sql = load("kiti.idempotency")


async def take(tx: Transaction, *, key: Key) -> Lock | None:
    """Be the one who answers this request, for LOCK_SECONDS; None where somebody is, or has."""
    return await tx.maybe(
        sql.take,
        Lock,
        key=key.digest,
        fingerprint=key.fingerprint,
        lock_seconds=LOCK_SECONDS,
        keep_hours=KEEP_HOURS,
    )


async def store(tx: Transaction, *, key: Key, lock: Lock, status: int, media_type: str, body: bytes) -> bool:
    """Keep the answer for who asks again; False where somebody has taken over meanwhile, or one is kept already."""
    stored = await tx.execute(
        sql.store, key=key.digest, locked_until=lock.locked_until, status=status, media_type=media_type, body=body
    )
    return stored == 1


async def give_up(tx: Transaction, *, key: Key, lock: Lock) -> None:
    """Nothing came of it that a retry should hear again: the next one tries anew."""
    await tx.execute(sql.give_up, key=key.digest, locked_until=lock.locked_until)


async def drop_stale(tx: Transaction, *, key: Key) -> None:
    """Make room where a key is too old, or its first request died without an answer."""
    await tx.execute(sql.drop_stale, key=key.digest, keep_hours=KEEP_HOURS)


async def drop_answer(tx: Transaction, *, key: Key) -> None:
    """What was answered is not so any more."""
    await tx.execute(sql.drop_answer, key=key.digest)


async def keep(tx: Transaction, *, keys: Sequence[Key], status: int, media_type: str, bodies: Sequence[bytes]) -> None:
    """Keep answers in the transaction of what they tell. `is_key_taken` tells of an error because one existed."""
    await tx.send(
        sql.keep,
        keys=[key.digest for key in keys],
        fingerprints=[key.fingerprint for key in keys],
        status=status,
        media_type=media_type,
        bodies=list(bodies),
    )


def is_key_taken(error: Exception) -> bool:
    """Whether a request with the same key was quicker."""
    return isinstance(error, UniqueViolation) and error.diag.table_name == "idempotency_key"


async def forget(tx: Transaction, *, limit: int) -> int:
    """Delete up to `limit` keys that are older than KEEP_HOURS; how many."""
    return await tx.execute(sql.forget, keep_hours=KEEP_HOURS, limit=limit)
