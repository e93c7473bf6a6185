"""Paying operators: transfers that go NEW, PENDING, then SUCCESSFUL or FAILED."""

import json
import secrets
import time
from decimal import Decimal
from typing import Any, Final

import msgspec

from kiti.simulator import webhooks
from kiti.simulator.machine import GatewayRefusalError, Machine
from kiti.simulator.store import Row
from kiti.simulator.timers import set_timer

MOBILE_MONEY_BANK: Final = "MPS"
FEES: Final = {"NGN": "26.875", "UGX": "500", "KES": "45"}
SUCCESS: Final = "Transaction was successful"
FAILURE: Final = "DISBURSE FAILED: Insufficient funds in customer wallet"


class TransferRequest(msgspec.Struct):
    """The body of `POST /transfers`; the amount is in major units."""

    account_bank: str
    account_number: str
    amount: Decimal
    currency: str
    reference: str | None = None
    beneficiary_name: str | None = None
    debit_currency: str | None = None
    narration: str | None = None
    callback_url: str | None = None
    meta: Any = None


class TransferOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/transfers/{id}`."""

    status: str
    complete_message: str | None = None
    webhook: bool = True


def start_transfer(machine: Machine, *, wanted: TransferRequest) -> Row:
    """Write down a NEW transfer; refuses a bad amount and a reference used before."""
    if not wanted.amount.is_finite() or wanted.amount <= 0:
        raise GatewayRefusalError("amount must be greater than 0")
    reference = wanted.reference or f"SIM-{secrets.token_hex(8)}"
    if machine.store.one("SELECT 1 FROM transfer WHERE reference = ?", reference):
        raise GatewayRefusalError("Transfer with this reference already exists")
    with machine.store.atomic():
        transfer_id = machine.store.run(
            "INSERT INTO transfer (reference, account_bank, account_number, amount, fee, currency,"
            " debit_currency, beneficiary_name, narration, meta, status, complete_message,"
            " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'NEW', '', ?)",
            *(reference, wanted.account_bank, wanted.account_number, str(wanted.amount)),
            *(FEES.get(wanted.currency, "0"), wanted.currency),
            *(wanted.debit_currency or wanted.currency, wanted.beneficiary_name, wanted.narration),
            *(None if wanted.meta is None else json.dumps(wanted.meta), time.time()),
        )
        if machine.config.transfer_outcome != "stuck":
            set_timer(
                machine,
                kind="transfer",
                subject=transfer_id,
                delay_seconds=machine.config.transfer_delay_seconds / 2,
                outcome=machine.config.transfer_outcome,
            )
    return _transfer(machine, transfer_id)


def find_transfer(machine: Machine, *, transfer_id: int) -> Row | None:
    """Return the transfer, or None."""
    return machine.store.one("SELECT * FROM transfer WHERE id = ?", transfer_id)


def advance_transfer(machine: Machine, transfer_id: int, data: dict[str, Any]) -> None:
    """Timer: NEW becomes PENDING, and half the delay later PENDING ends."""
    transfer = _transfer(machine, transfer_id)
    if transfer["status"] == "NEW":
        machine.store.run("UPDATE transfer SET status = 'PENDING' WHERE id = ?", transfer_id)
        set_timer(
            machine,
            kind="transfer",
            subject=transfer_id,
            delay_seconds=machine.config.transfer_delay_seconds / 2,
            **data,
        )
    elif transfer["status"] == "PENDING":
        order_transfer(machine, transfer_id=transfer_id, order=_ending(transfer, outcome=data["outcome"]))


def order_transfer(machine: Machine, *, transfer_id: int, order: TransferOrder) -> Row:
    """Set a transfer's state and announce it."""
    with machine.store.atomic():
        changed = machine.store.change(
            "UPDATE transfer SET status = ?, complete_message = coalesce(?, complete_message) WHERE id = ?",
            *(order.status, order.complete_message, transfer_id),
        )
        if not changed:
            raise GatewayRefusalError("No transfer has this id", http_status=404)
        transfer = _transfer(machine, transfer_id)
        if order.webhook:
            webhooks.announce_transfer(machine, transfer=transfer)
        return transfer


def _ending(transfer: Row, *, outcome: str) -> TransferOrder:
    if transfer["account_bank"] == MOBILE_MONEY_BANK and not transfer["beneficiary_name"]:
        return TransferOrder(status="FAILED", complete_message="beneficiary_name is required")
    if outcome == "failed":
        return TransferOrder(status="FAILED", complete_message=FAILURE)
    return TransferOrder(status="SUCCESSFUL", complete_message=SUCCESS)


def _transfer(machine: Machine, transfer_id: int) -> Row:
    transfer = find_transfer(machine, transfer_id=transfer_id)
    assert transfer is not None, f"transfer {transfer_id} was written"
    return transfer
