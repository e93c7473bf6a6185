"""Tables as files: CSV that a spreadsheet opens and does not calculate."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from litestar import Response

# A cell that begins with one of these is a formula to a spreadsheet, and what a gateway says is not ours.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Response[Any]:
    """A download of that name; cells that look like formulas stay text."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows([harmless(cell) for cell in row] for row in rows)
    return Response(
        text.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


def harmless(cell: str) -> str:
    """The cell behind a quote where a spreadsheet would calculate it."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def stamp(moment: datetime) -> str:
    """A moment in UTC: 2026-11-24T09:30:00Z."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
