"""All rows of one of v4's lists, or the admission that not all could be had."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol, TypeVar

from kiti.gateways.flutterwave_v4 import wire
from kiti.gateways.flutterwave_v4.access import Line
from kiti.gateways.gateway import Unknown
from kiti.gateways.http import LONGEST_ANSWER_BYTES

ROWS_OF_A_PAGE = 50
MOST_PAGES = 50


class Identified(Protocol):
    """A row that can be told from others."""

    @property
    def id(self) -> str:
        """The gateway's id."""


Row = TypeVar("Row", bound=Identified)


async def all_rows(
    line: Line,
    path: str,
    params: Mapping[str, str],
    shape: type[Row],
    *,
    most_pages: int = MOST_PAGES,
    longest_bytes: int = LONGEST_ANSWER_BYTES,
) -> list[Row] | Unknown:
    """All rows of a list, each once; Unknown unless the last page was seen.

    Most lists come in numbered pages, transfers with a cursor. Where neither is told, a page that brings nothing new is
    the last.
    """
    found: dict[str, Row] = {}
    asked = {**params, "size": str(ROWS_OF_A_PAGE)}
    cursor = ""
    for number in range(1, most_pages + 1):
        where = {"next": cursor} if cursor else {"page": str(number)}
        page = wire.read_page(await line.get(path, {**asked, **where}, longest_bytes=longest_bytes))
        if isinstance(page, Unknown):
            return page
        rows = wire.rows_of(page, shape)
        if isinstance(rows, Unknown):
            return rows
        known = len(found)
        found.update((row.id, row) for row in rows)
        cursor = page.next
        has_more = bool(cursor) or (page.total_pages is not None and number < page.total_pages)
        if page.total_pages is None and not cursor:
            has_more = len(rows) == ROWS_OF_A_PAGE and len(found) > known
        if not has_more:
            return list(found.values())
    return Unknown(reason=f"more than {most_pages} pages of {path}")


def span(first: datetime, last: datetime) -> dict[str, str]:
    """`from` and `to`, ISO 8601 in UTC."""
    return {
        name: moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for name, moment in (("from", first), ("to", last))
    }


def days(first: date, last: date) -> dict[str, str]:
    """The same for days in UTC, both included."""
    start, end = (datetime.combine(day, time(), UTC) for day in (first, last))
    return span(start, end + timedelta(days=1) - timedelta(milliseconds=1))
