"""Who is calling, and whether this is theirs. Headers that merely claim an identity are never read."""

import hmac
from typing import Any
from uuid import UUID

from litestar import Request

from kiti.core.errors import NotAllowed, NotAuthenticated
from kiti.core.settings import Settings
from kiti.core.tokens import is_hold_token
from kiti.flows.house import House
from kiti.flows.sign_in import staff_of_token
from kiti.people.model import Staff


def check_booking(request: Request[Any, Any, Any], booking: UUID, settings: Settings) -> None:
    """Raise unless the caller holds the booking's token: `Authorization: Hold <token>` or `?token=`."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    token = credentials.strip() if scheme.lower() == "hold" else request.query_params.get("token", "")
    if not token:
        raise NotAuthenticated("Send the booking's holdToken as `Authorization: Hold <token>` or `?token=`.")
    if not is_hold_token(token, booking, secret=settings.jwt_secret):
        raise NotAllowed("This token is not for this booking.")


def check_scheduler(request: Request[Any, Any, Any], settings: Settings) -> None:
    """Raise unless the caller knows JOB_SECRET_KEY: `Authorization: Bearer` or `x-job-secret`."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    secret = credentials.strip() if scheme.lower() == "bearer" else request.headers.get("x-job-secret", "")
    if not hmac.compare_digest(secret.encode(), settings.job_secret_key.encode()):
        raise NotAuthenticated("Send the job secret as `Authorization: Bearer <JOB_SECRET_KEY>`.")


async def staff_of(request: Request[Any, Any, Any], house: House) -> Staff:
    """Who calls: `Authorization: Bearer <token of /api/auth/login>`. Raises NotAuthenticated.

    What they may do is for `kiti.flows.staff.require` to say.
    """
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not credentials.strip():
        raise NotAuthenticated("Send a token of /api/auth/login as `Authorization: Bearer <token>`.")
    return await staff_of_token(house, token=credentials.strip())
