"""Error pages: what happened, and what to do next. The status stays what it is."""

from typing import Any

import psycopg
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, NotFoundException

from kiti.bookings.actions import WrongState
from kiti.core.errors import InvalidInput, KitiError, NotFound, Overloaded
from kiti.db import DatabaseUnavailable
from kiti.flows.changes import FareDiffers
from kiti.flows.checkout import GatewayUnclear, PaymentRefused
from kiti.flows.holds import HoldLapsed
from kiti.flows.plan import SeatsTaken, TripNotOnSale
from kiti.network.model import NotOnTrip
from kiti.payments.actions import PaymentChanged
from kiti.tickets.actions import TicketsUsed
from kiti.web.page.language import marked
from kiti.web.page.render import page
from kiti.web.page.rights import NotYours
from kiti.web.page.security import SentFromElsewhere, harden

log = structlog.get_logger(__name__)

SERVER_ERRORS = 500
# From an error to its status, what it is, and what to do next; the first that fits wins.
TABLE: tuple[tuple[type[KitiError], int, str, str], ...] = (
    (
        HoldLapsed,
        409,
        marked("The time for these seats is over"),
        marked("They were not paid for in time. Search again: they may still be free."),
    ),
    (
        SeatsTaken,
        409,
        marked("Somebody was quicker"),
        marked("These seats have just been taken. Choose others on the same trip, or another trip."),
    ),
    (
        TripNotOnSale,
        409,
        marked("This trip is not on sale any more"),
        marked("It has left, or it was cancelled. Search for another one."),
    ),
    (
        FareDiffers,
        409,
        marked("That seat has another price"),
        marked("Choose a seat of the same price."),
    ),
    (
        TicketsUsed,
        409,
        marked("Somebody has boarded with this ticket"),
        marked("Its seat cannot be changed any more."),
    ),
    (
        NotOnTrip,
        404,
        marked("This trip does not go that way"),
        marked("Search again: we will show the trips that do."),
    ),
    (NotFound, 404, marked("There is nothing here"), marked("The address may be old or mistyped. Start from search.")),
    (
        NotYours,
        403,
        marked("This booking is not open on this phone"),
        marked("Open it with its reference and the phone number that was given when booking."),
    ),
    (
        SentFromElsewhere,
        403,
        marked("This form did not come from our page"),
        marked("Open the page here and send it again."),
    ),
    (
        WrongState,
        409,
        marked("That cannot be done any more"),
        marked("The booking has changed meanwhile. Open it to see how it stands."),
    ),
    (
        PaymentChanged,
        409,
        marked("The payment has changed meanwhile"),
        marked("Open your booking to see how it stands."),
    ),
    (
        PaymentRefused,
        402,
        marked("The payment was declined"),
        marked("Nothing was charged. Try again, or pay another way."),
    ),
    (
        GatewayUnclear,
        504,
        marked("The payment service does not answer"),
        marked("You have not been charged. Try again in a moment."),
    ),
    (InvalidInput, 422, marked("Something in the address is wrong"), marked("Start again from search.")),
    (Overloaded, 503, marked("Very many people are here"), marked("Try again in a moment.")),
    (
        DatabaseUnavailable,
        503,
        marked("We cannot look that up right now"),
        marked("Nothing is lost. Try again in a moment."),
    ),
)
NO_PAGE = (marked("There is no such page"), marked("The address may be old or mistyped. Start from search."))
NO_METHOD = (marked("That does not work here"), marked("Go back and try again from the page before."))
BUG = (
    marked("Something went wrong on our side"),
    marked("It has been noted. Nothing was charged twice or lost; try again in a moment."),
)


def of_kiti_error(request: Request[Any, Any, Any], error: KitiError) -> Response[str]:
    """An error of ours, by the table."""
    row = next((row for row in TABLE if isinstance(error, row[0])), None)
    if row is None:
        return of_bug(request, error)
    kind, status, title, advice = row
    return _page(request, status, (title, advice), find=kind is NotYours)


def of_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[str]:
    """An error of the framework, mostly: no such page."""
    if error.status_code >= SERVER_ERRORS:
        return of_bug(request, error)
    return _page(request, error.status_code, NO_PAGE if isinstance(error, NotFoundException) else NO_METHOD)


def of_lost_database(request: Request[Any, Any, Any], error: psycopg.OperationalError) -> Response[str]:
    """PostgreSQL went away while it was being asked."""
    log.warning("the database went away", path=request.url.path, method=request.method, error=str(error))
    return of_kiti_error(request, DatabaseUnavailable("The database does not answer."))


def of_bug(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """Something that we did not foresee: the log gets all of it, the traveller a sentence."""
    log.error("unforeseen", path=request.url.path, method=request.method, exc_info=error)
    return _page(request, SERVER_ERRORS, BUG)


def _page(
    request: Request[Any, Any, Any], status: int, sentences: tuple[str, str], *, find: bool = False
) -> Response[str]:
    title, advice = sentences
    response = page(request, "page/error.html", status=status, title=title, advice=advice, find=find)
    response.headers["Cache-Control"] = "no-store"
    harden(response)
    return response
