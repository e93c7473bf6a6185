"""Wait in line: the page says how far one has come, and moves on by itself."""

import math
import secrets
from datetime import datetime
from typing import Any
from uuid import UUID

from babel.numbers import format_decimal
from litestar import Request, Response, get
from litestar.response import Redirect

from kiti.flows.house import House
from kiti.flows.waiting import Standing
from kiti.web.page.render import page, words_of
from kiti.web.waiting import door
from kiti.web.waiting.door import Door

CODE_LENGTH = 120
# When the page looks again: at the moment itself if that is near, else after a third of what is left.
NEAR_SECONDS = 8
SOONEST_SECONDS = 4
LATEST_SECONDS = 60
PARTS = 3


@get("/trips/{trip_id:uuid}/wait")
async def wait(request: Request[Any, Any, Any], house: House, trip_id: UUID) -> Response[Any]:
    """My number and how many are ahead; whose turn it is goes on to the seats."""
    asked = request.query_params
    trip = await house.catalogue.trip(trip_id)
    boards, alights = trip.segment(
        asked.get("from", "")[:CODE_LENGTH] or None, asked.get("to", "")[:CODE_LENGTH] or None
    )
    # Who looks again and brings no cookie would get a new number each time, and stay the last.
    keeps_nothing = "look" in asked and not door.kept_places(request)
    mine = Door() if keeps_nothing else await door.knock(request, house, trip_id)
    if mine.is_open and not keeps_nothing:
        return door.keep(request, house, mine, _onward(request, f"/trips/{trip_id}/seats{door.query(request)}"))
    is_piece = "hx-request" in request.headers
    answer = page(
        request,
        "waiting/place.html" if is_piece else "waiting/wait.html",
        headers={"Cache-Control": "no-store"},
        trip=trip.trip,
        boards=boards,
        alights=alights,
        # Without a cookie one begins anew.
        here_again=f"/trips/{trip_id}/wait{door.query(request, **({} if keeps_nothing else {'look': '1'}))}",
        keeps_nothing=keeps_nothing,
        has_lapsed=mine.has_lapsed,
        **({} if mine.standing is None else _progress(request, mine.standing)),
    )
    return door.keep(request, house, mine, answer)


def look_again_seconds(wait_seconds: float, *, chance: float) -> int:
    """When a page looks again; `chance` from 0 to 1 spreads those who came together."""
    if wait_seconds <= NEAR_SECONDS:
        return math.ceil(wait_seconds) + round(chance)
    pause = min(max(wait_seconds / PARTS, SOONEST_SECONDS), LATEST_SECONDS)
    return round(pause * (0.8 + 0.4 * chance))


def _onward(request: Request[Any, Any, Any], target: str) -> Response[Any]:
    if "hx-request" in request.headers:
        return Response("", status_code=200, headers={"HX-Redirect": target})
    return Redirect(target, status_code=303)


def _progress(request: Request[Any, Any, Any], standing: Standing) -> dict[str, Any]:
    locale = words_of(request).locale
    until: datetime = standing.place.expires_at
    return {
        "number": format_decimal(standing.place.number, locale=locale),
        "ahead": standing.ahead,
        "ahead_text": format_decimal(standing.ahead, locale=locale),
        "minutes": math.ceil(standing.wait_seconds / 60),
        "turn_at": standing.place.admits_at,
        "until": until,
        "look_seconds": look_again_seconds(standing.wait_seconds, chance=secrets.randbelow(1001) / 1000),
    }


ROUTES = [wait]
