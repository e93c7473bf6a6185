"""Claim the seats of planned bookings and open them: many plans in one transaction, each with its own answer."""

from collections.abc import Hashable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings.actions import is_reference_taken
from kiti.bookings.model import NewBooking
from kiti.db import Database, Transaction
from kiti.flows.grouping import LANES, MAX_QUEUE, GroupCommit, Verdict
from kiti.flows.plan import Plan, SeatsTaken, TripNotOnSale
from kiti.idempotency import actions as idempotency
from kiti.idempotency.model import Key as IdempotencyKey
from kiti.network import reads as network
from kiti.seats import actions as seats
from kiti.seats.model import Lost

HOLD_CAP_MINUTES = 60
# What a reservation is answered, and so what is stored for who repeats it.
CREATED = 201
JSON = "application/json"


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """A booking as it was opened, and until when it holds its seats."""

    plan: Plan
    reference: str
    expires_at: datetime
    # The answer as it was stored under the request's idempotency key; b"" where it has none.
    answer: bytes = b""

    @property
    def booking(self) -> UUID:
        """Its id."""
        return self.plan.booking


Outcome = Reserved | SeatsTaken | TripNotOnSale


# The trip as a number: it is hashed again and again, and a UUID does that in Python.
# Trip, seat, from stop, to stop.
Part = tuple[int, str, int, int]


def group_reservations(db: Database, *, lanes: int = LANES, max_queue: int = MAX_QUEUE) -> "Reservations":
    """Reservations in batches.

    Of two who want the same seat-leg the earlier goes first. If it wins, the later has lost without asking the
    database; if it loses, the later gets its turn. If it loses a seat that somebody has from before, so has everyone
    who had already asked for the same part of the way: a trip that is sold out refuses its crowd with one statement.
    """
    return GroupCommit(
        db,
        commit_plans,
        keys=_keys,
        foresee=_beaten,
        is_chance=is_reference_taken,
        lanes=lanes,
        max_queue=max_queue,
    )


Reservations = GroupCommit[Plan, Outcome]


async def commit_plans(tx: Transaction, plans: Sequence[Plan]) -> list[Outcome]:
    """Claim the seats of many plans and open the winners' bookings; each plan gets its own answer, in their order.

    No seat-leg may be wanted by two of the plans. Two round trips, however many plans there are, and a third if one
    lost after it had got a part; `is_reference_taken` tells of an error that goes away with other references.
    """
    running = await network.running(tx, trips=list({trip for plan in plans for trip, _ in plan.boards_at}))
    references = await bookings.draw_references(tx, count=len(plans))
    claims = await seats.claim(
        tx,
        wants=[want for plan in plans for want in plan.wants],
        ttl_seconds={plan.booking: plan.hold_seconds for plan in plans},
    )
    on_sale = dict(await running())
    free = await references()
    outcome: list[Outcome] = []
    winners: list[NewBooking] = []
    events: list[Event] = []
    answers: dict[IdempotencyKey, bytes] = {}
    departed: list[Plan] = []
    held_at: datetime | None = None
    for plan, reference in zip(plans, free, strict=True):
        claim = claims[plan.booking]
        if not all(trip in on_sale and at > on_sale[trip] for trip, at in plan.boards_at):
            departed.append(plan)
            outcome.append(TripNotOnSale("This trip has left or was cancelled. Search for another one."))
        elif isinstance(claim, Lost):
            outcome.append(SeatsTaken([seat for _, seat in claim.seats]))
        else:
            assert claim.expires_at is not None, "a hold ends"
            held_at = claim.claimed_at
            booking = _new_booking(plan, reference)
            winners.append(booking)
            events.append(_opened(booking, plan.actor))
            answer = b""
            if plan.keyed is not None:
                answer = plan.keyed.render(plan, reference, claim.expires_at)
                answers[plan.keyed.key] = answer
            outcome.append(Reserved(plan=plan, reference=reference, expires_at=claim.expires_at, answer=answer))
    if departed:
        await seats.release(tx, wants=[want for plan in departed for want in plan.wants])
    if held_at is not None:
        await bookings.open_bookings(tx, bookings=winners, held_at=held_at, cap_seconds=HOLD_CAP_MINUTES * 60)
        await audit.record(tx, events=events)
    if answers:
        await idempotency.keep(tx, keys=list(answers), status=CREATED, media_type=JSON, bodies=list(answers.values()))
    return outcome


def _new_booking(plan: Plan, reference: str) -> NewBooking:
    return NewBooking(
        id=plan.booking,
        reference=reference,
        currency=plan.currency,
        contact=plan.contact,
        language=plan.language,
        seats=plan.seats,
        amount=plan.amount,
        hold_seconds=plan.hold_seconds,
    )


def _opened(booking: NewBooking, actor: str) -> Event:
    return Event(
        subject=booking.id,
        actor=actor,
        action="booking.held",
        detail={"reference": booking.reference, "seats": [seat.seat for seat in booking.seats]},
    )


def _keys(plan: Plan) -> frozenset[Hashable]:
    legs: list[Hashable] = [(want.trip.int, want.seat, leg) for want in plan.wants for leg in want.legs]
    if plan.keyed is not None:
        legs.append(plan.keyed.key.digest)
    return frozenset(legs)


def _parts(plan: Plan) -> list[Part]:
    return [(want.trip.int, want.seat, want.from_seq, want.to_seq) for want in plan.wants]


def _beaten(done: Sequence[tuple[Plan, Outcome]]) -> Verdict[Plan, Outcome] | None:
    """Whoever waits for a seat-leg that has just been won has lost it.

    So has who waits for a part of the way that was found taken, if they had asked before the database was: for a
    later request it might have been given up meanwhile.
    """
    won: set[Hashable] = set()
    gone: set[Part] = set()
    for plan, outcome in done:
        if isinstance(outcome, Reserved):
            won |= _keys(plan)
        elif isinstance(outcome, SeatsTaken) and len(plan.boards_at) == 1:
            gone.update(part for part in _parts(plan) if part[1] in outcome.seats)

    def verdict(plan: Plan, was_there_before: bool) -> Outcome | None:  # noqa: FBT001 - as every Verdict
        if plan.keyed is not None and plan.keyed.key.digest in won:
            return None  # it is the same request once more, and beaten by nobody
        beaten = {want.seat for want in plan.wants for leg in want.legs if (want.trip.int, want.seat, leg) in won}
        if was_there_before and gone:
            beaten |= {part[1] for part in _parts(plan) if part in gone}
        return SeatsTaken(sorted(beaten)) if beaten else None

    return verdict if won or gone else None
