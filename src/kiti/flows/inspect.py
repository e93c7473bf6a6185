"""At the door: whether a ticket is good for this trip."""

from uuid import UUID

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.tickets import actions as tickets
from kiti.tickets import reads as ticket_reads
from kiti.tickets.model import Valid, Verdict


async def inspect(house: House, *, scanned: str, trip: UUID | None, where: str, use: bool) -> Verdict:
    """Judge a token or a code; with `use` a valid ticket becomes used. Of two scans at once one is told valid."""

    async def work(tx: Transaction) -> Verdict:
        keys = await ticket_reads.public_keys(tx)
        if not use:
            return await ticket_reads.verify(tx, token_or_code=scanned, trip=trip, keys=keys)
        verdict = await tickets.verify_and_use(tx, token_or_code=scanned, trip=trip, where=where, keys=keys)
        if isinstance(verdict, Valid):
            ticket = verdict.ticket
            await audit.record(
                tx,
                events=[
                    Event(
                        subject=ticket.booking_id,
                        actor="inspector",
                        action="ticket.used",
                        detail={"ticket": str(ticket.id), "where": where},
                    )
                ],
            )
        return verdict

    return await house.db.run(work)
