from datetime import UTC, date, datetime, time

import pytest

from kiti.core.clock import UnknownTimezone, instant, local, minutes_after, zone

SPRING = date(2026, 3, 29)  # Berlin skips 02:00 to 03:00
AUTUMN = date(2026, 10, 25)  # Berlin has 02:00 to 03:00 twice


def test_a_departure_in_kampala_is_three_hours_ahead_of_utc() -> None:
    assert instant(date(2026, 3, 3), time(7, 30), timezone="Africa/Kampala") == datetime(2026, 3, 3, 4, 30, tzinfo=UTC)


def test_a_time_that_spring_skips_is_taken_as_it_would_have_been() -> None:
    made = instant(SPRING, time(2, 30), timezone="Europe/Berlin")
    assert made == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert local(made, timezone="Europe/Berlin").time() == time(3, 30)


def test_of_a_time_that_autumn_repeats_the_first_is_meant() -> None:
    assert instant(AUTUMN, time(2, 30), timezone="Europe/Berlin") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_journey_lasts_as_long_as_it_lasts_whatever_clocks_do() -> None:
    leaves = instant(AUTUMN, time(1, 0), timezone="Europe/Berlin")
    arrives = minutes_after(leaves, 120)
    assert (arrives - leaves).total_seconds() == 7200
    assert local(arrives, timezone="Europe/Berlin").time() == time(2, 0)


@pytest.mark.parametrize("name", ["Africa/Atlantis", "", "../etc/passwd", "/etc/passwd"])
def test_a_time_zone_that_does_not_exist_is_named(name: str) -> None:
    with pytest.raises(UnknownTimezone):
        zone(name)
