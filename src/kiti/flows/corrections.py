"""Corrections of the ledger: an event is undone by entries of its own, with a reason and a name, never by a change."""

from uuid import UUID

from psycopg.errors import UniqueViolation

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.core.errors import KitiError
from kiti.db import Transaction
from kiti.flows.books import books_of
from kiti.flows.changes import reason_of
from kiti.flows.house import House
from kiti.flows.staff import require
from kiti.ledger import actions as ledger
from kiti.ledger import reads as ledger_reads
from kiti.ledger.standing import overdrawn, reversed_entries
from kiti.people.model import Staff

# What a gateway did stands as long as the gateway says so; refunds, payouts and disputes have ends of their own.
REVERSIBLE = frozenset({"departed", "reversal"})


class NotReversible(KitiError):
    """There is no such event, it was reversed before, it follows what a gateway did, or its money has gone."""


async def correct_event(house: House, *, booking: UUID, event: str, reason: str, staff: Staff) -> None:
    """Post the entries that undo an event below a booking. A reversal may be undone too, once.

    Raises NotAllowed, NotFound, NotReversible, InvalidInput without a reason.
    """
    require(staff, "settlements.approve")
    why = reason_of(reason)
    if event.partition(":")[0] not in REVERSIBLE:
        raise NotReversible(f"{event!r} cannot be reversed; only {' and '.join(sorted(REVERSIBLE))} events can.")

    async def work(tx: Transaction) -> None:
        await bookings.lock(tx, booking=booking)
        lines = [line for line in (await ledger_reads.lines_of(tx, bookings=[booking]))[booking] if line.event == event]
        if not lines:
            raise NotReversible(f"Below this booking there is no event {event!r}.")
        entries, currency = reversed_entries(lines), lines[0].currency
        books = (await books_of(tx, currencies={booking: currency}))[booking]
        if overdrawn(books.standings, entries):
            raise NotReversible(f"What {event!r} left to be owed has gone back meanwhile, so it cannot be undone.")
        await ledger.post(tx, booking=booking, event=f"reversal:{event}", currency=currency, entries=entries)
        detail = {"event": event, "reason": why}
        await audit.record(
            tx, events=[Event(subject=booking, actor=staff.actor, action="ledger.corrected", detail=detail)]
        )

    try:
        await house.db.run(work)
    except UniqueViolation:
        raise NotReversible(f"{event!r} was reversed before.") from None
