"""The words of the network, and what can be said without a database: drawings and timetables."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Literal
from uuid import UUID, uuid5

import msgspec

from kiti.core import text
from kiti.core.clock import instant, local, minutes_after
from kiti.core.errors import InvalidInput, KitiError
from kiti.core.money import Money

TripState = Literal["scheduled", "cancelled"]
VehicleKind = Literal["bus", "shuttle", "ferry", "train"]
FeatureKind = Literal["driver", "door", "toilet", "stairs", "luggage"]

TRANSITIONS: dict[TripState, tuple[TripState, ...]] = {
    "scheduled": ("cancelled",),
    "cancelled": (),
}

EVERY_DAY = 0b1111111
CLASSES: Mapping[str, str] = {"s": "STANDARD", "v": "VIP"}
FEATURES: Mapping[str, FeatureKind] = {
    "*": "driver",
    ">": "door",
    "%": "toilet",
    "/": "stairs",
    "#": "luggage",
}
GAP = "."
MAX_SEATS = 2000
MAX_SEATS_PER_ROW = 26

_NOT_A_WORD = re.compile(r"[\W_]+")


class InvalidDrawing(KitiError):
    """A layout was drawn in a way that cannot be read; the sentence says where."""


class InvalidRoute(KitiError):
    """The stops of a route or their times are impossible."""


class InvalidFares(KitiError):
    """Fares that contradict each other or the route they are for."""


class NotOnTrip(InvalidInput):
    """The trip does not call at the stop, or not in that order."""


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs vehicles; `country` is ISO 3166 alpha-2, `timezone` an IANA name."""

    id: UUID
    code: str
    name: str
    country: str
    timezone: str
    support_phone: str = ""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Where vehicles call. Coordinates in degrees (WGS 84)."""

    id: UUID
    code: str
    name: str
    city: str
    country: str
    latitude: float
    longitude: float
    timezone: str

    @property
    def search_key(self) -> str:
        """'kampala coach park | kampala': the name, then the city, as words without accents."""
        return f"{words(self.name)} | {words(self.city)}"


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """A seat in the grid of its deck; decks count from 1, rows from the front and columns from the left from 0."""

    number: str
    deck: int
    row_index: int
    column_index: int
    seat_class: str
    is_window: bool
    is_aisle: bool
    is_accessible: bool


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn beside the seats."""

    deck: int
    row_index: int
    column_index: int
    kind: FeatureKind


