"""Search stays an index search when trips are many: the plan says so, not a stopwatch."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.box import Box

from kiti.db import Query, load

sql = load("kiti.network")

ROUTES = 40
TRIPS_PER_ROUTE_AND_DAY = 12
DAYS = 105  # 40 * 12 * 105 = 50,400 trips, four stops each: 201,600 rows

CATALOGUE = """
INSERT INTO operator (id, code, name, country, timezone)
SELECT uuidify('operator', 0), 'big', 'Big', 'UG', 'Africa/Kampala';
INSERT INTO stop (id, code, name, city, country, latitude, longitude, timezone, search_key)
SELECT uuidify('stop', n), 'S' || n, 'Stop ' || n, 'City ' || n, 'UG', 0, 32, 'Africa/Kampala',
    'stop ' || n || ' | city ' || n
FROM generate_series(0, 30) AS n;
INSERT INTO layout (id, operator_id, name, seat_count)
SELECT uuidify('layout', 0), uuidify('operator', 0), 'Coach', 50;
INSERT INTO layout_seat (layout_id, number, deck, row_index, column_index, class, is_window, is_aisle, is_accessible)
SELECT uuidify('layout', 0), 'S' || n, 1, n, 0, 'STANDARD', TRUE, TRUE, FALSE FROM generate_series(1, 50) AS n;
INSERT INTO vehicle (id, operator_id, layout_id, kind, name, registration)
SELECT uuidify('vehicle', 0), uuidify('operator', 0), uuidify('layout', 0), 'bus', 'Coach', 'X';
INSERT INTO route (id, operator_id, code, name)
SELECT uuidify('route', r), uuidify('operator', 0), 'R' || r, 'R' || r FROM generate_series(1, {routes}) AS r;
-- Every fourth route goes from stop 1 to stop 2; the others lie elsewhere.
INSERT INTO route_stop (route_id, seq, stop_id, arrives_after_minutes, departs_after_minutes)
SELECT
    uuidify('route', r), s, uuidify('stop', CASE WHEN r % 4 > 0 THEN 5 + (r + s * 7) % 25 ELSE s END), s * 100, s * 100
FROM generate_series(1, {routes}) AS r, generate_series(0, 3) AS s;
INSERT INTO fare (route_id, from_seq, to_seq, class, amount, currency)
SELECT uuidify('route', r), a, b, 'STANDARD', 1000, 'UGX'
FROM generate_series(1, {routes}) AS r, generate_series(0, 2) AS a, generate_series(a + 1, 3) AS b;
INSERT INTO schedule (id, operator_id, route_id, vehicle_id, departs_local, weekdays, valid_from, valid_until)
SELECT
    uuidify('schedule', r * 1000 + t), uuidify('operator', 0), uuidify('route', r), uuidify('vehicle', 0),
    time '06:00' + t * interval '1 hour', 127, '2020-01-01', '2099-01-01'
FROM generate_series(1, {routes}) AS r, generate_series(1, {daily}) AS t;
"""

TRIPS = """
INSERT INTO trip (
    id, schedule_id, service_date, operator_id, route_id, vehicle_id, layout_id, departs_at, arrives_at
)
SELECT
    gen_random_uuid(), schedule.id, current_date + d - 30, schedule.operator_id, schedule.route_id,
    schedule.vehicle_id, uuidify('layout', 0), (current_date + d - 30) + schedule.departs_local,
    (current_date + d - 30) + schedule.departs_local + interval '5 hours'
FROM schedule, generate_series(1, {days}) AS d;
INSERT INTO trip_stop (trip_id, seq, route_id, stop_id, arrives_at, departs_at, local_date)
SELECT
    trip.id, route_stop.seq, trip.route_id, route_stop.stop_id,
    trip.departs_at + route_stop.arrives_after_minutes * interval '1 minute',
    trip.departs_at + route_stop.departs_after_minutes * interval '1 minute', trip.service_date
