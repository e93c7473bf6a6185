"""Tokens that only we can make, so that nothing has to be stored or looked up.

A hold token is the right of a guest to the booking they made. A sealed message is read by whoever gets it, and can be
changed by nobody.
"""

import base64
import hashlib
import hmac
from functools import cache
from uuid import UUID


def hold_token(booking: UUID, *, secret: str) -> str:
    """43 URL-safe characters that only who knows `secret` can make for this booking."""
    keyed = _keyed(secret).copy()
    keyed.update(booking.bytes)
    return base64.urlsafe_b64encode(keyed.digest()).decode().rstrip("=")


@cache
def _keyed(secret: str) -> hmac.HMAC:
    """Setting up the key costs more than using it, and every reservation needs one token."""
    return hmac.new(secret.encode(), b"kiti hold token\x00", hashlib.sha256)


def is_hold_token(token: str, booking: UUID, *, secret: str) -> bool:
    """Whether `token` is the right to `booking`; constant time."""
    return hmac.compare_digest(token.encode(), hold_token(booking, secret=secret).encode())


def seal(message: bytes, *, label: str, secret: str) -> str:
    """The message and its HMAC-SHA256 in base64url; `label` keeps what is sealed for one purpose from another's."""
    digest = hmac.digest(secret.encode(), f"kiti {label}\x00".encode() + message, hashlib.sha256)
    return base64.urlsafe_b64encode(message + digest).decode().rstrip("=")


def unseal(token: str, *, label: str, secret: str) -> bytes | None:
    """The message of a token that was sealed so, None for any other text; constant time for those of one length."""
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:  # no base64
        return None
    message = sealed[: -hashlib.sha256().digest_size]
    # Sealed anew and compared as it is written, so that each message has one token and no other spelling of it.
    is_ours = hmac.compare_digest(token.encode(), seal(message, label=label, secret=secret).encode())
    return message if is_ours else None
