from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiti.core.money import share_out
from kiti.ledger.model import Entry, Owner, capture, refund_done, split_refund
from kiti.ledger.standing import Standing, given_back

A, B, C = (UUID(int=n) for n in (1, 2, 3))


def test_a_capture_is_one_line_for_each_operator_and_one_for_the_fee() -> None:
    assert capture("flutterwave", shares={A: 30_000, B: 20_000}, fee_exact=Decimal("700.4")) == [
        Entry(debit="gateway_clearing:flutterwave", credit=f"ticket_liability:{A}", amount=30_000),
        Entry(debit="gateway_clearing:flutterwave", credit=f"ticket_liability:{B}", amount=20_000),
        Entry(debit="gateway_fee:flutterwave", credit="gateway_clearing:flutterwave", amount=700),
    ]


@pytest.mark.parametrize(
    ("fee", "posted"), [("0", 0), ("0.49", 0), ("0.5", 0), ("0.58", 1), ("1.5", 2), ("2.5", 2), ("1400", 1400)]
)
def test_a_fee_with_a_fraction_of_a_minor_unit_is_posted_rounded_half_to_even(fee: str, posted: int) -> None:
    entries = capture("flutterwave", shares={A: 50_000}, fee_exact=Decimal(fee))
    assert sum(entry.amount for entry in entries if entry.debit.startswith("gateway_fee:")) == posted
    assert len(entries) == (2 if posted else 1)


def test_an_operator_without_a_share_has_no_line() -> None:
    assert len(capture("flutterwave", shares={A: 100, B: 0}, fee_exact=Decimal(0))) == 1
    standings = {str(A): Standing(owed=100), str(B): Standing(owed=100)}
    assert len(given_back("flutterwave", shares={str(A): 100, str(B): 0}, standings=standings, bills={})) == 1


def test_a_refund_turns_what_is_owed_as_a_trip_into_money_and_then_out_of_the_gateway() -> None:
    assert given_back("flutterwave", shares={str(A): 100}, standings={str(A): Standing(owed=100)}, bills={}) == [
        Entry(debit=f"ticket_liability:{A}", credit="refund_clearing:flutterwave", amount=100)
    ]
    assert refund_done("flutterwave", amount=100) == [
        Entry(debit="refund_clearing:flutterwave", credit="gateway_clearing:flutterwave", amount=100)
    ]


def test_what_cannot_be_split_evenly_goes_to_the_largest_remainders() -> None:
    assert share_out(100, weights={A: 1, B: 1, C: 1}) == {A: 34, B: 33, C: 33}
    assert share_out(10, weights={A: 1, B: 3, C: 3}) == {A: 2, B: 4, C: 4}
    assert share_out(0, weights={A: 1, B: 3}) == {A: 0, B: 0}


@given(data=st.data())
def test_a_refund_is_split_to_the_last_unit_and_within_what_each_has_left(data: st.DataObject) -> None:
    owners: list[Owner] = [UUID(int=number) for number in range(1, 5)]
    left = {owner: data.draw(st.integers(0, 1000)) for owner in owners}
    total = sum(left.values())
    if total == 0:
        return
    amount = data.draw(st.integers(1, total))
    preferred = {owner: data.draw(st.integers(0, 1000)) for owner in data.draw(st.sets(st.sampled_from(owners)))}
    shares = split_refund(amount, preferred=preferred, left=left)
    assert sum(shares.values()) == amount
    assert all(0 < share <= left[owner] for owner, share in shares.items())


def test_a_refund_goes_as_preferred_where_that_fits() -> None:
    one, two = UUID(int=1), UUID(int=2)
    assert split_refund(70, preferred={one: 50, two: 20}, left={one: 100, two: 100}) == {one: 50, two: 20}
    assert split_refund(70, preferred={one: 70}, left={one: 30, two: 100}) == {one: 30, two: 40}
