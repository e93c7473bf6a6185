"""A retry never does twice what the first request did: it hears the same answer, byte for byte.

A request takes its key before it does anything and leaves its answer when it is done. If it dies in between, the lock
lapses and a retry resumes; what it finds done already it does not do again, because every verb behind a mutating call
either says so (one open attempt to pay, a hold that is released) or leaves the answer in its own transaction: a
reservation with `keep` of the slice, and with a `Keep` whatever would be refused the second time (a cancellation, a
change of seats, a ticket at the door).
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from kiti.core.errors import KitiError
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.progress import advance
from kiti.idempotency import actions as idempotency
from kiti.idempotency import reads as idempotency_reads
from kiti.idempotency.model import Key, Lock, Stored

FORGET_BATCH = 1000
FORGET_BATCHES = 200


class KeyInUse(KitiError):
    """The first request with this key is still at work."""


class KeyReused(KitiError):
    """This key was used for another request."""


Done = TypeVar("Done")
# What a verb calls last in its transaction, with what it has done.
Keep = Callable[[Transaction, Done], Awaitable[None]]


async def begin(house: House, key: Key) -> Lock | Stored:
    """Take the key, or hear what was answered before; raises KeyInUse, KeyReused."""
    lock = await house.db.run(lambda tx: idempotency.take(tx, key=key))
    if lock is not None:
        return lock
    stored = await remembered(house, key)
    assert stored is not None, "what is not there could be taken"
    return stored


async def remembered(house: House, key: Key, *, was_taken: bool = True) -> Stored | None:
    """What was answered before; None if nothing was, and `was_taken` is not known. Raises KeyInUse, KeyReused."""
    async with house.db.reader() as reader:
        found = await idempotency_reads.find(reader, key=key)
    if found is not None and found.fingerprint != key.fingerprint:
        raise KeyReused("This Idempotency-Key was sent with another body. Use a new key for a new request.")
    if (found is None and was_taken) or (found is not None and found.status is None):
        raise KeyInUse("The first request with this Idempotency-Key is still at work. Ask again in a moment.")
    return found


async def make_room(house: House, key: Key) -> None:
    """Let a retry take a key whose first request has died, or that is too old."""
    await house.db.run(lambda tx: idempotency.drop_stale(tx, key=key))


async def take_back(house: House, key: Key) -> None:
    """The answer that was kept is not so any more."""
    await house.db.run(lambda tx: idempotency.drop_answer(tx, key=key))


async def finish(house: House, key: Key, lock: Lock, *, status: int, media_type: str, body: bytes) -> None:
    """Keep the answer for retries; whoever has taken over meanwhile keeps theirs."""
    await house.db.run(
        lambda tx: idempotency.store(tx, key=key, lock=lock, status=status, media_type=media_type, body=body)
    )


async def keep_within(tx: Transaction, key: Key, lock: Lock, *, status: int, media_type: str, body: bytes) -> None:
    """Keep the answer in the transaction of what it tells: both are there, or neither.

    Raises KeyInUse where a retry has taken this request for dead: then that one does it.
    """
    if not await idempotency.store(tx, key=key, lock=lock, status=status, media_type=media_type, body=body):
        raise KeyInUse("A retry with this Idempotency-Key is at work meanwhile. Ask again in a moment.")


async def answer_of(house: House, key: Key) -> Stored | None:
    """The answer that is kept, if one is."""
    async with house.db.reader() as reader:
        found = await idempotency_reads.find(reader, key=key)
    return None if found is None or found.status is None else found


async def give_up(house: House, key: Key, lock: Lock) -> None:
    """The answer is none that a retry should hear: it may try anew at once."""
    await house.db.run(lambda tx: idempotency.give_up(tx, key=key, lock=lock))


async def forget_old(house: House) -> int:
    """Delete the keys that nobody can use any more, in bounded batches; how many."""
    forgotten = 0
    for _ in range(FORGET_BATCHES):
        batch = await house.db.run(lambda tx: idempotency.forget(tx, limit=FORGET_BATCH))
        forgotten += batch
        advance(processed=batch)
        if batch < FORGET_BATCH:
            break
    return forgotten
