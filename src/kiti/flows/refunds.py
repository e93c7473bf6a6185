"""Refunds: reserve the amount, write the intent down, ask the gateway once, follow it to its end.

A gateway without idempotent refunds (Flutterwave v3) would refund twice if asked twice. So a refund whose answer
was lost is looked for among the gateway's refunds before anybody asks again.
"""

from collections.abc import Sequence
from uuid import UUID

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, PaidSeat
from kiti.core.money import Money, share_out
from kiti.db import Transaction
from kiti.flows.announce import announce, of_refund
from kiti.flows.books import Books, books_of
from kiti.flows.house import House
from kiti.flows.letters import occasions
from kiti.gateways.gateway import Gateway, GatewayRefund, Missing, RefundRequest, Rejected, Unknown
from kiti.ledger import actions as ledger
from kiti.ledger.model import Owner, Shares, bear, refund_done
from kiti.ledger.standing import given_back
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.actions import RefundExceedsCharge
from kiti.payments.model import Charge, Refund

# A request that is still on its way ends within the adapter's time-out; only after that is looking it up decisive.
IN_FLIGHT_SECONDS = 60
FOLLOW_UP_SECONDS = 15
MAX_FOLLOW_UP_SECONDS = 3600
MAX_ATTEMPTS = 5
GIVE_UP_SECONDS = 7 * 86_400


async def request_refund(
    tx: Transaction,
    house: House,
    *,
    booking: UUID,
    gateway: str,
    transaction_id: str,
    amount: Money,
    preferred: Shares,
    reason: str,
    id_: UUID | None = None,
    of_excess: int | None = None,
) -> UUID:
    """Write a refund down, post it, defer the job that carries it out: all if `tx` commits, or nothing.

    `preferred` says which operator, or the platform, should give back how much of the price; nobody gives back more
    than came in in their name. It is taken from what is owed for trips to come, then from what trips that have departed
    have earned. The booking is locked. `id_` makes asking for the same refund twice one that is refused. `of_excess` of
    the amount is what was paid beyond the price; None: the price goes back first. Raises payments.RefundExceedsCharge.
    """
    charge = await payment_reads.charge(tx, booking=booking, gateway=gateway, transaction_id=transaction_id)
    if charge is None:
        raise RefundExceedsCharge("Nothing was paid here.")
    beyond = charge.of_excess(amount.amount) if of_excess is None else of_excess
    refund = await payments.request_refund(
        tx,
        booking=booking,
        gateway=gateway,
        transaction_id=transaction_id,
        amount=amount.amount,
        currency=amount.currency,
        reason=reason,
        id_=id_,
        of_excess=beyond,
    )
    books = (await books_of(tx, currencies={booking: amount.currency}))[booking]
    shares = who_bears(charge, books, amount=amount.amount, of_excess=beyond, preferred=preferred)
    assert sum(shares.values()) == amount.amount, "the ledger holds what the charge says is left"
    await ledger.post(
        tx,
        booking=booking,
        event=f"refund_requested:{refund}",
        currency=amount.currency,
        entries=given_back(gateway, shares=shares, standings=books.standings, bills=books.bills),
    )
    await audit.record(
        tx,
        events=[
            Event(
                subject=booking,
                actor="system",
                action="refund.requested",
                detail={"refund": str(refund), "amount": amount.amount, "reason": reason},
            )
        ],
    )
    await announce(tx, of_refund("refund.requested", booking, refund, amount))
    await house.queue.defer(tx, "process_refund", lock=f"refund:{refund}", refund_id=str(refund))
    return refund


def who_bears(charge: Charge, books: Books, *, amount: int, of_excess: int, preferred: Shares) -> dict[str, int]:
    """Whose money goes back of a charge, whether it is refunded or lost in a dispute: the rule is one.

    What has bought nothing is the traveller's own. Of the price each gives back as `preferred`, as far as they have it.
    """
    return bear(
        amount,
        of_unspent=of_excess if charge.purpose == "fulfils" else amount,
        preferred={str(owner): share for owner, share in preferred.items()},
        left={owner: standing.room for owner, standing in books.standings.items()},
    )


