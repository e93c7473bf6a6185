"""Who is there: a password, then a browser's session or a short token for programs.

A session is a row, found by the SHA-256 of the secret in the browser's cookie: whoever reads the database cannot log
in with it. A token is a JWT (RFC 7519) signed with HS256 and JWT_SECRET; the account is looked up with each use, so a
disabled one is out at once. When either ends is decided by the database's clock.
"""

import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import jwt
import msgspec
import structlog

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.core.errors import InvalidInput, NotAuthenticated
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.passwords import hash_password, is_outdated, is_password, turn
from kiti.flows.staff import address_of
from kiti.people import actions as people
from kiti.people import reads as people_reads
from kiti.people.model import LONGEST_PASSWORD, TOKEN_SECONDS, Attempt, Session, Staff

log = structlog.get_logger(__name__)

ALGORITHM = "HS256"
ISSUER = "kiti"
AUDIENCE = "kiti-api"
LONGEST_TOKEN = 1000
_SALT_BYTES = 16


class WrongCredentials(NotAuthenticated):
    """Unknown, disabled, at rest, or another password: which of them is not told."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A JWT, and when it ends."""

    text: str
    expires_at: datetime


async def check_password(house: House, *, email: str, password: str) -> Staff:
    """Who has this address and this password. Raises WrongCredentials, Overloaded.

    All ways of being wrong compare one hash and say the same. An attempt is written down as failed before the
    password is looked at, and forgiven when it was right: so guessing side by side gets no further than in a row.
    """
    with turn():
        attempt = await _attempt(house, email)
        password_hash = None if attempt is None else attempt.password_hash
        is_right = await is_password(password[: LONGEST_PASSWORD + 1], password_hash)
    if attempt is None or not is_right:
        log.info("a login was refused", staff=None if attempt is None else str(attempt.id))
        raise WrongCredentials(
            "This e-mail address and password do not open an account. After five wrong passwords an account rests for"
            " some minutes."
        )
    newer = await hash_password(password) if is_outdated(attempt.password_hash) else None

    async def work(tx: Transaction) -> Staff | None:
        await people.forgive(tx, staff=attempt.id)
        if newer is not None:
            await people.rehash(tx, attempt=attempt, password_hash=newer)
        await audit.record(tx, events=[Event(subject=attempt.id, actor=f"staff:{attempt.id}", action="staff.came")])
        return await people_reads.active(tx, staff=attempt.id)

    staff = await house.db.run(work)
    if staff is None:
        raise WrongCredentials("This account was disabled a moment ago.")
    return staff


async def open_session(house: House, *, staff: Staff, instead_of: str = "") -> str:
    """Log a browser in; the secret for its cookie, always a new one. `instead_of` is the secret it had before."""
    secret = secrets.token_urlsafe(32)

    async def work(tx: Transaction) -> None:
        if instead_of:
            await people.end_session(tx, session=_digest(instead_of))
        await people.open_session(tx, session=_digest(secret), staff=staff.id, csrf=secrets.token_bytes(32))

    await house.db.run(work)
    return secret


async def session_of(house: House, *, secret: str) -> Session | None:
    """The session of a cookie, which counts as in use from now on; None if it is none or has ended."""
    if not secret:
        return None
    digest = _digest(secret)

    async def work(tx: Transaction) -> Session | None:
        found = await people_reads.session(tx, session=digest)
        if found is not None:
            await people.see_session(tx, session=digest)
        return found

    return await house.db.run(work)


async def close_session(house: House, *, session: Session) -> None:
    """Log a browser out."""

    async def work(tx: Transaction) -> None:
        await people.end_session(tx, session=session.id)

    await house.db.run(work)


async def close_others(house: House, *, session: Session) -> int:
    """Log every other browser of this person out; how many."""

    async def work(tx: Transaction) -> int:
        return await people.end_sessions(tx, staff=session.staff.id, except_session=session.id)

    return await house.db.run(work)


def form_token(session: Session) -> str:
    """What a form of this session carries. New each time, so that compressed pages do not give it away (BREACH)."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return (salt + _keyed(session, salt)).hex()


def is_form_token(token: str, session: Session) -> bool:
    """Whether a form came from a page of this session; constant time."""
    try:
        sent = bytes.fromhex(token)
    except ValueError:  # nothing that we write
        return False
    salt, digest = sent[:_SALT_BYTES], sent[_SALT_BYTES:]
    return hmac.compare_digest(digest, _keyed(session, salt))


async def issue_token(house: House, *, staff: Staff) -> Token:
    """A JWT for programs, good for 15 minutes."""
    async with house.db.reader() as reader:
        issued = int((await people_reads.now(reader)).timestamp())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(staff.id),
        "iat": issued,
        "exp": issued + TOKEN_SECONDS,
    }
    text = jwt.encode(claims, house.settings.jwt_secret, algorithm=ALGORITHM)
    return Token(text=text, expires_at=datetime.fromtimestamp(issued + TOKEN_SECONDS, UTC))


def account_of_token(house: House, *, token: str) -> UUID | None:
    """Whose token this is or was; None for one that is forged. Says nothing about what it is good for."""
    claims = _claims(token, house.settings.jwt_secret)
    return None if claims is None else claims.sub


async def staff_of_token(house: House, *, token: str) -> Staff:
    """Whose token this is; raises NotAuthenticated for one that is forged, over, or of a disabled account."""
    claims = _claims(token, house.settings.jwt_secret)
    if claims is not None:
        async with house.db.reader() as reader:
            staff = await people_reads.of_token(reader, staff=claims.sub, issued=claims.iat, expires=claims.exp)
        if staff is not None:
            return staff
    raise NotAuthenticated("This token is over or was never good. Get a new one from /api/auth/login.")


_UnixSeconds = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]


class _Claims(msgspec.Struct, frozen=True):
    sub: UUID
    iat: _UnixSeconds
    exp: _UnixSeconds


def _claims(token: str, secret: str) -> _Claims | None:
    """What a token of ours says, if we made it; whether it is over is asked of the database's clock."""
    if len(token) > LONGEST_TOKEN:
        return None
    try:
        found = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=AUDIENCE,
            options={"require": ["iss", "aud", "sub", "iat", "exp"], "verify_exp": False, "verify_iat": False},
        )
        return msgspec.convert(found, _Claims)
    except (jwt.InvalidTokenError, msgspec.ValidationError):
        return None


async def _attempt(house: House, email: str) -> Attempt | None:
    try:
        address = address_of(email)
    except InvalidInput:
        return None  # no account has it, and nobody is told sooner

    async def work(tx: Transaction) -> Attempt | None:
        return await people.take_attempt(tx, email=address)

    return await house.db.run(work)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _keyed(session: Session, salt: bytes) -> bytes:
    return hmac.digest(session.csrf, salt, hashlib.sha256)
