"""Writing verbs of payments. Every change of state is a guarded update with a history row."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from uuid import UUID

import msgspec

from kiti.core.errors import KitiError
from kiti.core.ids import new_id
from kiti.db import Transaction, load
from kiti.payments.model import (
    PAYMENT_TRANSITIONS,
    REFUND_TRANSITIONS,
    SUBMIT_WITHIN_SECONDS,
    Break,
    Channel,
    Charge,
    NewCharge,
    OpenBreak,
    Option,
    Payment,
    PaymentState,
    Refund,
    RefundState,
    Sides,
)

sql = load("kiti.payments")


DISPUTED = "The traveller's bank disputes this payment. Until that is decided, or if it is lost, it cannot be refunded."


class PaymentChanged(KitiError):
    """Somebody else moved the payment or refund on meanwhile; look again."""


class RefundExceedsCharge(KitiError):
    """More would go back than was taken."""


class ChargeDisputed(RefundExceedsCharge):
    """The traveller's bank wants this money back, so it cannot be refunded as well."""


class BreakChanged(KitiError):
    """Somebody else has closed or taken on the break; look again."""


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
    channel: Channel = "hosted",
    phone: str = "",
) -> Payment:
    """Write down what a gateway will be asked for; the attempt's id is the reference that it will see."""
    return await tx.one(
        sql.open_attempt,
        Payment,
        booking=booking,
        id=new_id(),
        step=new_id(),
        gateway=gateway,
        method=method,
        channel=channel,
        phone=phone,
        amount=amount,
        fee=fee,
        currency=currency,
        return_url=return_url,
        expires_at=expires_at,
        poll_seconds=poll_seconds,
    )


async def submit(tx: Transaction, *, payment: Payment) -> Payment:
    """Say that the gateway is asked now: only whoever has made this move may ask it.

    One statement, that locks the booking. Raises PaymentChanged where the attempt was called off or given up meanwhile,
    or the booking holds nothing any more.
    """
    moved = await tx.execute(
        sql.submit,
        booking=payment.booking_id,
        id=payment.id,
        step=new_id(),
        within_seconds=SUBMIT_WITHIN_SECONDS,
    )
    if moved != 1:
        raise PaymentChanged("The payment was called off before the gateway was asked.")
    return msgspec.structs.replace(payment, state="submitting")


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


async def move_many(
    tx: Transaction,
    *,
    payments: Sequence[Payment],
    to: PaymentState,
    reasons: Sequence[str],
    ask_again_seconds: int | None,
) -> Callable[[], Awaitable[list[Payment]]]:
    """The same for many, which then are asked about in so many seconds, or no more; as they stand, when called for.

    Raises PaymentChanged when called for: whoever does not, does not know whether the rows were still as read.
    """
    for payment in payments:
        assert to in PAYMENT_TRANSITIONS[payment.state], f"{payment.state} -> {to} is no transition of a payment"
    failed = to in {"failed", "expired", "cancelled", "review"}
    changed = await tx.ask(
        sql.move_many,
        tuple,
        bookings=[payment.booking_id for payment in payments],
        ids=[payment.id for payment in payments],
        from_states=[payment.state for payment in payments],
        failure_reasons=[reason if failed else None for reason in reasons],
        to_state=to,
        poll_seconds=ask_again_seconds,
    )
    await _note_all(
        tx,
        [
            (payment.booking_id, payment.id, payment.state, to, reason)
            for payment, reason in zip(payments, reasons, strict=True)
        ],
    )

    async def moved() -> list[Payment]:
        ids = {payment for (payment,) in await changed()}
        for payment in payments:
            if payment.id not in ids:
                raise PaymentChanged(f"The payment is no longer {payment.state}.")
        return [msgspec.structs.replace(payment, state=to, polls=payment.polls + 1) for payment in payments]

    return moved


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


