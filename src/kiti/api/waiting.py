"""A place in the line before a trip that very many people want."""

from datetime import datetime
from uuid import UUID

from litestar import Controller, Response, get, post

from kiti.api.wire import Shape
from kiti.flows.house import House
from kiti.flows.waiting import PlaceStatus, Standing, find_place, take_place

NO_STORE = {"Cache-Control": "no-store"}


class PlaceShape(Shape, frozen=True):
    """A place. `admittedAt` is fixed when it is given: wait until then, and reserve before `expiresAt`."""

    place: str
    number: int
    admitted_at: datetime
    expires_at: datetime
    ahead: int
    wait_seconds: float
    status: PlaceStatus


class Places(Controller):
    """`/api/trips/{id}/place` and `/api/places/{place}`."""

    path = "/api"
    tags = ("Waiting room",)

    @post("/trips/{trip_id:uuid}/place", summary="Take a place in line")
    async def take(self, house: House, trip_id: UUID) -> Response[PlaceShape]:
        """The next number; send its `place` with the reservation as `Kiti-Place`. 404 where nobody has to wait."""
        return Response(_place(await take_place(house, trip=trip_id)), status_code=201, headers=NO_STORE)

    @get("/places/{token:str}", summary="How far a place has come")
    async def look(self, house: House, token: str) -> Response[PlaceShape]:
        """404 where the room is closed meanwhile: then nobody has to wait any more."""
        return Response(_place(await find_place(house, token=token)), headers=NO_STORE)


def _place(standing: Standing) -> PlaceShape:
    return PlaceShape(
        place=standing.token,
        number=standing.place.number,
        admitted_at=standing.place.admits_at,
        expires_at=standing.place.expires_at,
        ahead=standing.ahead,
        wait_seconds=round(standing.wait_seconds, 3),
        status=standing.status,
    )
