"""However people come, the line keeps its promises: numbers without gaps, in order, no faster than the rate allows.

The statement itself is driven, with a clock that stands where the test puts it; a model in exact fractions says when
each place must be admitted.
"""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import class_row
from tests.examples import examples

from kiti.db import load
from kiti.waiting.model import Place, Run

sql = load("kiti.waiting")

START = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# What PostgreSQL and Python round, each batch.
ROUNDING = Fraction(2)

Batch = tuple[int, int]
BATCHES = st.lists(
    st.tuples(st.one_of(st.just(0), st.integers(0, 3_000_000), st.integers(0, 120_000_000)), st.integers(1, 60)),
    min_size=1,
    max_size=12,
)
RATES = st.one_of(st.sampled_from([0.1, 1.0, 3.0, 7.0, 250.0]), st.floats(0.05, 2_000.0))


class Line:
    """A room in the database, and its clock."""

    def __init__(self, connection: psycopg.Connection[Any], *, rate: float, burst: int) -> None:
        self.connection = connection
        self.room = uuid4()
        self.at(START)
        connection.execute(
            "INSERT INTO waiting_room VALUES (%s, 'x', %s, %s, 600, 1, %s, %s, NULL, %s)",
            [self.room, rate, burst, START, START, START],
        )

    def at(self, moment: datetime) -> None:
        self.connection.execute(
            "CREATE OR REPLACE FUNCTION kiti_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE"
            f" AS $$ SELECT timestamptz '{moment.isoformat()}' $$"
        )

    def take(self, count: int) -> Run:
        cursor = self.connection.cursor(row_factory=class_row(Run), binary=True)
        found = cursor.execute(sql.take_places.text.encode(), {"rooms": [self.room], "places": [count]}).fetchone()
        assert found is not None
        return found


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=RATES, burst=st.integers(1, 100), batches=BATCHES)
def test_places_are_consecutive_in_order_and_as_far_apart_as_the_rate_says(
    fresh_url: str, rate: float, burst: int, batches: list[Batch]
) -> None:
    apart = 10**6 / Fraction(rate)
    clock, line_at = 0, Fraction(0)
    places: list[Place] = []
    with psycopg.connect(fresh_url, autocommit=True) as connection:
        line = Line(connection, rate=rate, burst=burst)
        for taken, (pause, count) in enumerate(batches, 1):
            clock += pause
            line.at(START + clock * MICROSECOND)
            run = line.take(count)
            assert run.now == START + clock * MICROSECOND
            line_at = max(line_at, clock - (burst - 1) * apart)
            for nth in range(count):
                place = run.place(nth)
                wanted = max(Fraction(clock), line_at + nth * apart)
                assert abs(micros(place.admits_at) - wanted) <= ROUNDING * taken
                places.append(place)
            line_at += count * apart

    assert [place.number for place in places] == list(range(1, len(places) + 1))
    assert all(earlier.admits_at <= later.admits_at for earlier, later in pairwise(places))
    assert all(place.expires_at - place.admits_at == timedelta(minutes=10) for place in places)
    never_more_than(places, rate=rate, burst=burst)


def never_more_than(places: list[Place], *, rate: float, burst: int) -> None:
    """From the admission of any place on, no more than `rate * t + burst` within t."""
    times = [place.admits_at for place in places]
    for first, since in enumerate(times):
        for last in range(first, len(times)):
            seconds = (times[last] - since).total_seconds() + 50e-6
            assert last - first + 1 <= rate * seconds + burst + 1e-6


def micros(moment: datetime) -> int:
    return (moment - START) // MICROSECOND


def test_the_line_of_one_room_is_not_that_of_another(fresh_url: str) -> None:
    with psycopg.connect(fresh_url, autocommit=True) as connection:
        lines = [Line(connection, rate=1.0, burst=1) for _ in range(2)]
        rooms: list[UUID] = [line.room for line in lines]
        assert lines[0].take(5).first_number == 1
        assert lines[1].take(1).first_number == 1
        assert lines[0].take(1).first_number == 6
        assert rooms[0] != rooms[1]
