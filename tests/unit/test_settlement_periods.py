"""Periods by the operator's calendar: months, weeks from Monday on, days; one after the other."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from kiti.settlements.model import Period, Unsettled, next_period, span_of

PERIODS: st.SearchStrategy[Period] = st.sampled_from(["daily", "weekly", "monthly"])
ZONES = st.sampled_from(["Africa/Kampala", "Europe/Berlin", "America/St_Johns", "UTC"])
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds it


def unsettled(first: datetime, *, settled: datetime | None, period: Period, timezone: str) -> Unsettled:
    return Unsettled(
        operator_id=UUID(int=1),
        timezone=timezone,
        currency="UGX",
        period=period,
        minimum_payout=0,
        settled_until=settled,
        first_at=first,
        now=first,
    )


def test_periods_are_what_people_call_them() -> None:
    day = date(2026, 11, 24)
    assert span_of("daily", day).after == date(2026, 11, 25)
    assert (span_of("weekly", day).first, span_of("weekly", day).after) == (date(2026, 11, 23), date(2026, 11, 30))
    assert (span_of("monthly", day).first, span_of("monthly", day).after) == (date(2026, 11, 1), date(2026, 12, 1))
    assert span_of("monthly", date(2026, 12, 31)).after == date(2027, 1, 1)


@given(moment=MOMENTS, period=PERIODS, timezone=ZONES)
def test_an_entry_is_in_the_period_that_is_made_for_it(moment: datetime, period: Period, timezone: str) -> None:
    starts, ends = next_period(unsettled(moment, settled=None, period=period, timezone=timezone))
    assert starts <= moment < ends


@given(moment=MOMENTS, settled=MOMENTS, period=PERIODS, timezone=ZONES)
def test_no_period_begins_before_the_last_one_ended(
    moment: datetime, settled: datetime, period: Period, timezone: str
) -> None:
    starts, ends = next_period(unsettled(moment, settled=settled, period=period, timezone=timezone))
    assert settled <= starts < ends
    assert moment < ends
    assert ends - starts <= timedelta(days=31, hours=2)
