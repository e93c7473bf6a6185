"""Change the seats of a booking: for others of the same trip, or for seats of another trip. What it costs stays.

Either is one transaction: the booking is locked, old and new seat-legs are claimed in key order, the old ones given
up, the seat lines rewritten, tickets replaced. Passengers keep their names, a hold keeps its end, money is not touched.
"""

import math
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import MAX_SEATS, BookedSeat, Booking
from kiti.core import text
from kiti.core.errors import InvalidInput, KitiError
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.flows.announce import announce, of_booking
from kiti.flows.holds import HoldLapsed, can_board, wants_of
from kiti.flows.house import House
from kiti.flows.idempotency import Keep
from kiti.flows.letters import occasions
from kiti.flows.plan import NotEnoughSeats, SeatsTaken, TripNotOnSale, place_of
from kiti.flows.reserve import PICK_ATTEMPTS
from kiti.network import reads as network
from kiti.network.model import Seat, TripDetail
from kiti.payments import reads as payment_reads
from kiti.seats import actions as seats
from kiti.seats import reads as seat_reads
from kiti.seats.model import Lost, Wishes, best_seats
from kiti.tickets import actions as tickets

REASON_LENGTH = 200
SWAPPED = "The seat was changed; there is a new ticket."

_Changes = list[tuple[BookedSeat, BookedSeat]]


class FareDiffers(KitiError):
    """The other seat has another price than the one that the booking was made for."""

    def __init__(self, *, seat: str, paid: Money, other_seat: str, asked: Money) -> None:
        super().__init__(
            f"Seat {seat} was booked for {paid.format('en')}, seat {other_seat} costs {asked.format('en')}."
            " Choose a seat of the same fare."
        )
        self.paid = paid
        self.asked = asked


async def swap_seats(
    house: House,
    *,
    booking: UUID,
    swaps: Mapping[str, str],
    trip: UUID | None = None,
    actor: str,
    keep: Keep[list[BookedSeat]] | None = None,
) -> list[BookedSeat]:
    """Exchange seats of a booking (old to new) for free ones of one trip, or among themselves; its lines afterwards.

    `trip` may be None where only one trip of the booking has all the old seats. Raises SeatsTaken, FareDiffers,
    HoldLapsed, WrongState, TicketsUsed, TripNotOnSale, InvalidInput, NotFound; then nothing has changed.
    """
    if not 1 <= len(swaps) <= MAX_SEATS:
        raise InvalidInput("swaps", f"Exchange from 1 to {MAX_SEATS} seats.")
    if len(set(swaps.values())) != len(swaps):
        raise InvalidInput("swaps", "Two travellers are to sit on the same seat.")
    detail = await house.catalogue.trip(trip or await _trip_with(house, booking, list(swaps)))

    async def work(tx: Transaction) -> list[BookedSeat]:
        found = await _changeable(tx, booking)
        lines = [
            line for line in await booking_reads.seats_of(tx, bookings=[booking]) if line.trip_id == detail.trip.id
        ]
        changes = _swapped(found, lines, swaps, detail)
        if not await can_board(tx, booking=found, lines=[old for old, _ in changes]):
            raise TripNotOnSale("This trip has left or was cancelled, so its seats stay as they are.")
        swapped = await _change(tx, house, found, changes, action="booking.swapped", reason=SWAPPED, actor=actor)
        if keep is not None:
            await keep(tx, swapped)
        return swapped

    return await house.db.run(work)


