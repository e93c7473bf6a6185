"""Writing verbs of staff: accounts, attempts at passwords, sessions."""

from uuid import UUID

import msgspec

from kiti.core.errors import KitiError, NotFound
from kiti.db import Transaction, load
from kiti.people.model import (
    FIRST_REST_SECONDS,
    LONGEST_REST_SECONDS,
    SESSION_SECONDS,
    TRIES,
    Attempt,
    NewStaff,
)

sql = load("kiti.people")


class EmailTaken(KitiError):
    """There is an account with this e-mail address already."""


class NoSuchStaff(NotFound):
    """There is no account with this e-mail address, or it is disabled."""


class _Id(msgspec.Struct, frozen=True):
    id: UUID


async def add(tx: Transaction, *, staff: NewStaff) -> None:
    """Make an account; raises EmailTaken."""
    made = await tx.execute(
        sql.add_staff,
        id=staff.id,
        email=staff.email,
        name=staff.name,
        role=staff.role,
        operator=staff.operator,
        password_hash=staff.password_hash,
    )
    if made == 0:
        raise EmailTaken(f"There is an account for {staff.email} already.")


async def take_attempt(tx: Transaction, *, email: str) -> Attempt | None:
    """Begin a try at a password, which counts as failed from now on; None: unknown, disabled or at rest."""
    return await tx.maybe(
        sql.take_attempt,
        Attempt,
        email=email,
        tries=TRIES,
        first_seconds=FIRST_REST_SECONDS,
        longest_seconds=LONGEST_REST_SECONDS,
    )


async def forgive(tx: Transaction, *, staff: UUID) -> None:
    """The password was right: nothing counts against the account any more."""
    await tx.send(sql.forgive, id=staff)


async def rehash(tx: Transaction, *, attempt: Attempt, password_hash: str) -> None:
    """Keep the same password by newer parameters, unless it was changed meanwhile."""
    await tx.send(sql.rehash, id=attempt.id, old=attempt.password_hash, new=password_hash)


async def set_password(tx: Transaction, *, email: str, password_hash: str) -> UUID:
    """Change a password and end every session; the account's id. Raises NoSuchStaff."""
    found = await tx.maybe(sql.set_password, _Id, email=email, password_hash=password_hash)
    return await _out_everywhere(tx, found, email)


async def disable(tx: Transaction, *, email: str) -> UUID:
    """Take an account out of use at once and for ever; its id. Raises NoSuchStaff."""
    return await _out_everywhere(tx, await tx.maybe(sql.disable, _Id, email=email), email)


async def open_session(tx: Transaction, *, session: bytes, staff: UUID, csrf: bytes) -> None:
    """Log a browser in; `session` is the SHA-256 of its secret."""
    await tx.send(sql.forget_sessions, staff=staff)
    await tx.send(sql.open_session, id=session, staff=staff, csrf=csrf, seconds=SESSION_SECONDS)


async def see_session(tx: Transaction, *, session: bytes) -> None:
    """It is in use, so it does not end for being idle."""
    await tx.send(sql.see_session, id=session)


async def end_session(tx: Transaction, *, session: bytes) -> None:
    """Log a browser out; one that is out already stays so."""
    await tx.send(sql.end_session, id=session)


async def end_sessions(tx: Transaction, *, staff: UUID, except_session: bytes = b"") -> int:
    """Log every browser of an account out, but for one; how many."""
    return await tx.execute(sql.end_sessions, staff=staff, except_id=except_session)


async def _out_everywhere(tx: Transaction, found: _Id | None, email: str) -> UUID:
    if found is None:
        raise NoSuchStaff(f"There is no account for {email}, or it is disabled.")
    await end_sessions(tx, staff=found.id)
    return found.id
