"""Cancel a booking: what goes back by the operators' rules, the seats on sale again, the tickets void. One transaction.

A hold that nobody has paid for is simply given up. What a paid booking gets back is said before anything is done, by
the same computation.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat, Booking
from kiti.core.money import Money, round_to_minor
from kiti.db import Reader, Transaction
from kiti.flows import holds
from kiti.flows.announce import announce, of_booking
from kiti.flows.holds import wants_of
from kiti.flows.house import House
from kiti.flows.letters import occasions
from kiti.flows.refunds import by_fares, request_refund
from kiti.network import reads as network
from kiti.network.model import RefundPolicy
from kiti.payments import reads as payment_reads
from kiti.payments.model import Charge
from kiti.seats import actions as seats
from kiti.tickets import actions as tickets
from kiti.tickets import reads as ticket_reads
from kiti.tickets.actions import TicketsUsed

CANCELLED = "The booking was cancelled."


class SeatQuote(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back for one seat: `percent` of the fare, less the fee. Minor units of the booking's currency."""

    line: BookedSeat
    percent: int
    fee: int
    amount: int


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What cancelling now gives back. `excess` was paid beyond the price and goes back whatever the rules say.

    `left` is what has not gone back before: no more than that can.
    """

    booking: Booking
    seats: tuple[SeatQuote, ...]
    excess: int
    left: int

    @property
    def refund(self) -> Money:
        """All of it."""
        return Money(min(self.left, sum(seat.amount for seat in self.seats) + self.excess), self.booking.currency)


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """What was done; `refund` is the refund's id, None where nothing goes back."""

    quote: Quote
    refund: UUID | None


async def quote_cancellation(house: House, *, booking: UUID) -> Quote:
    """What cancelling now would give back; raises WrongState, TicketsUsed, NotFound as cancelling would."""
    async with house.db.reader() as reader:
        found = await booking_reads.by_id(reader, booking=booking)
        return (await _judge(reader, found)).quote


async def cancel_booking(house: House, *, booking: UUID, actor: str, reason: str = "") -> Cancelled:
    """Cancel a booking, whole. A hold is given up, a paid one refunded by the rules of its operators.

    Raises WrongState where it is over or its journey has begun, TicketsUsed, NotFound.
    """
    async with house.db.reader() as reader:
        before = await booking_reads.by_id(reader, booking=booking)
    if before.state in {"held", "awaiting_payment"} and not before.is_lapsed:
        released = await holds.release(house, booking=booking, actor=actor)
        return Cancelled(quote=Quote(booking=released, seats=(), excess=0, left=0), refund=None)
    return await house.db.run(lambda tx: _cancel(tx, house, booking, actor=actor, reason=reason or CANCELLED))


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    quote: Quote
    lines: list[BookedSeat]
    charge: Charge | None


async def _cancel(tx: Transaction, house: House, booking_id: UUID, *, actor: str, reason: str) -> Cancelled:
    case = await _judge(tx, await bookings.lock(tx, booking=booking_id))
    quote = case.quote
    assert case.charge is not None, "a confirmed booking was paid for"
    cancelled = await bookings.move(tx, booking=quote.booking, to="cancelled")
    await seats.release(tx, wants=wants_of(case.lines))
    voided = await tickets.void(tx, booking=booking_id, reason=reason)
    # An inspector who was quicker has committed by now: a journey that has begun is not cancelled.
    if len(voided) != len(case.lines):
        raise TicketsUsed(sorted({line.seat for line in case.lines} - {ticket.seat for ticket in voided}))
    refund = None
    if quote.refund.amount > 0:
        refund = await request_refund(
            tx,
            house,
            booking=booking_id,
            gateway=case.charge.gateway,
            transaction_id=case.charge.transaction_id,
            amount=quote.refund,
            preferred=_shares(quote, case.lines),
            reason=reason,
        )
    detail = {"refund": None if refund is None else str(refund), "amount": quote.refund.amount, "reason": reason}
    await audit.record(tx, events=[Event(subject=booking_id, actor=actor, action="booking.cancelled", detail=detail)])
    await occasions.cancelled(tx, bookings=[cancelled], channels=house.settings.message_channels)
    await announce(tx, of_booking("booking.cancelled", booking_id))
    return Cancelled(quote=msgspec.structs.replace(quote, booking=cancelled), refund=refund)


async def _judge(reader: Reader, booking: Booking) -> _Case:
    """What a booking would get back as it stands; raises WrongState, TicketsUsed."""
    # What a cancelled trip has cost was given back when it was cancelled.
    over = await payment_reads.trips_refunded(reader, booking=booking.id)
    all_lines = await booking_reads.seats_of(reader, bookings=[booking.id])
    lines = [line for line in all_lines if line.trip_id not in over]
    if booking.is_holding:
        return _Case(quote=Quote(booking=booking, seats=(), excess=0, left=0), lines=lines, charge=None)
    if booking.state != "confirmed":
        raise WrongState(f"A booking that is {booking.standing} cannot be cancelled any more.")
    used = [one.seat for one in await ticket_reads.of_booking(reader, booking=booking.id) if one.state == "used"]
    if used:
        raise TicketsUsed(used)
    charges = await payment_reads.charges_of(reader, booking=booking.id)
    charge = next(one for one in charges if one.purpose == "fulfils")
    boarding = await network.boarding(reader, trips=[line.trip_id for line in lines])
    if not any(boarding.get((line.trip_id, line.from_seq), booking.now) >= booking.now for line in lines):
        raise WrongState("The journey has begun, so it cannot be cancelled any more.")
    operators = list({line.operator_id for line in lines})
    policies = await network.refund_policies(reader, operators=operators)
    quotes = tuple(_seat(booking, line, boarding, policies[line.operator_id]) for line in lines)
    left = charge.amount - charge.refund_reserved
    excess = max(0, charge.amount - booking.amount)
    quote = Quote(booking=booking, seats=quotes, excess=min(excess, left), left=left)
    return _Case(quote=quote, lines=lines, charge=charge)


def _seat(
    booking: Booking, line: BookedSeat, boarding: Mapping[tuple[UUID, int], datetime], policy: RefundPolicy
) -> SeatQuote:
    """A trip that the operator has cancelled gives back all; one that has left, nothing."""
    boards = boarding.get((line.trip_id, line.from_seq))
    if boards is None:
        return SeatQuote(line=line, percent=100, fee=0, amount=line.fare)
    left = boards - booking.now
    percent = policy.percent(seat_class=line.seat_class, left=left) if left > timedelta() else 0
    part = round_to_minor(Decimal(line.fare) * percent / 100)
    fee = min(part, policy.fees.get(booking.currency, 0))
    return SeatQuote(line=line, percent=percent, fee=fee, amount=part - fee)


def _shares(quote: Quote, lines: Sequence[BookedSeat]) -> dict[UUID, int]:
    """What each operator gives back; an excess was shared out by the fares, and comes back the same way."""
    shares: dict[UUID, int] = {}
    for seat in quote.seats:
        shares[seat.line.operator_id] = shares.get(seat.line.operator_id, 0) + seat.amount
    for operator, amount in by_fares(quote.excess, lines).items():
        shares[operator] += amount
    return shares
