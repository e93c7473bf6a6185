from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiti.core.clock import local
from kiti.network.model import (
    EVERY_DAY,
    Call,
    Fare,
    InvalidFares,
    InvalidRoute,
    RouteStop,
    Schedule,
    call_times,
    check_fares,
    check_route,
    service_dates,
    trip_id,
)

ZONES = ["Africa/Kampala", "Africa/Kigali", "Africa/Cairo", "Europe/London", "America/St_Johns", "Pacific/Chatham"]


def calls(*stops: tuple[str, int, int]) -> list[Call]:
    return [
        Call(
            seq=seq,
            stop_id=UUID(int=seq),
            timezone=zone,
            arrives_after_minutes=arrives,
            departs_after_minutes=departs,
        )
        for seq, (zone, arrives, departs) in enumerate(stops)
    ]


def schedule(*, weekdays: int = EVERY_DAY, first: date = date(2026, 1, 1), last: date = date(2026, 12, 31)) -> Schedule:
    return Schedule(
        id=UUID(int=1),
        operator_id=UUID(int=2),
        route_id=UUID(int=3),
        vehicle_id=UUID(int=4),
        departs_local=time(8),
        weekdays=weekdays,
        valid_from=first,
        valid_until=last,
    )


def test_a_departure_is_at_the_first_stops_wall_clock() -> None:
    found = call_times(
        calls(("Africa/Kampala", 0, 0), ("Africa/Kigali", 600, 600)), day=date(2026, 3, 2), departs_local=time(6, 30)
    )
    assert found[0].departs_at == datetime(2026, 3, 2, 3, 30, tzinfo=UTC)
    assert found[1].arrives_at == datetime(2026, 3, 2, 13, 30, tzinfo=UTC)


def test_a_night_coach_is_boarded_on_the_next_local_date_behind_midnight() -> None:
    way = calls(("Africa/Kampala", 0, 0), ("Africa/Kampala", 270, 285), ("Africa/Kigali", 600, 600))
    found = call_times(way, day=date(2026, 2, 28), departs_local=time(20))
    assert [call.local_date for call in found] == [date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 1)]


def test_the_same_instant_can_be_two_local_dates_on_two_sides_of_a_border() -> None:
    # Boarding in Kampala at 00:30 is boarding in Kigali, at that very minute, at 23:30 of the day before.
    way = calls(("Africa/Kampala", 0, 0), ("Africa/Kampala", 270, 270), ("Africa/Kigali", 271, 271))
    found = call_times(way, day=date(2026, 5, 4), departs_local=time(20))
    assert local(found[1].departs_at, timezone="Africa/Kampala").time() == time(0, 30)
    assert [call.local_date for call in found[1:]] == [date(2026, 5, 5), date(2026, 5, 4)]


def test_a_departure_in_the_hour_that_spring_skips_leaves_by_the_new_clock() -> None:
    found = call_times(
        calls(("Europe/London", 0, 0), ("Europe/London", 60, 60)), day=date(2026, 3, 29), departs_local=time(1, 30)
    )
    assert found[0].departs_at == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert local(found[0].departs_at, timezone="Europe/London").time() == time(2, 30)


def test_a_departure_at_the_midnight_that_cairo_skips_stays_on_its_date() -> None:
    # Egypt's clocks go from 00:00 to 01:00 on the last Friday of April.
    found = call_times(
        calls(("Africa/Cairo", 0, 0), ("Africa/Cairo", 60, 60)), day=date(2026, 4, 24), departs_local=time(0, 15)
    )
    assert local(found[0].departs_at, timezone="Africa/Cairo").time() == time(1, 15)
    assert found[0].local_date == date(2026, 4, 24)


def test_a_departure_in_the_hour_that_autumn_repeats_leaves_in_the_first_of_the_two() -> None:
    found = call_times(
        calls(("Europe/London", 0, 0), ("Europe/London", 60, 60)), day=date(2026, 10, 25), departs_local=time(1, 30)
    )
    assert found[0].departs_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_change_of_the_clocks_on_the_way_does_not_change_how_long_the_way_takes() -> None:
    found = call_times(
        calls(("Europe/London", 0, 0), ("Europe/London", 480, 480)), day=date(2026, 10, 24), departs_local=time(22)
    )
    assert found[1].arrives_at - found[0].departs_at == timedelta(hours=8)
    assert local(found[1].arrives_at, timezone="Europe/London").time() == time(5)  # not 06:00


def test_the_same_local_departure_is_another_instant_in_summer() -> None:
    way = calls(("Africa/Cairo", 0, 0), ("Africa/Cairo", 60, 60))
    winter = call_times(way, day=date(2026, 1, 5), departs_local=time(8))[0].departs_at
    summer = call_times(way, day=date(2026, 7, 6), departs_local=time(8))[0].departs_at
    assert (winter.hour, summer.hour) == (6, 5)