async def move_booking(
    house: House,
    *,
    booking: UUID,
    from_trip: UUID,
    to_trip: UUID,
    seats: Sequence[str] | None = None,
    reason: str,
    actor: str,
) -> list[BookedSeat]:
    """Move the seats that a booking has on one trip to another trip of the same operator; its lines afterwards.

    Between the same stops and for the same fares. `seats` are for its passengers in their order; None picks good
    ones of the same classes. A trip that was cancelled may be left, one that has departed may not. Raises SeatsTaken,
    FareDiffers, HoldLapsed, WrongState, TicketsUsed, TripNotOnSale, InvalidInput, NotFound; then nothing has changed.
    """
    why = reason_of(reason)
    if from_trip == to_trip:
        raise InvalidInput("toTrip", "That is the trip it is on. To change seats on it, swap them.")
    left = await house.catalogue.trip(from_trip)
    entered = await house.catalogue.trip(to_trip)
    if left.trip.operator_id != entered.trip.operator_id:
        raise InvalidInput("toTrip", f"{entered.trip.operator_name} runs that trip, not {left.trip.operator_name}.")

    async def work(tx: Transaction, choice: int) -> list[BookedSeat]:
        found = await _changeable(tx, booking)
        lines = await booking_reads.seats_of(tx, bookings=[booking])
        old = [line for line in lines if line.trip_id == from_trip]
        if not old:
            raise InvalidInput("fromTrip", "The booking has no seats on that trip.")
        if from_trip in await payment_reads.trips_refunded(tx, booking=booking):
            raise WrongState("That trip was cancelled and its fares went back, so there is nothing left to move.")
        if any(line.trip_id == to_trip for line in lines):
            raise InvalidInput("toTrip", "The booking has seats on that trip already.")
        places = [_between(line, left, entered) for line in old]
        chosen = seats if seats is not None else await _picked(tx, old, places[0], entered, choice=choice)
        new = _moved(found, list(zip(old, places, strict=True)), chosen, entered)
        if not await _can_leave(tx, found, old) or not await can_board(tx, booking=found, lines=new):
            raise TripNotOnSale("One of the two trips has left, or the other one was cancelled.")
        changes = list(zip(old, new, strict=True))
        return await _change(tx, house, found, changes, action="booking.moved", reason=why, actor=actor)

    if seats is not None:
        return await house.db.run(lambda tx: work(tx, 0))
    return await _picking(lambda choice: house.db.run(lambda tx: work(tx, choice)))


def reason_of(typed: str) -> str:
    """Why staff do something: one line of bounded length; raises InvalidInput."""
    why = text.clean(typed, field="reason", length=REASON_LENGTH)
    if not why:
        raise InvalidInput("reason", "Say why, so that others understand it later.")
    return why


async def _picking(attempt: Callable[[int], Awaitable[list[BookedSeat]]]) -> list[BookedSeat]:
    """Pick other seats where somebody quicker took those that were picked; give up only where too few are free."""
    for number in range(1, PICK_ATTEMPTS + 1):
        try:
            return await attempt(0 if number == 1 else secrets.randbelow(2**16))
        except NotEnoughSeats:
            raise
        except SeatsTaken:
            if number == PICK_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


async def _trip_with(house: House, booking: UUID, wanted: Sequence[str]) -> UUID:
    """The only trip on which the booking has all these seats."""
    async with house.db.reader() as reader:
        await booking_reads.by_id(reader, booking=booking)
        lines = await booking_reads.seats_of(reader, bookings=[booking])
    there: dict[UUID, set[str]] = {}
    for line in lines:
        there.setdefault(line.trip_id, set()).add(line.seat)
    fitting = [trip for trip, numbers in there.items() if numbers >= set(wanted)]
    if len(fitting) > 1:
        raise InvalidInput("tripId", "The booking has these seats on several trips. Say on which.")
    if not fitting:
        raise InvalidInput("swaps", f"The booking has no trip with seats {', '.join(wanted)}.")
    return fitting[0]


async def _changeable(tx: Transaction, booking: UUID) -> Booking:
    found = await bookings.lock(tx, booking=booking)
    if found.is_lapsed:
        raise HoldLapsed("The hold is over. Search again: the seats may still be free.")
    if not found.is_holding and found.state != "confirmed":
        raise WrongState(f"A booking that is {found.state} keeps its seats as they are.")
    return found


