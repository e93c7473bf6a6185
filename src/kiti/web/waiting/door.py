"""The door before the seats of a trip: a browser keeps its place in a cookie, and passes when its turn has come."""

from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.response import Redirect

from kiti.core.settings import Settings
from kiti.flows.house import House
from kiti.flows.waiting import (
    BETWEEN_PLACES,
    FREE,
    MOST_PLACES,
    Admission,
    NotAdmitted,
    NoWaitingRoom,
    PlaceForged,
    PlaceSpent,
    Standing,
    admit,
    place_before,
    take_place,
)

R = TypeVar("R", bound=Response[Any])

COOKIE = "kiti_place"
# Longer than any place is good, so that one which has lapsed can be told from none.
COOKIE_SECONDS = 7 * 24 * 3600
QUERY_LENGTH = 1000


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """Where a browser stands before a trip; `standing` is None where nobody has to wait.

    `is_new` tells that the place was given just now, `has_lapsed` that the one before was not used in its time.
    """

    standing: Standing | None = None
    is_new: bool = False
    has_lapsed: bool = False
    admission: Admission = FREE

    @property
    def is_open(self) -> bool:
        """Whether one may go on to the seats."""
        return self.standing is None or self.standing.status == "ADMITTED"


async def knock(request: Request[Any, Any, Any], house: House, trip: UUID, *, anew: bool = False) -> Door:
    """Where the browser stands; it gets a place if it has none, and with `anew` in any case."""
    kept = None
    try:
        if not anew:
            kept = await place_before(house, trip=trip, place=kept_places(request))
        if kept is not None and kept.status != "EXPIRED":
            return Door(standing=kept)
        taken = await take_place(house, trip=trip)
    except NoWaitingRoom:
        return Door()
    return Door(standing=taken, is_new=True, has_lapsed=kept is not None)


async def enter(request: Request[Any, Any, Any], house: House, trip: UUID, *, giving_up: UUID | None) -> Door:
    """Pass with the place that the browser keeps, and with a new one if that lets in at once.

    Raises NotAdmitted and PlaceForged only for whoever changes the seats of a booking, `giving_up`.
    """
    try:
        place = kept_places(request)
        return Door(admission=await admit(house, trips=[trip], place=place, giving_up=giving_up))
    except (NotAdmitted, PlaceForged) as refused:
        if giving_up is not None:
            raise
        door = await knock(request, house, trip, anew=isinstance(refused, PlaceSpent))
    if door.standing is None or not door.is_open:
        return door
    admission = await admit(house, trips=[trip], place=door.standing.token)
    return msgspec.structs.replace(door, admission=admission)


def keep(request: Request[Any, Any, Any], house: House, door: Door, response: R) -> R:
    """The response, with the cookie for a place that was given just now."""
    if door.standing is not None and door.is_new:
        response.set_cookie(_cookie(request, door.standing, house.settings))
    return response


def to_wait(request: Request[Any, Any, Any], house: House, trip: UUID, door: Door, **more: str) -> Response[Any]:
    """To the page where one waits, with what was asked for."""
    onward = Redirect(f"/trips/{trip}/wait{query(request, **more)}", status_code=303)
    return keep(request, house, door, onward)


def query(request: Request[Any, Any, Any], **more: str) -> str:
    """The query of the address, and more: of the two pages it is the same."""
    left = {name: value for name, value in request.query_params.items() if name not in {"lang", "token", "look"}}
    text = urlencode({**left, **more})
    return f"?{text}" if text and len(text) <= QUERY_LENGTH else ""


def kept_places(request: Request[Any, Any, Any]) -> str:
    """The places that the browser keeps, one for each room, as `admit` takes them."""
    return request.cookies.get(COOKIE, "")


def _cookie(request: Request[Any, Any, Any], standing: Standing, settings: Settings) -> Cookie:
    # A new place stands before an older one of the same room, and so is the one that is looked at.
    kept = [standing.token, *kept_places(request).split(BETWEEN_PLACES)][:MOST_PLACES]
    return Cookie(
        key=COOKIE,
        value=BETWEEN_PLACES.join(token for token in kept if token),
        max_age=COOKIE_SECONDS,
        path="/",
        httponly=True,
        secure=settings.is_secure,
        samesite="lax",
    )
