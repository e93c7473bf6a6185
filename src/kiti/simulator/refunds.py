"""Giving money back. There is no idempotency key: asked twice, it refunds twice."""

import time
from decimal import Decimal
from typing import Any, Final

import msgspec

from kiti.simulator import webhooks
from kiti.simulator.charges import find_tx
from kiti.simulator.machine import GatewayRefusalError, Machine
from kiti.simulator.store import Row
from kiti.simulator.timers import set_timer
from kiti.simulator.wire import NO_TRANSACTION

# Bare "completed" means initiated; these mean that the buyer has the money.
PAID_OUT: Final = {"card": "completed-mpgs", "bank_transfer": "completed-bank-transfer"}
PAID_OUT_BY_PHONE: Final = "completed-momo"
INITIATED: Final = "completed"


class RefundRequest(msgspec.Struct):
    """The body of `POST /transactions/{id}/refund`; no amount means all that is left."""

    amount: Decimal | None = None
    comments: str | None = None
    callbackurl: str | None = None


class RefundOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/refunds/{id}`."""

    status: str | None = None
    disburse_status: str | None = None
    webhook: bool = True


def start_refund(machine: Machine, *, tx_id: int, wanted: RefundRequest) -> Row:
    """Write down a refund that is `completed`, which means initiated.

    Refuses an unknown or unsuccessful transaction, and more than what is left of its amount.
    """
    with machine.store.atomic():
        tx = find_tx(machine, tx_id=tx_id)
        if tx is None:
            raise GatewayRefusalError(NO_TRANSACTION)
        if tx["status"] != "successful":
            raise GatewayRefusalError("Only successful transactions can be refunded")
        left = Decimal(tx["amount"]) - _refunded(machine, tx_id=tx_id)
        amount = left if wanted.amount is None else wanted.amount
        if not amount.is_finite() or amount <= 0 or amount > left:
            raise GatewayRefusalError("Refund amount is more than what can be refunded")
        now = time.time()
        refund_id = machine.store.run(
            "INSERT INTO refund (tx_id, flw_ref, amount, currency, status, comments, created_at,"
            " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(tx_id, tx["flw_ref"], str(amount), tx["currency"], INITIATED, wanted.comments),
            *(now, now),
        )
        refund = _refund(machine, refund_id)
        webhooks.announce_refund(machine, refund=refund)
        if machine.config.refund_outcome != "stuck":
            set_timer(
                machine,
                kind="refund",
                subject=refund_id,
                delay_seconds=machine.config.refund_delay_seconds,
                outcome=machine.config.refund_outcome,
            )
        return refund


def find_refund(machine: Machine, *, refund_id: int) -> Row | None:
    """Return the refund, or None."""
    return machine.store.one("SELECT * FROM refund WHERE id = ?", refund_id)


def finish_refund(machine: Machine, refund_id: int, data: dict[str, Any]) -> None:
    """Timer: a refund that is still `completed` is paid out, or its disbursement fails."""
    refund = _refund(machine, refund_id)
    if refund["status"] != INITIATED or refund["disburse_status"] is not None:
        return
    if data["outcome"] == "failed":
        order = RefundOrder(disburse_status="failed")
    else:
        tx = find_tx(machine, tx_id=refund["tx_id"])
        assert tx is not None, "a refund has a transaction"
        order = RefundOrder(status=PAID_OUT.get(tx["payment_type"], PAID_OUT_BY_PHONE))
    order_refund(machine, refund_id=refund_id, order=order)


def order_refund(machine: Machine, *, refund_id: int, order: RefundOrder) -> Row:
    """Set a refund's state and announce it."""
    with machine.store.atomic():
        changed = machine.store.change(
            "UPDATE refund SET status = coalesce(?, status),"
            " disburse_status = coalesce(?, disburse_status), updated_at = ? WHERE id = ?",
            *(order.status, order.disburse_status, time.time(), refund_id),
        )
        if not changed:
            raise GatewayRefusalError("No refund has this id", http_status=404)
        refund = _refund(machine, refund_id)
        if order.webhook:
            webhooks.announce_refund(machine, refund=refund)
        return refund


def has_failed(refund: Row) -> bool:
    """Whether the money stayed with, or came back to, the merchant."""
    return "failed" in {refund["disburse_status"], refund["status"]}


def _refunded(machine: Machine, *, tx_id: int) -> Decimal:
    rows = machine.store.all("SELECT * FROM refund WHERE tx_id = ? LIMIT 10000", tx_id)
    return sum((Decimal(r["amount"]) for r in rows if not has_failed(r)), start=Decimal(0))


def _refund(machine: Machine, refund_id: int) -> Row:
    refund = find_refund(machine, refund_id=refund_id)
    assert refund is not None, f"refund {refund_id} was written"
    return refund
