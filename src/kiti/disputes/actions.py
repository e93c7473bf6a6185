"""Writing verbs of disputes. Every change of state is a guarded update with a history row."""

from datetime import datetime

import msgspec

from kiti.core.errors import KitiError
from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.disputes.model import TRANSITIONS, Answer, Dispute, DisputeState, NewDispute

sql = load("kiti.disputes")


class DisputeChanged(KitiError):
    """Somebody else moved the dispute on meanwhile; look again."""


class DisputeNotAnswerable(KitiError):
    """The dispute has ended, or its answer is given already."""


async def open_dispute(tx: Transaction, *, new: NewDispute) -> None:
    """Write down that the gateway holds money back. The unique constraint refuses a dispute that is known."""
    await tx.execute(
        sql.open,
        booking=new.booking,
        id=new.id,
        gateway=new.gateway,
        dispute_id=new.dispute_id,
        transaction_id=new.transaction_id,
        amount=new.amount,
        currency=new.currency,
        reserved=new.reserved,
        reason=new.reason,
        answer_by=new.answer_by,
        attention=new.attention,
    )
    await tx.execute(
        sql.note,
        booking=new.booking,
        dispute=new.id,
        id=new_id(),
        actor=new.gateway,
        from_state="new",
        to_state="open",
        reason=new.reason or "opened",
    )


async def close(tx: Transaction, *, dispute: Dispute, to: DisputeState, reason: str) -> Dispute:
    """How a dispute has ended, by one of TRANSITIONS; raises DisputeChanged where the row has moved on."""
    assert to in TRANSITIONS[dispute.state], f"{dispute.state} -> {to} is no transition of a dispute"
    changed = await tx.execute(
        sql.close_dispute, booking=dispute.booking_id, id=dispute.id, from_state=dispute.state, to_state=to
    )
    if changed != 1:
        raise DisputeChanged(f"The dispute is no longer {dispute.state}.")
    await _note(tx, dispute=dispute, actor=dispute.gateway, to=to, reason=reason)
    return msgspec.structs.replace(dispute, state=to)


async def answer(
    tx: Transaction, *, dispute: Dispute, answer: Answer, comment: str, actor: str, retry_after_seconds: int
) -> Dispute:
    """Write down what the gateway is about to be told; raises DisputeNotAnswerable."""
    changed = await tx.execute(
        sql.answer,
        booking=dispute.booking_id,
        id=dispute.id,
        answer=answer,
        comment=comment,
        actor=actor,
        attempts=dispute.attempts,
        seconds=retry_after_seconds,
    )
    if changed != 1:
        raise DisputeNotAnswerable("This dispute has ended, or somebody else has answered it. Look at it again.")
    await _note(tx, dispute=dispute, actor=actor, to=f"open, {answer}", reason=comment)
    return msgspec.structs.replace(
        dispute,
        answer=answer,
        answer_state="submitting",
        answer_comment=comment,
        attempts=dispute.attempts + 1,
    )


async def ask_again(tx: Transaction, *, dispute: Dispute, retry_after_seconds: int) -> Dispute:
    """The gateway is about to be told the same once more; raises DisputeChanged."""
    changed = await tx.execute(
        sql.ask_again,
        booking=dispute.booking_id,
        id=dispute.id,
        attempts=dispute.attempts,
        seconds=retry_after_seconds,
    )
    if changed != 1:
        raise DisputeChanged("Somebody else tells the gateway.")
    return msgspec.structs.replace(dispute, attempts=dispute.attempts + 1)


async def answer_taken(tx: Transaction, *, dispute: Dispute) -> None:
    """The gateway has our answer. Nothing where it has ended the dispute meanwhile."""
    changed = await tx.execute(
        sql.answered,
        booking=dispute.booking_id,
        id=dispute.id,
        attempts=dispute.attempts,
        answer_state="sent",
        failure="",
    )
    if changed == 1:
        await _note(tx, dispute=dispute, actor=dispute.gateway, to="open, answer sent", reason="The gateway has it.")


async def answer_refused(tx: Transaction, *, dispute: Dispute, reason: str) -> None:
    """The gateway certainly did not take it: a person may answer once more."""
    changed = await tx.execute(
        sql.answered,
        booking=dispute.booking_id,
        id=dispute.id,
        attempts=dispute.attempts,
        answer_state="refused",
        failure=reason,
    )
    if changed == 1:
        await _note(tx, dispute=dispute, actor=dispute.gateway, to="open, answer refused", reason=reason)


async def ask_a_person(tx: Transaction, *, dispute: Dispute, why: str, actor: str) -> None:
    """Say why somebody must look at it; nothing where the same was said before."""
    changed = await tx.execute(sql.set_attention, booking=dispute.booking_id, id=dispute.id, attention=why)
    if changed:
        await _note(tx, dispute=dispute, actor=actor, to=dispute.state, reason=why)


async def looked_at(tx: Transaction, *, dispute: Dispute, actor: str, note: str) -> None:
    """A person has looked at it, and says what was done."""
    await tx.execute(sql.set_attention, booking=dispute.booking_id, id=dispute.id, attention="")
    await _note(tx, dispute=dispute, actor=actor, to=dispute.state, reason=note)


async def answer_until(tx: Transaction, *, dispute: Dispute, answer_by: datetime | None) -> None:
    """Until when the gateway takes an answer."""
    await tx.execute(sql.set_answer_by, booking=dispute.booking_id, id=dispute.id, answer_by=answer_by)


async def claim_reminder(tx: Transaction, *, dispute: Dispute) -> bool:
    """Whether the caller is the one to remind staff; of several at once one is."""
    return await tx.execute(sql.remind, booking=dispute.booking_id, id=dispute.id, due=dispute.reminders_due) == 1


async def _note(tx: Transaction, *, dispute: Dispute, actor: str, to: str, reason: str) -> None:
    await tx.execute(
        sql.note,
        booking=dispute.booking_id,
        dispute=dispute.id,
        id=new_id(),
        actor=actor,
        from_state=dispute.state,
        to_state=to,
        reason=reason,
    )