def _swapped(booking: Booking, lines: Sequence[BookedSeat], swaps: Mapping[str, str], trip: TripDetail) -> _Changes:
    mine = {line.seat: line for line in lines}
    changes: _Changes = []
    for number, other in swaps.items():
        line = mine.get(number)
        if line is None:
            raise InvalidInput("swaps", f"The booking has no seat {number} on that trip.")
        if other == number:
            raise InvalidInput("swaps", f"Seat {number} cannot be exchanged for itself.")
        if other in mine and other not in swaps:
            raise InvalidInput("swaps", f"Seat {other} is in this booking: say also where its traveller goes.")
        seat = _seat(trip, other, field="swaps")
        if seat.seat_class != line.seat_class:
            _check_fare(booking, line, seat, trip, (line.from_seq, line.to_seq), field="swaps")
        changes.append((line, msgspec.structs.replace(line, seat=seat.number, seat_class=seat.seat_class)))
    return changes


def _between(line: BookedSeat, left: TripDetail, entered: TripDetail) -> tuple[int, int]:
    """Where the other trip calls at the stops of a line; raises NotOnTrip."""
    boards, alights = entered.segment(left.stops[line.from_seq].code, left.stops[line.to_seq].code)
    return boards.seq, alights.seq


def _moved(
    booking: Booking, lines: Sequence[tuple[BookedSeat, tuple[int, int]]], numbers: Sequence[str], trip: TripDetail
) -> list[BookedSeat]:
    if len(numbers) != len(lines):
        raise InvalidInput("seats", f"{len(lines)} travellers need as many seats, not {len(numbers)}.")
    if len(set(numbers)) != len(numbers):
        raise InvalidInput("seats", "The same seat stands twice.")
    new = []
    for (line, (from_seq, to_seq)), number in zip(lines, numbers, strict=True):
        seat = _seat(trip, number, field="seats")
        _check_fare(booking, line, seat, trip, (from_seq, to_seq), field="seats")
        new.append(
            msgspec.structs.replace(
                line,
                trip_id=trip.trip.id,
                seat=seat.number,
                seat_class=seat.seat_class,
                from_seq=from_seq,
                to_seq=to_seq,
                operator_id=trip.trip.operator_id,
            )
        )
    return new


def _seat(trip: TripDetail, number: str, *, field: str) -> Seat:
    seat = trip.layout.by_number.get(number)
    if seat is None:
        raise InvalidInput(field, f"This vehicle has no seat {number}. See its seat map.")
    return seat


def _check_fare(
    booking: Booking, line: BookedSeat, seat: Seat, trip: TripDetail, places: tuple[int, int], *, field: str
) -> None:
    """A seat has to cost today what the line was booked for; raises FareDiffers, InvalidInput."""
    fare = trip.fares_between(*places).get(seat.seat_class)
    if fare is None:
        raise InvalidInput(field, f"Seat {seat.number} is not sold between these stops.")
    paid = Money(line.fare, booking.currency)
    if fare.price != paid:
        raise FareDiffers(seat=line.seat, paid=paid, other_seat=seat.number, asked=fare.price)


async def _picked(
    tx: Transaction, lines: Sequence[BookedSeat], places: tuple[int, int], trip: TripDetail, *, choice: int
) -> list[str]:
    """Good seats for lines in their order, for each of the class that it has; raises NotEnoughSeats."""
    from_seq, to_seq = places
    taken = {seat.seat for seat in await seat_reads.taken(tx, trip=trip.trip.id, from_seq=from_seq, to_seq=to_seq)}
    free = [place_of(seat) for seat in trip.layout.seats if seat.number not in taken]
    chosen: dict[str, str] = {}
    for seat_class in dict.fromkeys(line.seat_class for line in lines):
        party = [line.seat for line in lines if line.seat_class == seat_class]
        found = best_seats(free, len(party), Wishes(seat_class=seat_class), choice=choice)
        if found is None:
            raise NotEnoughSeats(len(party), sum(place.seat_class == seat_class for place in free))
        chosen |= dict(zip(party, found, strict=True))
    return [chosen[line.seat] for line in lines]


