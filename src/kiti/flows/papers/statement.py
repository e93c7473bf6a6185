"""A statement as CSV, XLSX and PDF: the same lines in each, amounts in major units, the total that is paid below."""

import asyncio
import csv
import io
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import msgspec

from kiti.core.errors import InvalidInput
from kiti.core.money import Money, exponent
from kiti.flows.house import House
from kiti.flows.staff import require
from kiti.people.model import Staff
from kiti.settlements import reads
from kiti.settlements.model import Settlement, StatementLine

if TYPE_CHECKING:
    import typst

Form = Literal["csv", "xlsx", "pdf"]
MEDIA_TYPES: dict[Form, str] = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pdf": "application/pdf",
}
COLUMNS = ("booking", "trip", "route", "departs", "gross", "refunds", "commission", "fees", "other", "net", "currency")
# A sheet has 1,048,576 rows; a PDF of more than some hundred pages is read by nobody.
MOST_LINES: dict[Form, int] = {"csv": 500_000, "xlsx": 500_000, "pdf": 5_000}


class Paper(msgspec.Struct, frozen=True, kw_only=True):
    """A file to be downloaded."""

    name: str
    media_type: str
    body: bytes


async def statement_paper(house: House, *, settlement: UUID, form: Form, staff: Staff) -> Paper:
    """A statement in one of its forms. Raises NotAllowed, NotFound, InvalidInput where it is too long for the form."""
    require(staff, "settlements.see")
    lines: list[StatementLine] = []
    async with house.db.reader() as reader:
        found = await reads.by_id(reader, settlement=settlement)
        require(staff, "settlements.see", operator=found.operator_id)
        async for page in reads.all_lines(reader, settlement=settlement):
            lines += page
            if len(lines) > MOST_LINES[form]:
                raise InvalidInput("form", f"More than {MOST_LINES[form]:,} lines are too many for {form}. Take CSV.")
    draw = {"csv": _csv, "xlsx": _xlsx, "pdf": _pdf}[form]
    body = await asyncio.to_thread(draw, found, lines)
    name = f"statement-{found.operator_code}-{found.first_day}-{found.last_day}-{found.currency}.{form}"
    return Paper(name=name, media_type=MEDIA_TYPES[form], body=body)


def amounts(line: StatementLine) -> tuple[int, ...]:
    """The numbers of a line, in the order of COLUMNS."""
    return line.gross, line.refund, line.commission, line.fee, line.other, line.net


def totals(settlement: Settlement) -> tuple[int, ...]:
    """Those of the whole, likewise as the operator sees them; without what was carried over."""
    net = settlement.net - settlement.carried
    return (
        settlement.gross,
        -settlement.refunds,
        -settlement.commission,
        -settlement.fees,
        settlement.other,
        net,
    )


def _csv(settlement: Settlement, lines: Sequence[StatementLine]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for line in lines:
        majors = [_major(amount, settlement) for amount in amounts(line)]
        table.writerow([*_words(line), *majors, settlement.currency])
    for name, numbers in _foot(settlement):
        below = [None if number is None else _major(number, settlement) for number in numbers]
        table.writerow([name, "", "", "", *below, settlement.currency])
    return text.getvalue().encode()


def _xlsx(settlement: Settlement, lines: Sequence[StatementLine]) -> bytes:
    """Words are written as words, whatever they look like: nothing in it is a formula."""
    import xlsxwriter  # noqa: PLC0415 - a third of a second and fifteen megabytes that nothing else needs

    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"constant_memory": True, "in_memory": True}) as book:
        digits = exponent(settlement.currency)
        money = book.add_format({"num_format": "#,##0" + ("." + "0" * digits if digits else "")})
        strong = book.add_format({"bold": True})
        sheet = book.add_worksheet("Statement")
        sheet.set_column(0, 0, 14)
        sheet.set_column(1, 3, 20)
        sheet.set_column(4, 9, 14)
        sheet.freeze_panes(1, 0)
        for column, title in enumerate(COLUMNS):
            sheet.write_string(0, column, title, strong)
        row = 0
        for row, line in enumerate(lines, 1):
            for column, word in enumerate(_words(line)):
                sheet.write_string(row, column, word)
            for column, amount in enumerate(amounts(line), 4):
                sheet.write_number(row, column, _major(amount, settlement), money)
            sheet.write_string(row, 10, settlement.currency)
        for below, (name, numbers) in enumerate(_foot(settlement), row + 2):
            sheet.write_string(below, 0, name, strong)
            for column, number in enumerate(numbers, 4):
                if number is not None:
                    sheet.write_number(below, column, _major(number, settlement), money)
            sheet.write_string(below, 10, settlement.currency)
    return file.getvalue()


def _pdf(settlement: Settlement, lines: Sequence[StatementLine]) -> bytes:
    """Drawn by typst from `statement.typ`; the same statement always gives the same bytes."""
    data = {
        "title": f"Statement {settlement.operator_name}",
        "operator": settlement.operator_name,
        "days": f"{settlement.first_day} to {settlement.last_day}",
        "timezone": settlement.timezone,
        "currency": settlement.currency,
        "id": str(settlement.id),
        "state": settlement.state,
        "sums": [
            [name, _plain(amount, settlement.currency)]
            for name, amount in (
                ("Fares of trips that have departed", settlement.gross),
                ("Refunds", -settlement.refunds),
                ("Commission", -settlement.commission),
                ("Payment fees", -settlement.fees),
                ("Corrections and disputes", settlement.other),
                ("Carried over from before", settlement.carried),
            )
        ],
        "net": _plain(settlement.net, settlement.currency),
        "lines": [
            [*_words(line), *(_plain(amount, settlement.currency) for amount in amounts(line))] for line in lines
        ],
    }
    import typst  # noqa: PLC0415 - as in tickets

    return typst.compile(
        _template(),
        format="pdf",
        font_paths=_fonts(),
        sys_inputs={"data": msgspec.json.encode(data).decode()},
        timestamp=int(settlement.made_at.timestamp()),
    )


def _foot(settlement: Settlement) -> list[tuple[str, tuple[int | None, ...]]]:
    """What stands below the lines: their sum, what was carried over, what is to be paid."""
    alone = (None,) * 5
    return [
        ("total", totals(settlement)),
        ("carried over", (*alone, settlement.carried)),
        ("to be paid", (*alone, settlement.net)),
    ]


def _words(line: StatementLine) -> tuple[str, str, str, str]:
    return line.reference or "-", "" if line.trip_id is None else str(line.trip_id), line.route, _time(line.departs_at)


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="minutes").replace("+00:00", "Z")


def _major(amount: int, settlement: Settlement) -> Decimal:
    return Money(amount, settlement.currency).major()


def _plain(amount: int, currency: str) -> str:
    return f"{Money(amount, currency).major():,}".replace("-", "\u2212")


@cache
def _template() -> bytes:
    return resources.files("kiti.flows.papers").joinpath("statement.typ").read_bytes()


@cache
def _fonts() -> "typst.Fonts":
    """Those in the wheel; system fonts only fill in what they lack."""
    import typst  # noqa: PLC0415

    return typst.Fonts(include_system_fonts=True)
