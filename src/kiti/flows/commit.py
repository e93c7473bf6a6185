"""Claim the seats of planned bookings and open them: many plans in one transaction, each with its own answer."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings.model import NewBooking, NewSeat
from kiti.core.ids import new_reference
from kiti.db import Transaction
from kiti.flows.plan import Plan, SeatsTaken, TripNotOnSale
from kiti.network import reads as network
from kiti.seats import actions as seats
from kiti.seats.model import Lost

HOLD_CAP_MINUTES = 60


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """A held booking."""

    booking: UUID
    reference: str
    seats: tuple[NewSeat, ...]
    amount: int
    currency: str
    expires_at: datetime


Outcome = Reserved | SeatsTaken | TripNotOnSale


async def commit_plans(tx: Transaction, plans: Sequence[Plan]) -> dict[UUID, Outcome]:
    """Claim the seats of many plans and open the winners' bookings; each plan gets its own answer.

    No seat-leg may be wanted by two of the plans.
    """
    outcome: dict[UUID, Outcome] = {}
    running = await network.running(tx, trips=[trip for plan in plans for trip in plan.boards_at])
    open_plans = []
    for plan in plans:
        if all(trip in running and at > running[trip] for trip, at in plan.boards_at.items()):
            open_plans.append(plan)
        else:
            outcome[plan.booking] = TripNotOnSale("This trip has left or was cancelled. Search for another one.")
    if not open_plans:
        return outcome
    claims = await seats.claim(
        tx,
        wants=[want for plan in open_plans for want in plan.wants],
        ttl_seconds={plan.booking: plan.reservation.hold_minutes * 60 for plan in open_plans},
    )
    winners: list[NewBooking] = []
    for plan in open_plans:
        claim = claims[plan.booking]
        if isinstance(claim, Lost):
            outcome[plan.booking] = SeatsTaken([seat for _, seat in claim.seats])
            continue
        assert claim.expires_at is not None, "a hold ends"
        booking = _new_booking(plan, claimed_at=claim.claimed_at, expires_at=claim.expires_at)
        winners.append(booking)
        outcome[plan.booking] = Reserved(
            booking=booking.id,
            reference=booking.reference,
            seats=plan.seats,
            amount=booking.amount,
            currency=booking.currency,
            expires_at=booking.hold_expires_at,
        )
    if winners:
        await bookings.open_bookings(tx, bookings=winners)
        actors = {plan.booking: plan.reservation.actor for plan in open_plans}
        await audit.record(tx, events=[_opened(booking, actors[booking.id]) for booking in winners])
    return outcome


def _new_booking(plan: Plan, *, claimed_at: datetime, expires_at: datetime) -> NewBooking:
    return NewBooking(
        id=plan.booking,
        reference=new_reference(),
        currency=plan.currency,
        contact=plan.reservation.contact,
        language=plan.reservation.language,
        seats=plan.seats,
        held_at=claimed_at,
        hold_expires_at=expires_at,
        hold_cap_at=claimed_at + timedelta(minutes=HOLD_CAP_MINUTES),
    )


def _opened(booking: NewBooking, actor: str) -> Event:
    return Event(
        subject=booking.id,
        actor=actor,
        action="booking.held",
        detail={"reference": booking.reference, "seats": [seat.seat for seat in booking.seats]},
    )
