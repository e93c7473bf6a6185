"""The one table that turns errors into problem+json (RFC 9457)."""

import re
import traceback
from collections.abc import Mapping
from typing import Any

import msgspec
import psycopg
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, NotAuthorizedException, ValidationException
from litestar.exceptions import NotFoundException as NoRoute

from kiti.bookings.actions import WrongState
from kiti.core.errors import InvalidInput, KitiError, NotAllowed, NotAuthenticated, NotFound, Overloaded
from kiti.db import DatabaseUnavailable
from kiti.flows.cash import AlreadyHandedOut, AlreadyTaken
from kiti.flows.changes import FareDiffers
from kiti.flows.checkout import GatewayUnclear, PaymentRefused
from kiti.flows.corrections import NotReversible
from kiti.flows.idempotency import KeyInUse, KeyReused
from kiti.flows.payment_options import GatewayAtFault
from kiti.flows.plan import SeatsTaken, TripNotOnSale
from kiti.flows.waiting import NotAdmitted, PlaceForged
from kiti.flows.webhooks import ForgedWebhook
from kiti.payments.actions import PaymentChanged, RefundExceedsCharge
from kiti.settlements.actions import SettlementChanged
from kiti.tickets.actions import TicketsUsed

log = structlog.get_logger(__name__)

MISSING_PARAMETER = re.compile(r"Missing required \w+ parameter '([^']+)'")
MEDIA_TYPE = "application/problem+json"
CLIENT_ERRORS = 400
SERVER_ERRORS = 500


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field, named as the caller spelt it."""

    field: str
    message: str


class Answer(msgspec.Struct, frozen=True):
    """A problem as it goes out, whichever way the request came in."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}

    def to_response(self) -> Response[bytes]:
        """For Litestar."""
        return Response(
            self.body,
            status_code=self.status,
            media_type=MEDIA_TYPE,
            headers={"Cache-Control": "no-store", **self.headers},
        )


