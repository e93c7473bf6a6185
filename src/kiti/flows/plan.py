"""Plan a booking: check what a caller asks for against the catalogue, pick seats, price them. Writes nothing."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from kiti.bookings.model import MAX_SEATS, MAX_TRIPS, Contact, NewSeat
from kiti.core.errors import InvalidInput, KitiError
from kiti.core.ids import new_id
from kiti.db import Database
from kiti.flows.catalogue import Catalogue
from kiti.idempotency.model import Key
from kiti.network.model import Fare, Seat, TripDetail, TripStop
from kiti.seats import reads as seat_reads
from kiti.seats.model import Place, Want, Wishes, best_seats

MIN_HOLD_MINUTES = 1
MAX_HOLD_MINUTES = 30
DEFAULT_HOLD_MINUTES = 15


class SeatsTaken(KitiError):
    """Somebody else has some of the seats; nothing was reserved. `seats` are the taken ones."""

    def __init__(self, taken: Sequence[str]) -> None:
        super().__init__(f"Already taken: {', '.join(taken)}. Choose other seats.")
        self.seats = list(taken)


class NotEnoughSeats(SeatsTaken):
    """Fewer seats are free than were asked for."""

    def __init__(self, wanted: int, free: int) -> None:
        KitiError.__init__(self, f"{wanted} seats were asked for, {free} are free. Choose fewer or another trip.")
        self.seats = []


class TripNotOnSale(KitiError):
    """The trip exists but sells no seats from that stop any more: departed or cancelled."""


class Passenger(msgspec.Struct, frozen=True, kw_only=True):
    """Who travels; `seat` is empty where the traveller leaves it to us."""

    name: str
    seat: str = ""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """Seats on one trip: named ones, or `count` that the system picks. Stops by code; None: the trip's end."""

    trip: UUID
    seats: tuple[str, ...] = ()
    count: int = 0
    wishes: Wishes = Wishes()
    from_code: str | None = None
    to_code: str | None = None


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for."""

    items: tuple[Item, ...]
    hold_minutes: int = DEFAULT_HOLD_MINUTES
    passengers: tuple[Passenger, ...] = ()
    contact: Contact = Contact()
    language: str = "en"
    actor: str = "guest"


class Journey(msgspec.Struct, frozen=True, kw_only=True):
    """What a booking has of one trip."""

    trip: TripDetail
    boards: TripStop
    alights: TripStop
    seats: tuple[str, ...]


class Keyed(msgspec.Struct, frozen=True):
    """The answer to a reservation that may be repeated is written with it. `render` makes it of reference and end."""

    key: Key
    render: "Callable[[Plan, str, datetime], bytes]"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation that has been checked against the catalogue: what to claim and what it costs."""

    booking: UUID
    contact: Contact
    language: str
    actor: str
    hold_seconds: int
    currency: str
    amount: int
    journeys: tuple[Journey, ...]
    seats: tuple[NewSeat, ...]
    # The seat-legs to claim.
    wants: tuple[Want, ...]
    # Trips and when they are boarded: the transaction compares it with the database's clock.
    boards_at: tuple[tuple[UUID, datetime], ...]
    keyed: Keyed | None = None


async def make_plan(
    db: Database, catalogue: Catalogue, reservation: Reservation, *, choice: int = 0, keyed: Keyed | None = None
) -> Plan:
    """Check a reservation against the catalogue and pick the seats it leaves to us; writes nothing.

    `choice` other than 0 picks other seats than the best: those were lost to somebody quicker.
    """
    _check_size(reservation)
    booking = new_id()
    journeys: list[Journey] = []
    seats: list[NewSeat] = []
    currencies: dict[str, None] = {}
    for index, item in enumerate(reservation.items):
        trip = await catalogue.trip(item.trip)
        where = "" if len(reservation.items) == 1 else f"items[{index}]."
        boards, alights = trip.segment(item.from_code, item.to_code)
        numbers = item.seats or await _pick(db, trip, item, boards.seq, alights.seq, choice=choice)
        journeys.append(Journey(trip=trip, boards=boards, alights=alights, seats=numbers))
        names = _names(numbers, reservation.passengers)
        priced = _priced(trip, numbers, boards.seq, alights.seq, where=where)
        for (seat, fare), name in zip(priced, names, strict=True):
            currencies[fare.currency] = None
            seats.append(
                NewSeat(
                    trip=item.trip,
                    operator=trip.trip.operator_id,
                    seat=seat.number,
                    seat_class=seat.seat_class,
                    from_seq=boards.seq,
                    to_seq=alights.seq,
                    fare=fare.amount,
                    passenger_name=name,
                )
            )
    if len(currencies) > 1:
        raise InvalidInput("items", f"One booking has one currency, not {' and '.join(currencies)}. Book separately.")
    if reservation.passengers:
        _check_passengers(reservation.passengers, [journey.seats for journey in journeys])
    return Plan(
        booking=booking,
        contact=reservation.contact,
        language=reservation.language,
        actor=reservation.actor,
        hold_seconds=reservation.hold_minutes * 60,
        currency=next(iter(currencies)),
        amount=sum([seat.fare for seat in seats]),
        journeys=tuple(journeys),
        seats=tuple(seats),
        wants=tuple(
            [Want(owner=booking, trip=s.trip, seat=s.seat, from_seq=s.from_seq, to_seq=s.to_seq) for s in seats]
        ),
        keyed=keyed,
        boards_at=tuple([(journey.trip.trip.id, journey.boards.departs_at) for journey in journeys]),
    )


