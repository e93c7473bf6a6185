"""Reading staff: who somebody is, if they may work now."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from kiti.core.errors import NotFound
from kiti.db import Reader, load
from kiti.people.model import IDLE_SECONDS, Account, Operator, Role, Session, Staff

sql = load("kiti.people")


class _Now(msgspec.Struct, frozen=True):
    now: datetime


async def active(reader: Reader, *, staff: UUID) -> Staff | None:
    """The person, unless their account is disabled."""
    return await reader.maybe(sql.active, _staff, id=staff)


async def of_token(reader: Reader, *, staff: UUID, issued: int, expires: int) -> Staff | None:
    """The person, if a token of theirs is good still; times in Unix seconds, by the database's clock."""
    return await reader.maybe(sql.of_token, _staff, id=staff, issued=issued, expires=expires)


async def accounts(reader: Reader, *, email: str | None = None) -> list[Account]:
    """Up to 1000 accounts, those of the platform first; or the one with this address."""
    return await reader.many(sql.accounts, _account, email=email)


async def operator_by_code(reader: Reader, *, code: str) -> Operator:
    """The operator; raises NotFound."""
    found = await reader.maybe(sql.operator_by_code, Operator, code=code)
    if found is None:
        raise NotFound(f"There is no operator {code!r}.")
    return found


async def session(reader: Reader, *, session: bytes) -> Session | None:
    """A browser's session, unless it has ended, lapsed or been idle, or its account is disabled."""
    return await reader.maybe(sql.session, _session, id=session, idle_seconds=IDLE_SECONDS)


async def now(reader: Reader) -> datetime:
    """The clock that decides when tokens and sessions end."""
    return (await reader.one(sql.now, _Now)).now


def _staff(
    *,
    id: UUID,  # noqa: A002 - the column's name
    email: str,
    name: str,
    role: Role,
    operator_id: UUID | None,
    operator_code: str | None,
    operator_name: str | None,
    operator_timezone: str | None,
) -> Staff:
    operator = None
    if operator_id is not None:
        assert operator_code is not None
        assert operator_name is not None
        assert operator_timezone is not None
        operator = Operator(id=operator_id, code=operator_code, name=operator_name, timezone=operator_timezone)
    return Staff(id=id, email=email, name=name, role=role, operator=operator)


def _account(
    *,
    disabled_at: datetime | None,
    locked_until: datetime | None,
    last_seen_at: datetime | None,
    **person: Any,
) -> Account:
    return Account(
        staff=_staff(**person),
        disabled_at=disabled_at,
        locked_until=locked_until,
        last_seen_at=last_seen_at,
    )


def _session(*, session_id: bytes, csrf: bytes, created_at: datetime, **person: Any) -> Session:
    return Session(id=session_id, staff=_staff(**person), csrf=csrf, created_at=created_at)