class Problem(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """RFC 9457's members and ours. `error` repeats the title, `statusCode` the status."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    status_code: int
    instance: str = ""
    errors: list[FieldError] = []
    seat_numbers: list[str] = []


# From an error to its status, code and title; the first that fits wins.
TABLE: tuple[tuple[type[KitiError], int, str, str], ...] = (
    (SeatsTaken, 409, "CONFLICT", "Seats taken"),
    (TripNotOnSale, 409, "CONFLICT", "Trip not on sale"),
    (KeyInUse, 409, "CONFLICT", "Key in use"),
    (KeyReused, 422, "IDEMPOTENCY_MISMATCH", "Key used for another request"),
    (InvalidInput, 422, "VALIDATION_ERROR", "Invalid input"),
    (NotFound, 404, "NOT_FOUND", "Not found"),
    (WrongState, 409, "CONFLICT", "Wrong state"),
    (AlreadyTaken, 409, "CONFLICT", "Taken already"),
    (AlreadyHandedOut, 409, "CONFLICT", "Handed out already"),
    (FareDiffers, 409, "CONFLICT", "Fare differs"),
    (TicketsUsed, 409, "CONFLICT", "Already boarded"),
    (PaymentChanged, 409, "CONFLICT", "Changed meanwhile"),
    (RefundExceedsCharge, 409, "CONFLICT", "More than was paid"),
    (SettlementChanged, 409, "CONFLICT", "Changed meanwhile"),
    (NotReversible, 409, "CONFLICT", "Not reversible"),
    (PaymentRefused, 402, "PAYMENT_ERROR", "Payment declined"),
    (GatewayAtFault, 502, "PAYMENT_ERROR", "Payment service unavailable"),
    (GatewayUnclear, 504, "PAYMENT_ERROR", "Payment service did not answer"),
    (ForgedWebhook, 401, "AUTHENTICATION_ERROR", "Signature refused"),
    (NotAuthenticated, 401, "AUTHENTICATION_ERROR", "Not authenticated"),
    (NotAllowed, 403, "AUTHORIZATION_ERROR", "Not allowed"),
    (NotAdmitted, 429, "RATE_LIMITED", "Wait for your turn"),
    (PlaceForged, 403, "AUTHORIZATION_ERROR", "Place refused"),
    (Overloaded, 503, "OVERLOADED", "Too busy"),
    (DatabaseUnavailable, 503, "UNAVAILABLE", "Try again"),
)

CODES = {
    400: "VALIDATION_ERROR",
    401: "AUTHENTICATION_ERROR",
    403: "AUTHORIZATION_ERROR",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "VALIDATION_ERROR",
    429: "RATE_LIMITED",
}


def of_any(error: Exception, *, path: str, method: str) -> Answer:
    """An error of ours by the table, of PostgreSQL, or one that we did not foresee."""
    match error:
        case KitiError():
            return _of_kiti_error(error, path=path, method=method)
        case psycopg.OperationalError():
            # It went away or could not get a lock in the middle of it: what was not committed has not happened.
            log.warning("the database did not do it", path=path, method=method, exc_info=error)
            detail = "The database did not answer. Look whether it was done, then try again in a moment."
            return _answer(path, 503, "UNAVAILABLE", "Try again", detail, headers={"Retry-After": "1"})
        case msgspec.ValidationError():
            return _answer(path, 422, CODES[422], "Invalid input", "See errors.", errors=[_of_validation(error)])
        case msgspec.DecodeError() | UnicodeDecodeError() | RecursionError():
            detail = "The body is no JSON, not UTF-8, or nested too deeply."
            return _answer(path, 400, CODES[400], "Malformed JSON", detail)
        case _:
            return _of_bug(error, path=path, method=method)


def of_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """An error of the framework: no such route, a body that is not what it should be."""
    path = request.url.path
    if isinstance(error, NotAuthorizedException):
        return _answer(path, 401, CODES[401], "Not authenticated", error.detail).to_response()
    if isinstance(error, ValidationException):
        wrong = _fields(request, error)
        return _answer(path, 422, CODES[422], "Invalid input", "See errors.", errors=wrong).to_response()
    if error.status_code >= SERVER_ERRORS:
        return of_error(request, error)
    detail = "There is nothing at this address." if isinstance(error, NoRoute) else error.detail
    code = CODES.get(error.status_code, "BAD_REQUEST")
    title = detail.partition(":")[0][:80]
    return _answer(path, error.status_code, code, title, detail, headers=error.headers).to_response()


def of_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Any other error, for Litestar."""
    if _is_undecodable_body(error):
        detail = "The body is not UTF-8, or nested too deeply."
        return _answer(request.url.path, 400, CODES[400], "Malformed JSON", detail).to_response()
    return of_any(error, path=request.url.path, method=request.method).to_response()


def _of_kiti_error(error: KitiError, *, path: str, method: str) -> Answer:
    row = next((row for row in TABLE if isinstance(error, row[0])), None)
    if row is None:  # one that the table lacks is a bug
        return _of_bug(error, path=path, method=method)
    _, status, code, title = row
    errors = [FieldError(error.field, error.message)] if isinstance(error, InvalidInput) else []
    seats = error.seats if isinstance(error, SeatsTaken) else []
    headers = {"Retry-After": str(error.retry_after_seconds)} if isinstance(error, Overloaded | NotAdmitted) else {}
    if isinstance(error, KeyInUse):
        headers = {"Retry-After": "1"}
    return _answer(path, status, code, title, str(error), errors=errors, seats=seats, headers=headers)


def _of_validation(error: msgspec.ValidationError) -> FieldError:
    """The decoder's own words: "Expected `int`, got `str` - at `$.seatCount`"."""
    message, _, place = str(error).partition(" - at ")
    return FieldError(place.strip("`").removeprefix("$").lstrip(".") or "body", message)


def _of_bug(error: Exception, *, path: str, method: str) -> Answer:
    """The log gets all of it, the caller a sentence."""
    log.error("unforeseen", path=path, method=method, exc_info=error)
    detail = "Something went wrong on our side. It has been noted; try again in a moment."
    return _answer(path, 500, "INTERNAL_ERROR", "Internal error", detail)


def _is_undecodable_body(error: Exception) -> bool:
    """Litestar turns only some of the decoder's errors into a 400; these two are raised as they are."""
    if not isinstance(error, UnicodeDecodeError | RecursionError) or error.__traceback__ is None:
        return False
    *_, last = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return str(last.f_globals.get("__name__", "")).startswith("litestar.serialization")


def _fields(request: Request[Any, Any, Any], error: ValidationException) -> list[FieldError]:
    extra = error.extra if isinstance(error.extra, list) else []
    found = [
        FieldError(_as_spelt(request, item), str(item.get("message", ""))) for item in extra if isinstance(item, dict)
    ]
    missing = MISSING_PARAMETER.match(error.detail)
    if not found and missing is not None:
        return [FieldError(missing[1], "It is required.")]
    return found or [FieldError("body", error.detail)]


def _as_spelt(request: Request[Any, Any, Any], item: Mapping[str, Any]) -> str:
    """The field by the name that callers know; for a parameter of the query Litestar tells ours."""
    key = str(item.get("key") or "body")
    if item.get("source") == "body":
        return key
    parameter = request.route_handler.parsed_fn_signature.parameters.get(key)
    name = getattr(parameter.kwarg_definition, "name", None) if parameter is not None else None
    return name or key


def _answer(
    path: str,
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    errors: list[FieldError] | None = None,
    seats: list[str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    problem = Problem(
        type="about:blank",
        title=title,
        status=status,
        detail=detail,
        code=code,
        error=title,
        status_code=status,
        instance=path,
        errors=errors or [],
        seat_numbers=seats or [],
    )
    return Answer(status, msgspec.json.encode(problem), headers or {})