class Layout(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The seats of a kind of vehicle, in deck, row and column order. It never changes once it exists."""

    id: UUID
    operator_id: UUID
    name: str
    seats: tuple[Seat, ...]
    features: tuple[Feature, ...]

    @cached_property
    def by_number(self) -> dict[str, Seat]:
        """The seats by the number that is written on them; made once, for it is asked with every reservation."""
        return {seat.number: seat for seat in self.seats}


class Vehicle(msgspec.Struct, frozen=True, kw_only=True):
    """A vehicle with its number plate or register number."""

    id: UUID
    operator_id: UUID
    layout_id: UUID
    kind: VehicleKind
    name: str
    registration: str


class RouteStop(msgspec.Struct, frozen=True, kw_only=True):
    """Where and when a route calls, in minutes after the departure from its first stop."""

    stop_id: UUID
    arrives_after_minutes: int
    departs_after_minutes: int


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A way through stops. Its seq numbers are the positions in `stops`, from 0."""

    id: UUID
    operator_id: UUID
    code: str
    name: str
    stops: tuple[RouteStop, ...]


class Fare(msgspec.Struct, frozen=True, kw_only=True):
    """What one seat of a class costs from stop `from_seq` to stop `to_seq`, in minor units."""

    from_seq: int
    to_seq: int
    seat_class: str
    amount: int
    currency: str

    @property
    def price(self) -> Money:
        """The same as money."""
        return Money(self.amount, self.currency)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A departure that repeats: at `departs_local` by the first stop's clocks; bit 0 of `weekdays` is Monday."""

    id: UUID
    operator_id: UUID
    route_id: UUID
    vehicle_id: UUID
    departs_local: time
    weekdays: int = EVERY_DAY
    valid_from: date
    valid_until: date


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A stop of a route with the time zone of its clocks."""

    seq: int
    stop_id: UUID
    timezone: str
    arrives_after_minutes: int
    departs_after_minutes: int


class CallTime(msgspec.Struct, frozen=True, kw_only=True):
    """When a trip calls at a stop (UTC); `local_date` is that of the departure by the stop's clocks."""

    seq: int
    stop_id: UUID
    arrives_at: datetime
    departs_at: datetime
    local_date: date


class TripStop(msgspec.Struct, frozen=True, kw_only=True):
    """A call of one trip, with what people read about the stop. Times are UTC."""

    seq: int
    stop_id: UUID
    code: str
    name: str
    city: str
    timezone: str
    arrives_at: datetime
    departs_at: datetime
    local_date: date


class TripHead(msgspec.Struct, frozen=True, kw_only=True):
    """A trip without what hangs below it."""

    id: UUID
    operator_id: UUID
    operator_code: str
    operator_name: str
    support_phone: str
    route_id: UUID
    route_name: str
    layout_id: UUID
    service_date: date
    state: TripState
    departs_at: datetime
    arrives_at: datetime
    vehicle_kind: VehicleKind
    vehicle_name: str
    vehicle_registration: str


class TripDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A trip with its stops in order, its layout, and the fares that are asked today. Times are UTC."""

    trip: TripHead
    stops: tuple[TripStop, ...]
    layout: Layout
    fares: tuple[Fare, ...]

    def segment(self, origin: str | None, destination: str | None) -> tuple[TripStop, TripStop]:
        """The stops with these codes, or the ends of the trip for None; raises NotOnTrip."""
        boards = self.stops[0] if origin is None else self._stop("from", origin)
        alights = self.stops[-1] if destination is None else self._stop("to", destination)
        if boards.seq >= alights.seq:
            raise NotOnTrip("to", f"This trip does not go from {boards.name} to {alights.name}.")
        return boards, alights

    def fares_between(self, from_seq: int, to_seq: int) -> dict[str, Fare]:
        """The fare of each class on a segment; a class that is missing is not sold there."""
        return {f.seat_class: f for f in self.fares if f.from_seq == from_seq and f.to_seq == to_seq}

    def _stop(self, field: str, code: str) -> TripStop:
        for stop in self.stops:
            if stop.code == code.strip().upper():
                return stop
        calls_at = ", ".join(stop.code for stop in self.stops)
        raise NotOnTrip(field, f"This trip does not call at {code}. It calls at {calls_at}.")


class TripFound(msgspec.Struct, frozen=True, kw_only=True):
    """A trip on the segment that was asked for: boarding at `departs_at`, leaving at `arrives_at` (UTC).

    `amount` is the fare of the cheapest class on board, in minor units. A trip whose `seats_available` are fewer
    than a party needs, or none, is found as well: pages say so rather than hide it.
    """

    trip_id: UUID
    operator_id: UUID
    operator_name: str
    from_seq: int
    to_seq: int
    departs_at: datetime
    arrives_at: datetime
    amount: int
    currency: str
    vehicle_kind: VehicleKind
    vehicle_name: str
    seat_count: int
    seats_available: int

    @property
    def price(self) -> Money:
        """The fare as money."""
        return Money(self.amount, self.currency)


class TripPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a search; `next_cursor` is None on the last one."""

    boards: Stop
    alights: Stop
    trips: tuple[TripFound, ...]
    next_cursor: str | None


class PopularPair(msgspec.Struct, frozen=True, kw_only=True):
    """The ends of a busy route, and the cheapest fare on its busiest one in minor units with who asks it."""

    from_code: str
    from_name: str
    from_city: str
    to_code: str
    to_name: str
    to_city: str
    departures_per_week: int
    operator_id: UUID
    amount: int
    currency: str


class DayDepartures(msgspec.Struct, frozen=True, kw_only=True):
    """How many trips can still be boarded on a local date."""

    local_date: date
    departures: int


def words(typed: str) -> str:
    """Words in lower case without accents or punctuation: "Dar-es-Sálaam!" is "dar es salaam"."""
    return _NOT_A_WORD.sub(" ", text.search_key(typed)).strip()


def draw(drawing: str, *, layout: UUID, operator_id: UUID, name: str, classes: Mapping[str, str] = CLASSES) -> Layout:
    """Read a layout from a drawing, front first: one line a row, one character a place, a blank line before a deck.

    A letter of `classes` is a seat of that class, in upper case one that a wheelchair user can reach; `.` is a gap
    (aisle); `*` driver, `>` door, `%` toilet, `/` stairs, `#` luggage. Rows that have seats are numbered from 1
    through all decks, seats are lettered from the left within their row: 1A. A seat in the outermost column has a
    window, one beside a gap is on the aisle. Raises InvalidDrawing.
    """
    seats: list[Seat] = []
    features: list[Feature] = []
    row_number = 0
    decks = [block.split() for block in re.split(r"\n\s*\n", drawing.strip())]
    for deck, rows in enumerate(decks, 1):
        if len({len(row) for row in rows}) != 1:
            raise InvalidDrawing(f"The rows of deck {deck} differ in length.")
        for row_index, row in enumerate(rows):
            found = list(_row_seats(row, deck=deck, row_index=row_index, number=row_number + 1, classes=classes))
            row_number += bool(found)
            seats += found
            features += _row_features(row, deck=deck, row_index=row_index)
    if not 1 <= len(seats) <= MAX_SEATS:
        raise InvalidDrawing(f"A layout has 1 to {MAX_SEATS} seats, not {len(seats)}.")
    return Layout(id=layout, operator_id=operator_id, name=name, seats=tuple(seats), features=tuple(features))


def check_route(stops: Sequence[RouteStop]) -> None:
    """Raises InvalidRoute unless there are two to sixty different stops, reached one after the other from minute 0."""
    if not 2 <= len(stops) <= 60:  # noqa: PLR2004 # said in the sentence below
        raise InvalidRoute("A route has 2 to 60 stops.")
    if len({stop.stop_id for stop in stops}) != len(stops):
        raise InvalidRoute("A route calls at a stop only once.")
    if (stops[0].arrives_after_minutes, stops[0].departs_after_minutes) != (0, 0):
        raise InvalidRoute("The first stop is left at minute 0.")
    previous = 0
    for seq, stop in enumerate(stops[1:], 1):
        if not previous < stop.arrives_after_minutes <= stop.departs_after_minutes:
            raise InvalidRoute(f"Stop {seq} is left before it is reached, or reached before the one before it is left.")
        previous = stop.departs_after_minutes


def check_fares(fares: Sequence[Fare], *, stops: int) -> None:
    """Raises InvalidFares unless all are in one currency, on segments of the route, each said once."""
    if len({fare.currency for fare in fares}) > 1:
        raise InvalidFares("All fares of a route are in one currency.")
    if len({(fare.from_seq, fare.to_seq, fare.seat_class) for fare in fares}) != len(fares):
        raise InvalidFares("A class has two fares on one segment.")
    for fare in fares:
        if not 0 <= fare.from_seq < fare.to_seq < stops:
            raise InvalidFares(f"The route has no segment from stop {fare.from_seq} to stop {fare.to_seq}.")
        if fare.amount <= 0:
            raise InvalidFares("A fare is more than nothing.")


def service_dates(schedule: Schedule, *, from_date: date, days: int) -> list[date]:
    """The dates among `days` from `from_date` on which the schedule runs."""
    span = (from_date + timedelta(days=ahead) for ahead in range(days))
    return [
        day
        for day in span
        if schedule.valid_from <= day <= schedule.valid_until and schedule.weekdays >> day.weekday() & 1
    ]


def call_times(calls: Sequence[Call], *, day: date, departs_local: time) -> list[CallTime]:
    """When a trip calls at each stop, if it leaves the first one at `departs_local` on `day` by its clocks.

    Later stops follow in elapsed minutes, so a change of the clocks on the way moves what clocks show, never how
    long the way takes.
    """
    departure = instant(day, departs_local, timezone=calls[0].timezone)
    times = []
    for call in calls:
        departs_at = minutes_after(departure, call.departs_after_minutes)
        times.append(
            CallTime(
                seq=call.seq,
                stop_id=call.stop_id,
                arrives_at=minutes_after(departure, call.arrives_after_minutes),
                departs_at=departs_at,
                local_date=local(departs_at, timezone=call.timezone).date(),
            )
        )
    return times


def trip_id(schedule: UUID, day: date) -> UUID:
    """The same for every process, so that two that make the same trip make one."""
    return uuid5(schedule, day.isoformat())


def _row_seats(row: str, *, deck: int, row_index: int, number: int, classes: Mapping[str, str]) -> Iterator[Seat]:
    taken = [column for column, mark in enumerate(row) if mark.lower() in classes]
    if len(taken) > MAX_SEATS_PER_ROW:
        raise InvalidDrawing(f"Row {number} has more than {MAX_SEATS_PER_ROW} seats.")
    for position, column in enumerate(taken):
        mark = row[column]
        yield Seat(
            number=f"{number}{chr(ord('A') + position)}",
            deck=deck,
            row_index=row_index,
            column_index=column,
            seat_class=classes[mark.lower()],
            is_window=column in {0, len(row) - 1},
            is_aisle=GAP in row[max(column - 1, 0) : column + 2],
            is_accessible=mark.isupper(),
        )
    unknown = set(row) - set(FEATURES) - {GAP} - {row[column] for column in taken}
    if unknown:
        raise InvalidDrawing(f"Deck {deck}, row {row_index + 1} has marks that mean nothing: {sorted(unknown)}.")


def _row_features(row: str, *, deck: int, row_index: int) -> list[Feature]:
    return [
        Feature(deck=deck, row_index=row_index, column_index=column, kind=FEATURES[mark])
        for column, mark in enumerate(row)
        if mark in FEATURES
    ]


class RefundRule(msgspec.Struct, frozen=True, kw_only=True):
    """So much of a fare goes back to who cancels at least so many hours before boarding; "" is every class."""

    hours_before: int
    percent: int
    seat_class: str = ""


# Where an operator has not said otherwise. Shown before anybody cancels.
DEFAULT_REFUND_RULES = (RefundRule(hours_before=24, percent=100), RefundRule(hours_before=2, percent=50))


class RefundPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator gives back. What it keeps is by currency, in minor units.

    `kept` of each fare never goes back; the rules are about the rest. Of what they give, `fees` are kept of each seat
    and `fees_once` of each cancellation, however many seats it is.
    """

    rules: tuple[RefundRule, ...]
    fees: Mapping[str, int]
    fees_once: Mapping[str, int] = {}
    kept: Mapping[str, int] = {}

    def percent(self, *, seat_class: str, left: timedelta) -> int:
        """How much of a fare goes back when so much time is left; nothing where no rule reaches that far."""
        own = [rule for rule in self.rules if rule.seat_class == seat_class]
        rules = own or [rule for rule in self.rules if not rule.seat_class]
        fitting = [rule for rule in rules if left >= timedelta(hours=rule.hours_before)]
        return max(fitting, key=lambda rule: rule.hours_before).percent if fitting else 0
