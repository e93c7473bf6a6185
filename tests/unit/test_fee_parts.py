"""What is asked beside the fares: worked examples, and what holds whatever the rules and the seats."""

import ast
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kiti.fees.model
from kiti.core import money
from kiti.core.money import half_even, share_out
from kiti.fees.model import (
    BEARERS,
    Charge,
    FeeRule,
    InvalidRule,
    Line,
    Part,
    charges_of,
    check,
    dearest,
    dues,
    on_top,
    parts_of,
)

BOOKING, PEARL, LAKE = (UUID(int=number) for number in (1, 2, 3))
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
METHODS = ("CARD", "MOBILE_MONEY", "CASH")


def rule(kind: Any, borne_by: Any, **said: Any) -> FeeRule:
    number = UUID(int=said.pop("number", 100))
    return FeeRule(id=number, kind=kind, borne_by=borne_by, currency="UGX", **({"valid_from": NOW} | said))


def priced(lines: list[Line], *rules: FeeRule, method: str | None = None, at: datetime = NOW) -> tuple[Part, ...]:
    return parts_of(lines, rules, booking=BOOKING, currency="UGX", at=at, method=method)


def told(parts: tuple[Part, ...]) -> list[tuple[UUID, str, str, int]]:
    return [(part.operator_id, part.kind, part.borne_by, part.amount) for part in parts]


# ------------------------------------------------------------------ examples


@pytest.mark.parametrize(
    ("dividend", "divisor", "quotient"),
    [(5, 10, 0), (15, 10, 2), (25, 10, 2), (26, 10, 3), (24, 10, 2), (7, 3, 2), (8, 3, 3), (-5, 10, 0), (-15, 10, -2)],
)
def test_a_half_goes_to_the_even_neighbour(dividend: int, divisor: int, quotient: int) -> None:
    assert half_even(dividend, divisor) == quotient


def test_a_tax_within_the_fare_is_less_of_it_than_its_rate_and_costs_nobody_more() -> None:
    parts = priced([Line(PEARL, 60_000)], rule("tax", "operator", basis_points=1800))
    assert told(parts) == [(PEARL, "tax", "operator", 9_153)]  # 60,000 x 18 / 118 = 9,152.54
    assert on_top(parts) == 0


def test_a_tax_on_top_is_its_rate_of_the_fare_and_the_operators() -> None:
    parts = priced([Line(PEARL, 60_000)], rule("tax", "traveller", basis_points=1800))
    assert told(parts) == [(PEARL, "tax", "traveller", 10_800)]
    assert dues([Line(PEARL, 60_000)], parts) == ({PEARL: 70_800}, 0)


def test_a_service_fee_of_two_operators_seats_is_one_fee_shared_out_by_their_fares() -> None:
    fee = rule("platform_fee", "traveller", basis_points=250, fixed=500, maximum=2_000)
    parts = priced([Line(PEARL, 60_000), Line(LAKE, 15_000)], fee)
    assert told(parts) == [(PEARL, "platform_fee", "traveller", 1_600), (LAKE, "platform_fee", "traveller", 400)]
    assert dues([Line(PEARL, 60_000), Line(LAKE, 15_000)], parts) == ({PEARL: 60_000, LAKE: 15_000}, 2_000)


def test_what_is_asked_of_each_seat_has_its_limits_for_each_seat() -> None:
    fee = rule("platform_fee", "traveller", basis_points=100, minimum=200, maximum=500, per="seat")
    assert on_top(priced([Line(PEARL, fare) for fare in (10_000, 30_000, 60_000)], fee)) == 200 + 300 + 500


def test_an_operators_own_rule_comes_before_that_for_all_even_where_it_asks_nothing() -> None:
    general = rule("platform_fee", "traveller", fixed=1_000)
    own = rule("platform_fee", "traveller", operator_id=PEARL, number=101)
    assert told(priced([Line(PEARL, 60_000), Line(LAKE, 15_000)], general, own)) == [
        (LAKE, "platform_fee", "traveller", 1_000)
    ]


def test_a_gateways_fee_is_a_share_of_all_that_is_paid_and_depends_on_how() -> None:
    service = rule("platform_fee", "traveller", fixed=1_000)
    card = rule("gateway_fee", "traveller", basis_points=300, method="CARD", number=101)
    other = rule("gateway_fee", "traveller", basis_points=100, number=102)
    lines = [Line(PEARL, 60_000)]
    assert on_top(priced(lines, service, card, other, method="CARD")) == 1_000 + 1_830
    assert on_top(priced(lines, service, card, other, method="CASH")) == 1_000 + 610
    assert on_top(dearest(lines, [service, card, other], booking=BOOKING, currency="UGX", at=NOW)) == 1_000 + 1_830