def by_fares(total: int, lines: Sequence[BookedSeat | PaidSeat]) -> dict[Owner, int]:
    """The operators' parts of an amount, by the fares of their seats; they add up to it."""
    weights: dict[Owner, int] = {}
    for line in lines:
        weights[line.operator_id] = weights.get(line.operator_id, 0) + line.fare
    return share_out(total, weights=weights)


async def process_refund(house: House, refund_id: UUID) -> Refund:
    """Take a refund one step on; raises NotFound. Safe to call at any time, side by side and after a crash."""
    async with house.db.reader() as reader:
        refund = await payment_reads.refund(reader, refund=refund_id)
    gateway = house.gateway(refund.gateway)
    match refund.state:
        case "requested":
            return await _submit(house, gateway, refund)
        case "submitting" | "unknown":
            return await _look_for(house, gateway, refund)
        case "pending":
            return await _follow(house, gateway, refund)
        case "failed":
            await house.db.run(
                lambda tx: payments.move_refund(tx, refund=refund, to="needs_attention", act_after_seconds=None)
            )
            return await _reread(house, refund)
        case "succeeded" | "needs_attention":
            return refund


async def retry_refund(house: House, refund_id: UUID) -> Refund:
    """A person has looked at it: adopt what the gateway has, else ask once more. Raises NotFound, PaymentChanged."""
    async with house.db.reader() as reader:
        refund = await payment_reads.refund(reader, refund=refund_id)
    if refund.state != "needs_attention":
        return await process_refund(house, refund_id)
    gateway = house.gateway(refund.gateway)
    if refund.gateway_refund_id is not None:
        found = await gateway.refund_status(refund.gateway_refund_id)
        if isinstance(found, GatewayRefund) and found.status == "succeeded":
            return await _adopt(house, refund, found)
    return await _submit(house, gateway, refund)


async def _submit(house: House, gateway: Gateway, refund: Refund) -> Refund:
    """Mark it as on its way, then ask. Whoever loses the guarded update does not ask."""
    moved = await house.db.run(
        lambda tx: payments.move_refund(tx, refund=refund, to="submitting", act_after_seconds=IN_FLIGHT_SECONDS)
    )
    answer = await gateway.refund(
        RefundRequest(
            reference=str(refund.id),
            transaction_id=refund.transaction_id,
            amount=Money(refund.amount, refund.currency),
            instead_of=refund.gateway_refund_id or "",
        )
    )
    match answer:
        case GatewayRefund():
            return await _adopt(house, moved, answer)
        case Rejected(reason=reason):
            await house.db.run(lambda tx: _failed(tx, moved, reason))
        case Unknown(reason=reason):
            await house.db.run(
                lambda tx: payments.move_refund(
                    tx, refund=moved, to="unknown", act_after_seconds=IN_FLIGHT_SECONDS, failure_reason=reason
                )
            )
    return await _reread(house, refund)


async def _look_for(house: House, gateway: Gateway, refund: Refund) -> Refund:
    """The answer was lost, or we died before it came: look whether the gateway has our refund."""
    listed = await gateway.list_refunds(refund.transaction_id)
    if isinstance(listed, Unknown):
        return await _later(house, refund)
    ours = [found for found in listed if found.reference == str(refund.id)]
    if ours:
        return await _adopt(house, refund, ours[0])
    if refund.is_in_flight:
        return refund  # a webhook or a restarted job looks early: what was asked for may still be on its way
    if await _may_be_ours(house, refund, listed):
        return await _ask_a_person(house, refund, "The gateway lists a refund that may be this one. Compare them.")
    if refund.attempts >= MAX_ATTEMPTS:
        return await _ask_a_person(house, refund, "The gateway did not take it however often it was asked.")
    if refund.state == "submitting":
        refund = await house.db.run(
            lambda tx: payments.move_refund(tx, refund=refund, to="unknown", act_after_seconds=0)
        )
    return await _submit(house, gateway, refund)


