"""Writing the audit log: in the transaction of the change itself, so neither exists without the other."""

from collections.abc import Sequence

import msgspec

from kiti.audit.model import Event
from kiti.core.ids import new_id
from kiti.db import Transaction, load

sql = load("kiti.audit")


async def record(tx: Transaction, *, events: Sequence[Event]) -> None:
    """Append events; one statement whatever their number."""
    await tx.send(
        sql.record,
        subjects=[event.subject for event in events],
        ids=[new_id() for _ in events],
        actors=[event.actor for event in events],
        actions=[event.action for event in events],
        details=[msgspec.json.encode(event.detail) for event in events],
    )
