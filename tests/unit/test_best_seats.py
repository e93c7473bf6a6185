"""Which seats the system picks for people who travel together."""

from hypothesis import given
from hypothesis import strategies as st

from kiti.seats.model import Place, Wishes, best_seats

LETTERS = "ABCD"


def place(number: str, *, accessible: bool = False, seat_class: str = "STANDARD") -> Place:
    """A seat of a coach: two, an aisle, two. 2C is row 2, behind the aisle."""
    column = LETTERS.index(number[-1])
    return Place(
        number=number,
        deck=1,
        row=int(number[:-1]),
        column=column + (column > 1),
        seat_class=seat_class,
        is_window=number[-1] in "AD",
        is_aisle=number[-1] in "BC",
        is_accessible=accessible,
    )


def coach(rows: int = 4, *, without: str = "") -> list[Place]:
    taken = without.split()
    numbers = [f"{row}{letter}" for row in range(1, rows + 1) for letter in LETTERS]
    return [place(number) for number in numbers if number not in taken]


def test_two_sit_side_by_side_at_the_front() -> None:
    assert best_seats(coach(), 2) == ["1A", "1B"]


def test_one_takes_the_seat_that_is_alone_anyway() -> None:
    assert best_seats(coach(without="2B"), 1) == ["2A"]


def test_a_couple_does_not_sit_across_the_aisle_while_a_pair_is_free() -> None:
    assert best_seats(coach(rows=2, without="1A 1D"), 2) == ["2A", "2B"]


def test_more_than_a_row_holds_sit_in_rows_next_to_each_other() -> None:
    assert best_seats(coach(without="1B 1C"), 4) == ["2A", "2B", "2C", "2D"]


def test_where_too_few_are_free_there_is_no_choice() -> None:
    assert best_seats(coach(rows=1), 5) is None
    assert best_seats([], 1) is None


def test_the_class_is_a_condition() -> None:
    free = [*coach(rows=1), place("2A", seat_class="VIP"), place("2B", seat_class="VIP")]
    assert best_seats(free, 2, Wishes(seat_class="VIP")) == ["2A", "2B"]
    assert best_seats(free, 3, Wishes(seat_class="VIP")) is None


def test_the_window_is_a_preference() -> None:
    free = coach(without="1A 1B")
    assert best_seats(free, 1) == ["1C"]
    assert best_seats(free, 1, Wishes(window=True)) == ["1D"]
    assert best_seats([place("1C")], 1, Wishes(window=True)) == ["1C"]


def test_accessible_seats_are_kept_for_those_who_ask() -> None:
    free = [place("1A", accessible=True), place("1B", accessible=True), *coach(rows=3)[4:]]
    assert best_seats(free, 2) == ["2A", "2B"]
    chosen = best_seats(free, 3, Wishes(accessible=True))
    assert chosen is not None
    assert {"1A", "1B"} & set(chosen)
    assert best_seats(coach(), 1, Wishes(accessible=True)) is None


@given(free=st.sets(st.sampled_from([p.number for p in coach(rows=12)])), count=st.integers(1, 12))
def test_whoever_asks_gets_that_many_different_free_seats(free: set[str], count: int) -> None:
    chosen = best_seats([p for p in coach(rows=12) if p.number in free], count)
    if len(free) < count:
        assert chosen is None
    else:
        assert chosen is not None
        assert len(set(chosen)) == len(chosen) == count
        assert set(chosen) <= free
