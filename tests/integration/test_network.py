"""The network and its search, on a real database. One small line: Kampala - Mbarara - Kigali."""

import asyncio
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from tests.box import Box

from kiti.core.errors import InvalidInput, NotFound
from kiti.core.money import UnknownCurrency
from kiti.flows.catalogue import Catalogue
from kiti.network import actions, reads
from kiti.network.model import (
    Fare,
    NotOnTrip,
    Operator,
    Route,
    RouteStop,
    Schedule,
    Stop,
    TripPage,
    Vehicle,
    draw,
    trip_id,
)

DAY = datetime.now(UTC).date() + timedelta(days=10)
COACH = "*..>\nvv.v\nss.s\nss.s"
UNKNOWN = UUID(int=404)


def stop(code: str, name: str, city: str, timezone: str = "Africa/Kampala") -> Stop:
    return Stop(
        id=uuid4(), code=code, name=name, city=city, country="UG", latitude=0.3, longitude=32.6, timezone=timezone
    )


class Line:
    """Two classes, nine seats, daily at the given hours."""

    def __init__(self, *hours: int, fares: tuple[tuple[int, int, str, int], ...] | None = None) -> None:
        self.kampala = stop("KLA", "Kampala Coach Park", "Kampala")
        self.mbarara = stop("MBR", "Mbarara", "Mbarara")
        self.kigali = stop("KGL", "Nyabugogo", "Kigali", "Africa/Kigali")
        self.operator = Operator(id=uuid4(), code="pearl", name="Pearl", country="UG", timezone="Africa/Kampala")
        self.layout = draw(COACH, layout=uuid4(), operator_id=self.operator.id, name="Coach")
        self.vehicle = Vehicle(
            id=uuid4(),
            operator_id=self.operator.id,
            layout_id=self.layout.id,
            kind="bus",
            name="Coach",
            registration="UBA 001",
        )
        self.route = Route(
            id=uuid4(),
            operator_id=self.operator.id,
            code="KLA-KGL",
            name="Kampala to Kigali",
            stops=tuple(
                RouteStop(stop_id=at.id, arrives_after_minutes=arrives, departs_after_minutes=departs)
                for at, arrives, departs in ((self.kampala, 0, 0), (self.mbarara, 270, 285), (self.kigali, 600, 600))
            ),
        )
        self.schedules = [
            Schedule(
                id=uuid4(),
                operator_id=self.operator.id,
                route_id=self.route.id,
                vehicle_id=self.vehicle.id,
                departs_local=time(hour),
                valid_from=date(2020, 1, 1),
                valid_until=date(2099, 1, 1),
            )
            for hour in hours
        ]
        self.fares = [
            Fare(from_seq=a, to_seq=b, seat_class=seat_class, amount=amount, currency="UGX")
            for a, b, seat_class, amount in fares
            or (
                (0, 1, "STANDARD", 30_000),
                (0, 1, "VIP", 45_000),
                (0, 2, "STANDARD", 60_000),
                (0, 2, "VIP", 90_000),
                (1, 2, "STANDARD", 35_000),
            )
        ]

    async def build(self, box: Box, *, first: date = DAY, days: int = 1) -> "Line":
        async with box.db.transaction() as tx:
            await actions.add_operator(tx, operator=self.operator)
            for at in (self.kampala, self.mbarara, self.kigali):
                await actions.add_stop(tx, stop=at)
            await actions.add_layout(tx, layout=self.layout)
            await actions.add_vehicle(tx, vehicle=self.vehicle)
            await actions.add_route(tx, route=self.route)
            await actions.set_fares(tx, route=self.route.id, fares=self.fares)
            for schedule in self.schedules:
                await actions.add_schedule(tx, schedule=schedule)
                await actions.generate_trips(tx, schedule=schedule.id, from_date=first, days=days)
        return self

    def trip(self, number: int = 0, day: date = DAY) -> UUID:
        return trip_id(self.schedules[number].id, day)


async def find(
    box: Box, boards: Stop, alights: Stop, day: date = DAY, *, cursor: str | None = None, limit: int = 20
) -> TripPage:
    async with box.db.reader() as reader:
        return await reads.search(reader, boards=boards, alights=alights, day=day, cursor=cursor, limit=limit)


