"""Local wall-clock times and instants. What decides expiry is the database's clock, not this one."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kiti.core.errors import KitiError


class UnknownTimezone(KitiError):
    """The name is not in the IANA time zone database."""


def zone(name: str) -> ZoneInfo:
    """The IANA zone of that name; raises UnknownTimezone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise UnknownTimezone(f"{name!r} is not an IANA time zone such as Africa/Kampala.") from None


def instant(day: date, at: time, *, timezone: str) -> datetime:
    """The UTC instant at which wall clocks in `timezone` show `at` on `day`.

    A time that the spring change skips (02:30 where 02:00 becomes 03:00) is taken as it would have been
    without the change, so 03:30 by the new clock; a time that the autumn change repeats is the first of the two.
    """
    return datetime.combine(day, at, tzinfo=zone(timezone)).astimezone(UTC)


def local(moment: datetime, *, timezone: str) -> datetime:
    """The same instant on wall clocks in `timezone`."""
    return moment.astimezone(zone(timezone))


def minutes_after(moment: datetime, minutes: int) -> datetime:
    """Elapsed time, untouched by clock changes; `moment` is in UTC."""
    return moment + timedelta(minutes=minutes)