async def record_charges(tx: Transaction, *, charges: Sequence[NewCharge]) -> None:
    """Write down that gateways have taken money; the primary key refuses the same transaction twice."""
    await tx.send(
        sql.record_charges,
        bookings=[charge.payment.booking_id for charge in charges],
        gateways=[charge.payment.gateway for charge in charges],
        transactions=[charge.transaction_id for charge in charges],
        payments=[charge.payment.id for charge in charges],
        purposes=[charge.purpose for charge in charges],
        amounts=[charge.amount.amount for charge in charges],
        currencies=[charge.amount.currency for charge in charges],
        fees=[str(charge.fee_exact) for charge in charges],
        excesses=[charge.excess for charge in charges],
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
    id_: UUID | None = None,
    of_excess: int = 0,
) -> UUID:
    """Reserve the amount on its charge and write the refund down; raises RefundExceedsCharge.

    `of_excess` of it is from what was paid beyond what was due, the rest from the price.
    """
    reserved = await tx.execute(
        sql.reserve_refund,
        booking=booking,
        gateway=gateway,
        transaction_id=transaction_id,
        amount=amount,
        of_excess=of_excess,
    )
    if reserved != 1:
        charge = await tx.maybe(sql.charge_of, Charge, booking=booking, gateway=gateway, transaction_id=transaction_id)
        if charge is not None and charge.disputed:
            raise ChargeDisputed(DISPUTED)
        raise RefundExceedsCharge("That is more than is left of this payment to refund.")
    refund = id_ or new_id()
    await tx.execute(
        sql.open_refund,
        booking=booking,
        id=refund,
        gateway=gateway,
        transaction_id=transaction_id,
        amount=amount,
        currency=currency,
        reason=reason,
        step=new_id(),
    )
    return refund


async def accept_charge(tx: Transaction, *, charge: Charge) -> None:
    """Let money that came short fulfil its booking; raises PaymentChanged where it is not waiting any more."""
    accepted = await tx.execute(
        sql.accept_charge,
        booking=charge.booking_id,
        gateway=charge.gateway,
        transaction_id=charge.transaction_id,
    )
    if accepted != 1:
        raise PaymentChanged("This money has bought something or gone back meanwhile.")


async def resolve_break(
    tx: Transaction, *, gateway: str, transaction_id: str, booking: UUID | None, resolution: str
) -> None:
    """Say what became of money for nothing that we knew; raises PaymentChanged where it is no break any more."""
    resolved = await tx.execute(
        sql.resolve_break, gateway=gateway, transaction_id=transaction_id, booking=booking, resolution=resolution
    )
    if resolved != 1:
        raise PaymentChanged("Nothing is open about this transaction any more.")


async def reserve_dispute(tx: Transaction, *, booking: UUID, gateway: str, transaction_id: str, amount: int) -> bool:
    """Reserve what a bank wants back on its charge, so that no refund takes it too; False where not so much is left."""
    reserved = await tx.execute(
        sql.reserve_dispute, booking=booking, gateway=gateway, transaction_id=transaction_id, amount=amount
    )
    return reserved == 1


async def settle_dispute(
    tx: Transaction, *, booking: UUID, gateway: str, transaction_id: str, amount: int, of_excess: int
) -> None:
    """The dispute is lost: what was reserved for it has gone back, `of_excess` of it from what was beyond the price."""
    settled = await tx.execute(
        sql.settle_dispute,
        booking=booking,
        gateway=gateway,
        transaction_id=transaction_id,
        amount=amount,
        of_excess=of_excess,
    )
    assert settled == 1, "a dispute whose amount was not reserved"


async def release_dispute(tx: Transaction, *, booking: UUID, gateway: str, transaction_id: str, amount: int) -> None:
    """The dispute is won: what was reserved for it is free again."""
    released = await tx.execute(
        sql.release_dispute, booking=booking, gateway=gateway, transaction_id=transaction_id, amount=amount
    )
    assert released == 1, "a dispute whose amount was not reserved"


async def note_trip_refund(tx: Transaction, *, booking: UUID, trip: UUID, refund: UUID | None) -> None:
    """Write down that a booking has been given back what a cancelled trip cost it; once, says the primary key."""
    await tx.execute(sql.note_trip_refund, booking=booking, trip=trip, refund=refund)


async def put_breaks(tx: Transaction, *, gateway: str, day: date, breaks: Sequence[Break]) -> None:
    """Write down what the comparison of a day has found; what it does not find any more is over."""
    await _put_breaks(tx, gateway, breaks)
    still = [f"{one.transaction_id} {one.kind}" for one in breaks]
    await tx.execute(sql.resolve_breaks, gateway=gateway, day=day, still=still)


