"""Reserve, and what the holder of a booking may do with it."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post, put
from litestar.params import HeaderParameter, QueryParameter

from kiti.api import wire
from kiti.api.access import check_booking
from kiti.bookings.model import Contact
from kiti.core import text
from kiti.core.errors import InvalidInput
from kiti.core.money import Money
from kiti.core.tokens import hold_token
from kiti.flows import holds, show
from kiti.flows.availability import SeatMap
from kiti.flows.house import House
from kiti.flows.plan import Item, Passenger, Plan, Reservation
from kiti.flows.prices import Price
from kiti.flows.travellers import Named, name_travellers
from kiti.flows.waiting import reserve_admitted
from kiti.network.model import TripDetail
from kiti.seats.model import Wishes


class Reservations(Controller):
    """`/api/bookings/reserve`."""

    path = "/api/bookings/reserve"
    tags = ("Reserve",)

    @post(summary="Hold seats for some minutes")
    async def reserve(
        self,
        house: House,
        data: wire.ReserveBody,
        place: Annotated[str | None, HeaderParameter(name="Kiti-Place")] = None,
    ) -> wire.ReservedShape:
        """All seats or none; a 409 names the taken ones in `seatNumbers`."""
        return await hold_seats(house, data, place=place)

    @get(summary="The seat map of a trip between two stops")
    async def seats(
        self,
        house: House,
        request: Request[Any, Any, Any],
        trip_id: Annotated[UUID, QueryParameter(name="tripId")],
        from_code: Annotated[str | None, QueryParameter(name="from", max_length=120)] = None,
        to_code: Annotated[str | None, QueryParameter(name="to", max_length=120)] = None,
    ) -> Response[wire.SeatMapShape | None]:
        """With an ETag: send it back as `If-None-Match` and hear 304 while nothing has changed."""
        found = await show.seat_map(house, trip_id, from_code=from_code, to_code=to_code)
        headers = {"ETag": found.etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == found.etag:
            return Response(None, status_code=304, headers=headers)
        return Response(seat_map_shape(found), headers=headers)


class Bookings(Controller):
    """`/api/bookings/{id}`: for whoever holds its token."""

    path = "/api/bookings/{booking_id:uuid}"
    tags = ("Bookings",)

    @get(summary="A booking")
    async def show(self, house: House, request: Request[Any, Any, Any], booking_id: UUID) -> wire.BookingShape:
        """As its holder sees it."""
        check_booking(request, booking_id, house.settings)
        return shape_of(await show.booking(house, booking_id))

    @post("/extend", summary="Hold on", status_code=200)
    async def extend(
        self, house: House, request: Request[Any, Any, Any], booking_id: UUID, data: wire.ExtendBody | None = None
    ) -> wire.BookingShape:
        """For some minutes from now, up to an hour after the hold began."""
        check_booking(request, booking_id, house.settings)
        minutes = (data or wire.ExtendBody()).hold_duration_minutes
        await holds.extend(house, booking=booking_id, minutes=minutes, actor="guest")
        return shape_of(await show.booking(house, booking_id))

    @delete("/hold", summary="Give the seats back", status_code=200)
    async def release(self, house: House, request: Request[Any, Any, Any], booking_id: UUID) -> wire.BookingShape:
        """At once; others can take them."""
        check_booking(request, booking_id, house.settings)
        await holds.release(house, booking=booking_id, actor="guest")
        return shape_of(await show.booking(house, booking_id))

    @put("/passengers", summary="Say who travels")
    async def passengers(
        self, house: House, request: Request[Any, Any, Any], booking_id: UUID, data: wire.PassengersBody
    ) -> wire.BookingShape:
        """Names for seats, and whom to reach. Before the tickets are made."""
        check_booking(request, booking_id, house.settings)
        await name_travellers(
            house.db,
            booking=booking_id,
            named=[
                Named(
                    seat=passenger.seat_number.upper(),
                    name=text.clean(passenger.name, field="passengers"),
                    trip=passenger.trip_id,
                )
                for passenger in data.passengers
            ],
            contact=None if data.contact is None else contact_of(data.contact),
            actor="guest",
        )
        return shape_of(await show.booking(house, booking_id))


async def hold_seats(house: House, data: wire.ReserveBody, *, place: str | None) -> wire.ReservedShape:
    """Reserve, and say what was reserved."""
    reserved = await reserve_admitted(house, reservation_of(data), place=place)
    return reserved_shape(house, reserved.plan, reserved.reference, reserved.expires_at)


def reserved_shape(house: House, plan: Plan, reference: str, expires_at: datetime) -> wire.ReservedShape:
    """A reservation as the API writes it."""
    return wire.ReservedShape(
        booking_id=plan.booking,
        reference=reference,
        status="HELD",
        trip_id=plan.seats[0].trip,
        seat_numbers=[seat.seat for seat in plan.seats],
        items=[
            wire.ItemShape(
                trip_id=journey.trip.trip.id,
                seat_numbers=list(journey.seats),
                from_=journey.boards.code,
                to=journey.alights.code,
                departure_at=journey.boards.departs_at,
                arrival_at=journey.alights.arrives_at,
            )
            for journey in plan.journeys
        ],
        amount=plan.amount,
        currency=plan.currency,
        expires_at=expires_at,
        hold_token=hold_token(plan.booking, secret=house.settings.jwt_secret),
    )


def contact_of(body: wire.ContactBody) -> Contact:
    """A contact, cleaned; raises InvalidInput."""
    return Contact(
        name=text.clean(body.name, field="contact.name"),
        email=text.email(body.email, field="contact.email"),
        phone=text.phone(body.phone, field="contact.phone"),
    )


def reservation_of(data: wire.ReserveBody) -> Reservation:
    """What a caller asks for, cleaned; raises InvalidInput."""
    if (data.items is None) == (data.trip_id is None):
        raise InvalidInput("tripId", "Give either tripId or items.")
    if data.items is not None and not data.items:
        raise InvalidInput("items", "Name at least one trip.")
    bodies = data.items or [
        wire.ItemBody(
            trip_id=data.trip_id,  # type: ignore[arg-type] # one of the two is there
            seat_numbers=data.seat_numbers,
            seat_count=data.seat_count,
            seat_class=data.seat_class,
            accessible=data.accessible,
            window=data.window,
            from_=data.from_,
            to=data.to,
        )
    ]
    return Reservation(
        items=tuple(_plan_item(body) for body in bodies),
        hold_minutes=data.hold_duration_minutes,
        passengers=tuple(
            Passenger(name=text.clean(p.name, field="passengers"), seat=(p.seat_number or "").upper())
            for p in data.passengers
        ),
        contact=contact_of(data.contact),
        language=data.language if data.language in text.LANGUAGES else "en",
    )


def _plan_item(body: wire.ItemBody) -> Item:
    if body.seat_numbers is not None and body.seat_count is not None:
        raise InvalidInput("seatNumbers", "Give either seatNumbers or seatCount.")
    if body.seat_count is not None and body.seat_count < 1:
        raise InvalidInput("seatCount", "At least one seat.")
    return Item(
        trip=body.trip_id,
        seats=tuple(number.upper() for number in body.seat_numbers or ()),
        count=body.seat_count or 0,
        wishes=Wishes(seat_class=body.seat_class, accessible=body.accessible, window=body.window),
        from_code=body.from_,
        to_code=body.to,
    )


def _item(trip: TripDetail, numbers: list[str], places: tuple[int, int]) -> wire.ItemShape:
    start, end = trip.stops[places[0]], trip.stops[places[1]]
    return wire.ItemShape(
        trip_id=trip.trip.id,
        seat_numbers=numbers,
        from_=start.code,
        to=end.code,
        departure_at=start.departs_at,
        arrival_at=end.arrives_at,
    )


def seat_map_shape(found: SeatMap) -> wire.SeatMapShape:
    """A seat map as the API writes it."""
    return wire.SeatMapShape(
        trip_id=found.trip.trip.id,
        from_=found.boards.code,
        to=found.alights.code,
        seats=[
            wire.SeatShape(
                number=offer.seat.number,
                seat_class=offer.seat.seat_class,
                status=offer.status,
                price=None if offer.price is None else money(offer.price),
                deck=offer.seat.deck,
                row=offer.seat.row_index,
                column=offer.seat.column_index,
                window=offer.seat.is_window,
                aisle=offer.seat.is_aisle,
                accessible=offer.seat.is_accessible,
            )
            for offer in found.seats
        ],
        seats_available=found.available,
    )


def money(amount: Money) -> wire.MoneyShape:
    """An amount as the API writes it."""
    return wire.MoneyShape(amount=amount.amount, currency=amount.currency)


def fees(price: Price) -> list[wire.FeeShape]:
    """What a price has beside the fares, as the API writes it."""
    return [
        wire.FeeShape(
            kind=charge.kind.upper(),  # type: ignore[arg-type] # the kinds that travellers see, in capitals
            amount=charge.amount,
            included=charge.is_included,
            rate_basis_points=charge.basis_points if charge.kind == "tax" else None,
        )
        for charge in price.charges
    ]


def shape_of(view: show.BookingView) -> wire.BookingShape:
    """A booking as the API writes it."""
    booking = view.booking
    unpaid = booking.state in {"held", "awaiting_payment", "expired"}
    return wire.BookingShape(
        booking_id=booking.id,
        reference=booking.reference,
        status=booking.standing.upper(),  # type: ignore[arg-type] # the states in capitals
        trip_id=view.lines[0].trip_id,
        seat_numbers=[line.seat for line in view.lines],
        items=[
            _item(trip, [line.seat for line in lines], (lines[0].from_seq, lines[0].to_seq))
            for trip, lines in view.by_trip()
        ],
        passengers=[
            wire.PassengerShape(
                trip_id=line.trip_id,
                seat_number=line.seat,
                name=line.passenger_name,
                seat_class=line.seat_class,
                price=wire.MoneyShape(amount=line.fare, currency=booking.currency),
            )
            for line in view.lines
        ],
        contact=wire.ContactBody(name=booking.contact_name, email=booking.contact_email, phone=booking.contact_phone),
        amount=booking.amount,
        fees=fees(view.price),
        total=view.price.total.amount,
        currency=booking.currency,
        created_at=booking.created_at,
        expires_at=booking.hold_expires_at if unpaid else None,
        confirmed_at=booking.confirmed_at,
        payment_status=None if view.payment is None else view.payment.status,
        cancelled_seats=[
            wire.CancelledSeatShape(
                trip_id=seat.trip_id,
                seat_number=seat.seat,
                name=seat.passenger_name,
                price=wire.MoneyShape(amount=seat.fare, currency=booking.currency),
                refunded=wire.MoneyShape(amount=seat.refunded, currency=booking.currency),
                cancelled_at=seat.cancelled_at,
            )
            for seat in view.cancelled
        ],
        replaced_seats=[
            wire.ReplacedSeatShape(
                trip_id=seat.trip_id,
                lost_seat_number=seat.lost_seat,
                seat_number=seat.seat,
                decline_until=seat.decline_until,
            )
            for seat in view.replaced
        ],
    )
