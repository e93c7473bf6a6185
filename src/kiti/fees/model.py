"""What is asked beside the fares: rules as data, and one computation that makes parts of them. Pure.

Integers only. A share of an amount is rounded half to even to the minor unit; what is asked once of several
operators' seats is shared out by the largest remainder, so that the parts add up to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from kiti.core.errors import KitiError
from kiti.core.money import exponent, half_even, share_out

Kind = Literal["tax", "platform_fee", "gateway_fee", "commission"]
Bearer = Literal["traveller", "operator", "platform"]
Per = Literal["booking", "seat"]

WHOLE = 10_000  # basis points
MOST = 10**12  # minor units that a rule may name
# In this order: what a gateway keeps is a share of all that is paid, and nobody bears more than they have left.
KINDS: tuple[Kind, ...] = ("tax", "platform_fee", "commission", "gateway_fee")
# Asked once of a booking, whoever runs its trips; a tax or a commission is each operator's own affair.
COMMON: frozenset[Kind] = frozenset({"platform_fee", "gateway_fee"})
BEARERS: Mapping[Kind, frozenset[Bearer]] = {
    "tax": frozenset({"traveller", "operator"}),
    "platform_fee": frozenset({"traveller"}),
    "commission": frozenset({"operator"}),
    "gateway_fee": frozenset({"traveller", "operator", "platform"}),
}


class InvalidRule(KitiError):
    """The rule contradicts itself, or says what no rule of its kind may."""


class FeeRule(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: `basis_points` of an amount and `fixed` minor units, of the booking or of each seat.

    Never less than `minimum`, never more than `maximum`, each of what it is asked `per`. `operator_id` None is every
    operator without a rule of its own of that kind, `method` None every way to pay. In force from `valid_from` to
    before `valid_until`.
    """

    id: UUID
    kind: Kind
    borne_by: Bearer
    currency: str
    operator_id: UUID | None = None
    method: str | None = None
    basis_points: int = 0
    fixed: int = 0
    minimum: int = 0
    maximum: int | None = None
    per: Per = "booking"
    valid_from: datetime
    valid_until: datetime | None = None

    def is_in_force(self, at: datetime) -> bool:
        """Whether it counts for what is booked at that moment."""
        return self.valid_from <= at and (self.valid_until is None or at < self.valid_until)

    def amount(self, of: Sequence[int]) -> int:
        """What it asks of these amounts, those of the seats; in minor units, never below nothing."""
        return sum(self._of_one(one) for one in of) if self.per == "seat" else self._of_one(sum(of))

    def _of_one(self, base: int) -> int:
        if self.kind == "tax" and self.borne_by == "operator":
            return half_even(base * self.basis_points, WHOLE + self.basis_points)  # it is within the base
        asked = half_even(base * self.basis_points, WHOLE) + self.fixed
        return max(self.minimum, asked if self.maximum is None else min(asked, self.maximum))


class Line(msgspec.Struct, frozen=True):
    """A seat: who runs it, and its fare in minor units."""

    operator_id: UUID
    fare: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Minor units of one kind for the seats of one operator within a booking.

    What the traveller bears is paid on top of the fares. What the operator bears comes out of their fares. A tax that
    the operator bears is included in the fare and stays with the operator, who owes it to the state. `basis_points`
    is the rate that the rule named.
    """

    booking_id: UUID
    operator_id: UUID
    kind: Kind
    borne_by: Bearer
    amount: int
    basis_points: int = 0


class ListedRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as staff see it; `operator` is a code, empty for all."""

    rule: FeeRule
    operator: str


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A line of what a traveller reads: all parts of a kind together, of a tax those of one rate."""

    kind: Kind
    is_included: bool
    basis_points: int
    amount: int


def check(rule: FeeRule) -> None:
    """Raises InvalidRule, UnknownCurrency; the database's own checks say the same."""
    exponent(rule.currency)
    if rule.borne_by not in BEARERS[rule.kind]:
        bearers = " or ".join(sorted(BEARERS[rule.kind]))
        raise InvalidRule(f"A {rule.kind} is borne by {bearers}, not by {rule.borne_by}.")
    if not 0 <= rule.basis_points <= WHOLE:
        raise InvalidRule(f"A share is 0 to {WHOLE} basis points, not {rule.basis_points}.")
    if min(rule.fixed, rule.minimum) < 0 or max(rule.fixed, rule.minimum, rule.maximum or 0) > MOST:
        raise InvalidRule(f"Amounts are 0 to {MOST} minor units.")
    if rule.maximum is not None and rule.maximum < rule.minimum:
        raise InvalidRule("The maximum is not below the minimum.")
    if rule.kind == "tax" and (rule.fixed or rule.minimum or rule.maximum is not None or rule.per != "booking"):
        raise InvalidRule("A tax is a rate of the fare and nothing else.")
    if rule.kind == "gateway_fee" and rule.per != "booking":
        raise InvalidRule("A gateway is paid once for a booking, not for each seat.")
    if rule.kind != "gateway_fee" and rule.method is not None:
        raise InvalidRule("Only a gateway's fee depends on how somebody pays.")


