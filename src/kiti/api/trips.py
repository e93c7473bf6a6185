"""Search trips and stops."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, get
from litestar.params import QueryParameter

from kiti.api.bookings import fees, money
from kiti.api.wire import FeeShape, MoneyShape, Shape
from kiti.core.errors import InvalidInput
from kiti.fees.model import FeeRule
from kiti.flows.house import House
from kiti.flows.prices import asking_price
from kiti.network import reads as network
from kiti.network.model import Stop, TripDetail, TripFound, TripPage


class OperatorShape(Shape, frozen=True):
    """Who runs the trip."""

    id: UUID
    name: str


class CallShape(Shape, frozen=True):
    """A stop in a found trip."""

    code: str
    name: str
    seq: int


class TripFoundShape(Shape, frozen=True):
    """A trip on the asked segment; `timezone` is that of the boarding stop.

    `price` is the fare of a seat in the cheapest class, `total` what who buys it pays: the fare and the fees on top.
    """

    trip_id: UUID
    operator: OperatorShape
    from_: CallShape = msgspec.field(name="from")
    to: CallShape
    departure_at: datetime
    arrival_at: datetime
    timezone: str
    price: MoneyShape
    fees: list[FeeShape]
    total: MoneyShape
    seats_available: int
    vehicle: str


class TripsShape(Shape, frozen=True):
    """One page of a search."""

    trips: list[TripFoundShape]
    next_cursor: str | None


class StopShape(Shape, frozen=True):
    """A stop."""

    code: str
    name: str
    city: str
    country: str
    latitude: float
    longitude: float
    timezone: str


class StopsShape(Shape, frozen=True):
    """Stops that fit what was typed."""

    stops: list[StopShape]


class TripStopShape(Shape, frozen=True):
    """A call of a trip."""

    seq: int
    code: str
    name: str
    city: str
    timezone: str
    arrival_at: datetime
    departure_at: datetime


class FareShape(Shape, frozen=True):
    """What a class costs on a segment; `total` is what who buys one seat pays, with the fees on top."""

    from_: str = msgspec.field(name="from")
    to: str
    seat_class: str = msgspec.field(name="class")
    price: MoneyShape
    fees: list[FeeShape]
    total: MoneyShape


class LayoutSeatShape(Shape, frozen=True):
    """A seat in the grid of its deck."""

    number: str
    deck: int
    row: int
    column: int
    seat_class: str = msgspec.field(name="class")
    window: bool
    aisle: bool
    accessible: bool


class FeatureShape(Shape, frozen=True):
    """What is drawn beside the seats."""

    kind: str
    deck: int
    row: int
    column: int


class LayoutShape(Shape, frozen=True):
    """The seats of the vehicle."""

    name: str
    seats: list[LayoutSeatShape]
    features: list[FeatureShape]


class TripShape(Shape, frozen=True):
    """A trip with stops, fares and layout."""

    trip_id: UUID
    operator: OperatorShape
    route: str
    status: str
    vehicle: str
    service_date: date
    departure_at: datetime
    arrival_at: datetime
    stops: list[TripStopShape]
    fares: list[FareShape]
    layout: LayoutShape


class Trips(Controller):
    """`/api/trips` and `/api/stops`."""

    path = "/api"
    tags = ("Trips",)

    @get("/trips/search", summary="Trips between two stops on a day")
    async def search(
        self,
        house: House,
        origin: Annotated[str, QueryParameter(name="from", min_length=1, max_length=120)],
        to: Annotated[str, QueryParameter(name="to", min_length=1, max_length=120)],
        day: Annotated[str, QueryParameter(name="date", max_length=10)],
        passengers: Annotated[int, QueryParameter(name="passengers", ge=1, le=100)] = 1,
        cursor: Annotated[str | None, QueryParameter(name="cursor", max_length=200)] = None,
        limit: Annotated[int, QueryParameter(name="limit", ge=1, le=50)] = 20,
    ) -> TripsShape:
        """Stops by code, name or city; the date is the local one of boarding. `seatsAvailable` tells the rest."""
        del passengers  # every trip tells how many seats it has; full ones are shown, not hidden
        async with house.db.reader() as reader:
            boards = await network.stop_by_code_or_name(reader, named=origin)
            alights = await network.stop_by_code_or_name(reader, named=to)
            page = await network.search(
                reader, boards=boards, alights=alights, day=_date(day), cursor=cursor, limit=limit
            )
        rules = await house.catalogue.fee_rules()
        return TripsShape(trips=[_found(trip, page, rules) for trip in page.trips], next_cursor=page.next_cursor)

    @get("/trips/{trip_id:uuid}", summary="A trip")
    async def trip(self, house: House, trip_id: UUID) -> TripShape:
        """With its stops, its fares and its layout."""
        return _trip(await house.catalogue.trip(trip_id), await house.catalogue.fee_rules())

    @get("/stops", summary="Stops that begin like this")
    async def stops(
        self,
        house: House,
        typed: Annotated[str, QueryParameter(name="q", max_length=120)] = "",
        limit: Annotated[int, QueryParameter(name="limit", ge=1, le=20)] = 10,
    ) -> StopsShape:
        """By code, name, city, or any word of them; case and accents do not matter."""
        async with house.db.reader() as reader:
            found = await network.stops_matching(reader, query=typed, limit=limit)
        return StopsShape(stops=[_stop(stop) for stop in found])


def _date(typed: str) -> date:
    try:
        return date.fromisoformat(typed)
    except ValueError:
        raise InvalidInput("date", f"{typed!r} is no date. Write it as 2026-12-24.") from None


def _found(trip: TripFound, page: TripPage, rules: Sequence[FeeRule]) -> TripFoundShape:
    asked = asking_price(rules, trip.operator_id, [trip.price])
    return TripFoundShape(
        trip_id=trip.trip_id,
        operator=OperatorShape(id=trip.operator_id, name=trip.operator_name),
        from_=CallShape(code=page.boards.code, name=page.boards.name, seq=trip.from_seq),
        to=CallShape(code=page.alights.code, name=page.alights.name, seq=trip.to_seq),
        departure_at=trip.departs_at,
        arrival_at=trip.arrives_at,
        timezone=page.boards.timezone,
        price=money(trip.price),
        fees=fees(asked),
        total=money(asked.total),
        seats_available=trip.seats_available,
        vehicle=trip.vehicle_name,
    )


def _stop(stop: Stop) -> StopShape:
    return StopShape(
        code=stop.code,
        name=stop.name,
        city=stop.city,
        country=stop.country,
        latitude=stop.latitude,
        longitude=stop.longitude,
        timezone=stop.timezone,
    )


def _trip(detail: TripDetail, rules: Sequence[FeeRule]) -> TripShape:
    head = detail.trip
    codes = [stop.code for stop in detail.stops]
    asked = [asking_price(rules, head.operator_id, [fare.price]) for fare in detail.fares]
    return TripShape(
        trip_id=head.id,
        operator=OperatorShape(id=head.operator_id, name=head.operator_name),
        route=head.route_name,
        status=head.state.upper(),
        vehicle=head.vehicle_name,
        service_date=head.service_date,
        departure_at=head.departs_at,
        arrival_at=head.arrives_at,
        stops=[
            TripStopShape(
                seq=stop.seq,
                code=stop.code,
                name=stop.name,
                city=stop.city,
                timezone=stop.timezone,
                arrival_at=stop.arrives_at,
                departure_at=stop.departs_at,
            )
            for stop in detail.stops
        ],
        fares=[
            FareShape(
                from_=codes[fare.from_seq],
                to=codes[fare.to_seq],
                seat_class=fare.seat_class,
                price=money(fare.price),
                fees=fees(price),
                total=money(price.total),
            )
            for fare, price in zip(detail.fares, asked, strict=True)
        ],
        layout=_layout(detail),
    )


def _layout(detail: TripDetail) -> LayoutShape:
    return LayoutShape(
        name=detail.layout.name,
        seats=[
            LayoutSeatShape(
                number=seat.number,
                deck=seat.deck,
                row=seat.row_index,
                column=seat.column_index,
                seat_class=seat.seat_class,
                window=seat.is_window,
                aisle=seat.is_aisle,
                accessible=seat.is_accessible,
            )
            for seat in detail.layout.seats
        ],
        features=[
            FeatureShape(kind=feature.kind, deck=feature.deck, row=feature.row_index, column=feature.column_index)
            for feature in detail.layout.features
        ],
    )
