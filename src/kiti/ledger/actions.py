"""Posting to the ledger. PostgreSQL refuses an event twice, a change, a deletion."""

from collections.abc import Sequence
from uuid import UUID

from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.ledger.model import Entry

sql = load("kiti.ledger")


async def post(tx: Transaction, *, booking: UUID, event: str, currency: str, entries: Sequence[Entry]) -> None:
    """Post the lines of one event, such as `capture:flutterwave:8321945`, below a booking (or a settlement).

    Posting an event a second time raises psycopg's UniqueViolation: whoever posts has made sure, in the same
    transaction, that the event is new.
    """
    assert entries, "an event without entries"
    await tx.execute(
        sql.post,
        booking=booking,
        event=event,
        currency=currency,
        ids=[new_id() for _ in entries],
        lines=list(range(1, len(entries) + 1)),
        debits=[entry.debit for entry in entries],
        credits=[entry.credit for entry in entries],
        amounts=[entry.amount for entry in entries],
    )