async def put_breaks_of_sides(
    tx: Transaction, *, gateway: str, sides: Sequence[Sides], breaks: Sequence[Break]
) -> None:
    """The same for a comparison that has looked at every day of which something was open between these sides."""
    assert all(one.sides in sides for one in breaks), "a break between other sides"
    await _put_breaks(tx, gateway, breaks)
    still = [f"{one.transaction_id} {one.kind} {one.sides}" for one in breaks]
    await tx.execute(sql.resolve_sides, gateway=gateway, sides=list(sides), still=still)


async def add_breaks(tx: Transaction, *, gateway: str, breaks: Sequence[Break]) -> None:
    """Write breaks down without closing any: the comparison has not seen everything."""
    await _put_breaks(tx, gateway, breaks)


async def assign_break(tx: Transaction, *, break_: OpenBreak, to: str) -> None:
    """Somebody takes a break on, or gives it back (""); raises BreakChanged where somebody else was quicker."""
    if await tx.execute(sql.assign_break, id=break_.id, was=break_.assigned_to, assignee=to) != 1:
        raise BreakChanged("It was closed, or somebody else has taken it on. Look at it again.")


async def close_break(tx: Transaction, *, break_: UUID, actor: str, resolution: str) -> None:
    """A person closes a break and says why; raises BreakChanged where it is closed already."""
    if await tx.execute(sql.close_break, id=break_, actor=actor, resolution=resolution) != 1:
        raise BreakChanged("It is closed already. Look at it again.")


async def note_run(
    tx: Transaction,
    *,
    began_at: datetime,
    days: int,
    transactions: int,
    settlements: int,
    repaired: int,
    silent: int,
) -> None:
    """Write down that the books were compared."""
    await tx.execute(
        sql.note_run,
        id=new_id(),
        began_at=began_at,
        days=days,
        transactions=transactions,
        settlements=settlements,
        repaired=repaired,
        silent=silent,
    )


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
        step=new_id(),
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


async def put_option(tx: Transaction, *, option: Option) -> None:
    """Say what may be paid with what; the same again changes priority and whether it is on."""
    await tx.execute(
        sql.put_option,
        id=option.id,
        operator=option.operator_id,
        currency=option.currency,
        country=option.country,
        method=option.method,
        gateway=option.gateway,
        priority=option.priority,
        is_on=option.is_on,
    )


async def drop_option(tx: Transaction, *, option: UUID) -> bool:
    """Say nothing about it any more; False where nothing was said."""
    return await tx.execute(sql.drop_option, id=option) == 1


async def receive_delivery(tx: Transaction, *, gateway: str, digest: bytes, body: bytes) -> bool:
    """Keep a webhook; False where the same bytes came before."""
    return await tx.execute(sql.receive_delivery, digest=digest, gateway=gateway, body=body) == 1


async def finish_delivery(tx: Transaction, *, gateway: str, digest: bytes, outcome: str) -> None:
    """Note what a webhook led to."""
    await tx.execute(sql.delivery_done, digest=digest, gateway=gateway, outcome=outcome)


async def forget_deliveries(tx: Transaction, *, keep_days: int, limit: int) -> int:
    """Delete up to `limit` webhooks that were done with before so many days; how many."""
    return await tx.execute(sql.forget_deliveries, keep_days=keep_days, limit=limit)


async def _put_breaks(tx: Transaction, gateway: str, breaks: Sequence[Break]) -> None:
    # One statement writes a row once.
    breaks = list({(one.transaction_id, one.kind, one.sides): one for one in breaks}.values())
    await tx.execute(
        sql.put_breaks,
        gateway=gateway,
        transactions=[one.transaction_id for one in breaks],
        kinds=[one.kind for one in breaks],
        sides=[one.sides for one in breaks],
        ids=[new_id() for _ in breaks],
        days=[one.day for one in breaks],
        bookings=[one.booking_id for one in breaks],
        details=[one.detail for one in breaks],
    )


async def _note(tx: Transaction, *, booking: UUID, payment: UUID, before: str, after: str, reason: str) -> None:
    await _note_all(tx, [(booking, payment, before, after, reason)])


async def _note_all(tx: Transaction, moves: Sequence[tuple[UUID, UUID, str, str, str]]) -> None:
    """Booking, payment, state before, state after, reason."""
    await tx.send(
        sql.note_moves,
        bookings=[move[0] for move in moves],
        payments=[move[1] for move in moves],
        ids=[new_id() for _ in moves],
        from_states=[move[2] for move in moves],
        to_states=[move[3] for move in moves],
        reasons=[move[4] for move in moves],
    )