async def claim(box: Box, trip: UUID, seat: str, *legs: int, for_minutes: int | None = None) -> None:
    """A held seat, or a sold one where no minutes are given."""
    for leg in legs:
        await box.rows(
            "INSERT INTO seat_claim (trip_id, seat, leg, owner_id, claimed_at, expires_at)"
            " SELECT %s, %s, %s, %s, kiti_now(), coalesce(kiti_now() + %s::integer * interval '1 minute', 'infinity')",
            trip,
            seat,
            leg,
            uuid4(),
            for_minutes,
        )


async def test_a_trip_is_found_for_every_pair_of_its_stops_in_order(box: Box) -> None:
    line = await Line(8).build(box)
    for boards, alights, hours, amount in (
        (line.kampala, line.kigali, (5, 15), 60_000),
        (line.kampala, line.mbarara, (5, 9), 30_000),
        (line.mbarara, line.kigali, (9, 15), 35_000),
    ):
        (found,) = (await find(box, boards, alights)).trips
        assert found.trip_id == line.trip()
        assert (found.departs_at.hour, found.arrives_at.hour) == hours
        assert (found.amount, found.currency) == (amount, "UGX")
        assert (found.seat_count, found.seats_available) == (9, 9)
        assert (found.operator_name, found.vehicle_kind) == ("Pearl", "bus")


async def test_nothing_is_found_in_the_other_direction(box: Box) -> None:
    line = await Line(8).build(box)
    assert (await find(box, line.kigali, line.kampala)).trips == ()
    assert (await find(box, line.kampala, line.kampala)).trips == ()


async def test_the_date_is_that_of_boarding_at_the_boarding_stop(box: Box) -> None:
    line = await Line(20).build(box)
    next_day = DAY + timedelta(days=1)
    assert len((await find(box, line.kampala, line.kigali, DAY)).trips) == 1
    assert (await find(box, line.kampala, line.kigali, next_day)).trips == ()
    assert (await find(box, line.mbarara, line.kigali, DAY)).trips == ()
    (found,) = (await find(box, line.mbarara, line.kigali, next_day)).trips  # 00:45 in Mbarara
    assert found.trip_id == line.trip()


async def test_a_class_that_nobody_on_board_can_sit_in_makes_no_price(box: Box) -> None:
    line = await Line(8, fares=((0, 2, "SLEEPER", 10_000), (0, 2, "VIP", 90_000), (0, 1, "SLEEPER", 5_000))).build(box)
    (found,) = (await find(box, line.kampala, line.kigali)).trips
    assert found.amount == 90_000
    assert (await find(box, line.kampala, line.mbarara)).trips == ()


async def test_a_segment_without_a_fare_is_not_sold(box: Box) -> None:
    line = await Line(8, fares=((0, 2, "STANDARD", 60_000),)).build(box)
    assert len((await find(box, line.kampala, line.kigali)).trips) == 1
    assert (await find(box, line.mbarara, line.kigali)).trips == ()


async def test_seats_are_counted_on_the_asked_segment_only(box: Box) -> None:
    line = await Line(8).build(box)
    await claim(box, line.trip(), "1A", 0)
    await claim(box, line.trip(), "1B", 0, 1)
    await claim(box, line.trip(), "2A", 1, for_minutes=15)
    left = {
        name: (await find(box, boards, alights)).trips[0].seats_available
        for name, boards, alights in (
            ("first leg", line.kampala, line.mbarara),
            ("second leg", line.mbarara, line.kigali),
            ("whole way", line.kampala, line.kigali),
        )
    }
    assert left == {"first leg": 7, "second leg": 7, "whole way": 6}


async def test_an_expired_hold_is_a_free_seat(box: Box) -> None:
    line = await Line(8).build(box)
    await claim(box, line.trip(), "1A", 0, 1, for_minutes=15)
    assert (await find(box, line.kampala, line.kigali)).trips[0].seats_available == 8
    await box.travel(minutes=15)
    assert (await find(box, line.kampala, line.kigali)).trips[0].seats_available == 9


