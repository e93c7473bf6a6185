"""The ledger as Beancount text: each event a transaction, accounts by the five kinds that Beancount knows.

Format: https://beancount.github.io/docs/beancount_language_syntax.html. Debits are positive, credits negative, so our
entries are written as they are. With a beginning, what went before is one transaction from Equity:Opening-Balances.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from uuid import UUID

from kiti.core.money import Money
from kiti.flows.house import House
from kiti.ledger import reads as ledger_reads
from kiti.ledger.model import Balance
from kiti.ledger.reads import Posted
from kiti.network import reads as network_reads

PAGE = 5000
# Entries lie on disk in the order of time, so an hour of them is found without reading the others.
WINDOW = timedelta(hours=1)
OPENING = "Equity:Opening-Balances"
KINDS: Mapping[str, str] = {
    "gateway_clearing": "Assets:Gateway-Clearing",
    "bank": "Assets:Bank",
    "dispute_hold": "Assets:Dispute-Hold",
    "payout_in_transit": "Liabilities:Payout-In-Transit",
    "ticket_liability": "Liabilities:Ticket-Liability",
    "operator_payable": "Liabilities:Operator-Payable",
    "refund_clearing": "Liabilities:Refund-Clearing",
    "platform_commission": "Income:Platform-Commission",
    "gateway_fee": "Expenses:Gateway-Fee",
    "rounding": "Expenses:Rounding",
}


async def as_beancount(house: House, *, since: date | None, until: date | None) -> AsyncIterator[str]:
    """Pieces of the file: days in UTC from `since` to `until`, both included; all there is without them.

    Read a page at a time, so its size does not matter. What is posted meanwhile is after `until` or left out.
    """
    async with house.db.reader() as reader:
        codes = await network_reads.operator_codes(reader)
        extent = await ledger_reads.posted_extent(reader)
    yield 'option "title" "Kiti"\n'
    if extent.first_at is None or extent.last_at is None:
        return
    first = extent.first_at if since is None else datetime.combine(since, time(), UTC)
    last = extent.last_at + timedelta(microseconds=1)
    end = last if until is None else min(last, datetime.combine(until, time(), UTC) + timedelta(days=1))
    opened: set[str] = set()
    if since is not None:
        async with house.db.reader() as reader:
            before = await ledger_reads.balances_before(reader, moment=first)
        yield _opening(before, since, codes, opened)
    moment = max(first, extent.first_at)
    while moment < end:
        until_then = min(end, moment + WINDOW)
        async for event in _events(house, moment, until_then):
            yield _transaction(event, codes, opened)
        moment = until_then


async def _events(house: House, since: datetime, until: datetime) -> AsyncIterator[Sequence[Posted]]:
    """The events of a span, each whole: one that a page cuts in two is kept until the next has come."""
    after: Posted | None = None
    kept: list[Posted] = []
    while True:
        async with house.db.reader() as reader:
            page = await ledger_reads.posted_between(reader, since=since, until=until, after=after, limit=PAGE)
        groups = [list(group) for _, group in groupby([*kept, *page], key=_event_of)]
        is_last = len(page) < PAGE
        kept = [] if is_last or not groups else groups.pop()
        for group in groups:
            yield group
        if is_last:
            return
        after = page[-1]


def _event_of(line: Posted) -> tuple[datetime, UUID, str]:
    return line.posted_at, line.booking_id, line.event


def _transaction(lines: Sequence[Posted], codes: Mapping[str, str], opened: set[str]) -> str:
    head = lines[0]
    day = head.posted_at.date()
    name, _, detail = head.event.partition(":")
    text = [f'{day} * "{_quoted(name)}" "{_quoted(detail)}"', f'  below: "{head.booking_id}"']
    accounts = []
    for line in lines:
        amount = Money(line.amount, line.currency).major()
        for account, sign in ((_account(line.debit, codes), ""), (_account(line.credit, codes), "-")):
            text.append(f"  {account}  {sign}{amount} {line.currency}")
            accounts.append(account)
    return _open(accounts, day, opened) + "\n".join(text) + "\n"


def _opening(balances: Sequence[Balance], day: date, codes: Mapping[str, str], opened: set[str]) -> str:
    """What the accounts held before; nothing where there was nothing."""
    if not balances:
        return ""
    text = [f'{day} * "opening" "balances"']
    for balance in balances:
        amount = Money(balance.balance, balance.currency).major()
        text.append(f"  {_account(balance.account, codes)}  {amount} {balance.currency}")
        text.append(f"  {OPENING}  {-amount} {balance.currency}")
    accounts = [OPENING, *(_account(balance.account, codes) for balance in balances)]
    return _open(accounts, day, opened) + "\n".join(text) + "\n"


def _open(accounts: Sequence[str], day: date, opened: set[str]) -> str:
    """Accounts are opened on the day on which they are first used."""
    new = sorted(set(accounts) - opened)
    opened.update(new)
    return "".join(f"{day} open {account}\n" for account in new) + "\n"


def _account(account: str, codes: Mapping[str, str]) -> str:
    """`operator_payable:<id>` is Liabilities:Operator-Payable:Pearl; a name that is not in the table is equity."""
    name, _, owner = account.partition(":")
    kind = KINDS.get(name, f"Equity:{name.replace('_', '-').title()}")
    return f"{kind}:{_component(codes.get(owner, owner))}"


def _component(owner: str) -> str:
    """A part of an account's name: letters, digits and dashes, a capital or a digit first."""
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in owner)
    return kept[0].upper() + kept[1:] if kept[0].isalnum() else f"X{kept}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