async def _can_leave(tx: Transaction, booking: Booking, lines: Sequence[BookedSeat]) -> bool:
    """Whether nobody of these has boarded yet: their trip has not left them, or it was cancelled."""
    boarding = await network.boarding(tx, trips=[line.trip_id for line in lines])
    return all(
        (line.trip_id, line.from_seq) not in boarding or boarding[line.trip_id, line.from_seq] > booking.now
        for line in lines
    )


async def _change(
    tx: Transaction, house: House, booking: Booking, changes: _Changes, *, action: str, reason: str, actor: str
) -> list[BookedSeat]:
    """Replace seat lines with all that hangs on them; raises SeatsTaken, TicketsUsed."""
    old, new = [before for before, _ in changes], [after for _, after in changes]
    # The ledger holds each operator's part of what was paid: as long as those are equal, nothing is to be posted.
    assert _parts(old) == _parts(new), "a change of seats moves no money"
    await _claim_instead(tx, booking, old, new)
    await bookings.reseat(tx, booking=booking.id, changes=changes)
    if booking.state == "confirmed":
        await bookings.renew_arrival(tx, booking=booking.id)
        for trip in sorted({line.trip_id for line in old}):
            given_up = [line.seat for line in old if line.trip_id == trip]
            await tickets.void_seats(tx, booking=booking.id, trip=trip, seats=given_up, reason=reason)
        fresh = {(line.trip_id, line.seat) for line in new}
        await tickets.issue(tx, booking=booking.id, key=house.ticket_key, only=fresh)
        await occasions.changed(tx, booking=booking, channels=house.settings.message_channels)
        await announce(tx, of_booking("booking.changed", booking.id))
    await audit.record(tx, events=[_event(booking, changes, action=action, reason=reason, actor=actor)])
    lines = await booking_reads.seats_of(tx, bookings=[booking.id])
    gone = await booking_reads.cancelled_seats(tx, booking=booking.id)
    fares = sum(line.fare for line in lines) + sum(seat.fare for seat in gone)
    assert fares == booking.amount, "the lines of a booking sum to its amount"
    return lines


async def _claim_instead(
    tx: Transaction, booking: Booking, old: Sequence[BookedSeat], new: Sequence[BookedSeat]
) -> None:
    """Take the new seats as firmly as the old ones were held, and give up those of the old that are not among them.

    The old ones are claimed once more together with the new ones: one statement locks all of them in key order.
    """
    given_up, taken = set(wants_of(old)), set(wants_of(new))
    every = sorted(given_up | taken, key=lambda want: (want.trip, want.seat))
    if booking.state == "confirmed":
        outcome = (await seats.confirm(tx, wants=every))[booking.id]
    else:
        ttl_seconds = max(1, math.ceil((booking.hold_expires_at - booking.now).total_seconds()))
        outcome = (await seats.claim(tx, wants=every, ttl_seconds={booking.id: ttl_seconds}))[booking.id]
    if isinstance(outcome, Lost):
        raise SeatsTaken([seat for _, seat in outcome.seats])
    await seats.release(tx, wants=given_up - taken)
    if booking.state != "confirmed":
        await seats.keep_until(tx, wants=list(taken), expires_at=booking.hold_expires_at)


def _parts(lines: Sequence[BookedSeat]) -> dict[UUID, int]:
    """What each operator gets of these lines."""
    parts: dict[UUID, int] = {}
    for line in lines:
        parts[line.operator_id] = parts.get(line.operator_id, 0) + line.fare
    return parts


def _event(booking: Booking, changes: _Changes, *, action: str, reason: str, actor: str) -> Event:
    return Event(
        subject=booking.id,
        actor=actor,
        action=action,
        detail={
            "seats": {old.seat: new.seat for old, new in changes},
            "from_trip": str(changes[0][0].trip_id),
            "to_trip": str(changes[0][1].trip_id),
            "reason": reason,
        },
    )