async def test_a_full_trip_is_still_shown(box: Box) -> None:
    line = await Line(8).build(box)
    for seat in line.layout.seats:
        await claim(box, line.trip(), seat.number, 0)
    assert (await find(box, line.kampala, line.kigali)).trips[0].seats_available == 0
    assert (await find(box, line.mbarara, line.kigali)).trips[0].seats_available == 9


async def test_a_trip_that_has_left_the_boarding_stop_is_gone_but_can_be_boarded_further_on(box: Box) -> None:
    line = await Line(8).build(box)
    departs_at = (await find(box, line.kampala, line.kigali)).trips[0].departs_at
    now = await box.value("SELECT kiti_now()")
    await box.travel(seconds=(departs_at - now).total_seconds())
    assert (await find(box, line.kampala, line.kigali)).trips == ()
    assert len((await find(box, line.mbarara, line.kigali)).trips) == 1
    await box.travel(minutes=285)
    assert (await find(box, line.mbarara, line.kigali)).trips == ()


async def test_a_cancelled_trip_is_gone_and_cannot_be_cancelled_again(box: Box) -> None:
    line = await Line(8, 10).build(box)
    async with box.db.transaction() as tx:
        await actions.cancel_trip(tx, trip=line.trip(0))
    assert [found.trip_id for found in (await find(box, line.kampala, line.kigali)).trips] == [line.trip(1)]
    async with box.db.transaction() as tx:
        with pytest.raises(actions.TripNotScheduled):
            await actions.cancel_trip(tx, trip=line.trip(0))
        with pytest.raises(actions.TripNotScheduled):
            await actions.cancel_trip(tx, trip=UNKNOWN)
        running = await reads.running(tx, trips=[line.trip(0), line.trip(1)])
        assert [trip for trip, _ in await running()] == [line.trip(1)]
        assert set(await reads.boarding(tx, trips=[line.trip(0), line.trip(1)])) == {
            (line.trip(1), n) for n in (0, 1, 2)
        }


async def test_pages_follow_one_another_without_gaps_or_repeats(box: Box) -> None:
    # Five of the seven leave at the same minute: the trip's id decides among them.
    line = await Line(6, 8, 8, 8, 8, 8, 9).build(box)
    whole = (await find(box, line.kampala, line.kigali)).trips
    assert len(whole) == 7
    assert [(t.departs_at, t.trip_id) for t in whole] == sorted((t.departs_at, t.trip_id) for t in whole)
    for limit in (1, 2, 3, 7):
        pages: list[UUID] = []
        cursor = None
        while True:
            page = await find(box, line.kampala, line.kigali, cursor=cursor, limit=limit)
            pages += [found.trip_id for found in page.trips]
            assert len(page.trips) <= limit
            cursor = page.next_cursor
            if cursor is None:
                break
        assert pages == [found.trip_id for found in whole]


async def test_trips_of_several_routes_are_merged_in_order(box: Box) -> None:
    line = await Line(8, 12).build(box)
    other = Line(10)
    other.kampala, other.mbarara, other.kigali = line.kampala, line.mbarara, line.kigali
    other.operator = msgspec.structs.replace(other.operator, code="rival", name="Rival")
    other.route = msgspec.structs.replace(
        other.route,
        stops=(
            RouteStop(stop_id=line.kampala.id, arrives_after_minutes=0, departs_after_minutes=0),
            RouteStop(stop_id=line.kigali.id, arrives_after_minutes=540, departs_after_minutes=540),
        ),
    )
    other.fares = [Fare(from_seq=0, to_seq=1, seat_class="VIP", amount=99_000, currency="UGX")]
    await other.build(box)
    found = (await find(box, line.kampala, line.kigali)).trips
    assert [(trip.operator_name, trip.to_seq) for trip in found] == [("Pearl", 2), ("Rival", 1), ("Pearl", 2)]


@pytest.mark.parametrize("cursor", ["x", "!!!!", "é", "AAAA", "_" * 32, "A" * 31, "A" * 100])
async def test_a_made_up_cursor_is_refused(box: Box, cursor: str) -> None:
    line = await Line(8).build(box)
    with pytest.raises(reads.InvalidCursor):
        await find(box, line.kampala, line.kigali, cursor=cursor)


@pytest.mark.parametrize("limit", [0, 51])
async def test_a_page_is_bounded(box: Box, limit: int) -> None:
    line = await Line(8).build(box)
    with pytest.raises(InvalidInput):
        await find(box, line.kampala, line.kigali, limit=limit)


