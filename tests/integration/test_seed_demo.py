import asyncio
from datetime import UTC, date, datetime, timedelta

from tests.box import Box

from kiti.flows.demo_network import LINES, routes
from kiti.flows.seed_demo import DEMO_STAFF, seed_demo, seed_staff
from kiti.flows.timetable import generate_coming_trips
from kiti.network import reads
from kiti.network.model import Stop, TripPage

TODAY = datetime.now(UTC).date()


async def by_code(box: Box, code: str) -> Stop:
    async with box.db.reader() as reader:
        return await reads.stop_by_code_or_name(reader, named=code)


async def find(box: Box, origin: str, destination: str, day: date) -> TripPage:
    boards, alights = await by_code(box, origin), await by_code(box, destination)
    async with box.db.reader() as reader:
        return await reads.search(reader, boards=boards, alights=alights, day=day, limit=50)


async def test_seeding_twice_and_side_by_side_makes_one_demo_network(box: Box) -> None:
    seeded = await asyncio.gather(seed_demo(box.db, days=2), seed_demo(box.db, days=2))
    schedules = sum(len(line.leaves) + len(line.returns) for line in LINES)
    assert sorted(result.trips_made for result in seeded) == [0, schedules * 3]
    assert await box.value("SELECT count(*) FROM trip") == schedules * 3
    assert await box.value("SELECT count(*) FROM operator") == 3
    assert await box.value("SELECT count(DISTINCT city) FROM stop") >= 10
    assert {row["currency"] for row in await box.rows("SELECT currency FROM fare")} == {"UGX", "KES", "RWF", "TZS"}


async def test_the_demos_staff_are_made_once(box: Box) -> None:
    await seed_demo(box.db, days=1)
    made = await asyncio.gather(seed_staff(box.db), seed_staff(box.db))
    assert sorted(made) == [0, len(DEMO_STAFF)]
    assert await seed_staff(box.db) == 0


async def test_seeding_on_a_later_day_adds_the_missing_days(box: Box) -> None:
    first = await seed_demo(box.db, today=TODAY, days=2)
    later = await seed_demo(box.db, today=TODAY + timedelta(days=1), days=2)
    assert later.trips_made * 3 == first.trips_made
    assert later.schedules == first.schedules


async def test_the_nightly_job_goes_on_where_seeding_ended(box: Box) -> None:
    seeded = await seed_demo(box.db, today=TODAY, days=1)
    made = await asyncio.gather(*(generate_coming_trips(box.db, today=TODAY, days=3) for _ in range(2)))
    assert sum(new for new, _ in made) == seeded.schedules * 2
    assert await generate_coming_trips(box.db, today=TODAY, days=3) == (0, 0)


async def test_the_demo_sells_kampala_to_kigali_over_mbarara(box: Box) -> None:
    await seed_demo(box.db, days=30)
    day = TODAY + timedelta(days=30)
    whole = (await find(box, "Kampala", "Kigali", day)).trips
    assert len(whole) == 6
    assert {trip.price.currency for trip in whole} == {"UGX"}
    assert {trip.operator_name for trip in whole} == {"Korongo Coaches", "Nyika Express"}
    assert len((await find(box, "KLA", "MBR", day)).trips) == 6
    assert {trip.price.currency for trip in (await find(box, "KGL", "KLA", day)).trips} == {"RWF"}
    # The night coaches leave Kampala on the day before and are boarded in Mbarara behind midnight.
    night = [trip for trip in (await find(box, "MBR", "KGL", day)).trips if trip.departs_at.hour in {22, 23, 21}]
    assert night
    for pair in (("NBO", "MBA"), ("DAR", "ARU"), ("NBO", "KLA"), ("EBB", "KGA"), ("HUY", "KGL")):
        assert (await find(box, *pair, TODAY + timedelta(days=1))).trips
    async with box.db.reader() as reader:
        pairs = await reads.popular_pairs(reader, limit=6)
    assert ("KLA", "KGL") in {(pair.from_code, pair.to_code) for pair in pairs}
    assert all(pair.amount > 0 and pair.departures_per_week >= 28 for pair in pairs)


def test_every_segment_of_the_demo_has_a_fare_for_every_class_and_none_is_dearer_than_the_whole_way() -> None:
    for demo in routes():
        stops = len(demo.route.stops)
        classes = {fare.seat_class for fare in demo.fares}
        assert len(demo.fares) == len(classes) * stops * (stops - 1) // 2
        for seat_class in classes:
            whole = max(fare.amount for fare in demo.fares if fare.seat_class == seat_class)
            ends = next(f for f in demo.fares if (f.from_seq, f.to_seq, f.seat_class) == (0, stops - 1, seat_class))
            assert ends.amount == whole
