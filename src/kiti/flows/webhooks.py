"""Webhooks: verify the raw bytes, keep them once, answer; a job finds out what they mean."""

import hashlib
from collections.abc import Mapping
from uuid import UUID

from kiti.core.errors import KitiError, NotFound
from kiti.flows.disputes import find_disputes
from kiti.flows.house import House
from kiti.flows.payouts import heard_of
from kiti.flows.progress import advance
from kiti.flows.refunds import process_refund
from kiti.flows.settle import settle_payment
from kiti.gateways.gateway import MalformedWebhook, WebhookEvent
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads

FORGET_BATCH = 1000
FORGET_BATCHES = 200


class ForgedWebhook(KitiError):
    """The signature is missing or wrong. Nothing was stored."""


async def receive_webhook(house: House, *, gateway: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Keep an authentic delivery and defer its job; False where the same bytes came before.

    Raises ForgedWebhook before the database is touched, and NotFound for an unknown gateway.
    """
    if not house.gateway(gateway).is_authentic(headers, body):
        raise ForgedWebhook("The webhook's signature is missing or wrong.")
    digest = hashlib.sha256(body).digest()
    async with house.db.transaction() as tx:
        fresh = await payments.receive_delivery(tx, gateway=gateway, digest=digest, body=body)
        if fresh:
            await house.queue.defer(
                tx, "process_webhook", lock=f"webhook:{digest.hex()}", gateway=gateway, digest=digest.hex()
            )
    return fresh


async def process_webhook(house: House, *, gateway: str, digest: bytes) -> str:
    """Act on a kept delivery: a hint where to ask for the truth. What came of it, for the inbox.

    Raises HintUnanswered, PaymentChanged: the delivery stays unprocessed, and the job is tried again.
    """
    async with house.db.reader() as reader:
        delivery = await payment_reads.delivery(reader, gateway=gateway, digest=digest)
    if delivery is None:
        raise NotFound("There is no such webhook delivery.")
    try:
        event = house.gateway(gateway).read_webhook({}, delivery.body)
    except MalformedWebhook as error:
        outcome = f"malformed: {error}"
    else:
        outcome = await _follow_hint(house, gateway, event)
    async with house.db.transaction() as tx:
        await payments.finish_delivery(tx, gateway=gateway, digest=digest, outcome=outcome)
    return outcome


async def forget_old_webhooks(house: House) -> int:
    """Delete webhooks that were done with KITI_WEBHOOK_DAYS ago, in bounded batches; how many.

    The same bytes would be new again after that, and ask the gateway for the truth once more.
    """
    keep_days = house.settings.webhook_days
    forgotten = 0
    for _ in range(FORGET_BATCHES):
        batch = await house.db.run(lambda tx: payments.forget_deliveries(tx, keep_days=keep_days, limit=FORGET_BATCH))
        forgotten += batch
        advance(processed=batch)
        if batch < FORGET_BATCH:
            break
    return forgotten


async def _follow_hint(house: House, gateway: str, event: WebhookEvent) -> str:
    try:
        match event.kind:
            case "charge":
                payment = await settle_payment(
                    house, _uuid(event.reference), transaction_id=event.transaction_id, must_know=True
                )
                return f"payment {payment.id}: {payment.state}"
            case "refund":
                return await _refund_hint(house, event)
            case "dispute":
                found = await find_disputes(house, gateway=gateway)
                return f"{found.told} disputes looked at" if not found.silent else "disputes: no answer, the poll asks"
            case "transfer":
                payout = await heard_of(house, _uuid(event.reference))
                return f"payout {payout.id}: {payout.state}"
            case "other":
                return "nothing to do"
    except NotFound:
        return f"not ours: {event.reference or event.transaction_id}"


async def _refund_hint(house: House, event: WebhookEvent) -> str:
    async with house.db.reader() as reader:
        refunds = await payment_reads.refunds_of_transaction(reader, transaction_id=event.transaction_id)
    for refund in refunds:
        await process_refund(house, refund.id)
    return f"{len(refunds)} refunds looked at"


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"{text!r} is no reference of ours.") from None
