"""What pages and the API ask of the network."""

from base64 import b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

import msgspec

from kiti.core.errors import InvalidInput, NotFound
from kiti.db import Reader, load
from kiti.network.model import (
    DEFAULT_REFUND_RULES,
    DayDepartures,
    Fare,
    Feature,
    Layout,
    PopularPair,
    RefundPolicy,
    RefundRule,
    Schedule,
    Seat,
    Stop,
    TripFound,
    TripHead,
    TripPage,
    TripStop,
    VehicleKind,
    words,
)

sql = load("kiti.network")

SEARCH_LIMIT = 20
MAX_SEARCH_LIMIT = 50
MAX_STOPS = 20
MAX_PAIRS = 50
MAX_DAYS_AROUND = 15
MAX_QUERY_LENGTH = 120

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CURSOR_BYTES = 24


class InvalidCursor(InvalidInput):
    """The cursor is not one that a search gave."""


class TripNotFound(NotFound):
    """No trip has that id."""


class UnknownStop(NotFound):
    """No stop has that code, name or city."""


class AmbiguousStop(NotFound):
    """Several stops have that name or lie in that city; `codes` are some of theirs."""

    def __init__(self, message: str, *, codes: tuple[str, ...]) -> None:
        super().__init__(message)
        self.codes = codes


class Cursor(msgspec.Struct, frozen=True):
    """The last trip of a page: a search goes on behind it."""

    departs_at: datetime
    trip_id: UUID

    def encode(self) -> str:
        """32 characters of base64url: microseconds since 1970 in 8 bytes, then the trip's id in 16."""
        microseconds = (self.departs_at - _EPOCH) // _MICROSECOND
        return urlsafe_b64encode(microseconds.to_bytes(8, "big") + self.trip_id.bytes).decode()

    @classmethod
    def decode(cls, cursor: str) -> "Cursor":
        """Undo `encode`; raises InvalidCursor for anything else."""
        try:
            raw = b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
            departs_at = _EPOCH + timedelta(microseconds=int.from_bytes(raw[:8], "big"))
        except (NotBase64, UnicodeEncodeError, OverflowError) as error:
            raise InvalidCursor("cursor", "Not a cursor that a search gave. Search again.") from error
        if len(raw) != _CURSOR_BYTES:
            raise InvalidCursor("cursor", "Not a cursor that a search gave. Search again.")
        return cls(departs_at, UUID(bytes=raw[8:]))


FIRST_PAGE = Cursor(_EPOCH, UUID(int=0))


class Departed(msgspec.Struct, frozen=True, kw_only=True):
    """A trip that has left its first stop; the last travellers board at `boards_until`."""

    id: UUID
    departs_at: datetime
    boards_until: datetime
    now: datetime


class _Named(Stop, frozen=True, kw_only=True):
    rank: int


class _Departure(msgspec.Struct, frozen=True, kw_only=True):
    """TripFound before its seats are counted."""

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


class _Taken(msgspec.Struct, frozen=True, kw_only=True):
    trip_id: UUID
    taken: int


