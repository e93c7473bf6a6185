"""Bank statements: read from CSV, each line kept once, and laid beside the settlements that they pay."""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.banking import actions as banking
from kiti.banking import reads as banking_reads
from kiti.banking.model import BankLine, Settlement
from kiti.core import text
from kiti.core.errors import InvalidInput
from kiti.core.ids import new_id
from kiti.core.money import UnknownCurrency, exponent, round_to_minor
from kiti.db import Transaction
from kiti.flows.house import House

COLUMNS = ("date", "amount", "currency", "reference", "text")
MOST_LINES = 20_000
LINES_AT_ONCE = 1000
LONGEST_TEXT = 500
LARGEST_AMOUNT = 10**15
# How many days after its own a settlement may reach the bank, where only the amount tells.
REACHES_BANK_DAYS = 7
MOST_UNMATCHED = 5000

AMOUNT = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,4})?", re.ASCII)


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """How many lines a statement had, how many are new, how many settlements were found in the bank by now."""

    lines: int
    new: int
    matched: int


async def import_statement(house: House, *, statement: str, actor: str) -> Imported:
    """Keep the lines of a statement; the same file again adds nothing. Raises InvalidInput naming the line."""
    lines = read_statement(statement)
    new = 0
    for start in range(0, len(lines), LINES_AT_ONCE):
        new += await _keep(house, lines[start : start + LINES_AT_ONCE], actor)
    event = Event(subject=new_id(), actor=actor, action="bank.imported", detail={"lines": len(lines), "new": new})
    await house.db.run(lambda tx: audit.record(tx, events=[event]))
    matched = 0
    if lines:
        first = min(line.day for line in lines) - timedelta(days=REACHES_BANK_DAYS)
        for gateway in house.gateways:
            matched += await match_bank_lines(house, gateway=gateway, first=first)
    return Imported(lines=len(lines), new=new, matched=matched)


def read_statement(statement: str) -> list[BankLine]:
    """Lines of a CSV with the columns of COLUMNS, in any order and with others beside them; raises InvalidInput.

    Amounts are in major units with a decimal point, money that came in above zero. Comma or semicolon separates. A
    line's digest counts equal lines of a day, so two that are equal are two.
    """
    body = statement.removeprefix("\ufeff")
    head = body.split("\n", 1)[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    rows = csv.DictReader(io.StringIO(body), delimiter=delimiter)
    names = {name.strip().lower(): name for name in rows.fieldnames or ()}
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise InvalidInput("file", f"The first line must name the columns; {', '.join(missing)} is missing.")
    found: list[BankLine] = []
    equal: Counter[tuple[date, int, str, str, str]] = Counter()
    for row in rows:
        if len(found) == MOST_LINES:
            raise InvalidInput("file", f"More than {MOST_LINES:,} lines. Cut the file into parts.")
        cells = {column: (row.get(names[column]) or "").strip() for column in COLUMNS}
        if any(cells.values()):
            found.append(_line(cells, rows.line_num, equal))
    return found


async def match_bank_lines(house: House, *, gateway: str, first: date) -> int:
    """Lay bank lines beside the settlements that they pay, from a day on; how many were laid now.

    A line that names the settlement is its line, whatever the amount. Else the amount decides: of settlements and
    lines with the same amount the oldest belong together, within REACHES_BANK_DAYS.
    """

    async def work(tx: Transaction) -> int:
        await banking.serialise_attribution(tx, gateway=gateway)
        since = first - timedelta(days=REACHES_BANK_DAYS)
        lines = await banking_reads.unmatched_lines(tx, first=since, limit=MOST_UNMATCHED)
        standings = await banking_reads.standings(tx, gateway=gateway, first=since, limit=MOST_UNMATCHED)
        matched = 0
        for line, settlement in _pairs(lines, standings, without={s.settlement_id for s in standings if s.bank_lines}):
            matched += await banking.match_line(
                tx, digest=line.digest, gateway=gateway, settlement_id=settlement.settlement_id
            )
        return matched

    return await house.db.run(work)


async def _keep(house: House, lines: Sequence[BankLine], actor: str) -> int:
    return await house.db.run(lambda tx: banking.import_lines(tx, lines=lines, actor=actor))


def _line(cells: dict[str, str], number: int, equal: Counter[tuple[date, int, str, str, str]]) -> BankLine:
    try:
        day = date.fromisoformat(cells["date"])
    except ValueError:
        raise InvalidInput("file", f"Line {number}: {cells['date']!r} is no date such as 2026-11-24.") from None
    currency = cells["currency"].upper()
    if AMOUNT.fullmatch(cells["amount"]) is None:
        raise InvalidInput("file", f"Line {number}: {cells['amount']!r} is no amount such as 58260.00.")
    try:
        exact = Decimal(cells["amount"]).scaleb(exponent(currency))
    except UnknownCurrency as error:
        raise InvalidInput("file", f"Line {number}: {error}") from None
    amount = int(exact)
    if amount != exact or abs(amount) > LARGEST_AMOUNT:
        raise InvalidInput("file", f"Line {number}: {cells['amount']} is no whole number of minor units of {currency}.")
    reference = text.clean(cells["reference"], field="file", length=LONGEST_TEXT)
    what = text.clean(cells["text"], field="file", length=LONGEST_TEXT)
    key = (day, amount, currency, reference, what)
    equal[key] += 1
    digest = hashlib.sha256(msgspec.json.encode([*map(str, key), equal[key]])).digest()
    return BankLine(digest=digest, day=day, amount=amount, currency=currency, reference=reference, text=what)


def _pairs(
    lines: Sequence[BankLine], settlements: Sequence[Settlement], *, without: set[str]
) -> list[tuple[BankLine, Settlement]]:
    """Which line pays which settlement; `without` those that have a line already, unless another one names them."""
    pairs: list[tuple[BankLine, Settlement]] = []
    nameless = []
    has_line = set(without)
    for line in lines:
        named = next((one for one in settlements if _names(line, one)), None)
        if named is None:
            nameless.append(line)
        else:
            has_line.add(named.settlement_id)
            pairs.append((line, named))
    for line in nameless:
        fits = next((one for one in settlements if one.settlement_id not in has_line and _fits(line, one)), None)
        if fits is not None:
            has_line.add(fits.settlement_id)
            pairs.append((line, fits))
    return pairs


def _names(line: BankLine, settlement: Settlement) -> bool:
    """Whether the bank's words hold the settlement's id as a word, or behind letters as in FLW123."""
    if line.currency != settlement.currency or not -1 <= (line.day - settlement.day).days <= 2 * REACHES_BANK_DAYS:
        return False
    pattern = rf"(?<![0-9]){re.escape(settlement.settlement_id)}(?![0-9A-Za-z])"
    return re.search(pattern, f"{line.reference} {line.text}") is not None


def _fits(line: BankLine, settlement: Settlement) -> bool:
    return (
        settlement.is_paid
        and line.currency == settlement.currency
        and line.amount == round_to_minor(settlement.net_exact)
        and 0 <= (line.day - settlement.day).days <= REACHES_BANK_DAYS
    )
