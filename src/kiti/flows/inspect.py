"""At the door: whether a ticket is good for this trip."""

from uuid import UUID

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.db import Transaction
from kiti.flows.announce import announce, of_ticket
from kiti.flows.house import House
from kiti.flows.idempotency import Keep
from kiti.flows.staff import require
from kiti.people.model import Staff
from kiti.tickets import actions as tickets
from kiti.tickets import reads as ticket_reads
from kiti.tickets.model import Unknown, Valid, Verdict, WrongTrip


async def inspect(
    house: House,
    *,
    scanned: str,
    trip: UUID | None,
    where: str,
    use: bool,
    staff: Staff,
    keep: Keep[Verdict] | None = None,
) -> Verdict:
    """Judge a token or a code; with `use` a valid ticket becomes used. Of two scans at once one is told valid.

    Raises NotAllowed unless `staff` may verify tickets of the trip's operator, NotFound for a trip that is none.
    Without `trip` it is the ticket's own. `keep` is for the answer to who wants to use it.
    """
    require(staff, "tickets.verify")
    if trip is not None:
        await _check_operator(house, staff, trip)
    else:
        seen = await _look(house, scanned, None)
        if isinstance(seen, Unknown | WrongTrip):
            return seen
        await _check_operator(house, staff, seen.ticket.trip_id)
    if not use:
        return await _look(house, scanned, trip)

    async def work(tx: Transaction) -> Verdict:
        keys = await ticket_reads.public_keys(tx)
        verdict = await tickets.verify_and_use(tx, token_or_code=scanned, trip=trip, where=where, keys=keys)
        if isinstance(verdict, Valid):
            ticket = verdict.ticket
            detail = {"ticket": str(ticket.id), "where": where}
            event = Event(subject=ticket.booking_id, actor=staff.actor, action="ticket.used", detail=detail)
            await audit.record(tx, events=[event])
            await announce(tx, of_ticket(ticket, where=where))
        if keep is not None:
            await keep(tx, verdict)
        return verdict

    return await house.db.run(work)


async def _look(house: House, scanned: str, trip: UUID | None) -> Verdict:
    async with house.db.reader() as reader:
        keys = await ticket_reads.public_keys(reader)
        return await ticket_reads.verify(reader, token_or_code=scanned, trip=trip, keys=keys)


async def _check_operator(house: House, staff: Staff, trip: UUID) -> None:
    detail = await house.catalogue.trip(trip)
    require(staff, "tickets.verify", operator=detail.trip.operator_id)