def test_nobody_bears_more_than_they_have_left() -> None:
    commission = rule("commission", "operator", basis_points=9_000)
    gateway = rule("gateway_fee", "operator", fixed=800, number=101)
    parts = priced([Line(PEARL, 1_000), Line(LAKE, 3_000)], commission, gateway)
    assert [(part.kind, part.amount) for part in parts] == [
        ("commission", 900),
        ("gateway_fee", 100),
        ("commission", 2_700),
        ("gateway_fee", 300),
    ]


def test_a_rule_counts_from_its_beginning_to_before_its_end() -> None:
    hour = timedelta(hours=1)
    old = rule("platform_fee", "traveller", fixed=100, valid_until=NOW + hour)
    new = rule("platform_fee", "traveller", fixed=200, valid_from=NOW + hour, number=101)
    asked = [on_top(priced([Line(PEARL, 60_000)], old, new, at=NOW + ahead)) for ahead in (-hour, 0 * hour, hour)]
    assert asked == [0, 100, 200]


def test_a_rule_in_another_currency_counts_for_nothing() -> None:
    parts = parts_of(
        [Line(PEARL, 60_000)],
        [rule("platform_fee", "traveller", fixed=100)],
        booking=BOOKING,
        currency="KES",
        at=NOW,
        method=None,
    )
    assert parts == ()


