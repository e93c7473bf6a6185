"""Tables as files: CSV that a spreadsheet opens and does not calculate. And how long something waits, in a word."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from litestar import Response

# A cell that begins with one of these is a formula to a spreadsheet, and what a gateway says is not ours.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

Cell = str | Decimal | int


def as_csv(name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Response[Any]:
    """A download of that name."""
    return Response(
        csv_text(columns, rows),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """The same as text. Text that looks like a formula stays text; a number below zero is a number."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows([harmless(cell) if isinstance(cell, str) else str(cell) for cell in row] for row in rows)
    return text.getvalue()


def harmless(cell: str) -> str:
    """The cell behind a quote where a spreadsheet would calculate it."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def stamp(moment: datetime) -> str:
    """A moment in UTC: 2026-11-24T09:30:00Z."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def age(seconds: float) -> str:
    """How long something waits, roughly: 3 d, 5 h, 12 min."""
    for length, unit in ((24 * 3600, "d"), (3600, "h")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds // 60))} min"
