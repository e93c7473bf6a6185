"""Posting to the ledger. PostgreSQL refuses an event twice, a change, a deletion."""

from collections.abc import Sequence
from uuid import UUID

from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.ledger.model import Entry, Posting

sql = load("kiti.ledger")


async def post(tx: Transaction, *, booking: UUID, event: str, currency: str, entries: Sequence[Entry]) -> None:
    """Post the lines of one event, such as `capture:flutterwave:8321945`, below a booking (or a settlement).

    Posting an event a second time raises psycopg's UniqueViolation: whoever posts has made sure, in the same
    transaction, that the event is new.
    """
    await post_many(tx, postings=[Posting(booking=booking, event=event, currency=currency, entries=entries)])


async def post_many(tx: Transaction, *, postings: Sequence[Posting]) -> None:
    """Post several events; one statement whatever their number. An event that is not new fails all, as above."""
    assert all(posting.entries for posting in postings), "an event without entries"
    lines = [(posting, number, entry) for posting in postings for number, entry in enumerate(posting.entries, 1)]
    await tx.send(
        sql.post,
        bookings=[posting.booking for posting, _, _ in lines],
        ids=[new_id() for _ in lines],
        events=[posting.event for posting, _, _ in lines],
        lines=[number for _, number, _ in lines],
        debits=[entry.debit for _, _, entry in lines],
        credits=[entry.credit for _, _, entry in lines],
        amounts=[entry.amount for _, _, entry in lines],
        currencies=[posting.currency for posting, _, _ in lines],
    )