def test_a_traveller_reads_what_they_bear_and_then_the_taxes_within() -> None:
    parts = priced(
        [Line(PEARL, 60_000), Line(LAKE, 15_000)],
        rule("tax", "operator", basis_points=1800, operator_id=PEARL),
        rule("tax", "traveller", basis_points=500, operator_id=LAKE, number=101),
        rule("platform_fee", "traveller", fixed=1_000, number=102),
        rule("commission", "operator", basis_points=1000, number=103),
    )
    assert charges_of(parts) == [
        Charge(kind="tax", is_included=False, basis_points=500, amount=750),
        Charge(kind="platform_fee", is_included=False, basis_points=0, amount=1_000),
        Charge(kind="tax", is_included=True, basis_points=1800, amount=9_153),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        rule("commission", "traveller"),
        rule("platform_fee", "operator"),
        rule("tax", "platform", basis_points=1800),
        rule("tax", "operator", basis_points=1800, fixed=1),
        rule("tax", "operator", basis_points=1800, per="seat"),
        rule("platform_fee", "traveller", basis_points=10_001),
        rule("platform_fee", "traveller", fixed=-1),
        rule("platform_fee", "traveller", minimum=2, maximum=1),
        rule("platform_fee", "traveller", method="CARD"),
        rule("gateway_fee", "traveller", per="seat"),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(wrong: FeeRule) -> None:
    with pytest.raises(InvalidRule):
        check(wrong)


# ------------------------------------------------------------------ whatever the rules

OPERATORS = [UUID(int=number) for number in range(2, 6)]
FARES = st.integers(1, 50_000_000)
LINES = st.lists(st.builds(Line, st.sampled_from(OPERATORS), FARES), min_size=1, max_size=12)


@st.composite
def rules_of(draw: st.DrawFn) -> FeeRule:
    kind = draw(st.sampled_from(sorted(BEARERS)))
    minimum = draw(st.integers(0, 5_000))
    is_tax = kind == "tax"
    made = FeeRule(
        id=draw(st.uuids()),
        kind=kind,
        borne_by=draw(st.sampled_from(sorted(BEARERS[kind]))),
        currency="UGX",
        operator_id=draw(st.sampled_from([None, *OPERATORS])),
        method=draw(st.sampled_from([None, *METHODS])) if kind == "gateway_fee" else None,
        basis_points=draw(st.integers(0, 10_000)),
        fixed=0 if is_tax else draw(st.integers(0, 5_000)),
        minimum=0 if is_tax else minimum,
        maximum=None if is_tax else draw(st.none() | st.integers(minimum, 100_000)),
        per="booking" if is_tax or kind == "gateway_fee" else draw(st.sampled_from(["booking", "seat"])),
        valid_from=NOW - timedelta(days=draw(st.integers(0, 3))),
    )
    check(made)
    return made


RULES = st.lists(rules_of(), max_size=8)
METHOD = st.sampled_from([None, *METHODS])


def fares_of(lines: list[Line]) -> dict[UUID, int]:
    sums: dict[UUID, int] = {}
    for line in lines:
        sums[line.operator_id] = sums.get(line.operator_id, 0) + line.fare
    return sums


@given(lines=LINES, rules=RULES, method=METHOD)
def test_the_parts_add_up_and_none_is_of_nothing(lines: list[Line], rules: list[FeeRule], method: str | None) -> None:
    parts = priced(lines, *rules, method=method)
    assert all(type(part.amount) is int and part.amount > 0 for part in parts)
    keys = [(part.operator_id, part.kind, part.borne_by) for part in parts]
    assert len(set(keys)) == len(keys)
    operators, platform = dues(lines, parts)
    assert sum(operators.values()) + platform == sum(fares_of(lines).values()) + on_top(parts)
    shown = charges_of(parts)
    assert sum(charge.amount for charge in shown if not charge.is_included) == on_top(parts)


@given(lines=LINES, rules=RULES, method=METHOD)
def test_nobody_gives_away_more_than_their_fares(lines: list[Line], rules: list[FeeRule], method: str | None) -> None:
    parts = priced(lines, *rules, method=method)
    for operator, fares in fares_of(lines).items():
        out = [part.amount for part in parts if part.operator_id == operator and part.borne_by == "operator"]
        tax = [p.amount for p in parts if p.operator_id == operator and p.borne_by == "operator" and p.kind == "tax"]
        assert sum(out) - sum(tax) <= fares
        assert sum(tax) <= fares


@given(lines=LINES, rules=RULES, method=METHOD, data=st.data())
def test_the_order_of_seats_and_rules_does_not_matter(
    lines: list[Line], rules: list[FeeRule], method: str | None, data: st.DataObject
) -> None:
    shuffled = priced(data.draw(st.permutations(lines)), *data.draw(st.permutations(rules)), method=method)
    assert shuffled == priced(lines, *rules, method=method)


@given(lines=LINES, rules=RULES, method=METHOD, data=st.data())
def test_a_dearer_seat_never_makes_the_booking_cheaper(
    lines: list[Line], rules: list[FeeRule], method: str | None, data: st.DataObject
) -> None:
    dearer = list(lines)
    at = data.draw(st.integers(0, len(lines) - 1))
    dearer[at] = Line(lines[at].operator_id, lines[at].fare + data.draw(FARES))
    assert on_top(priced(dearer, *rules, method=method)) >= on_top(priced(lines, *rules, method=method))


@given(lines=LINES, rules=RULES)
def test_no_way_to_pay_costs_more_than_was_shown_first(lines: list[Line], rules: list[FeeRule]) -> None:
    shown = on_top(dearest(lines, rules, booking=BOOKING, currency="UGX", at=NOW))
    assert all(on_top(priced(lines, *rules, method=method)) <= shown for method in (None, *METHODS))


@given(lines=LINES, asked=rules_of())
def test_limits_hold_for_what_they_are_said_of(lines: list[Line], asked: FeeRule) -> None:
    theirs = [line for line in lines if asked.operator_id in {None, line.operator_id}]
    total = sum(part.amount for part in priced(lines, asked, method=asked.method))
    if not theirs or asked.kind == "tax":
        return
    apart = len({line.operator_id for line in theirs}) if asked.kind == "commission" else 1
    times = len(theirs) if asked.per == "seat" else apart
    if asked.maximum is not None:
        assert total <= asked.maximum * times
    if asked.borne_by != "operator":
        assert total >= asked.minimum * times


@given(base=st.integers(0, 10**15), points=st.integers(0, 10_000))
def test_a_share_is_the_nearest_integer_and_the_even_one_of_two(base: int, points: int) -> None:
    exact = Fraction(base * points, 10_000)
    assert half_even(base * points, 10_000) == round(exact)  # Python rounds fractions half to even


@given(total=st.integers(0, 10**12), weights=st.dictionaries(st.integers(), st.integers(0, 10**9), min_size=1))
def test_what_is_shared_out_adds_up_and_nobody_is_a_whole_unit_from_their_share(
    total: int, weights: dict[int, int]
) -> None:
    whole = sum(weights.values())
    if not whole:
        return
    shares = share_out(total, weights=weights)
    assert sum(shares.values()) == total
    assert all(abs(Fraction(total * weights[who], whole) - share) < 1 for who, share in shares.items())


def test_no_float_is_anywhere_near() -> None:
    for module in (kiti.fees.model, money):
        assert module.__file__
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), node.value
            assert not isinstance(node, ast.Div), "use // or half_even"
            assert not (isinstance(node, ast.Name) and node.id in {"float", "round"}), node.id


def test_a_rule_survives_the_audit_log() -> None:
    made = rule("platform_fee", "traveller", fixed=100)
    assert msgspec.convert(msgspec.to_builtins(made), FeeRule) == made


def test_a_tax_of_an_operator_whose_seats_were_all_cancelled_is_theirs_still() -> None:
    gone, stays = UUID(int=1), UUID(int=2)
    part = Part(booking_id=UUID(int=9), operator_id=gone, kind="tax", borne_by="traveller", amount=180)
    assert dues([Line(stays, 1000)], [part]) == ({stays: 1000, gone: 180}, 0)
