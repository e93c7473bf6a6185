"""Hold tokens: the right of a guest to the booking they made. Derived, so nothing has to be stored or looked up."""

import base64
import hashlib
import hmac
from uuid import UUID


def hold_token(booking: UUID, *, secret: str) -> str:
    """43 URL-safe characters that only who knows `secret` can make for this booking."""
    digest = hmac.digest(secret.encode(), b"kiti hold token\x00" + booking.bytes, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_hold_token(token: str, booking: UUID, *, secret: str) -> bool:
    """Whether `token` is the right to `booking`; constant time."""
    return hmac.compare_digest(token.encode(), hold_token(booking, secret=secret).encode())
