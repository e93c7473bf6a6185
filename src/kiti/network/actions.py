"""Writing verbs of the network. Putting the same thing twice leaves it as it is; ids are the caller's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from uuid import UUID

import msgspec
from psycopg.errors import UniqueViolation

from kiti.core.clock import zone
from kiti.core.errors import InvalidInput, KitiError, NotFound
from kiti.core.money import exponent
from kiti.db import Transaction, load
from kiti.network.model import (
    Call,
    CallTime,
    Fare,
    Feature,
    Layout,
    Operator,
    RefundPolicy,
    Route,
    Schedule,
    Seat,
    Stop,
    Vehicle,
    call_times,
    check_fares,
    check_route,
    service_dates,
    trip_id,
)

sql = load("kiti.network")

MAX_DAYS_AHEAD = 400


class NameTaken(KitiError):
    """Another thing of that kind has this code, name or registration already."""


class LayoutFixed(KitiError):
    """A layout's seats never change, for tickets name them; another drawing is another layout."""


class RouteFixed(KitiError):
    """A route's stops never change, for trips and fares count them; another way is another route."""


class TripNotScheduled(KitiError):
    """There is no such trip, or it is cancelled already."""


class _Made(msgspec.Struct, frozen=True):
    trips: int


async def add_operator(tx: Transaction, *, operator: Operator) -> None:
    """Insert or update; raises NameTaken, UnknownTimezone."""
    zone(operator.timezone)
    with _named(f"An operator with the code {operator.code}"):
        await tx.execute(sql.put_operator, **msgspec.structs.asdict(operator))


async def add_stop(tx: Transaction, *, stop: Stop) -> None:
    """Insert or update; raises NameTaken, UnknownTimezone."""
    zone(stop.timezone)
    with _named(f"A stop with the code {stop.code}"):
        await tx.execute(sql.put_stop, search_key=stop.search_key, **msgspec.structs.asdict(stop))


async def add_layout(tx: Transaction, *, layout: Layout) -> None:
    """Insert with its seats, or rename; raises NameTaken, and LayoutFixed where it has other seats already."""
    with _named(f"A layout called {layout.name}"):
        await tx.execute(
            sql.put_layout,
            id=layout.id,
            operator_id=layout.operator_id,
            name=layout.name,
            seat_count=len(layout.seats),
        )
    seats = tuple(await tx.many(sql.seats_of_layout, Seat, layout=layout.id))
    if not seats:
        await _insert_seats(tx, layout)
        return
    features = tuple(await tx.many(sql.features_of_layout, Feature, layout=layout.id))
    if (seats, features) != (layout.seats, layout.features):
        raise LayoutFixed(f"The layout {layout.name} exists with other seats. Give the new drawing a name of its own.")


async def add_vehicle(tx: Transaction, *, vehicle: Vehicle) -> None:
    """Insert or update; trips that exist keep the layout they were made with. Raises NameTaken."""
    with _named(f"A vehicle registered {vehicle.registration}"):
        await tx.execute(sql.put_vehicle, **msgspec.structs.asdict(vehicle))


async def add_route(tx: Transaction, *, route: Route) -> None:
    """Insert with its stops, or update its name and times for trips to come.

    Raises InvalidRoute, NameTaken, and RouteFixed where the route has other stops already.
    """
    check_route(route.stops)
    with _named(f"A route with the code {route.code}"):
        await tx.execute(sql.put_route, id=route.id, operator_id=route.operator_id, code=route.code, name=route.name)
    existing = await tx.many(sql.calls_of_route, Call, route=route.id)
    if existing and [call.stop_id for call in existing] != [stop.stop_id for stop in route.stops]:
        raise RouteFixed(f"The route {route.code} exists with other stops. Give the new way a code of its own.")
    await tx.execute(
        sql.put_route_stops,
        route=route.id,
        seqs=list(range(len(route.stops))),
        stops=[stop.stop_id for stop in route.stops],
        arrives_after_minutes=[stop.arrives_after_minutes for stop in route.stops],
        departs_after_minutes=[stop.departs_after_minutes for stop in route.stops],
    )


async def set_fares(tx: Transaction, *, route: UUID, fares: list[Fare]) -> None:
    """Make these all the fares of a route. Bookings keep the fare they were made with.

    Raises InvalidFares, UnknownCurrency, and NotFound where there is no such route.
    """
    calls = await tx.many(sql.calls_of_route, Call, route=route)
    if not calls:
        raise NotFound("There is no such route.")
    check_fares(fares, stops=len(calls))
    for fare in fares:
        exponent(fare.currency)
    from_seqs = [fare.from_seq for fare in fares]
    to_seqs = [fare.to_seq for fare in fares]
    classes = [fare.seat_class for fare in fares]
    await tx.execute(sql.drop_fares, route=route, from_seqs=from_seqs, to_seqs=to_seqs, classes=classes)
    await tx.execute(
        sql.put_fares,
        route=route,
        from_seqs=from_seqs,
        to_seqs=to_seqs,
        classes=classes,
        amounts=[fare.amount for fare in fares],
        currencies=[fare.currency for fare in fares],
    )


