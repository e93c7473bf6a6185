"""Cancel a part of a booking: some travellers, or some of its trips. The rest travels on. One transaction.

It is judged and rounded seat by seat as the whole is, so cancelling one seat after another gives back what cancelling
them at once would, but for the fee that an operator keeps of each cancellation. What was paid beyond the price waits
for the last seats: with these the booking itself is cancelled.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, GivenBack
from kiti.core.clock import local
from kiti.core.money import Money
from kiti.db import Reader, Transaction
from kiti.flows.announce import announce, of_booking
from kiti.flows.cancellation import CANCELLED, Cancelled, Case, Part, Quote, cancel_judged, give_back, judge
from kiti.flows.holds import wants_of
from kiti.flows.house import House
from kiti.flows.idempotency import Keep
from kiti.flows.letters import occasions
from kiti.network import reads as network
from kiti.seats import actions as seats
from kiti.tickets import actions as tickets
from kiti.tickets.actions import TicketsUsed

# What a text message names of the seats that were cancelled.
SHORT_SEATS = 3


async def quote_part(house: House, *, booking: UUID, part: Part) -> Quote:
    """What cancelling a part now would give back; raises as `cancel_part` would."""
    async with house.db.reader() as reader:
        found = await booking_reads.by_id(reader, booking=booking)
        return (await judge(reader, found, part=part)).quote


async def cancel_part(
    house: House,
    *,
    booking: UUID,
    part: Part,
    actor: str,
    reason: str = "",
    keep: Keep[Cancelled] | None = None,
) -> Cancelled:
    """Cancel some seats of a paid booking by the rules of their operators; the last ones cancel the booking.

    Raises InvalidInput for seats that it has not, or not any more; WrongState where it is not paid for or is over, or
    one of these trips has left; TicketsUsed, NotFound. Then nothing has changed.
    """
    why = reason or CANCELLED

    async def work(tx: Transaction) -> Cancelled:
        case = await judge(tx, await bookings.lock(tx, booking=booking), part=part)
        if case.quote.is_whole:
            amount = case.quote.refund.amount
            done = await cancel_judged(tx, house, case, amount=amount, actor=actor, reason=why)
        else:
            done = await _cancel_seats(tx, house, case, actor=actor, reason=why)
        if keep is not None:
            await keep(tx, done)
        return done

    return await house.db.run(work)


async def _cancel_seats(tx: Transaction, house: House, case: Case, *, actor: str, reason: str) -> Cancelled:
    quote, booking = case.quote, case.quote.booking
    await seats.release(tx, wants=wants_of(case.lines))
    await _void(tx, booking.id, case.lines, reason)
    await bookings.cancel_seats(
        tx,
        booking=booking.id,
        seats=[
            GivenBack(line=seat.line, percent=seat.percent, fee=seat.fee, refunded=seat.amount) for seat in quote.seats
        ],
    )
    await bookings.renew_arrival(tx, booking=booking.id)
    refund = await give_back(tx, house, case, amount=quote.refund.amount, reason=reason)
    detail = {
        "seats": [f"{line.trip_id} {line.seat}" for line in case.lines],
        "refund": None if refund is None else str(refund),
        "amount": quote.refund.amount,
        "reason": reason,
    }
    event = Event(subject=booking.id, actor=actor, action="booking.seats_cancelled", detail=detail)
    await audit.record(tx, events=[event])
    await announce(tx, of_booking("booking.changed", booking.id))
    if house.settings.message_channels:
        await occasions.reduced(
            tx,
            booking=booking,
            gone=await _in_words(tx, case.lines),
            gone_seats=_in_short(case.lines),
            amount=Money(quote.refund.amount, booking.currency),
            channels=house.settings.message_channels,
        )
    return Cancelled(quote=quote, refund=refund)


async def _void(tx: Transaction, booking: UUID, lines: Sequence[BookedSeat], reason: str) -> None:
    """Void the tickets of these seats; raises TicketsUsed where an inspector was quicker."""
    for trip, of_trip in _by_trip(lines).items():
        numbers = [line.seat for line in of_trip]
        voided = await tickets.void_seats(tx, booking=booking, trip=trip, seats=numbers, reason=reason)
        if len(voided) != len(numbers):
            raise TicketsUsed(sorted(set(numbers) - {ticket.seat for ticket in voided}))


async def _in_words(reader: Reader, lines: Sequence[BookedSeat]) -> str:
    """Kampala-Kigali 24/11 06:30: 1A, 1B. In no language, on the clocks where one boards."""
    trips = _by_trip(lines)
    stops = await network.stops_of_trips(reader, trips=list(trips))
    parts = []
    for trip, of_trip in trips.items():
        boards, alights = stops[trip][of_trip[0].from_seq], stops[trip][of_trip[0].to_seq]
        leaves = local(boards.departs_at, timezone=boards.timezone)
        numbers = ", ".join(line.seat for line in of_trip)
        parts.append(f"{boards.city}-{alights.city} {leaves:%d/%m %H:%M}: {numbers}")
    return "; ".join(parts)


def _in_short(lines: Sequence[BookedSeat]) -> str:
    more = f" +{len(lines) - SHORT_SEATS}" if len(lines) > SHORT_SEATS else ""
    return " ".join(line.seat for line in lines[:SHORT_SEATS]) + more


def _by_trip(lines: Sequence[BookedSeat]) -> Mapping[UUID, list[BookedSeat]]:
    """In the order of the trips' ids, as everybody goes who locks rows of several."""
    trips: dict[UUID, list[BookedSeat]] = {}
    for line in sorted(lines, key=lambda line: line.trip_id):
        trips.setdefault(line.trip_id, []).append(line)
    return trips
