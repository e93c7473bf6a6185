"""What the merchant gets in the end: settlements, chargebacks, subaccounts."""

import json
import secrets
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from kiti.simulator import wire
from kiti.simulator.charges import find_tx
from kiti.simulator.machine import GatewayRefusalError, Machine
from kiti.simulator.refunds import has_failed
from kiti.simulator.store import Row
from kiti.simulator.timers import set_timer
from kiti.simulator.wire import NO_TRANSACTION

TIME_TO_ANSWER_SECONDS: Final = 48 * 3600
# The merchant has lost the money unless the chargeback was won.
CHARGEBACK_RETURNED: Final = {"won", "reversed"}
BATCH: Final = 100_000


class SubaccountRequest(msgspec.Struct):
    """The body of `POST /subaccounts`; `split_value` is the platform's part."""

    account_bank: str
    account_number: str
    business_name: str
    country: str
    split_value: Decimal
    split_type: Literal["percentage", "flat"] = "percentage"
    business_mobile: str | None = None
    business_email: str | None = None
    meta: Any = None


class ChargebackAnswer(msgspec.Struct):
    """The body of `PUT /chargebacks/{id}`."""

    action: Literal["accept", "decline"]
    comment: str | None = None
    prooflink: str | None = None


class ChargebackOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/chargebacks`."""

    transaction_id: int
    amount: Decimal | None = None
    comment: str | None = None


def open_subaccount(machine: Machine, *, wanted: SubaccountRequest) -> Row:
    """Write down a subaccount."""
    row_id = machine.store.run(
        "INSERT INTO subaccount (subaccount_id, account_bank, account_number, business_name,"
        " country, split_type, split_value, meta, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(f"RS_{secrets.token_hex(16).upper()}", wanted.account_bank, wanted.account_number),
        *(wanted.business_name, wanted.country, wanted.split_type, str(wanted.split_value)),
        *(None if wanted.meta is None else json.dumps(wanted.meta), time.time()),
    )
    return _written(machine.store.one("SELECT * FROM subaccount WHERE id = ?", row_id))


def open_chargeback(machine: Machine, *, order: ChargebackOrder) -> Row:
    """Write down a chargeback that waits 48 hours for the merchant's answer."""
    tx = find_tx(machine, tx_id=order.transaction_id)
    if tx is None:
        raise GatewayRefusalError(NO_TRANSACTION, http_status=404)
    now = time.time()
    amount = tx["amount"] if order.amount is None else str(order.amount)
    history = [_step("initiated", "Debit and hold chargeback amount")]
    with machine.store.atomic():
        row_id = machine.store.run(
            "INSERT INTO chargeback (tx_id, amount, status, comment, history, due_at, created_at)"
            " VALUES (?, ?, 'initiated', ?, ?, ?, ?)",
            *(tx["id"], amount, order.comment, json.dumps(history)),
            *(now + TIME_TO_ANSWER_SECONDS, now),
        )
        set_timer(machine, kind="chargeback", subject=row_id, delay_seconds=TIME_TO_ANSWER_SECONDS)
    return _chargeback(machine, row_id)


def answer_chargeback(machine: Machine, *, chargeback_id: int, answer: ChargebackAnswer) -> Row:
    """Accept or decline; refuses an unknown chargeback and one that has ended."""
    row = _chargeback(machine, chargeback_id)
    if row["status"] != "initiated":
        raise GatewayRefusalError(f"Chargeback is already {row['status']}")
    if answer.action == "decline" and not answer.prooflink:
        raise GatewayRefusalError("prooflink is required to decline a chargeback")
    status = "accepted" if answer.action == "accept" else "declined"
    machine.store.run(
        "UPDATE chargeback SET proof = ?, comment = coalesce(?, comment) WHERE id = ?",
        *(answer.prooflink, answer.comment, chargeback_id),
    )
    return end_chargeback(machine, chargeback_id=chargeback_id, status=status)


def end_chargeback(machine: Machine, *, chargeback_id: int, status: str) -> Row:
    """Set a chargeback's state."""
    history = wire.decoded(_chargeback(machine, chargeback_id)["history"])
    history.append(_step(status, f"Chargeback {status}"))
    machine.store.run(
        "UPDATE chargeback SET status = ?, history = ? WHERE id = ?",
        *(status, json.dumps(history), chargeback_id),
    )
    return _chargeback(machine, chargeback_id)


def lapse_chargeback(machine: Machine, chargeback_id: int, _data: dict[str, Any]) -> None:
    """Timer: nobody answered, so the merchant loses."""
    if _chargeback(machine, chargeback_id)["status"] == "initiated":
        end_chargeback(machine, chargeback_id=chargeback_id, status="lost")


def settle(machine: Machine, *, currency: str | None, version: str = "v3") -> list[int]:
    """Settle what one version of the API has not settled yet, and return the ids of the new settlements."""
    with machine.store.atomic():
        currencies = [
            row["currency"]
            for row in machine.store.all(
                "SELECT DISTINCT currency FROM tx WHERE settlement_id IS NULL AND version = ?"
                " AND status = 'successful' ORDER BY currency LIMIT 200",
                version,
            )
            if currency in {None, row["currency"]}
        ]
        return [_settle_currency(machine, currency=name, version=version) for name in currencies]


def full_settlement(machine: Machine, *, row: Row) -> dict[str, Any]:
    """Return a settlement with the ids of what it holds."""
    return wire.settlement(
        row,
        tx_ids=_ids(settled_transactions(machine, settlement_id=row["id"])),
        refund_ids=_ids(
            machine.store.all(
                "SELECT id FROM refund WHERE settlement_id = ? ORDER BY id LIMIT ?",
                *(row["id"], BATCH),
            )
        ),
        chargeback_ids=_ids(
            machine.store.all(
                "SELECT id FROM chargeback WHERE settlement_id = ? ORDER BY id LIMIT ?",
                *(row["id"], BATCH),
            )
        ),
    )


def settled_transactions(machine: Machine, *, settlement_id: int) -> list[Row]:
    """Return the transactions of a settlement, oldest first."""
    return machine.store.all("SELECT * FROM tx WHERE settlement_id = ? ORDER BY id LIMIT ?", settlement_id, BATCH)


def _settle_currency(machine: Machine, *, currency: str, version: str) -> int:
    """Gross, minus fees, minus refunds and chargebacks of transactions in this currency."""
    txs = machine.store.all(
        "SELECT * FROM tx WHERE settlement_id IS NULL AND version = ? AND status = 'successful' AND currency = ?"
        " LIMIT ?",
        *(version, currency, BATCH),
    )
    refunds = machine.store.all(
        "SELECT * FROM refund WHERE settlement_id IS NULL AND currency = ?"
        " AND tx_id IN (SELECT id FROM tx WHERE version = ?) LIMIT ?",
        *(currency, version, BATCH),
    )
    refunds = [row for row in refunds if not has_failed(row)]
    chargebacks = machine.store.all(
        "SELECT c.id, c.amount, c.status FROM chargeback AS c JOIN tx ON tx.id = c.tx_id"
        " WHERE c.settlement_id IS NULL AND tx.currency = ? AND tx.version = ? LIMIT ?",
        *(currency, version, BATCH),
    )
    chargebacks = [row for row in chargebacks if row["status"] not in CHARGEBACK_RETURNED]
    gross, fees = _total(txs, "charged_amount"), _total(txs, "app_fee")
    refunded, lost = _total(refunds, "amount"), _total(chargebacks, "amount")
    settlement_id = machine.store.run(
        "INSERT INTO settlement (version, currency, gross, app_fee, refund, chargeback, net, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        *(version, currency, str(gross), str(fees), str(refunded), str(lost)),
        *(str(gross - fees - refunded - lost), time.time()),
    )
    for row_id in _ids(txs):
        machine.store.run("UPDATE tx SET settlement_id = ? WHERE id = ?", settlement_id, row_id)
    for row_id in _ids(refunds):
        machine.store.run("UPDATE refund SET settlement_id = ? WHERE id = ?", settlement_id, row_id)
    for row_id in _ids(chargebacks):
        machine.store.run("UPDATE chargeback SET settlement_id = ? WHERE id = ?", settlement_id, row_id)
    return settlement_id


def _chargeback(machine: Machine, chargeback_id: int) -> Row:
    row = machine.store.one("SELECT * FROM chargeback WHERE id = ?", chargeback_id)
    if row is None:
        raise GatewayRefusalError("No chargeback was found for this id", http_status=404)
    return row


def _written(row: Row | None) -> Row:
    assert row is not None, "the row was just written"
    return row


def _step(action: str, description: str) -> dict[str, str]:
    return {
        "action": action,
        "stage": "new",
        "date": wire.moment(time.time()),
        "description": description,
    }


def _ids(rows: Sequence[Row]) -> list[int]:
    return [row["id"] for row in rows]


def _total(rows: Sequence[Row], column: str) -> Decimal:
    return sum((Decimal(row[column]) for row in rows), start=Decimal(0))
