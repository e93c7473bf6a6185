"""A small network with fixed names for tests: Kampala - Mbarara - Kigali by bus, Kampala - Entebbe by shuttle.

Each trip is handed out once, so tests on one database do not disturb each other's seats.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID, uuid5

import msgspec

from kiti.db import Database, Transaction
from kiti.network import actions
from kiti.network.model import (
    Fare,
    Layout,
    Operator,
    Route,
    RouteStop,
    Schedule,
    Stop,
    Vehicle,
    VehicleKind,
    draw,
    trip_id,
)

_NAMES = UUID("7e575e57-0000-5000-8000-6b6974697e57")

# 50 seats: ten rows of four, two of five; 1A to 12E.
BUS = "*...>\n" + "ss.ss\n" * 10 + "sssss\n" * 2
# 12 seats.
SHUTTLE = "*.ss\n" + "ss.s\n" * 2 + "ssss"
# 20 seats on two decks, four of them VIP on the lower one.
DOUBLE = "*...>\nVV.VV\nss.ss\n\n" + "ss.ss\n" * 3

STANDARD_UGX = 60_000
FIRST_LEG_UGX = 30_000
SECOND_LEG_UGX = 35_000
VIP_UGX = 90_000
SHUTTLE_UGX = 15_000
# KES 1,500.00
LAKE_KES = 150_000

# Far enough ahead for tests that let hours pass.
FIRST_DAY = datetime.now(UTC).date() + timedelta(days=2)
DAYS = {"bus": 720, "double": 120, "shuttle": 120, "lake": 120}
# What one test alone needs.
FEW_DAYS = {"bus": 120, "double": 30, "shuttle": 30, "lake": 30}
AT_ONCE = 120
# So many days ahead nobody is given a trip: there is what a search finds, with every seat free.
UNTOUCHED = (118, 119)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A route with one vehicle and a daily departure."""

    operator: Operator
    layout: Layout
    vehicle: Vehicle
    route: Route
    schedule: Schedule
    fares: list[Fare]

    @property
    def seats(self) -> list[str]:
        """Every seat number, from the front."""
        return [seat.number for seat in self.layout.seats]

    def trip_on(self, day: date) -> UUID:
        """The trip of that day."""
        return trip_id(self.schedule.id, day)


