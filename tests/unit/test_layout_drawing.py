from uuid import UUID

import pytest

from kiti.flows.demo_network import DRAWINGS, layouts
from kiti.network.model import InvalidDrawing, Layout, draw


def drawn(drawing: str) -> Layout:
    return draw(drawing, layout=UUID(int=1), operator_id=UUID(int=2), name="Drawn")


def test_rows_are_numbered_and_seats_lettered_from_the_front_left() -> None:
    layout = drawn("*...>\nvv.vv\nss.Ss\nsssss")
    assert " ".join(seat.number for seat in layout.seats) == "1A 1B 1C 1D 2A 2B 2C 2D 3A 3B 3C 3D 3E"
    by_number = {seat.number: seat for seat in layout.seats}
    assert by_number["1A"].seat_class == "VIP"
    assert by_number["2A"].seat_class == "STANDARD"
    assert [seat.number for seat in layout.seats if seat.is_accessible] == ["2C"]
    assert [seat.number for seat in layout.seats if seat.is_window] == ["1A", "1D", "2A", "2D", "3A", "3E"]
    assert [seat.number for seat in layout.seats if seat.is_aisle] == ["1B", "1C", "2B", "2C"]
    assert [(f.kind, f.row_index, f.column_index) for f in layout.features] == [("driver", 0, 0), ("door", 0, 4)]


def test_numbering_goes_on_through_the_decks() -> None:
    layout = drawn("*.s\ns.s\n\nss.s\nss/s")
    assert [(seat.number, seat.deck, seat.row_index) for seat in layout.seats] == [
        ("1A", 1, 0),
        ("2A", 1, 1),
        ("2B", 1, 1),
        ("3A", 2, 0),
        ("3B", 2, 0),
        ("3C", 2, 0),
        ("4A", 2, 1),
        ("4B", 2, 1),
        ("4C", 2, 1),
    ]


@pytest.mark.parametrize("drawing", ["", "...", "ss\nsss", "sx", "s" * 27], ids=repr)
def test_an_unreadable_drawing_is_refused(drawing: str) -> None:
    with pytest.raises(InvalidDrawing):
        drawn(drawing)


def test_the_demo_has_a_double_decker_and_places_for_wheelchairs_in_every_layout() -> None:
    assert {len({seat.deck for seat in layout.seats}) for layout in layouts()} == {1, 2}
    assert len(DRAWINGS) >= 2
    for layout in layouts():
        numbers = [seat.number for seat in layout.seats]
        assert len(set(numbers)) == len(numbers)
        assert any(seat.is_accessible for seat in layout.seats)
        assert any(seat.is_window for seat in layout.seats)
        assert any(seat.is_aisle for seat in layout.seats)