def parts_of(
    lines: Sequence[Line], rules: Iterable[FeeRule], *, booking: UUID, currency: str, at: datetime, method: str | None
) -> tuple[Part, ...]:
    """What these seats cost besides their fares when booked at `at` and paid for by `method`, by operator and kind.

    Parts of nothing are left out. `method` None takes only rules for every method into account. The order of lines
    and rules does not matter.
    """
    fares: dict[UUID, list[int]] = {}
    for line in sorted(lines, key=lambda line: (line.operator_id, line.fare)):
        fares.setdefault(line.operator_id, []).append(line.fare)
    known = [rule for rule in rules if rule.currency == currency and rule.is_in_force(at)]
    pays = {operator: sum(theirs) for operator, theirs in fares.items()}
    keeps = dict(pays)
    parts: list[Part] = []
    for kind in KINDS:
        for rule, operators in _groups(known, fares, kind, method):
            shares = _shares(rule, {one: fares[one] for one in operators}, pays=pays, keeps=keeps)
            for operator, share in shares.items():
                if share:
                    parts.append(_part(booking, operator, rule, share))
                    pays[operator] += share * (rule.borne_by == "traveller")
                    keeps[operator] -= share * (rule.borne_by == "operator" and kind != "tax")
    return tuple(sorted(parts, key=lambda part: (part.operator_id, KINDS.index(part.kind))))


def dearest(
    lines: Sequence[Line], rules: Sequence[FeeRule], *, booking: UUID, currency: str, at: datetime
) -> tuple[Part, ...]:
    """The parts by the way to pay that costs most: what is shown before anybody has chosen one is never exceeded."""
    methods = {rule.method for rule in rules if rule.method is not None}
    quotes = [
        parts_of(lines, rules, booking=booking, currency=currency, at=at, method=method)
        for method in (None, *sorted(methods))
    ]
    return max(quotes, key=on_top)


def ways_to_pay(rules: Sequence[FeeRule], *, operator: UUID, currency: str, at: datetime) -> list[tuple[FeeRule, ...]]:
    """For each way to pay the rules by which a traveller is asked more than the fares of one operator's seats.

    In the order in which they count; a way on which nothing is asked is an empty one.
    """
    known = [rule for rule in rules if rule.currency == currency and rule.is_in_force(at)]
    ways = []
    for method in (None, *sorted({rule.method for rule in known if rule.method is not None})):
        counting = [_counting(known, operator, kind, method) for kind in KINDS]
        ways.append(tuple(rule for rule in counting if rule is not None and rule.borne_by == "traveller"))
    return ways


def on_top(parts: Iterable[Part]) -> int:
    """What the traveller pays beside the fares."""
    return sum(part.amount for part in parts if part.borne_by == "traveller")


def dues(lines: Iterable[Line], parts: Iterable[Part]) -> tuple[dict[UUID, int], int]:
    """Whose the price is: of each operator its fares and the taxes on top of them, of the platform the rest."""
    operators: dict[UUID, int] = {}
    for line in lines:
        operators[line.operator_id] = operators.get(line.operator_id, 0) + line.fare
    platform = 0
    for part in parts:
        if part.borne_by == "traveller" and part.kind == "tax":
            # Of an operator whose seats were all cancelled there is the tax that was paid, and no fare.
            operators[part.operator_id] = operators.get(part.operator_id, 0) + part.amount
        elif part.borne_by == "traveller":
            platform += part.amount
    return operators, platform


def charges_of(parts: Iterable[Part]) -> list[Charge]:
    """What a traveller is shown: the parts that they bear, then the taxes that are within the fares."""
    sums: dict[tuple[bool, int, int], int] = {}
    for part in parts:
        is_included = part.kind == "tax" and part.borne_by == "operator"
        if part.borne_by == "traveller" or is_included:
            rate = part.basis_points if part.kind == "tax" else 0
            key = (is_included, KINDS.index(part.kind), rate)
            sums[key] = sums.get(key, 0) + part.amount
    return [
        Charge(kind=KINDS[kind], is_included=is_included, basis_points=rate, amount=amount)
        for (is_included, kind, rate), amount in sorted(sums.items())
    ]


def _groups(
    rules: Sequence[FeeRule], operators: Iterable[UUID], kind: Kind, method: str | None
) -> list[tuple[FeeRule, list[UUID]]]:
    """The rule that counts for each operator; those that share one which is asked once of a booking together."""
    groups: dict[tuple[UUID, UUID | None], tuple[FeeRule, list[UUID]]] = {}
    for operator in operators:
        rule = _counting(rules, operator, kind, method)
        if rule is not None:
            key = (rule.id, None if kind in COMMON else operator)
            groups.setdefault(key, (rule, []))[1].append(operator)
    return list(groups.values())


def _counting(rules: Sequence[FeeRule], operator: UUID, kind: Kind, method: str | None) -> FeeRule | None:
    """The one rule of a kind that counts for an operator's seats."""
    fitting = [
        rule
        for rule in rules
        if rule.kind == kind and rule.operator_id in {None, operator} and rule.method in {None, method}
    ]
    return max(fitting, key=_rank, default=None)


def _rank(rule: FeeRule) -> tuple[bool, bool, datetime, UUID]:
    return rule.operator_id is not None, rule.method is not None, rule.valid_from, rule.id


def _shares(
    rule: FeeRule, fares: Mapping[UUID, Sequence[int]], *, pays: Mapping[UUID, int], keeps: Mapping[UUID, int]
) -> dict[UUID, int]:
    """What a rule asks of these operators' seats, by operator."""
    if rule.kind == "gateway_fee":
        amount = rule.amount([pays[operator] for operator in fares])
        weights = {operator: pays[operator] for operator in fares}
    else:
        amount = rule.amount([fare for theirs in fares.values() for fare in theirs])
        weights = {operator: sum(theirs) for operator, theirs in fares.items()}
    if rule.borne_by == "operator" and rule.kind != "tax":
        weights = {operator: keeps[operator] for operator in fares}
        amount = min(amount, sum(weights.values()))
    return share_out(amount, weights=weights) if amount else {}


def _part(booking: UUID, operator: UUID, rule: FeeRule, amount: int) -> Part:
    return Part(
        booking_id=booking,
        operator_id=operator,
        kind=rule.kind,
        borne_by=rule.borne_by,
        amount=amount,
        basis_points=rule.basis_points,
    )