async def test_the_days_around_tell_how_many_trips_they_have(box: Box) -> None:
    line = await Line(8, 20).build(box, days=2)
    async with box.db.transaction() as tx:
        await actions.cancel_trip(tx, trip=line.trip(0))
    async with box.db.reader() as reader:
        found = await reads.departures_by_day(
            reader, boards=line.mbarara, alights=line.kigali, around=DAY, days_around=2
        )
    assert [(day.local_date - DAY).days for day in found] == [-2, -1, 0, 1, 2]
    assert [day.departures for day in found] == [0, 0, 0, 2, 1]


async def test_a_trip_tells_all_that_a_booking_needs(box: Box) -> None:
    line = await Line(20).build(box)
    detail = await Catalogue(box.db).trip(line.trip())
    assert detail.trip.operator_name == "Pearl"
    assert (detail.trip.state, detail.trip.service_date) == ("scheduled", DAY)
    assert [(at.seq, at.code, at.timezone) for at in detail.stops] == [
        (0, "KLA", "Africa/Kampala"),
        (1, "MBR", "Africa/Kampala"),
        (2, "KGL", "Africa/Kigali"),
    ]
    assert detail.stops[2].local_date == DAY + timedelta(days=1)
    assert detail.layout == line.layout
    assert {name: fare.amount for name, fare in detail.fares_between(0, 2).items()} == {
        "STANDARD": 60_000,
        "VIP": 90_000,
    }
    boards, alights = detail.segment("mbr", None)
    assert (boards.seq, alights.seq) == (1, 2)
    for origin, destination in (("KGL", "KLA"), ("KLA", "KLA"), ("NBO", None), (None, "NBO")):
        with pytest.raises(NotOnTrip):
            detail.segment(origin, destination)


async def test_an_unknown_trip_is_not_found(box: Box) -> None:
    with pytest.raises(reads.TripNotFound):
        await Catalogue(box.db).trip(UNKNOWN)
    async with box.db.reader() as reader:
        with pytest.raises(NotFound):
            await reads.layout(reader, layout=UNKNOWN)


async def test_two_processes_that_make_the_same_trips_make_each_once(box: Box) -> None:
    line = await Line(8).build(box)

    async def make() -> int:
        async with box.db.transaction() as tx:
            return await actions.generate_trips(tx, schedule=line.schedules[0].id, from_date=DAY, days=20)

    assert sum(await asyncio.gather(*(make() for _ in range(4)))) == 19
    assert await make() == 0
    assert await box.value("SELECT count(*) FROM trip") == 20
    assert await box.value("SELECT count(*) FROM trip_stop") == 60


async def test_trips_are_made_for_a_bounded_time_and_a_known_schedule(box: Box) -> None:
    line = await Line(8).build(box)
    async with box.db.transaction() as tx:
        for days in (0, actions.MAX_DAYS_AHEAD + 1):
            with pytest.raises(InvalidInput):
                await actions.generate_trips(tx, schedule=line.schedules[0].id, from_date=DAY, days=days)
        with pytest.raises(NotFound):
            await actions.generate_trips(tx, schedule=UNKNOWN, from_date=DAY, days=1)


async def test_building_the_same_line_again_changes_nothing(box: Box) -> None:
    line = await Line(8).build(box)
    await line.build(box)
    assert await box.value("SELECT count(*) FROM layout_seat") == 9
    assert await box.value("SELECT count(*) FROM fare") == 5
    assert len((await find(box, line.kampala, line.kigali)).trips) == 1


async def test_setting_fares_replaces_all_of_them(box: Box) -> None:
    line = await Line(8).build(box)
    async with box.db.transaction() as tx:
        only = Fare(from_seq=0, to_seq=2, seat_class="STANDARD", amount=61_000, currency="UGX")
        await actions.set_fares(tx, route=line.route.id, fares=[only])
    assert (await Catalogue(box.db).trip(line.trip())).fares == (only,)
    async with box.db.transaction() as tx:
        await actions.set_fares(tx, route=line.route.id, fares=[])
    assert (await find(box, line.kampala, line.kigali)).trips == ()


