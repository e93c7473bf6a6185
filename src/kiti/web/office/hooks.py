"""Webhook endpoints: make one, see what it was told, tell it again, rotate its secret."""

import re
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.response import Redirect

from kiti.core.errors import InvalidInput
from kiti.flows import hooks as flow
from kiti.flows.house import House
from kiti.flows.office import timezone_of
from kiti.hooks.actions import TooManyEndpoints
from kiti.hooks.model import EVENT_TYPES, KEEP_DAYS, TEST, USUAL_OVERLAP_HOURS
from kiti.people.model import Session
from kiti.web.office.entry import HOME, at_desk, at_desk_with_form, office_page

URL_LENGTH = 2000
DESCRIPTION_LENGTH = 80
PLACE = f"{HOME}/webhooks"
_CURSOR = re.compile(r"([0-9a-f-]{36})\.([0-9]{1,5})")
# What the page before has done, as its address says it.
DONE = {
    "tested": f"An {TEST} is on its way. The log shows what is answered.",
    "replayed": "The event is delivered once more.",
    "all-replayed": "What could not be delivered is delivered once more.",
    "disabled": "The endpoint is told nothing any more.",
    "enabled": "The endpoint is told of events from now on, and of those that were due.",
}


@get("/webhooks")
async def show_endpoints(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """Every endpoint within reach, and a form for another one."""
    session = await at_desk(request, house)
    return await _endpoints(house, session)


@post("/webhooks", status_code=200)
async def add_endpoint(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """Make one and show its secret, which no other page will show."""
    session = await at_desk_with_form(request, house)
    form = await request.form()
    url, description = str(form.get("url", "")).strip()[: URL_LENGTH + 1], str(form.get("description", ""))
    chosen = [str(one) for one in form.getall("events", [])][: len(EVENT_TYPES)]
    try:
        made = await flow.add_endpoint(house, url=url, event_types=chosen, description=description, staff=session.staff)
    except (InvalidInput, TooManyEndpoints) as wrong:
        typed = {"url": url, "description": description, "events": chosen}
        return await _endpoints(house, session, typed=typed, problem=str(wrong))
    return await _endpoint(house, session, made.id, secret=made.secret)


@get("/webhooks/{endpoint:uuid}")
async def show_endpoint(request: Request[Any, Any, Any], house: House, endpoint: UUID) -> Response[Any]:
    """One of them with its log, fifty deliveries at a time."""
    session = await at_desk(request, house)
    return await _endpoint(
        house,
        session,
        endpoint,
        only_failed=request.query_params.get("only", "") == "failed",
        before=_cursor(request),
        done=DONE.get(request.query_params.get("done", ""), ""),
    )


@get("/webhooks/{endpoint:uuid}/{event:uuid}")
async def show_event(request: Request[Any, Any, Any], house: House, endpoint: UUID, event: UUID) -> Response[Any]:
    """What was sent, and each answer to it."""
    session = await at_desk(request, house)
    found = await flow.find_endpoint(house, endpoint=endpoint, staff=session.staff)
    rounds, body = await flow.told(house, endpoint=endpoint, event=event, staff=session.staff)
    return office_page(
        "hook_event.html",
        session=session,
        here="webhooks",
        endpoint=found,
        rounds=rounds,
        body=msgspec.json.format(body, indent=2).decode(),
        timezone=timezone_of(session.staff),
    )


@post("/webhooks/{endpoint:uuid}/rotate", status_code=200)
async def rotate(request: Request[Any, Any, Any], house: House, endpoint: UUID) -> Response[Any]:
    """A new secret, shown this once."""
    session = await at_desk_with_form(request, house)
    secret = await flow.rotate_secret(house, endpoint=endpoint, staff=session.staff)
    return await _endpoint(house, session, endpoint, secret=secret)


@post("/webhooks/{endpoint:uuid}/disable", status_code=303)
async def disable(request: Request[Any, Any, Any], house: House, endpoint: UUID) -> Response[Any]:
    """Tell it nothing any more."""
    session = await at_desk_with_form(request, house)
    await flow.disable_endpoint(house, endpoint=endpoint, staff=session.staff)
    return _back(endpoint, "disabled")


@post("/webhooks/{endpoint:uuid}/enable", status_code=303)
async def enable(request: Request[Any, Any, Any], house: House, endpoint: UUID) -> Response[Any]:
    """Tell it things again."""
    session = await at_desk_with_form(request, house)
    await flow.enable_endpoint(house, endpoint=endpoint, staff=session.staff)
    return _back(endpoint, "enabled")


@post("/webhooks/{endpoint:uuid}/test", status_code=303)
async def send_test(request: Request[Any, Any, Any], house: House, endpoint: UUID) -> Response[Any]:
    """Queue a test for it."""
    session = await at_desk_with_form(request, house)
    await flow.try_endpoint(house, endpoint=endpoint, staff=session.staff)
    return _back(endpoint, "tested")


@post("/webhooks/{endpoint:uuid}/replay", status_code=303)
async def replay_failed(request: Request[Any, Any, Any], house: House, endpoint: UUID) -> Response[Any]:
    """Deliver once more what could not be delivered."""
    session = await at_desk_with_form(request, house)
    await flow.replay_failed(house, endpoint=endpoint, staff=session.staff)
    return _back(endpoint, "all-replayed")


@post("/webhooks/{endpoint:uuid}/{event:uuid}/replay", status_code=303)
async def replay(request: Request[Any, Any, Any], house: House, endpoint: UUID, event: UUID) -> Response[Any]:
    """Deliver one event once more."""
    session = await at_desk_with_form(request, house)
    await flow.replay(house, endpoint=endpoint, event=event, staff=session.staff)
    return _back(endpoint, "replayed")


async def _endpoints(
    house: House, session: Session, *, typed: dict[str, Any] | None = None, problem: str = ""
) -> Response[Any]:
    return office_page(
        "hooks.html",
        session=session,
        status=422 if problem else 200,
        here="webhooks",
        endpoints=await flow.list_endpoints(house, staff=session.staff),
        types=EVENT_TYPES,
        typed=typed or {"url": "", "description": "", "events": EVENT_TYPES},
        problem=problem,
        description_length=DESCRIPTION_LENGTH,
    )


async def _endpoint(
    house: House,
    session: Session,
    endpoint: UUID,
    *,
    secret: str = "",
    only_failed: bool = False,
    before: tuple[UUID, int] | None = None,
    done: str = "",
) -> Response[Any]:
    found = await flow.find_endpoint(house, endpoint=endpoint, staff=session.staff)
    lines = await flow.log_of(house, endpoint=endpoint, only_failed=only_failed, before=before, staff=session.staff)
    only = "&only=failed" if only_failed else ""
    after = lines.next_before
    return office_page(
        "hook.html",
        session=session,
        here="webhooks",
        endpoint=found,
        types="all events" if len(found.event_types) == len(EVENT_TYPES) else ", ".join(found.event_types),
        records=lines.records,
        older=f"{PLACE}/{endpoint}?before={after[0]}.{after[1]}{only}" if after else "",
        only_failed=only_failed,
        secret=secret,
        overlap_hours=USUAL_OVERLAP_HOURS,
        keep_days=KEEP_DAYS,
        done=done,
        timezone=timezone_of(session.staff),
    )


def _back(endpoint: UUID, done: str) -> Response[Any]:
    return Redirect(f"{PLACE}/{endpoint}?done={done}", status_code=303)


def _cursor(request: Request[Any, Any, Any]) -> tuple[UUID, int] | None:
    typed = request.query_params.get("before", "")
    match = _CURSOR.fullmatch(typed)
    try:
        return (UUID(match[1]), int(match[2])) if match else None
    except ValueError:
        raise InvalidInput("before", "This page of the log is not there. Start from the newest.") from None


ROUTES = [
    show_endpoints,
    add_endpoint,
    show_endpoint,
    show_event,
    rotate,
    disable,
    enable,
    send_test,
    replay_failed,
    replay,
]