class _LayoutName(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    operator_id: UUID
    name: str


class _ById(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID


class _RefundRule(msgspec.Struct, frozen=True, kw_only=True):
    operator_id: UUID
    seat_class: str
    hours_before: int
    percent: int


class _RefundFee(msgspec.Struct, frozen=True, kw_only=True):
    operator_id: UUID
    kind: str
    currency: str
    amount: int


class _Boarding(msgspec.Struct, frozen=True, kw_only=True):
    trip_id: UUID
    seq: int
    departs_at: datetime


async def search(
    reader: Reader,
    *,
    boards: Stop,
    alights: Stop,
    day: date,
    cursor: str | None = None,
    limit: int = SEARCH_LIMIT,
) -> TripPage:
    """Trips that call at `boards` and later at `alights`, boarding on `day` by the clocks of `boards`.

    In order of boarding. Trips that have left there, are cancelled, or have no fare on the segment for any class
    on board are left out; full ones are not. Raises InvalidCursor, and InvalidInput for a limit beyond 1 to 50.
    """
    if not 1 <= limit <= MAX_SEARCH_LIMIT:
        raise InvalidInput("limit", f"A page has 1 to {MAX_SEARCH_LIMIT} trips.")
    after = Cursor.decode(cursor) if cursor else FIRST_PAGE
    found = await reader.many(
        sql.search,
        _Departure,
        from_stop=boards.id,
        to_stop=alights.id,
        day=day,
        after_at=after.departs_at,
        after_trip=after.trip_id,
        at_most=limit + 1,
    )
    page = found[:limit]
    more = len(found) > limit
    return TripPage(
        boards=boards,
        alights=alights,
        trips=await _with_seats(reader, page),
        next_cursor=Cursor(page[-1].departs_at, page[-1].trip_id).encode() if more else None,
    )


async def departures_by_day(
    reader: Reader, *, boards: Stop, alights: Stop, around: date, days_around: int = 3
) -> list[DayDepartures]:
    """How many trips each local date from `around - days_around` to `around + days_around` has, zeros included."""
    assert 0 <= days_around <= MAX_DAYS_AROUND
    days = [around + timedelta(days=ahead) for ahead in range(-days_around, days_around + 1)]
    rows = await reader.many(
        sql.departures_by_day,
        DayDepartures,
        from_stop=boards.id,
        to_stop=alights.id,
        first_day=days[0],
        last_day=days[-1],
    )
    counted = {row.local_date: row for row in rows}
    return [counted.get(day, DayDepartures(local_date=day, departures=0)) for day in days]


async def popular_pairs(reader: Reader, *, limit: int = 8) -> list[PopularPair]:
    """The ends of routes that run most often, busiest first; reads schedules and fares, no trips."""
    assert 1 <= limit <= MAX_PAIRS
    return await reader.many(sql.popular_pairs, PopularPair, at_most=limit)


async def stops_matching(reader: Reader, *, query: str, limit: int = 10) -> list[Stop]:
    """Stops whose code, name or city begins with what was typed, or any word of the last two; codes first.

    Case, accents and punctuation do not matter. Nothing matches nothing.
    """
    assert 1 <= limit <= MAX_STOPS
    typed = words(query[:MAX_QUERY_LENGTH])
    if not typed:
        return []
    return await reader.many(sql.stops_matching, Stop, code=typed.upper(), words=typed, at_most=limit)


async def stop_by_code_or_name(reader: Reader, *, named: str) -> Stop:
    """The stop with that code, else that name, else the only one of that city.

    Raises UnknownStop, AmbiguousStop.
    """
    typed = words(named[:MAX_QUERY_LENGTH])
    found = await reader.many(sql.stops_named, _Named, code=typed.upper(), words=typed, at_most=MAX_STOPS)
    if not typed or not found:
        raise UnknownStop(f"No stop is called {named[:MAX_QUERY_LENGTH]!r}. Try the name of a city.")
    best = [stop for stop in found if stop.rank == found[0].rank]
    if len(best) > 1:
        codes = tuple(stop.code for stop in best)
        raise AmbiguousStop(f"Several stops are called {named!r}. Choose one of {', '.join(codes)}.", codes=codes)
    fields = msgspec.structs.asdict(best[0])
    del fields["rank"]
    return Stop(**fields)


async def trip_heads(reader: Reader, *, trips: Sequence[UUID]) -> dict[UUID, TripHead]:
    """Who runs these trips, with what, when and in which state; those that do not exist are left out."""
    return {head.id: head for head in await reader.many(sql.trip_heads, TripHead, trips=list(trips))}


async def stops_of_trips(reader: Reader, *, trips: Sequence[UUID]) -> dict[UUID, tuple[TripStop, ...]]:
    """Where and when these trips call, each trip's stops in order."""

    def row(trip_id: UUID, **stop: Any) -> tuple[UUID, TripStop]:
        return trip_id, TripStop(**stop)

    rows = await reader.many(sql.stops_of_trips, row, trips=list(trips))
    return {trip: tuple(stop for _, stop in of_trip) for trip, of_trip in groupby(rows, key=itemgetter(0))}


async def fares_of_route(reader: Reader, *, route: UUID) -> tuple[Fare, ...]:
    """What is asked today on each segment of a route, by class."""
    return tuple(await reader.many(sql.fares_of_route, Fare, route=route))


async def layout(reader: Reader, *, layout: UUID) -> Layout:
    """The layout with its seats; it never changes, so it may be kept. Raises NotFound."""
    found = await reader.maybe(sql.layout_by_id, _LayoutName, layout=layout)
    if found is None:
        raise NotFound("There is no such layout.")
    return Layout(
        id=found.id,
        operator_id=found.operator_id,
        name=found.name,
        seats=tuple(await reader.many(sql.seats_of_layout, Seat, layout=layout)),
        features=tuple(await reader.many(sql.features_of_layout, Feature, layout=layout)),
    )


async def schedules_after(
    reader: Reader, *, after: UUID, first: date, last: date, limit: int
) -> list[tuple[Schedule, set[date]]]:
    """Schedules valid between two days, in the order of their ids behind `after`; each with the dates that are made."""

    def row(made: list[date], **schedule: Any) -> tuple[Schedule, set[date]]:
        return Schedule(**schedule), set(made)

    return await reader.many(sql.schedules_after, row, after=after, first=first, last=last, at_most=limit)


async def running(reader: Reader, *, trips: Sequence[UUID]) -> Callable[[], Awaitable[list[tuple[UUID, datetime]]]]:
    """Ask which of these trips are not cancelled; the answer, when called for, has the database's clock with each."""
    return await reader.ask(sql.running, tuple, trips=list(trips))


async def sells_from(reader: Reader, *, trip: UUID, seq: int) -> bool:
    """Whether a trip is neither cancelled nor has left that stop."""
    return await reader.maybe(sql.sells_from, _ById, trip=trip, seq=seq) is not None


async def operator_codes(reader: Reader) -> dict[str, str]:
    """The codes of all operators by their ids as text."""
    return {str(operator): code for operator, code in await reader.many(sql.operator_codes, tuple)}


async def open_departures(reader: Reader, *, after: tuple[datetime, UUID], limit: int) -> list[Departed]:
    """Departed trips whose revenue is not all recognised, from behind (departure, trip) on, the earliest first."""
    return await reader.many(sql.open_departures, Departed, after_at=after[0], after=after[1], limit=limit)


async def boarding(reader: Reader, *, trips: Sequence[UUID]) -> dict[tuple[UUID, int], datetime]:
    """When these trips leave each of their stops; cancelled ones are left out."""
    rows = await reader.many(sql.boarding, _Boarding, trips=list(trips))
    return {(row.trip_id, row.seq): row.departs_at for row in rows}


async def operator_by_code(reader: Reader, *, code: str) -> UUID:
    """An operator's id; raises NotFound."""
    found = await reader.maybe(sql.operator_by_code, _ById, code=code.strip().lower())
    if found is None:
        raise NotFound(f"There is no operator {code!r}.")
    return found.id


async def refund_policies(reader: Reader, *, operators: Sequence[UUID]) -> dict[UUID, RefundPolicy]:
    """What each of these operators gives back; DEFAULT_REFUND_RULES and no fee where one has not said."""
    rules: dict[UUID, list[RefundRule]] = {}
    for row in await reader.many(sql.refund_rules, _RefundRule, operators=list(operators)):
        rule = RefundRule(seat_class=row.seat_class, hours_before=row.hours_before, percent=row.percent)
        rules.setdefault(row.operator_id, []).append(rule)
    fees: dict[tuple[UUID, str], dict[str, int]] = {}
    for fee in await reader.many(sql.refund_fees, _RefundFee, operators=list(operators)):
        fees.setdefault((fee.operator_id, fee.kind), {})[fee.currency] = fee.amount
    return {
        operator: RefundPolicy(
            rules=tuple(rules.get(operator, DEFAULT_REFUND_RULES)),
            fees=fees.get((operator, "seat"), {}),
            fees_once=fees.get((operator, "cancellation"), {}),
            kept=fees.get((operator, "kept"), {}),
        )
        for operator in operators
    }


async def replacing_lost_seats(reader: Reader, *, operators: Collection[UUID]) -> set[UUID]:
    """Those of these operators who let late money buy other seats than the lost ones."""
    return {row.id for row in await reader.many(sql.replacing_lost_seats, _ById, operators=list(operators))}


async def _with_seats(reader: Reader, page: Sequence[_Departure]) -> tuple[TripFound, ...]:
    """Count what is taken, for the trips of the page only."""
    if not page:
        return ()
    rows = await reader.many(
        sql.seats_taken,
        _Taken,
        trips=[trip.trip_id for trip in page],
        from_seqs=[trip.from_seq for trip in page],
        to_seqs=[trip.to_seq for trip in page],
    )
    taken = {row.trip_id: row.taken for row in rows}
    return tuple(
        TripFound(seats_available=max(trip.seat_count - taken.get(trip.trip_id, 0), 0), **msgspec.structs.asdict(trip))
        for trip in page
    )
