"""Webhooks: written down with the event they announce, posted by one courier, retried.

Only HTTP 200 acknowledges. A delivery is `waiting` (or `held`, to be reordered), `sending`, then
`acknowledged`, `given_up` after the last retry, or `dropped` by a fault.
"""

import asyncio
import base64
import hashlib
import hmac
import time
from typing import Any, Final
from urllib.parse import urljoin

from kiti.simulator import wire
from kiti.simulator.faults import WebhookFault
from kiti.simulator.machine import Machine, wait_for_bell
from kiti.simulator.postbox import Postbox
from kiti.simulator.store import Row
from kiti.simulator.stripe.signing import signature
from kiti.simulator.v4 import wire as v4

CONCURRENT_POSTS: Final = 64
REORDER_GAP_SECONDS: Final = 0.05
ACKNOWLEDGED: Final = 200
NO_FAULT: Final = WebhookFault()
# By the version of Flutterwave that was asked: as Kiti calls it, and as the ends of its webhook addresses say.
GATEWAYS: Final = {"v3": "flutterwave", "v4": "flutterwave_v4"}


def announce_charge(machine: Machine, *, tx: Row) -> None:
    """Write down the webhook for a transaction that has ended, well or badly."""
    fault = machine.faults.for_webhook("charge") or NO_FAULT
    if tx["version"] == "v4":
        body = v4.charge_event(tx)
        if fault.lie:
            body["data"] = fault.lie.told_about(body["data"])
    elif fault.shape == "legacy":
        body = wire.charge_event_flat(tx)
        body = fault.lie.told_about(body) if fault.lie else body
        if fault.lie and fault.lie.tx_ref is not None:
            body["txRef"] = body.pop("tx_ref")
    else:
        body = wire.charge_event(tx)
        if fault.lie:
            body["data"] = fault.lie.told_about(body["data"])
    _enqueue(machine, fault=fault, kind="charge", subject=tx["id"], tx_id=tx["id"], body=body, version=tx["version"])


def announce_refund(machine: Machine, *, refund: Row) -> None:
    """Write down the webhook for a refund that has begun or ended."""
    fault = machine.faults.for_webhook("refund") or NO_FAULT
    version = machine.store.value("SELECT version FROM tx WHERE id = ?", refund["tx_id"])
    body = v4.refund_event(refund) if version == "v4" else wire.refund_event(refund)
    if fault.lie and version == "v4":
        body["data"] = fault.lie.told_about(body["data"])
    elif fault.lie:
        body = fault.lie.told_about(body)
        body["AmountRefunded"] = body.pop("amount", body["AmountRefunded"])
    _enqueue(
        machine,
        fault=fault,
        kind="refund",
        subject=refund["id"],
        tx_id=refund["tx_id"],
        body=body,
        version=version,
    )


def announce_transfer(machine: Machine, *, transfer: Row) -> None:
    """Write down the webhook for a transfer that has ended, well or badly."""
    fault = machine.faults.for_webhook("transfer") or NO_FAULT
    if transfer["version"] == "v4":
        body, inside = v4.transfer_event(transfer), "data"
    elif fault.shape == "legacy":
        body, inside = wire.transfer_event_wrapped(transfer), "transfer"
    else:
        body, inside = wire.transfer_event(transfer), "data"
    if fault.lie:
        body[inside] = fault.lie.told_about(body[inside])
    _enqueue(
        machine,
        fault=fault,
        kind="transfer",
        subject=transfer["id"],
        tx_id=None,
        body=body,
        version=transfer["version"],
    )


async def run_courier(machine: Machine) -> None:
    """Post what is due until cancelled, a bounded number at a time."""
    idle = [Postbox() for _ in range(CONCURRENT_POSTS)]
    try:
        async with asyncio.TaskGroup() as group:
            while True:
                for row in _due(machine, limit=len(idle)):
                    group.create_task(_deliver(machine, idle.pop(), idle, row=row))
                await wait_for_bell(machine.post_bell, until=_next_at(machine) if idle else None)
    finally:
        for postbox in idle:
            postbox.close()


def enqueue(
    machine: Machine,
    *,
    fault: WebhookFault,
    gateway: str,
    kind: str,
    text: str,
    subject: int = 0,
    tx_id: int | None = None,
) -> None:
    """Write a webhook down for the courier, with what its fault does to it."""
    now = time.time()
    if fault.drop:
        state, next_at = "dropped", now
    elif fault.reorder > 1:
        state, next_at = "held", now + fault.hold_seconds
    else:
        state, next_at = "waiting", now + fault.delay_ms / 1000
    for _ in range(1 + fault.duplicate):
        machine.store.run(
            "INSERT INTO delivery (gateway, kind, subject, tx_id, body, verif_hash, state, next_at,"
            " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(gateway, kind, subject, tx_id, text, fault.verif_hash, state, next_at, now),
        )
    if state == "held":
        _release_reversed(machine, when_there_are=fault.reorder)
    machine.post_bell.set()