@given(
    zones=st.lists(st.sampled_from(ZONES), min_size=2, max_size=6),
    minutes=st.lists(st.integers(1, 2000), min_size=12, max_size=12),
    day=st.dates(date(2020, 1, 1), date(2035, 12, 31)),
    at=st.times(),
)
def test_every_trip_keeps_its_minutes_and_every_stop_its_own_date(
    zones: list[str], minutes: list[int], day: date, at: time
) -> None:
    elapsed = 0
    way: list[tuple[str, int, int]] = []
    for index, zone in enumerate(zones):
        arrives = elapsed + minutes[2 * index] if index else 0
        elapsed = arrives + minutes[2 * index + 1] if index else 0
        way.append((zone, arrives, elapsed))
    found = call_times(calls(*way), day=day, departs_local=at)
    start = found[0].departs_at
    for call, (zone, arrives, departs) in zip(found, way, strict=True):
        assert call.arrives_at.tzinfo is UTC
        assert call.arrives_at - start == timedelta(minutes=arrives)
        assert call.departs_at - start == timedelta(minutes=departs)
        assert call.local_date == local(call.departs_at, timezone=zone).date()
    assert [call.departs_at for call in found] == sorted(call.departs_at for call in found)
    shown = local(start, timezone=zones[0]).replace(tzinfo=None)
    # A skipped hour moves a departure by at most that hour; otherwise clocks show what the timetable says.
    assert timedelta() <= shown - datetime.combine(day, at) <= timedelta(hours=1)


def test_a_schedule_runs_on_its_weekdays_within_its_validity() -> None:
    mondays_and_sundays = schedule(weekdays=0b1000001, first=date(2026, 6, 2), last=date(2026, 6, 15))
    days = service_dates(mondays_and_sundays, from_date=date(2026, 6, 1), days=30)
    assert days == [date(2026, 6, 7), date(2026, 6, 8), date(2026, 6, 14), date(2026, 6, 15)]


@given(weekdays=st.integers(1, 127), start=st.dates(date(2026, 1, 1), date(2026, 10, 1)), days=st.integers(1, 60))
def test_making_days_in_pieces_makes_the_same_days(weekdays: int, start: date, days: int) -> None:
    daily = schedule(weekdays=weekdays)
    cut = days // 2
    pieces = service_dates(daily, from_date=start, days=cut) + service_dates(
        daily, from_date=start + timedelta(days=cut), days=days - cut
    )
    assert pieces == service_dates(daily, from_date=start, days=days)
    assert {1 << day.weekday() for day in pieces} <= {1 << bit for bit in range(7) if weekdays >> bit & 1}


def test_a_trips_id_depends_on_its_schedule_and_date_alone() -> None:
    assert trip_id(UUID(int=1), date(2026, 1, 1)) == trip_id(UUID(int=1), date(2026, 1, 1))
    assert trip_id(UUID(int=1), date(2026, 1, 1)) != trip_id(UUID(int=1), date(2026, 1, 2))
    assert trip_id(UUID(int=1), date(2026, 1, 1)) != trip_id(UUID(int=2), date(2026, 1, 1))


@pytest.mark.parametrize(
    "times",
    [
        [(0, 0)],
        [(0, 5), (60, 60)],
        [(0, 0), (0, 10)],
        [(0, 0), (60, 50)],
        [(0, 0), (60, 70), (65, 65)],
    ],
    ids=["one stop", "late first stop", "no time to the next", "left before reached", "two stops at once"],
)
def test_an_impossible_route_is_refused(times: list[tuple[int, int]]) -> None:
    with pytest.raises(InvalidRoute):
        check_route(
            [
                RouteStop(stop_id=UUID(int=seq), arrives_after_minutes=arrives, departs_after_minutes=departs)
                for seq, (arrives, departs) in enumerate(times)
            ]
        )


def test_a_route_does_not_call_at_a_stop_twice() -> None:
    with pytest.raises(InvalidRoute, match="only once"):
        check_route(
            [
                RouteStop(stop_id=UUID(int=1), arrives_after_minutes=minutes, departs_after_minutes=minutes)
                for minutes in (0, 60)
            ]
        )


@pytest.mark.parametrize(
    "fares",
    [
        [(0, 1, "S", 5, "UGX"), (1, 2, "S", 5, "RWF")],
        [(0, 1, "S", 5, "UGX"), (0, 1, "S", 6, "UGX")],
        [(1, 0, "S", 5, "UGX")],
        [(0, 3, "S", 5, "UGX")],
        [(0, 1, "S", 0, "UGX")],
    ],
    ids=["two currencies", "two fares for one thing", "backwards", "beyond the end", "free"],
)
def test_contradictory_fares_are_refused(fares: list[tuple[int, int, str, int, str]]) -> None:
    with pytest.raises(InvalidFares):
        check_fares(
            [
                Fare(from_seq=a, to_seq=b, seat_class=seat_class, amount=amount, currency=currency)
                for a, b, seat_class, amount, currency in fares
            ],
            stops=3,
        )