def _check_size(reservation: Reservation) -> None:
    if not MIN_HOLD_MINUTES <= reservation.hold_minutes <= MAX_HOLD_MINUTES:
        raise InvalidInput(
            "holdDurationMinutes", f"A hold lasts from {MIN_HOLD_MINUTES} to {MAX_HOLD_MINUTES} minutes."
        )
    if not 1 <= len(reservation.items) <= MAX_TRIPS:
        raise InvalidInput("items", f"A booking spans from 1 to {MAX_TRIPS} trips.")
    if len(reservation.items) > 1 and len({item.trip for item in reservation.items}) != len(reservation.items):
        raise InvalidInput("items", "The same trip stands twice. Put its seats together.")
    for item in reservation.items:
        if bool(item.seats) == bool(item.count):
            raise InvalidInput("seatNumbers", "Give either seatNumbers or seatCount.")
        if not 1 <= (len(item.seats) or item.count) <= MAX_SEATS:
            raise InvalidInput(
                "seatNumbers" if item.seats else "seatCount", f"A booking takes from 1 to {MAX_SEATS} seats on a trip."
            )
        if len(set(item.seats)) != len(item.seats):
            raise InvalidInput("seatNumbers", "The same seat stands twice.")


async def _pick(
    db: Database, trip: TripDetail, item: Item, from_seq: int, to_seq: int, *, choice: int
) -> tuple[str, ...]:
    async with db.reader() as reader:
        found = await seat_reads.taken(reader, trip=trip.trip.id, from_seq=from_seq, to_seq=to_seq)
    taken = {seat.seat for seat in found}
    fares = trip.fares_between(from_seq, to_seq)
    free = [place_of(seat) for seat in trip.layout.seats if seat.number not in taken and seat.seat_class in fares]
    picked = None
    for wishes in _by_price(item.wishes, fares):
        picked = picked or best_seats(free, item.count, wishes, choice=choice)
    if picked is None:
        raise NotEnoughSeats(item.count, len(free))
    return tuple(picked)


def _by_price(wishes: Wishes, fares: Mapping[str, Fare]) -> list[Wishes]:
    """The same wishes for each class, the cheapest first, then for any mixture: nobody is sold up unasked."""
    if wishes.seat_class is not None:
        return [wishes]
    cheapest_first = sorted(fares.values(), key=lambda fare: fare.amount)
    return [*(msgspec.structs.replace(wishes, seat_class=fare.seat_class) for fare in cheapest_first), wishes]


def place_of(seat: Seat) -> Place:
    """Where a seat is, for choosing good ones."""
    return Place(
        number=seat.number,
        deck=seat.deck,
        row=seat.row_index,
        column=seat.column_index,
        seat_class=seat.seat_class,
        is_window=seat.is_window,
        is_aisle=seat.is_aisle,
        is_accessible=seat.is_accessible,
    )


def _priced(
    trip: TripDetail, numbers: Sequence[str], from_seq: int, to_seq: int, *, where: str
) -> list[tuple[Seat, Fare]]:
    seats = trip.layout.by_number
    fares = trip.fares_between(from_seq, to_seq)
    priced = []
    for number in numbers:
        seat = seats.get(number)
        if seat is None:
            raise InvalidInput(f"{where}seatNumbers", f"This vehicle has no seat {number}. See its seat map.")
        fare = fares.get(seat.seat_class)
        if fare is None:
            raise InvalidInput(f"{where}seatNumbers", f"Seat {number} is not sold between these stops.")
        priced.append((seat, fare))
    return priced


def _names(numbers: Sequence[str], passengers: Sequence[Passenger]) -> list[str]:
    """Names go to the seats they ask for, the others in order; on every trip of the booking alike."""
    if not passengers:
        return [""] * len(numbers)
    chosen = {passenger.seat: passenger.name for passenger in passengers if passenger.seat}
    others = iter([passenger.name for passenger in passengers if passenger.seat not in numbers])
    return [chosen.get(number) or next(others, "") for number in numbers]


def _check_passengers(passengers: Sequence[Passenger], seats: Sequence[Sequence[str]]) -> None:
    """Whether everybody fits who is named; `seats` of each trip."""
    numbers = {number for of_trip in seats for number in of_trip}
    for passenger in passengers:
        if passenger.seat and passenger.seat not in numbers:
            raise InvalidInput("passengers", f"{passenger.name} is to sit on {passenger.seat}, which is not reserved.")
    chosen = [passenger.seat for passenger in passengers if passenger.seat]
    if len(set(chosen)) != len(chosen):
        raise InvalidInput("passengers", "Two passengers are to sit on the same seat.")
    if len(passengers) > max(len(of_trip) for of_trip in seats):
        raise InvalidInput("passengers", "There are more passengers than seats.")