async def post_copies(
    machine: Machine, *, gateway: str, body: str, verif_hash: str | None, copies: int, concurrency: int
) -> list[int]:
    """Post the same bytes so many times, and return the statuses; 0 is a connection error."""
    statuses: list[int] = []

    async def post_share() -> None:
        postbox = Postbox()
        try:
            while next(left, None) is not None:
                statuses.append(await _post(machine, postbox, gateway=gateway, body=body, verif_hash=verif_hash))
        finally:
            postbox.close()

    left = iter(range(copies))
    await asyncio.gather(*(post_share() for _ in range(min(copies, concurrency))))
    return statuses


def _enqueue(
    machine: Machine,
    *,
    fault: WebhookFault,
    kind: str,
    subject: int,
    tx_id: int | None,
    body: dict[str, Any],
    version: str,
) -> None:
    text = wire.ENCODER.encode(body).decode()
    enqueue(machine, fault=fault, gateway=GATEWAYS[version], kind=kind, text=text, subject=subject, tx_id=tx_id)


def _release_reversed(machine: Machine, *, when_there_are: int) -> None:
    held = machine.store.all("SELECT id FROM delivery WHERE state = 'held' ORDER BY id DESC LIMIT 10000")
    if len(held) < when_there_are:
        return
    now = time.time()
    for place, row in enumerate(held):
        machine.store.run(
            "UPDATE delivery SET state = 'waiting', next_at = ? WHERE id = ?",
            *(now + place * REORDER_GAP_SECONDS, row["id"]),
        )


def _due(machine: Machine, *, limit: int) -> list[Row]:
    if limit <= 0:
        return []
    with machine.store.atomic():
        rows = machine.store.all(
            "SELECT id, gateway, body, verif_hash, attempts FROM delivery"
            " WHERE state IN ('waiting', 'held') AND next_at <= ? ORDER BY next_at, id LIMIT ?",
            *(time.time(), limit),
        )
        for row in rows:
            machine.store.run(
                "UPDATE delivery SET state = 'sending', attempts = attempts + 1 WHERE id = ?",
                row["id"],
            )
    return rows


def _next_at(machine: Machine) -> float | None:
    at: float | None = machine.store.value("SELECT min(next_at) FROM delivery WHERE state IN ('waiting', 'held')")
    return at


async def _deliver(machine: Machine, postbox: Postbox, idle: list[Postbox], *, row: Row) -> None:
    status = await _post(machine, postbox, gateway=row["gateway"], body=row["body"], verif_hash=row["verif_hash"])
    idle.append(postbox)
    now = time.time()
    if status == ACKNOWLEDGED:
        machine.store.run(
            "UPDATE delivery SET state = 'acknowledged', last_status = ?, acknowledged_at = ? WHERE id = ?",
            *(status, now, row["id"]),
        )
    else:
        retry = row["attempts"] < machine.config.max_retries
        machine.store.run(
            "UPDATE delivery SET state = ?, last_status = ?, next_at = ? WHERE id = ?",
            "waiting" if retry else "given_up",
            *(status, now + machine.config.retry_seconds, row["id"]),
        )
    # The courier may be waiting for a free place, or must learn of the retry.
    machine.post_bell.set()


async def _post(machine: Machine, postbox: Postbox, *, gateway: str, body: str, verif_hash: str | None) -> int:
    """With the gateway's proof in the header; `verif_hash` is another secret than its own."""
    config = machine.config
    content = body.encode()
    match gateway:
        case "stripe":
            url = config.stripe_webhook_url or urljoin(config.webhook_url, "stripe")
            secret = config.stripe_webhook_secret if verif_hash is None else verif_hash
            header, proof = "stripe-signature", signature(content, secret=secret)
        case "flutterwave_v4":
            url = config.v4_webhook_url or f"{config.webhook_url}_v4"
            secret = config.v4_webhook_secret if verif_hash is None else verif_hash
            digest = hmac.digest(secret.encode(), content, hashlib.sha256)
            header, proof = "flutterwave-signature", base64.b64encode(digest).decode()
        case _:
            url, header = config.webhook_url, "verif-hash"
            proof = config.webhook_hash if verif_hash is None else verif_hash
    return await postbox.post(
        url,
        body=content,
        headers={"content-type": "application/json", header: proof},
        timeout_seconds=config.webhook_timeout_seconds,
    )
