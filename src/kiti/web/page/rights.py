"""What a guest may open: the bookings whose hold tokens their browser keeps, or brings along in a link."""

from typing import Any
from uuid import UUID

from litestar import Request
from litestar.datastructures import Cookie

from kiti.core.errors import KitiError
from kiti.core.settings import Settings
from kiti.core.tokens import hold_token, is_hold_token

COOKIE = "kiti_bookings"
COOKIE_SECONDS = 90 * 24 * 3600
KEPT = 8
# A UUID, a colon, the 43 characters of a token; and something between two of them.
ENTRY_LENGTH = 81


class NotYours(KitiError):
    """The browser has no right to this booking."""


def check(request: Request[Any, Any, Any], booking: UUID, settings: Settings) -> None:
    """Raise NotYours unless the browser keeps the booking's token, or the address has it."""
    if not is_brought(request, booking, settings) and booking not in mine(request, settings):
        raise NotYours("This booking is not open on this phone.")


def is_brought(request: Request[Any, Any, Any], booking: UUID, settings: Settings) -> bool:
    """Whether the address itself has the booking's token: `?token=`."""
    token = request.query_params.get("token", "")
    return bool(token) and is_hold_token(token, booking, secret=settings.jwt_secret)


def mine(request: Request[Any, Any, Any], settings: Settings) -> list[UUID]:
    """The bookings that the browser has a right to, the newest first."""
    found = []
    for entry in request.cookies.get(COOKIE, "")[: KEPT * ENTRY_LENGTH].split("|"):
        name, _, token = entry.partition(":")
        try:
            booking = UUID(name)
        except ValueError:
            continue  # what is no booking of ours gives no right
        if is_hold_token(token, booking, secret=settings.jwt_secret):
            found.append(booking)
    return found


def grant(request: Request[Any, Any, Any], booking: UUID, settings: Settings) -> Cookie:
    """The cookie with which the browser has a right to one more booking; the oldest one gives way."""
    kept = [booking, *(other for other in mine(request, settings) if other != booking)][:KEPT]
    value = "|".join(f"{one}:{hold_token(one, secret=settings.jwt_secret)}" for one in kept)
    return Cookie(
        key=COOKIE,
        value=value,
        max_age=COOKIE_SECONDS,
        path="/",
        httponly=True,
        secure=settings.is_secure,
        samesite="lax",
    )
