"""Money that came late finds its seats with somebody else: others like them, where the operator wants that.

On the same trip between the same stops, of the same class or a dearer one, for the same price, and near to whom of the
party has kept their seat. All travellers get one or nobody does, in the transaction that writes the money down. They
are told, and may decline: then everything goes back, whatever the rules of the operator say.
"""

import secrets
from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat, Booking
from kiti.core.errors import NotFound
from kiti.db import Reader, Transaction
from kiti.flows.cancellation import Cancelled, cancel_judged, judge
from kiti.flows.holds import wants_of
from kiti.flows.house import House
from kiti.flows.idempotency import Keep
from kiti.flows.letters import occasions
from kiti.flows.plan import place_of
from kiti.messages.model import Channel
from kiti.network import reads as network
from kiti.network.model import Seat
from kiti.seats import actions as seats
from kiti.seats import reads as seat_reads
from kiti.seats.model import Claimed, Wishes, best_seats, nearest_seats

# Who claims at the same time takes what was picked; after so many tries the money goes back.
PICKS = 4
DECLINE_HOURS = 24
DECLINED = "The traveller declined other seats than those that were lost."

_Changes = list[tuple[BookedSeat, BookedSeat]]


class _Cabin(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a trip between two stops: its seats, what each class costs, and which seats are not free."""

    seats: Sequence[Seat]
    prices: dict[str, int]
    taken: frozenset[str]


async def take_instead(
    tx: Transaction, *, booking: Booking, lines: Sequence[BookedSeat], channels: Collection[Channel]
) -> bool:
    """Claim all seats of a booking for ever, others in the place of lost ones; False: nothing was claimed or changed.

    The booking is locked, its trips can be boarded, and a claim of its own seats has just failed.
    """
    for attempt in range(PICKS):
        choice = 0 if attempt == 0 else secrets.randbelow(2**16)
        picked = await _pick(tx, lines, currency=booking.currency, choice=choice)
        if picked is None:
            return False
        claims = await seats.confirm(tx, wants=wants_of([new for _, new in picked]))
        if isinstance(claims[booking.id], Claimed):
            await _write_down(tx, booking, [(old, new) for old, new in picked if old != new], channels)
            return True
    return False


async def decline(house: House, *, booking: UUID, actor: str, keep: Keep[Cancelled] | None = None) -> Cancelled:
    """Cancel a booking that got other seats than those that were lost: all that is left of its money goes back, once.

    Raises NotFound where nothing was replaced, WrongState once it is too late or cancelled, TicketsUsed.
    """

    async def work(tx: Transaction) -> Cancelled:
        found = await bookings.lock(tx, booking=booking)
        replaced = await booking_reads.replacements(tx, booking=booking)
        if not replaced:
            raise NotFound("This booking has the seats that were chosen for it.")
        if found.state == "confirmed" and found.now >= replaced[0].decline_until:
            raise WrongState("These seats could be declined until a while ago. Cancel the booking instead.")
        case = await judge(tx, found)
        done = await cancel_judged(tx, house, case, amount=case.quote.left, actor=actor, reason=DECLINED)
        if keep is not None:
            await keep(tx, done)
        return done

    return await house.db.run(work)


async def _pick(tx: Transaction, lines: Sequence[BookedSeat], *, currency: str, choice: int) -> _Changes | None:
    """Each line with itself, or with the line that would take its place; None where there is no place for all."""
    picked: _Changes = []
    groups: dict[tuple[UUID, int, int], list[BookedSeat]] = {}
    for line in lines:
        groups.setdefault((line.trip_id, line.from_seq, line.to_seq), []).append(line)
    allowed = await network.replacing_lost_seats(tx, operators={line.operator_id for line in lines})
    for (trip, from_seq, to_seq), party in groups.items():
        cabin = await _cabin(tx, trip, from_seq, to_seq, currency)
        lost = [line for line in party if line.seat in cabin.taken]
        if not lost:
            picked += [(line, line) for line in party]
            continue
        if party[0].operator_id not in allowed:
            return None
        found = _instead(cabin, lost, kept=[line for line in party if line not in lost], choice=choice)
        if found is None:
            return None
        picked += [(line, _on(line, found.get(line.seat))) for line in party]
    return picked


async def _cabin(reader: Reader, trip: UUID, from_seq: int, to_seq: int, currency: str) -> _Cabin:
    head = (await network.trip_heads(reader, trips=[trip]))[trip]
    layout = await network.layout(reader, layout=head.layout_id)
    fares = await network.fares_of_route(reader, route=head.route_id)
    taken = await seat_reads.taken(reader, trip=trip, from_seq=from_seq, to_seq=to_seq)
    return _Cabin(
        seats=layout.seats,
        prices={
            fare.seat_class: fare.amount
            for fare in fares
            if (fare.from_seq, fare.to_seq, fare.currency) == (from_seq, to_seq, currency)
        },
        taken=frozenset(seat.seat for seat in taken),
    )


def _instead(
    cabin: _Cabin, lost: Sequence[BookedSeat], *, kept: Sequence[BookedSeat], choice: int
) -> dict[str, Seat] | None:
    """A seat for each lost one, by its number. Who had a step-free seat gets one, and chooses first."""
    by_number = {seat.number: seat for seat in cabin.seats}
    used = {line.seat for line in kept}
    found: dict[str, Seat] = {}
    kinds = {(line.seat_class, by_number[line.seat].is_accessible): None for line in lost}
    for seat_class, is_accessible in sorted(kinds, key=lambda kind: (not kind[1], kind[0])):
        party = [
            line.seat
            for line in lost
            if (line.seat_class, by_number[line.seat].is_accessible) == (seat_class, is_accessible)
        ]
        numbers = None
        for better in _classes(cabin, seat_class):
            free = [
                place_of(seat)
                for seat in cabin.seats
                if seat.seat_class == better
                and seat.number not in cabin.taken | used
                and (seat.is_accessible or not is_accessible)
            ]
            around = [place_of(by_number[number]) for number in used]
            numbers = numbers or (
                nearest_seats(free, len(party), around=around)
                if around and choice == 0
                else best_seats(free, len(party), Wishes(accessible=is_accessible), choice=choice)
            )
        if numbers is None:
            return None
        used |= set(numbers)
        found |= {old: by_number[new] for old, new in zip(party, numbers, strict=True)}
    return found


def _classes(cabin: _Cabin, seat_class: str) -> list[str]:
    """The class itself, then those that cost as much or more on this segment, the cheapest first."""
    price = cabin.prices.get(seat_class)
    if price is None:
        return [seat_class]
    better = [name for name, other in cabin.prices.items() if other >= price and name != seat_class]
    return [seat_class, *sorted(better, key=lambda name: (cabin.prices[name], name))]


def _on(line: BookedSeat, seat: Seat | None) -> BookedSeat:
    if seat is None:
        return line
    return msgspec.structs.replace(line, seat=seat.number, seat_class=seat.seat_class)


async def _write_down(tx: Transaction, booking: Booking, changes: _Changes, channels: Collection[Channel]) -> None:
    """Nothing to write where the seats have become free again meanwhile."""
    if not changes:
        return
    boarding = await network.boarding(tx, trips=list({old.trip_id for old, _ in changes}))
    leaves = min(boarding[old.trip_id, old.from_seq] for old, _ in changes)
    until = min(booking.now + timedelta(hours=DECLINE_HOURS), leaves)
    await bookings.reseat(tx, booking=booking.id, changes=changes)
    await bookings.note_replacements(tx, booking=booking.id, changes=changes, decline_until=until)
    detail = {"seats": {old.seat: new.seat for old, new in changes}, "decline_until": until.isoformat()}
    event = Event(subject=booking.id, actor="system", action="booking.seats_replaced", detail=detail)
    await audit.record(tx, events=[event])
    lost = ", ".join(old.seat for old, _ in changes)
    await occasions.replaced(tx, booking=booking, lost=lost, decline_until=until, channels=channels)