class Network:
    """What `build` has written: lines by name, and their trips, each given out once."""

    def __init__(self, *, days: Mapping[str, int] = DAYS) -> None:
        self.days = days
        self.stops = {
            code: _stop(code, name, city, timezone)
            for code, name, city, timezone in (
                ("KLA", "Kampala Coach Park", "Kampala", "Africa/Kampala"),
                ("MBR", "Mbarara Bus Park", "Mbarara", "Africa/Kampala"),
                ("KGL", "Nyabugogo", "Kigali", "Africa/Kigali"),
                ("EBB", "Entebbe Airport", "Entebbe", "Africa/Kampala"),
                ("NBO", "Nairobi River Road", "Nairobi", "Africa/Nairobi"),
            )
        }
        pearl = _operator("pearl", "Pearl Coaches")
        lake = _operator("lake", "Lake Lines")
        through = (("KLA", 0, 0), ("MBR", 270, 285), ("KGL", 600, 600))
        whole = [
            ("STANDARD", 0, 2, STANDARD_UGX),
            ("STANDARD", 0, 1, FIRST_LEG_UGX),
            ("STANDARD", 1, 2, SECOND_LEG_UGX),
        ]
        self.bus_line = self._line(pearl, "bus", BUS, through, whole, "UGX")
        self.double_line = self._line(
            pearl, "double", DOUBLE, through, [*whole, ("VIP", 0, 2, VIP_UGX), ("VIP", 0, 1, 45_000)], "UGX"
        )
        self.shuttle_line = self._line(
            lake,
            "shuttle",
            SHUTTLE,
            (("KLA", 0, 0), ("EBB", 60, 60)),
            [("STANDARD", 0, 1, SHUTTLE_UGX)],
            "UGX",
            kind="shuttle",
        )
        self.lake_line = self._line(
            lake, "lake", SHUTTLE, (("KLA", 0, 0), ("NBO", 720, 720)), [("STANDARD", 0, 1, LAKE_KES)], "KES"
        )
        self._days = {line.route.code: self._fresh_days(line) for line in self.lines}

    @property
    def lines(self) -> list[Line]:
        """All of them."""
        return [self.bus_line, self.double_line, self.shuttle_line, self.lake_line]

    @property
    def departed(self) -> UUID:
        """A bus that left yesterday."""
        return self.bus_line.trip_on(datetime.now(UTC).date() - timedelta(days=1))

    def bus(self) -> UUID:
        """A trip with 50 free seats from KLA over MBR to KGL."""
        return next(self._days["bus"])

    def double(self) -> UUID:
        """A double-decker on the same way, with four VIP seats."""
        return next(self._days["double"])

    def shuttle(self) -> UUID:
        """A trip with 12 free seats from KLA to EBB, by another operator."""
        return next(self._days["shuttle"])

    def lake(self) -> UUID:
        """A trip that is paid in KES, with 12 free seats from KLA to NBO."""
        return next(self._days["lake"])

    def bus_after(self, moment: datetime) -> UUID:
        """The bus of the third day after a moment that a test has travelled to."""
        return self.bus_line.trip_on(moment.date() + timedelta(days=3))

    async def build(self, db: Database) -> "Network":
        """Write everything in one transaction."""
        async with db.transaction() as tx:
            for stop in self.stops.values():
                await actions.add_stop(tx, stop=stop)
            for line in self.lines:
                await _write(tx, line, days=self.days[line.route.code])
            yesterday = FIRST_DAY - timedelta(days=3)
            await actions.generate_trips(tx, schedule=self.bus_line.schedule.id, from_date=yesterday, days=1)
        return self

    def _line(
        self,
        operator: Operator,
        code: str,
        drawing: str,
        calls: tuple[tuple[str, int, int], ...],
        fares: list[tuple[str, int, int, int]],
        currency: str,
        *,
        kind: VehicleKind = "bus",
    ) -> Line:
        layout = draw(drawing, layout=_id(f"layout {code}"), operator_id=operator.id, name=code)
        vehicle = Vehicle(
            id=_id(f"vehicle {code}"),
            operator_id=operator.id,
            layout_id=layout.id,
            kind=kind,
            name=code.title(),
            registration=f"UBA {code}",
        )
        route = Route(
            id=_id(f"route {code}"),
            operator_id=operator.id,
            code=code,
            name=f"{calls[0][0]} to {calls[-1][0]}",
            stops=tuple(
                RouteStop(stop_id=self.stops[stop].id, arrives_after_minutes=arrives, departs_after_minutes=departs)
                for stop, arrives, departs in calls
            ),
        )
        schedule = Schedule(
            id=_id(f"schedule {code}"),
            operator_id=operator.id,
            route_id=route.id,
            vehicle_id=vehicle.id,
            departs_local=time(8),
            valid_from=date(2020, 1, 1),
            valid_until=date(2099, 1, 1),
        )
        return Line(
            operator=operator,
            layout=layout,
            vehicle=vehicle,
            route=route,
            schedule=schedule,
            fares=[
                Fare(from_seq=start, to_seq=end, seat_class=seat_class, amount=amount, currency=currency)
                for seat_class, start, end, amount in fares
            ],
        )

    def _fresh_days(self, line: Line) -> Iterator[UUID]:
        for ahead in range(self.days[line.route.code]):
            if ahead not in UNTOUCHED:
                yield line.trip_on(FIRST_DAY + timedelta(days=ahead))
        raise AssertionError(f"A session's tests have used up every {line.route.code}; give it more days.")


async def _write(tx: Transaction, line: Line, *, days: int) -> None:
    await actions.add_operator(tx, operator=line.operator)
    await actions.add_layout(tx, layout=line.layout)
    await actions.add_vehicle(tx, vehicle=line.vehicle)
    await actions.add_route(tx, route=line.route)
    await actions.set_fares(tx, route=line.route.id, fares=line.fares)
    await actions.add_schedule(tx, schedule=line.schedule)
    for ahead in range(0, days, AT_ONCE):
        first = FIRST_DAY + timedelta(days=ahead)
        await actions.generate_trips(tx, schedule=line.schedule.id, from_date=first, days=min(AT_ONCE, days - ahead))


def _id(name: str) -> UUID:
    return uuid5(_NAMES, name)


def _stop(code: str, name: str, city: str, timezone: str) -> Stop:
    return Stop(
        id=_id(f"stop {code}"),
        code=code,
        name=name,
        city=city,
        country="UG",
        latitude=0.3,
        longitude=32.6,
        timezone=timezone,
    )


def _operator(code: str, name: str) -> Operator:
    return Operator(id=_id(f"operator {code}"), code=code, name=name, country="UG", timezone="Africa/Kampala")
