"""The office's door: log in, the first page, log out. And what is said when something is not to be."""

from typing import Any

import structlog
from litestar import Request, Response, Router, get, post
from litestar.response import Redirect

from kiti.bookings.actions import WrongState
from kiti.core.errors import InvalidInput, KitiError, NotAllowed, NotFound, Overloaded
from kiti.disputes.actions import DisputeChanged, DisputeNotAnswerable
from kiti.flows.breaks import NothingToSettle
from kiti.flows.checkout import GatewayUnclear
from kiti.flows.dispute_answers import NoAnswersThere
from kiti.flows.hooks import EndpointDisabled
from kiti.flows.house import House
from kiti.flows.plan import SeatsTaken, TripNotOnSale
from kiti.flows.review_queue import QUEUE_LINES, queue
from kiti.flows.sign_in import WrongCredentials, check_password, close_others, close_session, open_session
from kiti.hooks.actions import OnItsWay
from kiti.payments.actions import BreakChanged, PaymentChanged, RefundExceedsCharge
from kiti.people.model import MAY
from kiti.settlements.actions import SettlementChanged
from kiti.web.office.breaks import ROUTES as BREAKS
from kiti.web.office.counter import ROUTES as COUNTER
from kiti.web.office.disputes import ROUTES as DISPUTES
from kiti.web.office.entry import (
    HOME,
    LOGIN,
    FormNotOurs,
    NotSignedIn,
    at_desk,
    at_desk_with_form,
    is_login_form,
    login_address,
    login_cookie,
    new_login_form,
    office_page,
    office_path,
    session_cookie,
    session_secret,
)
from kiti.web.office.hooks import ROUTES as HOOKS
from kiti.web.office.messages import ROUTES as MESSAGES
from kiti.web.office.money import ROUTES as MONEY
from kiti.web.office.payments import ROUTES as PAYMENTS
from kiti.web.office.refunds import ROUTES as REFUNDS
from kiti.web.office.review import ROUTES as REVIEW
from kiti.web.office.settlements import ROUTES as SETTLEMENTS
from kiti.web.page.security import SentFromElsewhere

log = structlog.get_logger(__name__)

EMAIL_LENGTH = 254
# From an error to its status and what it is; the first that fits wins.
TABLE: tuple[tuple[type[KitiError], int, str], ...] = (
    (FormNotOurs, 403, "This form is not from the page that is open"),
    (SentFromElsewhere, 403, "This form did not come from our page"),
    (NotAllowed, 403, "Not with this account"),
    (NotFound, 404, "There is nothing here"),
    (InvalidInput, 422, "Something in the address is wrong"),
    (PaymentChanged, 409, "It has changed meanwhile"),
    (WrongState, 409, "That is not possible as it stands"),
    (SeatsTaken, 409, "Somebody else has the seats"),
    (TripNotOnSale, 409, "The trip cannot be boarded any more"),
    (RefundExceedsCharge, 409, "There is nothing left to send back"),
    (GatewayUnclear, 504, "The gateway did not answer"),
    (SettlementChanged, 409, "It has changed meanwhile"),
    (BreakChanged, 409, "It has changed meanwhile"),
    (DisputeChanged, 409, "It has changed meanwhile"),
    (DisputeNotAnswerable, 409, "It cannot be answered any more"),
    (NoAnswersThere, 409, "Not from here"),
    (NothingToSettle, 409, "There is nothing to settle"),
    (EndpointDisabled, 409, "The endpoint is disabled"),
    (OnItsWay, 409, "Not now"),
)


@get("/login")
async def ask_password(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """The login form; whoever is logged in goes on."""
    onward = office_path(request.query_params.get("next", ""))
    try:
        await at_desk(request, house)
    except NotSignedIn:
        return _login(house, onward)
    return Redirect(onward, status_code=303)


@post("/login", status_code=303)
async def log_in(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """Begin a new session, or say what was wrong beside what was typed."""
    form = await request.form()
    onward = office_path(str(form.get("next", "")))
    email = str(form.get("email", ""))[:EMAIL_LENGTH]
    if not is_login_form(request, str(form.get("form", "")), house.settings):
        problem = "This page was open too long, or your browser keeps no cookies. Log in again."
        return _login(house, onward, status=403, email=email, problem=problem)
    try:
        staff = await check_password(house, email=email, password=str(form.get("password", "")))
    except WrongCredentials as wrong:
        return _login(house, onward, status=422, email=email, problem=str(wrong))
    except Overloaded as busy:
        return _login(house, onward, status=503, email=email, problem=str(busy))
    before = session_secret(request, house.settings)
    secret = await open_session(house, staff=staff, instead_of=before)
    answer = Redirect(onward, status_code=303)
    answer.set_cookie(session_cookie(secret, house.settings))
    answer.set_cookie(login_cookie("", house.settings))
    return answer


@post("/logout", status_code=303)
async def log_out(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """End this session."""
    session = await at_desk_with_form(request, house)
    await close_session(house, session=session)
    answer = Redirect(LOGIN, status_code=303)
    answer.set_cookie(session_cookie("", house.settings))
    return answer


@post("/sessions/end", status_code=303)
async def end_others(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """End this person's sessions in all other browsers."""
    session = await at_desk_with_form(request, house)
    ended = await close_others(house, session=session)
    return Redirect(f"{HOME}?ended={ended}", status_code=303)


@get("/")
async def show_office(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """Who is logged in, and what waits."""
    session = await at_desk(request, house)
    staff = session.staff
    sees_money = staff.can("payments.see") and staff.can("refunds.see")
    waiting = await queue(house, staff=staff) if sees_money else None
    ended = request.query_params.get("ended", "")
    return office_page(
        "home.html",
        session=session,
        here="home",
        waiting=waiting,
        most=QUEUE_LINES,
        may=sorted(MAY[staff.role]),
        began=session.created_at,
        ended=int(ended) if ended.isascii() and ended.isdecimal() and len(ended) < len("1000") else None,
    )


def to_login(request: Request[Any, Any, Any], _error: NotSignedIn) -> Response[Any]:
    """Whoever is not logged in is asked to, and comes back then."""
    return Redirect(login_address(request), status_code=303)


def of_kiti_error(_request: Request[Any, Any, Any], error: KitiError) -> Response[Any]:
    """An error of ours, in English and without a way into the shop."""
    status, title = next(((status, title) for kind, status, title in TABLE if isinstance(error, kind)), (503, ""))
    if not title:
        log.warning("the office could not do it", exc_info=error)
        title = "That did not work"
    return office_page("problem.html", session=None, status=status, here="", title=title, advice=str(error))


def _login(house: House, onward: str, *, status: int = 200, email: str = "", problem: str = "") -> Response[Any]:
    nonce, token = new_login_form(house.settings)
    answer = office_page(
        "login.html", session=None, status=status, here="login", token=token, next=onward, email=email, problem=problem
    )
    answer.set_cookie(login_cookie(nonce, house.settings))
    return answer


OFFICE = Router(
    path=HOME,
    route_handlers=[
        *(ask_password, log_in, log_out, end_others, show_office),
        *(*PAYMENTS, *REVIEW, *MONEY, *COUNTER, *BREAKS, *DISPUTES, *REFUNDS, *SETTLEMENTS, *MESSAGES, *HOOKS),
    ],
    exception_handlers={NotSignedIn: to_login, KitiError: of_kiti_error},
)
