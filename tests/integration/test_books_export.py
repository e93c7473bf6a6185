"""Books leave the house whole: statements as CSV, sheet and paper, the ledger as Beancount that Beancount accepts."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from beancount import loader
from beancount.core import data, realization
from tests.earnings import Earnings, open_earnings, somebody
from tests.network import LAKE_KES, STANDARD_UGX

from kiti.core.errors import NotAllowed
from kiti.core.money import Money
from kiti.flows import beancount as export
from kiti.flows.beancount import as_beancount
from kiti.flows.papers.statement import Form, Paper, statement_paper
from kiti.ledger import actions as ledger
from kiti.ledger import reads as ledger_reads
from kiti.ledger.model import Entry

COMMISSION = 6_001


@pytest.fixture
async def earnings(fresh_url: str) -> AsyncIterator[Earnings]:
    async with open_earnings(fresh_url) as opened:
        yield opened


@pytest.fixture
async def statement(earnings: Earnings) -> dict[str, Any]:
    """Two bookings of a bus, and one in KES that has a statement of its own."""
    bus, lake = earnings.network.bus(), earnings.network.lake()
    held = await earnings.buy(bus, "1A")
    await earnings.bears(held, earnings.pearl, "commission", COMMISSION)
    await earnings.buy(bus, "1B")
    await earnings.buy(lake, "1A")
    await earnings.after(bus, minutes=300)
    await earnings.recognise()
    await earnings.refund(held, 20_000)
    await earnings.box.travel(seconds=32 * 86_400)
    made = await earnings.settle()
    return next(one for one in made if one["currency"] == "UGX")


async def paper(earnings: Earnings, statement: dict[str, Any], form: Form) -> Paper:
    return await statement_paper(earnings.house, settlement=statement["id"], form=form, staff=somebody())


async def test_a_statement_as_csv_adds_up(earnings: Earnings, statement: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO((await paper(earnings, statement, "csv")).body.decode())))
    lines, (total, carried, paid) = rows[:-3], rows[-3:]
    assert sum(int(line["net"]) for line in lines) == int(total["net"]) == int(paid["net"]) == statement["net"]
    assert sum(int(line["gross"]) for line in lines) == int(total["gross"]) == 2 * STANDARD_UGX
    assert sum(int(line["refunds"]) for line in lines) == int(total["refunds"]) == -20_000
    assert carried["net"] == "0"


async def test_a_statement_as_a_sheet_has_numbers_and_no_formula(earnings: Earnings, statement: dict[str, Any]) -> None:
    found = await paper(earnings, statement, "xlsx")
    assert found.name.endswith("-UGX.xlsx")
    sheet = openpyxl.load_workbook(io.BytesIO(found.body)).active
    rows = [row for row in sheet.iter_rows(min_row=2, values_only=True) if row[0]]
    assert sum(row[9] for row in rows[:-3]) == rows[-1][9] == statement["net"]
    assert not [cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]


async def test_a_statement_on_paper_is_a_pdf_and_always_the_same(earnings: Earnings, statement: dict[str, Any]) -> None:
    first, second = [await paper(earnings, statement, "pdf") for _ in range(2)]
    assert first.body.startswith(b"%PDF-")
    assert first.body == second.body


async def test_papers_are_for_those_who_may_see_them(earnings: Earnings, statement: dict[str, Any]) -> None:
    with pytest.raises(NotAllowed):
        await statement_paper(earnings.house, settlement=statement["id"], form="csv", staff=somebody("operator_staff"))


async def exported(earnings: Earnings, tmp_path: Path, **span: date | None) -> dict[tuple[str, str], Decimal]:
    """Beancount's own balances of what was exported, after it found nothing to object to."""
    pieces = [piece async for piece in as_beancount(earnings.house, **{"since": None, "until": None, **span})]
    file = tmp_path / "books.beancount"
    file.write_text("".join(pieces))
    entries, errors, _ = loader.load_file(str(file))
    assert errors == []
    assert all(len(entry.postings) >= 2 for entry in data.filter_txns(entries))
    found: dict[tuple[str, str], Decimal] = {}
    for account in realization.iter_children(realization.realize(entries)):  # type: ignore[no-untyped-call]
        for position in account.balance:
            found[account.account, position.units.currency] = position.units.number
    return found


async def ours(earnings: Earnings) -> dict[tuple[str, str], Decimal]:
    async with earnings.box.db.reader() as reader:
        balances = await ledger_reads.balances(reader)
    codes = {str(earnings.pearl): "pearl", str(earnings.lake): "lake"}
    return {
        (export._account(one.account, codes), one.currency): Money(one.balance, one.currency).major()
        for one in balances
        if one.balance
    }


@pytest.mark.usefixtures("statement")
async def test_beancount_comes_to_the_same_balances(earnings: Earnings, tmp_path: Path) -> None:
    found = await exported(earnings, tmp_path)
    assert found == await ours(earnings)
    assert found["Liabilities:Operator-Payable:Lake", "KES"] == -Money(LAKE_KES, "KES").major()


@pytest.mark.usefixtures("statement")
async def test_an_export_that_begins_later_opens_with_what_was_before(earnings: Earnings, tmp_path: Path) -> None:
    day: date = await earnings.box.value("SELECT max(posted_at)::date FROM transfer")
    found = await exported(earnings, tmp_path, since=day)
    opening = {key: amount for key, amount in found.items() if key[0] != export.OPENING}
    assert opening == await ours(earnings)
    assert sum(amount for (account, _), amount in found.items() if account == export.OPENING) == 0
    before = await exported(earnings, tmp_path, until=day - timedelta(days=1))
    assert before
    assert not [account for account, _ in before if "Payable" in account]


async def test_events_are_whole_however_pages_fall(
    earnings: Earnings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE", 3)
    async with earnings.box.db.transaction() as tx:
        for number in range(7):
            entries = [Entry(debit="bank:a b", credit="rounding:-x", amount=line) for line in range(1, 6)]
            event = f'odd:"{number}"\\'
            await ledger.post(tx, booking=earnings.pearl, event=event, currency="KES", entries=entries)
    found = await exported(earnings, tmp_path)
    assert found == {
        ("Assets:Bank:A-b", "KES"): Decimal("1.05"),
        ("Expenses:Rounding:X-x", "KES"): Decimal("-1.05"),
    }


async def test_an_empty_ledger_is_an_empty_file(earnings: Earnings, tmp_path: Path) -> None:
    assert await exported(earnings, tmp_path) == {}
