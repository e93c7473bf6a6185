"""All rows of one of Flutterwave's lists, or the admission that not all could be had."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from kiti.gateways.flutterwave import wire
from kiti.gateways.gateway import Unknown
from kiti.gateways.http import LONGEST_ANSWER_BYTES, Outside

MOST_PAGES = 50


class Identified(Protocol):
    """A row that can be told from others."""

    @property
    def id(self) -> int | str:
        """The gateway's id."""


Row = TypeVar("Row", bound=Identified)


async def all_rows(
    outside: Outside,
    path: str,
    params: Mapping[str, str],
    shape: type[Row],
    *,
    most_pages: int = MOST_PAGES,
    longest_bytes: int = LONGEST_ANSWER_BYTES,
) -> list[Row] | Unknown:
    """All rows of a list, each once; Unknown unless the last page was seen."""
    found: dict[str, Row] = {}
    for number in range(1, most_pages + 1):
        asked = {**params, "page": str(number)}
        page = wire.read_page(await outside.get(path, asked, longest_bytes=longest_bytes))
        if isinstance(page, Unknown):
            return page
        rows = wire.rows_of(page, shape)
        if isinstance(rows, Unknown):
            return rows
        known = len(found)
        found.update((str(row.id), row) for row in rows)
        is_last = len(found) == known if page.total_pages is None else number >= page.total_pages
        if is_last:
            return list(found.values())
    return Unknown(reason=f"more than {most_pages} pages of {path}")
