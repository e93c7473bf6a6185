"""Messages to travellers that were given up: why, and sending one again."""

from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.response import Redirect

from kiti.core.errors import InvalidInput
from kiti.flows import parked_messages
from kiti.flows.house import House
from kiti.flows.parked_messages import PAGE_LINES, Filter, filter_of
from kiti.flows.staff import require
from kiti.messages.model import ParkedLine
from kiti.people.model import Staff
from kiti.web.office.entry import HOME, at_desk, at_desk_with_form, office_page
from kiti.web.office.filters import Field, address, choice, day, typed, word

CHANNELS = {"email": "mail", "sms": "text message"}
KINDS = {
    "held": "seats are held",
    "paid": "receipt",
    "failed": "payment failed",
    "ticket": "tickets",
    "changed": "booking changed",
    "reduced": "part cancelled",
    "replaced": "other seats",
    "cancelled": "booking cancelled",
    "refunded": "money went back",
}
TOLD = {
    "again": "It goes out again within a minute.",
    "before": "Nothing was sent by this: somebody else has sent it again already, or it was tried meanwhile.",
}


@get("/messages")
async def show_messages(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """The latest first."""
    session = await at_desk(request, house)
    require(session.staff, "messages.resend")
    errors: dict[str, str] = {}
    wanted = filter_of(channel="", operator="", since="", until="")
    try:
        wanted = filter_of(**typed(request, "channel", "operator", "since", "until"))
    except InvalidInput as wrong:
        errors = {wrong.field: wrong.message}
    fields = _fields(session.staff, wanted)
    return office_page(
        "messages.html",
        session=session,
        status=422 if errors else 200,
        here="messages",
        fields=fields,
        errors=errors,
        back=address("", fields),
        lines=[] if errors else await _lines(house, session.staff, wanted),
        most=PAGE_LINES,
        channels=CHANNELS,
        kinds=KINDS,
        told=TOLD.get(request.query_params.get("told", ""), ""),
    )


@post("/messages/{booking_id:uuid}/{message_id:uuid}/send", status_code=303)
async def send_message(
    request: Request[Any, Any, Any], house: House, booking_id: UUID, message_id: UUID
) -> Response[Any]:
    """Send one again, once however often the button is pressed."""
    session = await at_desk_with_form(request, house)
    require(session.staff, "messages.resend")
    fields = _fields(session.staff, filter_of(**typed(request, "channel", "operator", "since", "until")))
    tried = str((await request.form()).get("attempts", ""))
    if not (tried.isascii() and tried.isdecimal() and len(tried) < len("10000")):
        raise InvalidInput("attempts", "Open the list again, and press the button there.")
    is_queued = await parked_messages.send_again(
        house,
        booking=booking_id,
        message=message_id,
        attempts=int(tried),
        operator=session.staff.bound,
        actor=session.staff.actor,
    )
    told = "again" if is_queued else "before"
    return Redirect(address(f"{HOME}/messages", fields, told=told), status_code=303)


async def _lines(house: House, staff: Staff, wanted: Filter) -> list[ParkedLine]:
    return list(await parked_messages.parked_messages(house, wanted=wanted, operator=staff.bound))


def _fields(staff: Staff, wanted: Filter) -> list[Field]:
    fields = [
        choice("channel", "Channel", CHANNELS, wanted.channel),
        day("since", "From", wanted.since),
        day("until", "To", wanted.until),
    ]
    return fields if staff.operator else [*fields, word("operator", "Operator (code)", wanted.operator)]


ROUTES = [show_messages, send_message]
