"""A settlement taken apart: its parts add up to what the bank gets, and what was held back is found or left alone."""

from datetime import date
from decimal import Decimal
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from kiti.banking.model import Candidate, Line, NewSettlement, figures, held_back_by
from kiti.ledger.model import bear
from kiti.ledger.standing import Standing, dispute_lost

exact = st.decimals(min_value=0, max_value=100_000, places=2)
ONE, OTHER = UUID(int=1), UUID(int=2)


def settlement(
    lines: list[Line], *, refund: Decimal, chargeback: Decimal, cost: Decimal, payout: Decimal, off: Decimal
) -> NewSettlement:
    gross = sum((line.gross_exact for line in lines), start=Decimal(0))
    fee = sum((line.fee_exact for line in lines), start=Decimal(0))
    return NewSettlement(
        settlement_id="1",
        gateway="flutterwave",
        day=date(2026, 11, 24),
        currency="UGX",
        gross_exact=gross,
        fee_exact=fee,
        refund_exact=refund,
        chargeback_exact=chargeback,
        net_exact=gross - fee - refund - chargeback - cost - payout + off,
        cost_exact=cost,
        payout_exact=payout,
        is_paid=True,
    )


def line(number: int, gross: Decimal, fee: Decimal) -> Line:
    return Line(transaction_id=str(number), reference="", gross_exact=gross, fee_exact=fee)


@given(
    st.lists(st.tuples(exact, exact), max_size=30),
    st.tuples(exact, exact, exact, exact),
    st.decimals(-500, 500, places=2),
)
def test_the_parts_of_a_settlement_add_up_and_rounding_stays_small(
    told: list[tuple[Decimal, Decimal]], less: tuple[Decimal, Decimal, Decimal, Decimal], off: Decimal
) -> None:
    refund, chargeback, cost, payout = less
    lines = [line(number, gross, fee) for number, (gross, fee) in enumerate(told)]
    made = settlement(lines, refund=refund, chargeback=chargeback, cost=cost, payout=payout, off=off)
    parts = figures(made, lines)
    lessened = parts.refunds + parts.chargebacks + parts.costs + parts.payouts
    assert parts.net == parts.lines - lessened + parts.contradiction + parts.rounding
    # Half a unit for each figure that is rounded: two of a line, refunds, disputes, costs, payouts, the net, the
    # contradiction.
    assert abs(parts.rounding) <= len(lines) + 4
    assert (parts.contradiction != 0) == (abs(off) >= 1)


def candidates(*amounts: int) -> list[Candidate]:
    return [
        Candidate(booking_id=ONE, kind="refund", item_id=str(number), gateway_id=f"R{number}", held_back=amount)
        for number, amount in enumerate(amounts)
    ]


def found(total: int, *amounts: int, named: tuple[str, ...] = ()) -> list[str]:
    return [one.item_id for one in held_back_by(total, candidates(*amounts), named=named)]


def test_the_oldest_that_add_up_are_what_was_held_back() -> None:
    assert found(0, 5, 5) == []
    assert found(5, 5, 5) == ["0"]
    assert found(10, 5, 5, 10) == ["0", "1"]
    assert found(10, 7, 5, 10) == ["2"]
    assert found(12, 7, 10, 5) == ["0", "2"]
    assert found(-5, 7, -5) == ["1"], "a dispute that was won comes back"
    assert found(3, 5, 7) == [], "a person must look"
    assert found(10, 5, 5, 10, named=("R2",)) == ["2"], "the gateway names it"


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), max_size=400), st.integers(1, 2_000_000))
def test_what_is_found_adds_up_or_is_nothing_however_many_there_are(amounts: list[int], total: int) -> None:
    parts = held_back_by(total, candidates(*amounts))
    assert len({part.item_id for part in parts}) == len(parts)
    assert sum(part.held_back for part in parts) in {0, total}


money = st.integers(0, 10_000)


@given(money, money, money, money, money, st.integers(1, 50_000), st.data())
def test_a_lost_dispute_is_borne_whole_and_nobody_bears_more_than_they_have(
    of_trip: int, earned: int, of_other: int, earned_other: int, unspent: int, amount: int, data: st.DataObject
) -> None:
    one, other = str(ONE), str(OTHER)
    standings = {
        one: Standing(paid=of_trip + earned, owed=of_trip, recognised=earned, earned=earned),
        other: Standing(paid=of_other + earned_other, owed=of_other, recognised=earned_other, earned=earned_other),
        "unspent": Standing(owed=unspent),
    }
    reserved = data.draw(st.integers(0, amount))
    of_unspent = data.draw(st.integers(0, reserved))
    shares = bear(
        reserved,
        of_unspent=of_unspent,
        preferred={one: reserved // 2, other: reserved - reserved // 2},
        left={owner: standing.room for owner, standing in standings.items()},
    )
    entries = dispute_lost("stripe", amount=amount, shares=shares, standings=standings, bills={})
    assert sum(entry.amount for entry in entries) == amount
    assert {entry.credit for entry in entries} == {"dispute_hold:stripe"}
    borne = {entry.debit: entry.amount for entry in entries}
    held = {
        f"ticket_liability:{one}": of_trip,
        f"operator_payable:{one}": earned,
        f"ticket_liability:{other}": of_other,
        f"operator_payable:{other}": earned_other,
        "ticket_liability:unspent": min(of_unspent, unspent),
    }
    assert all(amount <= held.get(account, amount) for account, amount in borne.items())
    operators = of_trip + earned + of_other + earned_other
    gone = min(of_unspent, unspent)
    assert borne.get("ticket_liability:unspent", 0) == gone
    assert borne.get("loss:stripe", 0) == amount - gone - min(reserved - gone, operators)
