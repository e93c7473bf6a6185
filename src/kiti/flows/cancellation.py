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
from kiti.bookings.model import BookedSeat, Booking, CancelledSeat
from kiti.core.errors import InvalidInput
from kiti.core.money import Money, round_to_minor
from kiti.db import Reader, Transaction
from kiti.fees import reads as fee_reads
from kiti.flows import holds
from kiti.flows.announce import announce, of_booking
from kiti.flows.holds import wants_of
from kiti.flows.house import House
from kiti.flows.idempotency import Keep
from kiti.flows.letters import occasions
from kiti.flows.prices import on_top_of
from kiti.flows.refunds import request_refund
from kiti.ledger.model import PLATFORM, Owner
from kiti.network import reads as network
from kiti.network.model import RefundPolicy
from kiti.payments import reads as payment_reads
from kiti.payments.model import Charge
from kiti.seats import actions as seats
from kiti.tickets import actions as tickets
from kiti.tickets import reads as ticket_reads
from kiti.tickets.actions import TicketsUsed

CANCELLED = "The booking was cancelled."
DISPUTED = "The bank that paid for this booking wants the money back. Until that is decided it cannot be cancelled."


class SeatQuote(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back for one seat: `percent` of the refundable part of its price, less the fee. Minor units.

    The price is the fare and the tax on top of it. What the platform asked goes back only for a trip that its operator
    has cancelled: `charged` is then the seat's part of that, and within the amount. What is kept once of a cancellation
    stands with the first of its seats, as far as these give so much back.
    """

    line: BookedSeat
    price: int
    percent: int
    fee: int
    amount: int
    charged: int = 0


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What cancelling now gives back. `excess` was paid beyond the price and goes back whatever the rules say.

    `left` is what has not gone back before: no more than that can. `is_whole`: nothing of the booking remains.
    """

    booking: Booking
    seats: tuple[SeatQuote, ...]
    excess: int
    left: int
    is_whole: bool = True

    @property
    def refund(self) -> Money:
        """All of it."""
        return Money(min(self.left, sum(seat.amount for seat in self.seats) + self.excess), self.booking.currency)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What of a booking is to be cancelled: seats by trip and number, and all seats on some trips."""

    seats: frozenset[tuple[UUID, str]] = frozenset()
    trips: frozenset[UUID] = frozenset()

    def of(self, lines: Sequence[BookedSeat]) -> list[BookedSeat]:
        """Those of the lines; raises InvalidInput where they have not all of it, or nothing is chosen."""
        missing = self.seats - {(line.trip_id, line.seat) for line in lines}
        if missing:
            raise InvalidInput("seats", f"The booking has no seat {min(seat for _, seat in missing)} to cancel there.")
        if not self.trips <= {line.trip_id for line in lines}:
            raise InvalidInput("trips", "The booking has no seats to cancel on one of these trips.")
        chosen = [line for line in lines if line.trip_id in self.trips or (line.trip_id, line.seat) in self.seats]
        if not chosen:
            raise InvalidInput("seats", "Choose at least one seat.")
        return chosen


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """What was done; `refund` is the refund's id, None where nothing goes back.

    `amount` goes back where that is not what the quote says.
    """

    quote: Quote
    refund: UUID | None
    amount: int | None = None


async def quote_cancellation(house: House, *, booking: UUID) -> Quote:
    """What cancelling now would give back; raises WrongState, TicketsUsed, NotFound as cancelling would."""
    async with house.db.reader() as reader:
        found = await booking_reads.by_id(reader, booking=booking)
        return (await judge(reader, found)).quote


async def cancel_booking(
    house: House, *, booking: UUID, actor: str, reason: str = "", keep: Keep[Cancelled] | None = None
) -> Cancelled:
    """Cancel a booking, whole. A hold is given up, a paid one refunded by the rules of its operators.

    Giving a hold up twice is fine; `keep` is for the answer about a paid one. Raises WrongState where it is over or its
    journey has begun, TicketsUsed, NotFound.
    """
    async with house.db.reader() as reader:
        before = await booking_reads.by_id(reader, booking=booking)
    is_given_up = before.state == "cancelled" and before.confirmed_at is None
    if is_given_up or (before.state in {"held", "awaiting_payment"} and not before.is_lapsed):
        released = await holds.release(house, booking=booking, actor=actor)
        return Cancelled(quote=Quote(booking=released, seats=(), excess=0, left=0), refund=None)

    async def work(tx: Transaction) -> Cancelled:
        case = await judge(tx, await bookings.lock(tx, booking=booking))
        amount = case.quote.refund.amount
        done = await cancel_judged(tx, house, case, amount=amount, actor=actor, reason=reason or CANCELLED)
        if keep is not None:
            await keep(tx, done)
        return done

    return await house.db.run(work)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be cancelled: the quote, its lines, and the charge that paid for them (None: nobody has paid yet)."""

    quote: Quote
    lines: list[BookedSeat]
    charge: Charge | None


async def cancel_judged(
    tx: Transaction, house: House, case: Case, *, amount: int, actor: str, reason: str
) -> Cancelled:
    """Cancel a booking for `amount`, whose judgement was made within this transaction; raises TicketsUsed."""
    quote, booking = case.quote, case.quote.booking.id
    assert case.charge is not None, "a confirmed booking was paid for"
    assert quote.is_whole, "a part leaves the booking as it is"
    cancelled = await bookings.move(tx, booking=quote.booking, to="cancelled")
    await seats.release(tx, wants=wants_of(case.lines))
    voided = await tickets.void(tx, booking=booking, reason=reason)
    # An inspector who was quicker has committed by now: a journey that has begun is not cancelled.
    if len(voided) != len(case.lines):
        raise TicketsUsed(sorted({line.seat for line in case.lines} - {ticket.seat for ticket in voided}))
    refund = await give_back(tx, house, case, amount=amount, reason=reason)
    detail = {"refund": None if refund is None else str(refund), "amount": amount, "reason": reason}
    await audit.record(tx, events=[Event(subject=booking, actor=actor, action="booking.cancelled", detail=detail)])
    await occasions.cancelled(tx, bookings=[cancelled], channels=house.settings.message_channels)
    await announce(tx, of_booking("booking.cancelled", booking))
    return Cancelled(quote=msgspec.structs.replace(quote, booking=cancelled), refund=refund, amount=amount)


async def give_back(tx: Transaction, house: House, case: Case, *, amount: int, reason: str) -> UUID | None:
    """Ask for what a cancellation gives back; the refund's id, None where that is nothing."""
    if amount <= 0:
        return None
    assert case.charge is not None, "nothing goes back of what was never paid"
    return await request_refund(
        tx,
        house,
        booking=case.quote.booking.id,
        gateway=case.charge.gateway,
        transaction_id=case.charge.transaction_id,
        amount=Money(amount, case.quote.booking.currency),
        preferred=_shares(case.quote),
        reason=reason,
        of_excess=case.quote.excess,
    )


async def judge(reader: Reader, booking: Booking, *, part: Part | None = None) -> Case:
    """What a booking would get back as it stands, or a part of it; raises WrongState, TicketsUsed, InvalidInput."""
    # What a cancelled trip has cost was given back when it was cancelled.
    over = await payment_reads.trips_refunded(reader, booking=booking.id)
    all_lines = await booking_reads.seats_of(reader, bookings=[booking.id])
    gone = await booking_reads.cancelled_seats(reader, booking=booking.id)
    standing = [line for line in all_lines if line.trip_id not in over]
    if booking.is_holding and part is None:
        return Case(quote=Quote(booking=booking, seats=(), excess=0, left=0), lines=standing, charge=None)
    if booking.is_holding:
        raise WrongState("Nobody has paid for this booking yet. Give its seats back, and hold those you want.")
    if booking.state != "confirmed":
        raise WrongState(f"A booking that is {booking.standing} cannot be cancelled any more.")
    lines = standing if part is None else part.of(standing)
    await _refuse_used(reader, booking, None if part is None else lines)
    boarding = await network.boarding(reader, trips=[line.trip_id for line in lines])
    ahead = [boarding.get((line.trip_id, line.from_seq), booking.now) >= booking.now for line in lines]
    if not (any(ahead) if part is None else all(ahead)):
        raise WrongState("The journey has begun, so it cannot be cancelled any more.")
    charges = await payment_reads.charges_of(reader, booking=booking.id)
    charge = next(one for one in charges if one.purpose == "fulfils")
    if charge.disputed:
        # Cancelled for nothing, and lost or won afterwards: no end of that would be fair.
        raise WrongState(DISPUTED)
    is_whole = len(lines) == len(standing)
    quote = Quote(
        booking=booking,
        seats=await _seats(reader, booking, lines, boarding, paid_for=[*all_lines, *gone]),
        excess=charge.excess_left if is_whole else 0,
        left=charge.left if is_whole else charge.left - charge.excess_left,
        is_whole=is_whole,
    )
    return Case(quote=quote, lines=lines, charge=charge)


async def _refuse_used(reader: Reader, booking: Booking, lines: Sequence[BookedSeat] | None) -> None:
    """Raise TicketsUsed where somebody has boarded: on these seats, or on any for None."""
    asked = None if lines is None else {(line.trip_id, line.seat) for line in lines}
    used = [
        one.seat
        for one in await ticket_reads.of_booking(reader, booking=booking.id)
        if one.state == "used" and (asked is None or (one.trip_id, one.seat) in asked)
    ]
    if used:
        raise TicketsUsed(used)


async def _seats(
    reader: Reader,
    booking: Booking,
    lines: Sequence[BookedSeat],
    boarding: Mapping[tuple[UUID, int], datetime],
    *,
    paid_for: Sequence[BookedSeat | CancelledSeat],
) -> tuple[SeatQuote, ...]:
    operators = list({line.operator_id for line in lines})
    policies = await network.refund_policies(reader, operators=operators)
    parts = await fee_reads.of_bookings(reader, bookings=[booking.id])
    return quote_seats(booking, lines, boarding, policies, on_top=on_top_of(lines, lines=paid_for, parts=parts))


def quote_seats(
    booking: Booking,
    lines: Sequence[BookedSeat],
    boarding: Mapping[tuple[UUID, int], datetime],
    policies: Mapping[UUID, RefundPolicy],
    *,
    on_top: Sequence[tuple[int, int]],
) -> tuple[SeatQuote, ...]:
    """What cancelling these seats together gives back for each; `boarding` is when trips that run leave their stops.

    `on_top` are the tax and the fees that each seat costs beside its fare.
    """
    quotes = [
        _seat(booking, line, boarding, policies[line.operator_id], on_top=beside)
        for line, beside in zip(lines, on_top, strict=True)
    ]
    once = {operator: policy.fees_once.get(booking.currency, 0) for operator, policy in policies.items()}
    return tuple(_less_once(quotes, once, boarding))


def _less_once(
    quotes: Sequence[SeatQuote], once: Mapping[UUID, int], boarding: Mapping[tuple[UUID, int], datetime]
) -> list[SeatQuote]:
    """The quotes without what each operator keeps once, which is never more than they give back together."""
    rest = dict(once)
    less: list[SeatQuote] = []
    for quote in quotes:
        line = quote.line
        is_theirs = (line.trip_id, line.from_seq) in boarding  # nothing is kept of a trip that does not run
        fee = min(quote.amount, rest[line.operator_id]) if is_theirs else 0
        rest[line.operator_id] -= fee
        less.append(msgspec.structs.replace(quote, fee=quote.fee + fee, amount=quote.amount - fee))
    return less


def _seat(
    booking: Booking,
    line: BookedSeat,
    boarding: Mapping[tuple[UUID, int], datetime],
    policy: RefundPolicy,
    *,
    on_top: tuple[int, int],
) -> SeatQuote:
    """A trip that the operator has cancelled gives back all; one that has left, nothing."""
    tax, charged = on_top
    price = line.fare + tax
    boards = boarding.get((line.trip_id, line.from_seq))
    if boards is None:
        return SeatQuote(line=line, price=price, percent=100, fee=0, amount=price + charged, charged=charged)
    left = boards - booking.now
    percent = policy.percent(seat_class=line.seat_class, left=left) if left > timedelta() else 0
    refundable = max(0, price - policy.kept.get(booking.currency, 0))
    part = round_to_minor(Decimal(refundable) * percent / 100)
    fee = min(part, policy.fees.get(booking.currency, 0))
    return SeatQuote(line=line, price=price, percent=percent, fee=fee, amount=part - fee)


def _shares(quote: Quote) -> dict[Owner, int]:
    """What each operator and the platform give back of the price."""
    shares: dict[Owner, int] = {PLATFORM: sum(seat.charged for seat in quote.seats)}
    for seat in quote.seats:
        shares[seat.line.operator_id] = shares.get(seat.line.operator_id, 0) + seat.amount - seat.charged
    return shares