async def test_fares_in_an_unknown_currency_or_of_an_unknown_route_are_refused(box: Box) -> None:
    line = await Line(8).build(box)
    strange = Fare(from_seq=0, to_seq=2, seat_class="STANDARD", amount=1, currency="XXX")
    async with box.db.transaction() as tx:
        with pytest.raises(UnknownCurrency):
            await actions.set_fares(tx, route=line.route.id, fares=[strange])
        with pytest.raises(NotFound):
            await actions.set_fares(tx, route=UNKNOWN, fares=[strange])


async def test_seats_and_stops_that_tickets_name_never_change(box: Box) -> None:
    line = await Line(8).build(box)
    other = draw("*.s", layout=line.layout.id, operator_id=line.operator.id, name="Coach")
    shorter = msgspec.structs.replace(line.route, stops=(line.route.stops[0], line.route.stops[2]))
    async with box.db.transaction() as tx:
        with pytest.raises(actions.LayoutFixed):
            await actions.add_layout(tx, layout=other)
        with pytest.raises(actions.RouteFixed):
            await actions.add_route(tx, route=shorter)


async def test_a_code_belongs_to_one_stop(box: Box) -> None:
    await Line(8).build(box)
    with pytest.raises(actions.NameTaken, match="KLA"):
        async with box.db.transaction() as tx:
            await actions.add_stop(tx, stop=stop("KLA", "Elsewhere", "Elsewhere"))


@pytest.mark.parametrize(
    ("typed", "codes"),
    [
        ("kam", ["KAM", "KLA"]),
        ("KLA", ["KLA"]),
        ("coach", ["KLA"]),
        ("coach pa", ["KLA"]),
        ("nyabu", ["KGL"]),
        ("são", ["SAO"]),
        ("SAO-JO", ["SAO"]),
        ("ala", []),
        ("%", []),
        ("_", []),
        ("|", []),
        ("  ", []),
        ("zzz", []),
    ],
)
async def test_stops_are_offered_by_the_beginning_of_any_word(box: Box, typed: str, codes: list[str]) -> None:
    await Line(8).build(box)
    async with box.db.transaction() as tx:
        await actions.add_stop(tx, stop=stop("KAM", "Kabale Town", "Kabale"))
        await actions.add_stop(tx, stop=stop("SAO", "São João", "Mocímboa"))
    async with box.db.reader() as reader:
        assert [found.code for found in await reads.stops_matching(reader, query=typed)] == codes
        assert len(await reads.stops_matching(reader, query="k", limit=1)) == 1


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ("kla", "KLA"),
        (" KLA ", "KLA"),
        ("Kampala Coach Park", "KLA"),
        ("kampala", "KLA"),
        ("NYABUGOGO", "KGL"),
        ("Kigali", "KGL"),
        ("Dar-es-Salaam", "DAR"),
    ],
)
async def test_a_stop_is_found_by_its_code_its_name_or_its_city(box: Box, named: str, code: str) -> None:
    await Line(8).build(box)
    async with box.db.transaction() as tx:
        await actions.add_stop(tx, stop=stop("DAR", "Dar es Salaam", "Dar es Salaam"))
        await actions.add_stop(tx, stop=stop("DAF", "Ferry Terminal", "Dar es Salaam"))
    async with box.db.reader() as reader:
        assert (await reads.stop_by_code_or_name(reader, named=named)).code == code


@pytest.mark.parametrize("named", ["", "Kam", "Nowhere", "%", "kampala | kampala"])
async def test_half_a_name_is_no_stop(box: Box, named: str) -> None:
    await Line(8).build(box)
    async with box.db.reader() as reader:
        with pytest.raises(reads.UnknownStop):
            await reads.stop_by_code_or_name(reader, named=named)


async def test_a_city_of_two_stops_has_to_be_told_apart(box: Box) -> None:
    await Line(8).build(box)
    async with box.db.transaction() as tx:
        await actions.add_stop(tx, stop=stop("KLB", "Kampala Railway Station", "Kampala"))
    async with box.db.reader() as reader:
        with pytest.raises(reads.AmbiguousStop) as caught:
            await reads.stop_by_code_or_name(reader, named="Kampala")
    assert caught.value.codes == ("KLA", "KLB")