async def _may_be_ours(house: House, refund: Refund, listed: Sequence[GatewayRefund]) -> bool:
    """Whether one without a reference fits, and belongs to no other refund of ours: asking again could pay twice."""
    async with house.db.reader() as reader:
        others = await payment_reads.refunds_of_transaction(reader, transaction_id=refund.transaction_id)
    known = {other.gateway_refund_id for other in others}
    return any(
        not found.reference
        and found.refund_id not in known
        and found.status != "failed"
        and found.amount_exact == refund.amount
        for found in listed
    )


async def _ask_a_person(house: House, refund: Refund, reason: str) -> Refund:
    await house.db.run(
        lambda tx: payments.move_refund(
            tx, refund=refund, to="needs_attention", act_after_seconds=None, failure_reason=reason
        )
    )
    return await _reread(house, refund)


async def _follow(house: House, gateway: Gateway, refund: Refund) -> Refund:
    assert refund.gateway_refund_id is not None, "a pending refund has the gateway's id"
    found = await gateway.refund_status(refund.gateway_refund_id)
    if isinstance(found, Missing | Unknown) or found.status == "pending":
        return await _later(house, refund)
    return await _adopt(house, refund, found)


async def _adopt(house: House, refund: Refund, told: GatewayRefund) -> Refund:
    """Bring our record to what the gateway says."""
    amount = Money(refund.amount, refund.currency)

    async def work(tx: Transaction) -> None:
        match told.status:
            case "pending":
                await payments.move_refund(
                    tx,
                    refund=refund,
                    to="pending",
                    act_after_seconds=FOLLOW_UP_SECONDS,
                    gateway_refund_id=told.refund_id,
                )
            case "succeeded":
                await payments.move_refund(
                    tx, refund=refund, to="succeeded", act_after_seconds=None, gateway_refund_id=told.refund_id
                )
                await ledger.post(
                    tx,
                    booking=refund.booking_id,
                    event=f"refund_done:{refund.id}",
                    currency=refund.currency,
                    entries=refund_done(refund.gateway, amount=refund.amount),
                )
                await occasions.refunded(
                    tx,
                    booking=await booking_reads.by_id(tx, booking=refund.booking_id),
                    refund=refund.id,
                    amount=amount,
                    channels=house.settings.message_channels,
                )
                await announce(tx, of_refund("refund.succeeded", refund.booking_id, refund.id, amount))
            case "failed":
                reason = told.failure_reason or "The gateway could not pay it back."
                await _failed(tx, refund, reason, gateway_refund_id=told.refund_id)
        await audit.record(
            tx,
            events=[
                Event(
                    subject=refund.booking_id,
                    actor=refund.gateway,
                    action=f"refund.{told.status}",
                    detail={"refund": str(refund.id), "gatewayRefund": told.refund_id},
                )
            ],
        )

    if told.amount_exact != refund.amount and told.status != "failed":
        reason = f"The gateway refunded {told.amount_exact} instead of {refund.amount} {refund.currency} (minor units)."
        return await _ask_a_person(house, refund, reason)
    if told.status != refund.state:
        await house.db.run(work)
    return await _reread(house, refund)


async def _failed(tx: Transaction, refund: Refund, reason: str, *, gateway_refund_id: str | None = None) -> None:
    await payments.move_refund(
        tx,
        refund=refund,
        to="failed",
        act_after_seconds=0,
        gateway_refund_id=gateway_refund_id,
        failure_reason=reason,
    )
    amount = Money(refund.amount, refund.currency)
    await announce(tx, of_refund("refund.failed", refund.booking_id, refund.id, amount, failure_reason=reason))


async def _later(house: House, refund: Refund) -> Refund:
    """Look again, ever less often: after a quarter minute at first, after an hour at most."""
    age_seconds = int((refund.now - refund.created_at).total_seconds())
    if age_seconds > GIVE_UP_SECONDS:
        return await _ask_a_person(house, refund, "The gateway has not said for a week how this refund ended.")
    seconds = min(MAX_FOLLOW_UP_SECONDS, max(FOLLOW_UP_SECONDS, age_seconds // 4))
    async with house.db.transaction() as tx:
        await payments.refund_later(tx, refund=refund, seconds=seconds)
    return refund


async def _reread(house: House, refund: Refund) -> Refund:
    async with house.db.reader() as reader:
        return await payment_reads.refund(reader, refund=refund.id)
