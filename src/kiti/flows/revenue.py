"""Revenue is recognised when travellers board: what was owed to them is the operator's from then on.

Trips that have left their first stop are looked at until the last stop at which anybody boards is an hour behind; the
index of those knows nothing else. Each booking's part in a trip is one event of the ledger, `departed:<trip>`, so it is
posted once, whoever runs this at the same time and however a run was cut short.

A trip that its operator has cancelled is looked at too when it would have left, once its fares have gone back. It earns
nothing, but for what was kept before: of seats that their travellers had given up. While a payment is disputed, and
until a person has looked where one must, nobody earns what was paid for cancelled trips and bookings.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import PaidSeat
from kiti.core.money import share_out
from kiti.db import Transaction
from kiti.flows.books import Books, books_of
from kiti.flows.house import House
from kiti.flows.progress import advance
from kiti.ledger import actions as ledger
from kiti.ledger.model import PLATFORM, Entry, Posting
from kiti.ledger.standing import departed
from kiti.network import actions as network
from kiti.network import reads as network_reads
from kiti.network.reads import Departed
from kiti.payments import reads as payment_reads

log = structlog.get_logger(__name__)

MOST_BOOKINGS = 20_000
TRIPS_PAGE = 100
BATCH = 100
# A payment that is being confirmed while the last travellers board is committed long before this.
KEPT_OPEN = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = UUID(int=0)


async def recognise_revenue(house: House, *, most: int = MOST_BOOKINGS) -> tuple[int, int]:
    """Post the revenue of what has departed: how many bookings were dealt with, and how many could not be now.

    At most about `most` in one run; the next one goes on. Safe side by side and after a crash.
    """
    done = failed = 0
    after = (_EPOCH, _FIRST)
    while done + failed < most:
        async with house.db.reader() as reader:
            trips = await network_reads.open_departures(reader, after=after, limit=TRIPS_PAGE)
        over = []
        for trip in trips:
            posted, refused = await _recognise_trip(house, trip)
            done += posted
            failed += refused
            advance(processed=posted, failed=refused)
            if not refused and trip.boards_until + KEPT_OPEN <= trip.now:
                over.append(trip.id)
            if done + failed >= most:
                break
        if over:
            closed = over
            await house.db.run(lambda tx, closed=closed: network.close_revenue(tx, trips=closed))  # type: ignore[misc]
        if len(trips) < TRIPS_PAGE:
            break
        after = (trips[-1].departs_at, trips[-1].id)
    return done, failed


async def _recognise_trip(house: House, trip: Departed) -> tuple[int, int]:
    """All bookings of a trip, a batch at a time. A vehicle holds some hundreds, so this is bounded by itself."""
    done = failed = 0
    after = _FIRST
    while True:
        async with house.db.reader() as reader:
            due = await booking_reads.boarded_unrecognised(reader, trip=trip.id, after=after, limit=BATCH)
        posted, refused = await _batch(house, trip.id, due)
        done += posted
        failed += refused
        if len(due) < BATCH:
            return done, failed
        after = due[-1]


async def _batch(house: House, trip: UUID, due: Sequence[UUID]) -> tuple[int, int]:
    """In one transaction; each by itself where that fails, so that one booking's trouble is not another's."""
    if not due:
        return 0, 0
    try:
        return await house.db.run(lambda tx: _post(tx, trip, due)), 0
    except Exception:
        if len(due) == 1:
            log.exception("revenue could not be recognised", trip=str(trip), booking=str(due[0]))
            return 0, 1
    results = [await _batch(house, trip, [booking]) for booking in due]
    return sum(posted for posted, _ in results), sum(refused for _, refused in results)


async def _post(tx: Transaction, trip: UUID, due: Sequence[UUID]) -> int:
    """How many of these bookings had anything to recognise. Payments and refunds of them wait meanwhile."""
    locked = await (await bookings.lock_many(tx, bookings=due))()
    books = await books_of(tx, currencies={booking.id: booking.currency for booking in locked.values()})
    lines: dict[UUID, list[PaidSeat]] = {booking: [] for booking in due}
    for line in await booking_reads.every_seat_of(tx, bookings=list(locked)):
        lines[line.booking_id].append(line)
    over = await payment_reads.trips_given_back(tx, bookings=list(locked))
    postings = []
    for booking in locked.values():
        given_back = {line.trip_id for line in lines[booking.id] if (booking.id, line.trip_id) in over}
        entries = entries_of(books[booking.id], lines[booking.id], trip=trip, given_back=given_back)
        if entries:
            event = departed_event(trip)
            postings.append(Posting(booking=booking.id, event=event, currency=booking.currency, entries=entries))
    await ledger.post_many(tx, postings=postings)
    return len(postings)


def departed_event(trip: UUID) -> str:
    """The name of a trip's departure below a booking."""
    return f"departed:{trip}"


def entries_of(books: Books, lines: Sequence[PaidSeat], *, trip: UUID, given_back: Collection[UUID]) -> list[Entry]:
    """What a trip's departure posts below a booking.

    `lines` are all seats that it was paid for; the fares of `given_back` trips went back, because their operators have
    cancelled them. What was kept of a seat that its traveller gave up is earned like any other. A trip's part of what
    is still owed is by its fares among the trips that run and have not departed, so whichever departs last takes all
    that is left. Where none of them runs, what was kept is earned with the first that would have left. Nothing stays
    owed.
    """
    if departed_event(trip) in books.events:
        return []
    ahead = [line for line in lines if line.trip_id == trip or departed_event(line.trip_id) not in books.events]
    mine = [line for line in ahead if line.trip_id == trip]
    entries = []
    for operator in sorted({line.operator_id for line in mine}):
        owner = str(operator)
        standing = books.standing(owner)
        theirs = [line for line in ahead if line.operator_id == operator]
        amount = _part(standing.owed, theirs, trip, given_back)
        entries += departed(owner, standing, amount=amount, bill=books.bill(owner), gateway=books.gateway)
    standing = books.standing(PLATFORM)
    amount = _part(standing.owed, ahead, trip, given_back) if mine else 0
    return entries + departed(PLATFORM, standing, amount=amount, bill=books.bill(PLATFORM), gateway=books.gateway)


def _part(owed: int, lines: Sequence[PaidSeat], trip: UUID, given_back: Collection[UUID]) -> int:
    """The trip's part of an amount, by fares."""
    if owed <= 0:
        return 0
    weights: dict[UUID, int] = {}
    for line in lines:
        if line.trip_id not in given_back:
            weights[line.trip_id] = weights.get(line.trip_id, 0) + line.fare
    return share_out(owed, weights=weights).get(trip, 0) if weights else owed