FROM trip INNER JOIN route_stop ON trip.route_id = route_stop.route_id;
INSERT INTO seat_claim (trip_id, seat, leg, owner_id, claimed_at, expires_at)
SELECT id, 'S' || s, 0, uuidify('owner', s), now(), 'infinity' FROM trip, generate_series(1, 2) AS s;
"""

UUIDIFY = """
CREATE FUNCTION uuidify(kind text, n integer) RETURNS uuid LANGUAGE sql IMMUTABLE
AS 'SELECT md5(kind || n)::uuid'
"""


async def fill(box: Box) -> None:
    await box.rows(UUIDIFY)
    async with box.db.pool.connection() as connection, connection.transaction():
        # No foreign keys are checked here: the rows come from each other.
        await connection.execute("SET LOCAL session_replication_role = replica")
        for statements in (CATALOGUE, TRIPS):
            for statement in statements.split(";\n"):
                if statement.strip():
                    text = statement.format(routes=ROUTES, daily=TRIPS_PER_ROUTE_AND_DAY, days=DAYS)
                    await connection.execute(text.encode())
    for table in ("trip", "trip_stop", "route", "route_stop", "fare", "layout_seat", "seat_claim", "stop"):
        await box.rows(f"ANALYZE {table}")


async def plan(box: Box, query: Query, **params: Any) -> list[dict[str, Any]]:
    """Every node of the plan that PostgreSQL chooses."""
    async with box.db.pool.connection() as connection:
        cursor = await connection.execute(f"EXPLAIN (FORMAT JSON, ANALYZE, BUFFERS) {query.text}".encode(), params)
        row = await cursor.fetchone()
    assert row is not None
    found = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return list(nodes(found[0]["Plan"]))


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from nodes(child)


def scanned(found: list[dict[str, Any]]) -> set[str]:
    """The tables that are read from end to end."""
    return {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}


def touched(found: list[dict[str, Any]], table: str) -> float:
    """How many rows of a table were looked at."""
    counted: float = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in found
        if node.get("Relation Name") == table
    )
    return counted


async def test_no_search_reads_all_trips(box: Box) -> None:
    await fill(box)
    assert await box.value("SELECT count(*) FROM trip_stop") > 200_000
    boards, alights = [await box.value("SELECT uuidify('stop', %s)", n) for n in (1, 2)]
    day = datetime.now(UTC).date() + timedelta(days=5)
    pair = {"from_stop": boards, "to_stop": alights}
    big = {"trip", "trip_stop", "seat_claim"}

    first = await plan(
        box,
        sql.search,
        **pair,
        day=day,
        after_at=datetime(1970, 1, 1, tzinfo=UTC),
        after_trip=UUID(int=0),
        at_most=21,
    )
    assert first[0]["Actual Rows"] == 21
    assert not scanned(first) & big
    # Ten routes match with twelve departures each; of the 200,000 nothing else is looked at but the page's own stops.
    assert touched(first, "trip_stop") <= 10 * 12 + 21 * 4

    later = await plan(
        box,
        sql.search,
        **pair,
        day=day,
        after_at=datetime.combine(day, datetime.min.time(), tzinfo=UTC) + timedelta(hours=12),
        after_trip=UUID(int=0),
        at_most=21,
    )
    assert not scanned(later) & big

    strip = await plan(
        box, sql.departures_by_day, **pair, first_day=day - timedelta(days=3), last_day=day + timedelta(days=3)
    )
    assert not scanned(strip) & big

    trips = [row["id"] for row in await box.rows("SELECT id FROM trip LIMIT 20")]
    seats = await plan(box, sql.seats_taken, trips=trips, from_seqs=[0] * 20, to_seqs=[3] * 20)
    assert not scanned(seats) & big
    detail = await plan(box, sql.stops_of_trips, trips=trips[:1])
    assert not scanned(detail) & big
