"""How a vehicle is drawn: decks of rows of cells, front first. Pure."""

from collections.abc import Callable, Collection, Sequence

import msgspec

from kiti.core.money import Money
from kiti.flows.availability import SeatMap, SeatOffer
from kiti.network.model import Feature
from kiti.seats.model import Place, Wishes, best_seats

ROW_NUMBER_DIGITS = "0123456789"


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the grid: a seat, something else that is drawn, or nothing."""

    offer: SeatOffer | None = None
    feature: Feature | None = None
    is_free: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row across the vehicle; `name` is the number that its seats begin with, empty where it has none."""

    name: str
    cells: list[Cell]


class Deck(msgspec.Struct, frozen=True, kw_only=True):
    """One deck; decks count from 1, the lowest."""

    number: int
    rows: list[Row]
    width: int


class ClassPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a class of seats costs on the segment, and how many of them are free; `total` with all fees of one seat."""

    name: str
    price: Money
    total: Money
    free: int


def free_seats(found: SeatMap, *, mine: Collection[str] = ()) -> list[SeatOffer]:
    """Seats that can be chosen: free ones, and those that I hold myself."""
    return [
        offer
        for offer in found.seats
        if offer.price is not None and (offer.status == "AVAILABLE" or offer.seat.number in mine)
    ]


def taken_seats(found: SeatMap, *, mine: Collection[str] = ()) -> list[str]:
    """The numbers of all others."""
    free = {offer.seat.number for offer in free_seats(found, mine=mine)}
    return [offer.seat.number for offer in found.seats if offer.seat.number not in free]


def decks(found: SeatMap, *, free: Sequence[SeatOffer]) -> list[Deck]:
    """The vehicle as a grid; seats that are not sold at all are absent."""
    numbers = {offer.seat.number for offer in free}
    cells: dict[tuple[int, int, int], Cell] = {}
    for offer in found.seats:
        if offer.status != "BLOCKED" and offer.price is not None:
            place = (offer.seat.deck, offer.seat.row_index, offer.seat.column_index)
            cells[place] = Cell(offer=offer, is_free=offer.seat.number in numbers)
    for feature in found.trip.layout.features:
        cells[feature.deck, feature.row_index, feature.column_index] = Cell(feature=feature)
    return [_deck(number, cells) for number in sorted({deck for deck, _, _ in cells})]


def class_prices(
    found: SeatMap, *, free: Sequence[SeatOffer], total: Callable[[Money], Money] = lambda fare: fare
) -> list[ClassPrice]:
    """The classes on board, cheapest first; `total` says what is paid in all for one seat of a fare."""
    prices = {offer.seat.seat_class: offer.price for offer in found.seats if offer.price is not None}
    counts = [offer.seat.seat_class for offer in free]
    classes = [
        ClassPrice(name=name, price=price, total=total(price), free=counts.count(name))
        for name, price in prices.items()
    ]
    return sorted(classes, key=lambda one: (one.price.amount, one.name))


def pick(free: Sequence[SeatOffer], *, count: int, seat_class: str) -> list[str] | None:
    """Good seats of a class that belong together; None where there are fewer."""
    places = [
        Place(
            number=offer.seat.number,
            deck=offer.seat.deck,
            row=offer.seat.row_index,
            column=offer.seat.column_index,
            seat_class=offer.seat.seat_class,
            is_window=offer.seat.is_window,
            is_aisle=offer.seat.is_aisle,
            is_accessible=offer.seat.is_accessible,
        )
        for offer in free
    ]
    return best_seats(places, count, Wishes(seat_class=seat_class))


def _deck(number: int, cells: dict[tuple[int, int, int], Cell]) -> Deck:
    mine = {(row, column): cell for (deck, row, column), cell in cells.items() if deck == number}
    width = max(column for _, column in mine) + 1
    height = max(row for row, _ in mine) + 1
    rows = [[mine.get((row, column), Cell()) for column in range(width)] for row in range(height)]
    return Deck(number=number, rows=[Row(name=_row_name(row), cells=row) for row in rows], width=width)


def _row_name(row: list[Cell]) -> str:
    for cell in row:
        if cell.offer is not None:
            number = cell.offer.seat.number
            return number[: len(number) - len(number.lstrip(ROW_NUMBER_DIGITS))]
    return ""
