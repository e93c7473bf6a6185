"""Answering disputes: a person gives in or contests, the gateway is told, and staff are reminded before it is too late.

The answer is written down before the gateway hears of it. Telling a gateway the same answer twice does no harm, so an
answer whose fate is unknown is told again, a bounded number of times.
"""

import html
from uuid import UUID

import structlog

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.core.errors import KitiError
from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.disputes import actions as disputes
from kiti.disputes import reads as dispute_reads
from kiti.disputes.model import Answer, Dispute, DisputeLine
from kiti.flows.changes import reason_of
from kiti.flows.disputes import take_dispute
from kiti.flows.house import House
from kiti.flows.passes import each
from kiti.flows.progress import advance
from kiti.gateways.delivery import Accepted
from kiti.gateways.gateway import Disputes, GatewayDispute, Rejected, Unknown
from kiti.gateways.mail import Letter
from kiti.people import reads as people_reads

log = structlog.get_logger(__name__)

FIRST_WAIT_SECONDS = 60
LONGEST_WAIT_SECONDS = 3600
MOST_ATTEMPTS = 12
PASS_LIMIT = 100
MOST_REMINDED = 20
AT_ONCE = 4


class NoAnswersThere(KitiError):
    """The gateway takes answers in its dashboard only."""


async def answer_dispute(house: House, *, dispute: UUID, answer: Answer, comment: str, actor: str) -> Dispute:
    """Give in, or contest with a comment that the gateway reads; the dispute as it then stands.

    Raises NotFound, InvalidInput, DisputeNotAnswerable, NoAnswersThere.
    """
    why = reason_of(comment)
    async with house.db.reader() as reader:
        found = await dispute_reads.by_id(reader, dispute=dispute)
    gateway = _gateway(house, found)

    async def work(tx: Transaction) -> Dispute:
        answered = await disputes.answer(
            tx, dispute=found, answer=answer, comment=why, actor=actor, retry_after_seconds=FIRST_WAIT_SECONDS
        )
        detail = {"dispute": str(dispute), "answer": answer, "comment": why}
        event = Event(subject=found.booking_id, actor=actor, action="dispute.answered", detail=detail)
        await audit.record(tx, events=[event])
        return answered

    return await _tell(house, gateway, await house.db.run(work))


async def send_answer_again(house: House, dispute: UUID) -> Dispute:
    """Tell the gateway once more; raises DisputeChanged where somebody else does."""
    async with house.db.reader() as reader:
        found = await dispute_reads.by_id(reader, dispute=dispute)
    gateway = _gateway(house, found)
    if found.attempts >= MOST_ATTEMPTS:
        why = "The gateway did not take the answer however often it was told. Answer in its dashboard."
        await house.db.run(lambda tx: disputes.answer_refused(tx, dispute=found, reason=why))
        return await _reread(house, found)
    seconds = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**found.attempts)
    asking = await house.db.run(lambda tx: disputes.ask_again(tx, dispute=found, retry_after_seconds=seconds))
    return await _tell(house, gateway, asking)


async def send_due_answers(house: House) -> tuple[int, int]:
    """Tell gateways again what they may not have heard: how many were told, and how many could not be now."""
    async with house.db.reader() as reader:
        due = await dispute_reads.due(reader, limit=PASS_LIMIT)
    told = failed = 0

    async def one(dispute: UUID) -> None:
        nonlocal told, failed
        try:
            await send_answer_again(house, dispute)
        except KitiError as error:
            log.info("a dispute's answer was not sent again", dispute=str(dispute), reason=str(error))
        except Exception:
            # One answer's trouble is not another's: it is due again by the time that was written down before it.
            failed += 1
            advance(failed=1)
            log.exception("a dispute's answer could not be sent again", dispute=str(dispute))
        else:
            told += 1
            advance(processed=1)

    await each(due, one, at_once=AT_ONCE)
    return told, failed


async def looked_at(house: House, *, dispute: UUID, note: str, actor: str) -> None:
    """A person has looked at a dispute that needed one, and says what was done. Raises NotFound, InvalidInput."""
    why = reason_of(note)

    async def work(tx: Transaction) -> None:
        found = await dispute_reads.by_id(tx, dispute=dispute)
        await disputes.looked_at(tx, dispute=found, actor=actor, note=why)

    await house.db.run(work)


async def remind_staff(house: House) -> int:
    """Write to the platform's finance staff about disputes that nobody has answered; how many reminders now.

    Each is claimed before it is sent: of several at once one writes, and a mail that is lost is not repeated. The
    office and `kiti doctor` show the same in any case.
    """
    async with house.db.reader() as reader:
        lines = await dispute_reads.lines(reader, states=["open"], is_waiting=True, limit=PASS_LIMIT)
        late = [line for line in lines if line.dispute.reminders_due > line.dispute.reminders]
        accounts = await people_reads.accounts(reader) if late else []
    to = [
        account.staff.email
        for account in accounts
        if account.disabled_at is None and account.staff.operator is None and account.staff.can("payments.review")
    ][:MOST_REMINDED]
    reminded = 0
    for line in late:
        claimed = await house.db.run(lambda tx, line=line: disputes.claim_reminder(tx, dispute=line.dispute))  # type: ignore[misc]
        if claimed:
            reminded += 1
            await _remind(house, line, to)
            advance(processed=1)
    return reminded


async def _tell(house: House, gateway: Disputes, dispute: Dispute) -> Dispute:
    answer = await gateway.answer_dispute(
        dispute.dispute_id, accept=dispute.answer == "accept", comment=dispute.answer_comment
    )
    match answer:
        case GatewayDispute():
            await house.db.run(lambda tx: disputes.answer_taken(tx, dispute=dispute))
            return await take_dispute(house, dispute.gateway, answer)
        case Rejected(reason=reason):
            await house.db.run(lambda tx: disputes.answer_refused(tx, dispute=dispute, reason=reason))
        case Unknown(reason=reason):
            log.warning("a gateway did not say whether it has our answer", dispute=str(dispute.id), reason=reason)
    return await _reread(house, dispute)


def _gateway(house: House, dispute: Dispute) -> Disputes:
    gateway = house.gateway(dispute.gateway)
    if not isinstance(gateway, Disputes):
        raise NoAnswersThere(f"{dispute.gateway} takes no answers from here. Answer in its dashboard.")
    return gateway


async def _remind(house: House, line: DisputeLine, to: list[str]) -> None:
    dispute = line.dispute
    assert dispute.answer_by is not None, "what has no end has no reminders"
    amount = Money(dispute.amount, dispute.currency).format("en")
    until = dispute.answer_by.strftime("%Y-%m-%d %H:%M UTC")
    text = (
        f"Nobody has answered the dispute about {amount} of booking {line.reference}.\n"
        f"The gateway takes an answer until {until}; after that the money is lost.\n\n"
        f"{house.settings.base_url}/office/disputes"
    )
    log.warning("a dispute waits for an answer", dispute=str(dispute.id), reference=line.reference, until=until)
    for address in to:
        letter = Letter(
            id=new_id(),
            to=address,
            subject=f"Dispute about {line.reference}: answer until {until}",
            text=text,
            html=f"<pre>{html.escape(text)}</pre>",
            language="en",
        )
        delivery = await house.mailer.send(letter)
        if not isinstance(delivery, Accepted):
            log.warning("a reminder was not sent", dispute=str(dispute.id), reason=delivery.reason)


async def _reread(house: House, dispute: Dispute) -> Dispute:
    async with house.db.reader() as reader:
        return await dispute_reads.by_id(reader, dispute=dispute.id)
