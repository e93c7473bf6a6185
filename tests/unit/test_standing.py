"""Whatever order trips depart and refunds come in: parts add up, and commission is on what the operator keeps."""

from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from kiti.ledger.model import Entry, split_refund
from kiti.ledger.standing import Bill, Line, departed, given_back, proportion, reversed_entries, standings

BOOKING = UUID(int=1)
CAPTURE = "capture:flutterwave:1"
OPERATORS = ("a", "b")


class Books:
    """A booking's entries, as they are posted."""

    def __init__(self, fares: dict[str, int], platform: int) -> None:
        self.lines: list[Line] = []
        for owner, amount in {**fares, "platform": platform}.items():
            if amount:
                entry = Entry(debit="gateway_clearing:flutterwave", credit=f"ticket_liability:{owner}", amount=amount)
                self.post(CAPTURE, [entry])

    def post(self, event: str, entries: Sequence[Entry]) -> None:
        self.lines += [
            Line(booking_id=BOOKING, event=event, debit=one.debit, credit=one.credit, amount=one.amount, currency="UGX")
            for one in entries
        ]

    def balance(self, account: str) -> int:
        """Credits minus debits."""
        return sum(line.amount * ((line.credit == account) - (line.debit == account)) for line in self.lines)


amounts = st.integers(1, 200_000)


@given(data=st.data(), fares=st.fixed_dictionaries(dict.fromkeys(OPERATORS, amounts)), platform=st.integers(0, 9))
def test_commission_follows_what_is_kept_and_nothing_is_left_over(
    data: st.DataObject, fares: dict[str, int], platform: int
) -> None:
    books = Books(fares, platform)
    bills = {
        owner: Bill(
            commission=data.draw(st.integers(0, fares[owner])), gateway_fee=data.draw(st.integers(0, fares[owner]))
        )
        for owner in OPERATORS
    }
    for step in range(data.draw(st.integers(1, 8))):
        before = standings(books.lines, currency="UGX", capture_event=CAPTURE)
        left = {owner: standing.room for owner, standing in before.items()}
        most = sum(left.values())
        if most and data.draw(st.booleans()):
            amount = data.draw(st.integers(1, most))
            shares = split_refund(amount, preferred={}, left=left)
            entries = given_back("flutterwave", shares=shares, standings=before, bills=bills)
            books.post(f"refund_requested:{step}", entries)
        else:
            for owner, standing in before.items():
                part = data.draw(st.integers(0, standing.owed))
                bill = bills.get(owner, Bill())
                books.post(f"departed:{step}", departed(owner, standing, amount=part, bill=bill, gateway="flutterwave"))
        after = standings(books.lines, currency="UGX", capture_event=CAPTURE)
        for owner in OPERATORS:
            standing = after[owner]
            assert standing.owed >= 0
            assert standing.earned >= 0
            kept = proportion(bills[owner].commission, part=standing.earned, whole=fares[owner])
            assert standing.commission == kept
            fee = proportion(bills[owner].gateway_fee, part=standing.recognised, whole=fares[owner])
            assert standing.fee == fee
            payable = books.balance(f"operator_payable:{owner}")
            assert payable == standing.earned - standing.commission - standing.fee
    total = platform + sum(fares[owner] for owner in OPERATORS)
    assert books.balance("refund_clearing:flutterwave") == total - sum(
        standing.owed + standing.earned
        for standing in standings(books.lines, currency="UGX", capture_event=CAPTURE).values()
    )


@given(fare=amounts, commission=st.integers(0, 50_000))
def test_a_reversal_leaves_every_account_as_it_was(fare: int, commission: int) -> None:
    books = Books({"a": fare}, 0)
    before = standings(books.lines, currency="UGX", capture_event=CAPTURE)["a"]
    bill = Bill(commission=min(commission, fare))
    books.post("departed:1", departed("a", before, amount=fare, bill=bill, gateway="flutterwave"))
    undone = [line for line in books.lines if line.event == "departed:1"]
    books.post("reversal:departed:1", reversed_entries(undone))
    assert standings(books.lines, currency="UGX", capture_event=CAPTURE)["a"] == before


@given(amount=st.integers(0, 10**15), part=st.integers(-5, 10**9), whole=st.integers(0, 10**9))
def test_a_proportion_is_rounded_half_to_even_within_its_bounds(amount: int, part: int, whole: int) -> None:
    found = proportion(amount, part=part, whole=whole)
    assert 0 <= found <= amount
    if whole:
        exact = amount * min(max(part, 0), whole)
        assert abs(2 * found * whole - 2 * exact) <= whole
    assert [proportion(1, part=part, whole=2) for part in (1, 2)] == [0, 1]
    assert proportion(3, part=1, whole=2) == 2
