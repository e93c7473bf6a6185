"""Writing verbs of payments. Every change of state is a guarded update with a history row."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from kiti.core.errors import KitiError
from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.payments.model import (
    PAYMENT_TRANSITIONS,
    REFUND_TRANSITIONS,
    Payment,
    PaymentState,
    Purpose,
    Refund,
    RefundState,
)

sql = load("kiti.payments")


class PaymentChanged(KitiError):
    """Somebody else moved the payment or refund on meanwhile; look again."""


class RefundExceedsCharge(KitiError):
    """More would go back than was taken."""


async def open_attempt(
    tx: Transaction,
    *,
    booking: UUID,
    gateway: str,
    method: str,
    amount: int,
    fee: int,
    currency: str,
    return_url: str,
    expires_at: datetime,
    poll_seconds: int,
) -> UUID:
    """Write down that we are about to ask a gateway; the attempt's id is the reference it will see."""
    payment = new_id()
    await tx.execute(
        sql.open_attempt,
        booking=booking,
        id=payment,
        gateway=gateway,
        method=method,
        amount=amount,
        fee=fee,
        currency=currency,
        return_url=return_url,
        expires_at=expires_at,
        poll_seconds=poll_seconds,
    )
    await _note(tx, booking=booking, payment=payment, before="new", after="submitting", reason="opened")
    return payment


async def move(
    tx: Transaction, *, payment: Payment, to: PaymentState, reason: str, checkout_url: str | None = None
) -> Payment:
    """Change the state by one of PAYMENT_TRANSITIONS; raises PaymentChanged where the row has moved on."""
    assert to in PAYMENT_TRANSITIONS[payment.state], f"{payment.state} -> {to} is no transition of a payment"
    failed = to in {"failed", "expired", "cancelled", "review"}
    changed = await tx.execute(
        sql.move,
        booking=payment.booking_id,
        id=payment.id,
        from_state=payment.state,
        to_state=to,
        failure_reason=reason if failed else None,
        checkout_url=checkout_url,
    )
    if changed != 1:
        raise PaymentChanged(f"The payment is no longer {payment.state}.")
    await _note(tx, booking=payment.booking_id, payment=payment.id, before=payment.state, after=to, reason=reason)
    return msgspec.structs.replace(payment, state=to)


async def poll_later(tx: Transaction, *, payment: Payment, seconds: int) -> None:
    """Ask the gateway again in `seconds`."""
    await tx.execute(sql.poll_later, booking=payment.booking_id, id=payment.id, seconds=seconds)


async def poll_no_more(tx: Transaction, *, payment: Payment) -> None:
    """There is nothing left to ask the gateway about this payment."""
    await tx.execute(sql.poll_no_more, booking=payment.booking_id, id=payment.id)


async def postpone_poll(tx: Transaction, *, item: UUID, seconds: int) -> None:
    """Something went wrong with it: leave it for a while, so that others get their turn."""
    await tx.execute(sql.postpone_poll, id=item, seconds=seconds)


async def postpone_refund(tx: Transaction, *, item: UUID, seconds: int) -> None:
    """Likewise for a refund."""
    await tx.execute(sql.postpone_refund, id=item, seconds=seconds)


async def record_charge(
    tx: Transaction,
    *,
    payment: Payment,
    transaction_id: str,
    purpose: Purpose,
    amount: int,
    currency: str,
    fee_exact: Decimal,
) -> None:
    """Write down that a gateway has taken money; its primary key refuses the same transaction twice."""
    await tx.execute(
        sql.record_charge,
        booking=payment.booking_id,
        gateway=payment.gateway,
        transaction_id=transaction_id,
        payment=payment.id,
        purpose=purpose,
        amount=amount,
        currency=currency,
        fee_exact=fee_exact,
    )


async def request_refund(
    tx: Transaction,
    *,
    booking: UUID,
    gateway: str,
    transaction_id: str,
    amount: int,
    currency: str,
    reason: str,
) -> UUID:
    """Reserve the amount on its charge and write the refund down; raises RefundExceedsCharge."""
    reserved = await tx.execute(
        sql.reserve_refund, booking=booking, gateway=gateway, transaction_id=transaction_id, amount=amount
    )
    if reserved != 1:
        raise RefundExceedsCharge("That is more than is left of this payment to refund.")
    refund = new_id()
    await tx.execute(
        sql.open_refund,
        booking=booking,
        id=refund,
        gateway=gateway,
        transaction_id=transaction_id,
        amount=amount,
        currency=currency,
        reason=reason,
    )
    return refund


async def move_refund(
    tx: Transaction,
    *,
    refund: Refund,
    to: RefundState,
    act_after_seconds: int | None,
    gateway_refund_id: str | None = None,
    failure_reason: str | None = None,
) -> Refund:
    """Change a refund's state; raises PaymentChanged. `act_after_seconds` None: nothing left to do by itself."""
    assert to in REFUND_TRANSITIONS[refund.state], f"{refund.state} -> {to} is no transition of a refund"
    changed = await tx.execute(
        sql.move_refund,
        booking=refund.booking_id,
        id=refund.id,
        from_state=refund.state,
        attempts=refund.attempts,
        to_state=to,
        gateway_refund_id=gateway_refund_id,
        failure_reason=failure_reason,
        act_after_seconds=act_after_seconds,
    )
    if changed != 1:
        raise PaymentChanged(f"The refund is no longer {refund.state}, or it has been asked for again since.")
    return msgspec.structs.replace(refund, state=to, attempts=refund.attempts + (to == "submitting"))


async def refund_later(tx: Transaction, *, refund: Refund, seconds: int) -> None:
    """Look at a refund again in `seconds`, unless it has moved on."""
    await tx.execute(
        sql.refund_later,
        booking=refund.booking_id,
        id=refund.id,
        state=refund.state,
        attempts=refund.attempts,
        seconds=seconds,
    )


async def receive_delivery(tx: Transaction, *, gateway: str, digest: bytes, body: bytes) -> bool:
    """Keep a webhook; False where the same bytes came before."""
    return await tx.execute(sql.receive_delivery, digest=digest, gateway=gateway, body=body) == 1


async def finish_delivery(tx: Transaction, *, gateway: str, digest: bytes, outcome: str) -> None:
    """Note what a webhook led to."""
    await tx.execute(sql.delivery_done, digest=digest, gateway=gateway, outcome=outcome)


async def _note(tx: Transaction, *, booking: UUID, payment: UUID, before: str, after: str, reason: str) -> None:
    await tx.execute(
        sql.note_move,
        booking=booking,
        payment=payment,
        id=new_id(),
        from_state=before,
        to_state=after,
        reason=reason,
    )
