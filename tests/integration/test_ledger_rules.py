"""The ledger refuses, by the database's own rules, whatever would unbalance or rewrite it."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.box import Box

from kiti.core.ids import new_id
from kiti.core.money import round_to_minor, share_out
from kiti.ledger import actions as ledger
from kiti.ledger import reads
from kiti.ledger.model import Entry, capture
from kiti.ledger.standing import Standing, given_back

GOOD: dict[str, Any] = {
    "event": "capture:flutterwave:1",
    "line": 1,
    "debit": "gateway_clearing:flutterwave",
    "credit": "ticket_liability:operator",
    "amount": 50_000,
    "currency": "UGX",
}
OWNERS = st.lists(st.uuids(), min_size=1, max_size=8, unique=True)


async def insert(box: Box, *, booking: UUID, **changed: Any) -> None:
    row = {"booking_id": booking, "id": new_id(), **GOOD, **changed}
    columns = ", ".join(row)
    values = ", ".join("%s" for _ in row)
    await box.rows(f"INSERT INTO transfer ({columns}, posted_at) VALUES ({values}, kiti_now())", *row.values())


async def test_a_good_line_is_taken(box: Box) -> None:
    await insert(box, booking=new_id())
    assert await box.value("SELECT count(*) FROM transfer") == 1


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"amount": 0}, psycopg.errors.CheckViolation),
        ({"amount": -1}, psycopg.errors.CheckViolation),
        ({"amount": None}, psycopg.errors.NotNullViolation),
        ({"credit": None}, psycopg.errors.NotNullViolation),
        ({"debit": None}, psycopg.errors.NotNullViolation),
        ({"credit": GOOD["debit"]}, psycopg.errors.CheckViolation),
        ({"debit": "petty_cash:office"}, psycopg.errors.CheckViolation),
        ({"credit": "ticket_liability:"}, psycopg.errors.CheckViolation),
        ({"credit": "ticket_liability"}, psycopg.errors.CheckViolation),
        ({"currency": "ugx"}, psycopg.errors.CheckViolation),
        ({"event": "something"}, psycopg.errors.CheckViolation),
        ({"line": 0}, psycopg.errors.CheckViolation),
    ],
)
async def test_a_line_that_is_not_one_debit_and_one_credit_of_one_amount_is_refused(
    box: Box, changed: dict[str, Any], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        await insert(box, booking=new_id(), **changed)


async def test_an_event_is_posted_once_below_a_booking(box: Box) -> None:
    booking = new_id()
    entries = [Entry(debit=GOOD["debit"], credit=GOOD["credit"], amount=10)]
    async with box.db.transaction() as tx:
        await ledger.post(tx, booking=booking, event=GOOD["event"], currency="UGX", entries=entries)
    with pytest.raises(psycopg.errors.UniqueViolation):
        async with box.db.transaction() as tx:
            await ledger.post(tx, booking=booking, event=GOOD["event"], currency="UGX", entries=entries)
    async with box.db.transaction() as tx:
        await ledger.post(tx, booking=new_id(), event=GOOD["event"], currency="UGX", entries=entries)
    assert await box.value("SELECT count(*) FROM transfer") == 2


@pytest.mark.parametrize("attempt", ["UPDATE transfer SET amount = 1", "DELETE FROM transfer", "TRUNCATE transfer"])
async def test_what_is_posted_stays_as_it_is(box: Box, attempt: str) -> None:
    await insert(box, booking=new_id())
    with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
        await box.rows(attempt)
    assert await box.value("SELECT amount FROM transfer") == GOOD["amount"]


async def test_the_balances_of_all_accounts_sum_to_nothing_in_every_currency(box: Box) -> None:
    owners = [new_id(), new_id()]
    for number, currency in enumerate(("UGX", "KES", "RWF"), 1):
        shares = share_out(100_001 * number, weights={owners[0]: 2, owners[1]: 1})
        async with box.db.transaction() as tx:
            await ledger.post(
                tx,
                booking=new_id(),
                event=f"capture:flutterwave:{number}",
                currency=currency,
                entries=capture("flutterwave", shares=shares, fee_exact=Decimal("1400.5")),
            )
    async with box.db.reader() as reader:
        balances = await reads.balances(reader)
    sums: dict[str, int] = {}
    for balance in balances:
        sums[balance.currency] = sums.get(balance.currency, 0) + balance.balance
    assert sums == {"UGX": 0, "KES": 0, "RWF": 0}
    clearing = next(b for b in balances if b.account == "gateway_clearing:flutterwave" and b.currency == "UGX")
    assert clearing.balance == 100_001 - 1400


@given(total=st.integers(0, 10**12), owners=OWNERS, data=st.data())
def test_the_parts_of_a_payment_add_up_to_it_and_none_is_a_minor_unit_off(
    total: int, owners: list[UUID], data: st.DataObject
) -> None:
    weights = {owner: data.draw(st.integers(1, 10**9)) for owner in owners}
    parts = share_out(total, weights=weights)
    whole = sum(weights.values())
    assert sum(parts.values()) == total
    assert list(parts) == owners
    for owner, part in parts.items():
        assert part >= 0
        assert abs(part * whole - total * weights[owner]) < whole


@given(shares=st.dictionaries(st.uuids(), st.integers(0, 10**9), min_size=1), fee=st.decimals(0, 10**6, places=3))
def test_a_capture_owes_travellers_the_gross_and_leaves_the_gateway_owing_the_net(
    shares: dict[UUID, int], fee: Decimal
) -> None:
    entries = capture("flutterwave", shares=shares, fee_exact=fee)
    assert all(entry.amount > 0 and entry.debit != entry.credit for entry in entries)
    gross = sum(entry.amount for entry in entries if entry.credit.startswith("ticket_liability:"))
    net = sum(
        entry.amount
        * ((entry.debit == "gateway_clearing:flutterwave") - (entry.credit == "gateway_clearing:flutterwave"))
        for entry in entries
    )
    assert gross == sum(shares.values())
    assert net == gross - round_to_minor(fee)


@given(shares=st.dictionaries(st.uuids(), st.integers(1, 10**9), min_size=1))
def test_a_refund_takes_from_every_operator_what_its_capture_gave_them(shares: dict[UUID, int]) -> None:
    given_ = {e.credit: e.amount for e in capture("flutterwave", shares=shares, fee_exact=Decimal(0))}
    owed = {str(owner): Standing(owed=share) for owner, share in shares.items()}
    back = {str(owner): share for owner, share in shares.items()}
    taken = {e.debit: e.amount for e in given_back("flutterwave", shares=back, standings=owed, bills={})}
    assert given_ == taken