async def set_refund_policy(tx: Transaction, *, operator: UUID, policy: RefundPolicy) -> None:
    """Make this what an operator gives back from now on, cancelled bookings aside; raises UnknownCurrency."""
    amounts = [
        (kind, currency, amount)
        for kind, fees in (("seat", policy.fees), ("cancellation", policy.fees_once), ("kept", policy.kept))
        for currency, amount in fees.items()
    ]
    for _, currency, _ in amounts:
        exponent(currency)
    await tx.execute(sql.drop_refund_rules, operator=operator)
    await tx.execute(sql.drop_refund_fees, operator=operator)
    await tx.execute(
        sql.put_refund_rules,
        operator=operator,
        classes=[rule.seat_class for rule in policy.rules],
        hours=[rule.hours_before for rule in policy.rules],
        percents=[rule.percent for rule in policy.rules],
    )
    await tx.execute(
        sql.put_refund_fees,
        operator=operator,
        kinds=[kind for kind, _, _ in amounts],
        currencies=[currency for _, currency, _ in amounts],
        amounts=[amount for _, _, amount in amounts],
    )


async def set_lost_seats(tx: Transaction, *, operator: UUID, replaces: bool) -> None:
    """Say whether late money may buy other seats of this operator than those that were lost meanwhile."""
    await tx.execute(sql.set_lost_seats, operator=operator, replaces=replaces)


async def add_schedule(tx: Transaction, *, schedule: Schedule) -> None:
    """Insert, or change the trips that are yet to be made; its route stays."""
    await tx.execute(sql.put_schedule, **msgspec.structs.asdict(schedule))


async def generate_trips(tx: Transaction, *, schedule: UUID, from_date: date, days: int) -> int:
    """Make the trips of `days` dates from `from_date` on that are not there yet; how many that were.

    Raises NotFound without such a schedule, InvalidInput for more than MAX_DAYS_AHEAD days.
    """
    if not 1 <= days <= MAX_DAYS_AHEAD:
        raise InvalidInput("days", f"Trips are made for 1 to {MAX_DAYS_AHEAD} days at a time.")
    found = await tx.maybe(sql.schedule_by_id, Schedule, schedule=schedule)
    if found is None:
        raise NotFound("There is no such schedule.")
    calls = await tx.many(sql.calls_of_route, Call, route=found.route_id)
    trips: list[tuple[UUID, date, list[CallTime]]] = [
        (trip_id(schedule, day), day, call_times(calls, day=day, departs_local=found.departs_local))
        for day in service_dates(found, from_date=from_date, days=days)
    ]
    lines = [(trip, time) for trip, _, times in trips for time in times]
    made = await tx.one(
        sql.make_trips,
        _Made,
        schedule=schedule,
        ids=[trip for trip, _, _ in trips],
        service_dates=[day for _, day, _ in trips],
        departures=[times[0].departs_at for _, _, times in trips],
        arrivals=[times[-1].arrives_at for _, _, times in trips],
        call_trips=[trip for trip, _ in lines],
        call_seqs=[time.seq for _, time in lines],
        call_stops=[time.stop_id for _, time in lines],
        call_arrivals=[time.arrives_at for _, time in lines],
        call_departures=[time.departs_at for _, time in lines],
        call_dates=[time.local_date for _, time in lines],
    )
    return made.trips


async def cancel_trip(tx: Transaction, *, trip: UUID) -> None:
    """Sell no more seats on it; raises TripNotScheduled. What was sold is for the caller to give back."""
    if await tx.execute(sql.cancel_trip, trip=trip) != 1:
        raise TripNotScheduled("There is no such trip, or it is cancelled already.")


async def take_turns(tx: Transaction) -> None:
    """Wait until nobody else who calls this is writing; holds until the transaction ends."""
    await tx.execute(sql.take_turns)


async def close_revenue(tx: Transaction, *, trips: Sequence[UUID]) -> None:
    """All that was sold for these trips is recognised as revenue: nobody has to look at them again."""
    await tx.execute(sql.close_revenue, trips=list(trips))


async def _insert_seats(tx: Transaction, layout: Layout) -> None:
    await tx.execute(
        sql.insert_seats,
        layout=layout.id,
        numbers=[seat.number for seat in layout.seats],
        decks=[seat.deck for seat in layout.seats],
        row_indexes=[seat.row_index for seat in layout.seats],
        column_indexes=[seat.column_index for seat in layout.seats],
        classes=[seat.seat_class for seat in layout.seats],
        windows=[seat.is_window for seat in layout.seats],
        aisles=[seat.is_aisle for seat in layout.seats],
        accessibles=[seat.is_accessible for seat in layout.seats],
    )
    await tx.execute(
        sql.insert_features,
        layout=layout.id,
        decks=[feature.deck for feature in layout.features],
        row_indexes=[feature.row_index for feature in layout.features],
        column_indexes=[feature.column_index for feature in layout.features],
        kinds=[feature.kind for feature in layout.features],
    )


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except UniqueViolation as error:
        raise NameTaken(f"{what} exists already. Choose another.") from error
