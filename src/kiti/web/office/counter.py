"""The counter: find a booking by its reference, take what is due, hand back what is owed."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.response import Redirect

from kiti.cash.model import LONGEST_COUNTER
from kiti.core.errors import InvalidInput, KitiError, NotAllowed, NotFound
from kiti.core.money import Money
from kiti.flows import cash, counter
from kiti.flows.counter import AtCounter
from kiti.flows.house import House
from kiti.flows.staff import require
from kiti.people.model import Session
from kiti.web.office.entry import HOME, at_desk, at_desk_with_form, office_page

REFERENCE_LENGTH = 20
DIGITS = 18


@get("/cash")
async def show_counter(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """A field for the reference, and the booking that was found."""
    session = await at_desk(request, house)
    require(session.staff, "cash.take")
    typed = request.query_params.get("reference", "")[:REFERENCE_LENGTH]
    where = request.query_params.get("counter", "")[:LONGEST_COUNTER]
    if not typed:
        return _counter(session, typed=typed, where=where)
    try:
        found = await counter.look(house, reference=typed, staff=session.staff)
    except (NotFound, InvalidInput, NotAllowed) as wrong:
        return _counter(session, typed=typed, where=where, problem=str(wrong), status=404)
    return _counter(session, typed=typed, where=where, found=found)


@post("/cash/{booking_id:uuid}", status_code=303)
async def take(request: Request[Any, Any, Any], house: House, booking_id: UUID) -> Response[Any]:
    """The money lies on the counter: write the receipt, and show it; or say why no money may be taken."""
    session = await at_desk_with_form(request, house)
    form = await request.form()
    typed, where = str(form.get("reference", ""))[:REFERENCE_LENGTH], str(form.get("counter", ""))
    try:
        await counter.take_for(
            house,
            booking=booking_id,
            amount=_whole(str(form.get("amount", ""))),
            currency=str(form.get("currency", "")),
            counter=where,
            staff=session.staff,
        )
    except NotAllowed:
        raise
    except KitiError as refused:
        return _counter(session, typed=typed, where=where, problem=str(refused), status=409)
    return _to_counter(typed, where)


@post("/cash/refunds/{refund_id:uuid}", status_code=303)
async def hand_out(request: Request[Any, Any, Any], house: House, refund_id: UUID) -> Response[Any]:
    """The money of a refund was handed back: write that down, once."""
    session = await at_desk_with_form(request, house)
    form = await request.form()
    typed, where = str(form.get("reference", ""))[:REFERENCE_LENGTH], str(form.get("counter", ""))
    try:
        await cash.hand_out(house, refund=refund_id, counter=where, staff=session.staff)
    except NotAllowed:
        raise
    except KitiError as refused:
        return _counter(session, typed=typed, where=where, problem=str(refused), status=409)
    return _to_counter(typed, where)


def _counter(
    session: Session,
    *,
    typed: str,
    where: str,
    found: AtCounter | None = None,
    problem: str = "",
    status: int = 200,
) -> Response[Any]:
    return office_page(
        "cash.html",
        session=session,
        status=status,
        here="cash",
        typed=typed,
        where=where,
        found=found,
        money=Money,
        problem=problem,
    )


def _to_counter(typed: str, where: str) -> Redirect:
    return Redirect(f"{HOME}/cash?{urlencode({'reference': typed, 'counter': where})}", status_code=303)


def _whole(typed: str) -> int:
    if not typed.isascii() or not typed.isdecimal() or len(typed) > DIGITS:
        raise InvalidInput("amount", "The amount is not a number. Look the booking up again.")
    return int(typed)


ROUTES = [show_counter, take, hand_out]
