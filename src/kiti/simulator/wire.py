"""Rows of the store as Flutterwave v3 writes them: answers and webhook bodies.

Source of the shapes: Flutterwave's v3 reference and the documentation of its own client libraries;
webhook bodies as deliveries in the wild carry them. Amounts are major units, numbers without
trailing zeros; times are ISO 8601 in UTC with milliseconds.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from kiti.simulator.store import Row

ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
NO_TRANSACTION: Final = "No transaction was found for this id"
ACCOUNT_ID: Final = 2_515_122
WALLET_ID: Final = 134_244
MERCHANT: Final = "Simulated merchant"


def number(amount: str | Decimal) -> int | Decimal:
    """Return the amount as Flutterwave writes it: 20, 0.58, never 20.00."""
    value = Decimal(amount)
    return int(value) if value == value.to_integral_value() else value.normalize()


def moment(epoch_seconds: float) -> str:
    """Return a time as Flutterwave writes it: 2024-07-28T15:16:44.000Z."""
    stamp = datetime.fromtimestamp(epoch_seconds, tz=UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def decoded(text: str | None) -> Any:
    """Return what a JSON column holds."""
    return None if text is None else json.loads(text)


def settled(tx: Row) -> Decimal:
    """Return what reaches the merchant for a transaction, before refunds."""
    return Decimal(tx["charged_amount"]) - Decimal(tx["app_fee"])


def charge(tx: Row) -> dict[str, Any]:
    """Return a transaction as webhooks and direct charges carry it."""
    return {
        "id": tx["id"],
        "tx_ref": tx["tx_ref"],
        "flw_ref": tx["flw_ref"],
        "device_fingerprint": "N/A",
        "amount": number(tx["amount"]),
        "currency": tx["currency"],
        "charged_amount": number(tx["charged_amount"]),
        "app_fee": number(tx["app_fee"]),
        "merchant_fee": 0,
        "processor_response": tx["processor_response"],
        "auth_model": "AUTH" if tx["payment_type"] == "card" else "MOBILEMONEY",
        "ip": "127.0.0.1",
        "narration": MERCHANT,
        "status": tx["status"],
        "payment_type": tx["payment_type"],
        "created_at": moment(tx["created_at"]),
        "account_id": ACCOUNT_ID,
        "customer": _customer(tx),
    }


def verified(tx: Row) -> dict[str, Any]:
    """Return a transaction as verify answers it."""
    amount_settled = number(settled(tx)) if tx["status"] == "successful" else None
    return charge(tx) | {"meta": decoded(tx["meta"]), "amount_settled": amount_settled}


def listed(tx: Row) -> dict[str, Any]:
    """Return a transaction as the list of transactions carries it: the customer is flat."""
    row = verified(tx)
    customer = row.pop("customer")
    row["customer_name"] = customer["name"]
    row["customer_email"] = customer["email"]
    return row


def charge_event(tx: Row) -> dict[str, Any]:
    """Return webhook shape 1: our `meta` comes back at the top as `meta_data`."""
    event: dict[str, Any] = {"event": "charge.completed", "data": charge(tx)}
    if tx["meta"] is not None:
        event["meta_data"] = decoded(tx["meta"])
    event["event.type"] = _event_type(tx)
    return event


def charge_event_flat(tx: Row) -> dict[str, Any]:
    """Return webhook shape 2, the legacy one."""
    customer = _customer(tx)
    at = moment(tx["created_at"])
    return {
        "id": tx["id"],
        "txRef": tx["tx_ref"],
        "flwRef": tx["flw_ref"],
        "orderRef": f"URF_{tx['id']}",
        "paymentPlan": None,
        "paymentPage": None,
        "createdAt": at,
        "amount": number(tx["amount"]),
        "charged_amount": number(tx["charged_amount"]),
        "status": tx["status"],
        "IP": "127.0.0.1",
        "currency": tx["currency"],
        "appfee": number(tx["app_fee"]),
        "merchantfee": 0,
        "merchantbearsfee": 1 if tx["amount"] == tx["charged_amount"] else 0,
        "charge_type": "normal",
        "customer": {
            "id": customer["id"],
            "phone": customer["phone_number"],
            "fullName": customer["name"],
            "customertoken": None,
            "email": customer["email"],
            "createdAt": at,
            "updatedAt": at,
            "deletedAt": None,
            "AccountId": ACCOUNT_ID,
        },
        "entity": {"id": "NO-ENTITY"},
        "event.type": _event_type(tx),
    }


def refund(row: Row) -> dict[str, Any]:
    """Return a refund as the API answers it."""
    return {
        "id": row["id"],
        "account_id": ACCOUNT_ID,
        "tx_id": row["tx_id"],
        "flw_ref": row["flw_ref"],
        "wallet_id": WALLET_ID,
        "amount_refunded": number(row["amount"]),
        "status": row["status"],
        "destination": "payment_source",
        "comments": row["comments"],
        "settlement_id": row["settlement_id"] or "NEW",
        "meta": _refund_meta(row),
        "created_at": moment(row["created_at"]),
    }


def refund_event(row: Row) -> dict[str, Any]:
    """Return webhook shape 4: flat, PascalCase, `meta` a string of JSON."""
    return {
        "id": row["id"],
        "AmountRefunded": number(row["amount"]),
        "status": row["status"],
        "FlwRef": row["flw_ref"],
        "destination": "payment_source",
        "comments": row["comments"],
        "settlement_id": row["settlement_id"] or "NEW",
        "meta": json.dumps(_refund_meta(row), separators=(",", ":")),
        "createdAt": moment(row["created_at"]),
        "updatedAt": moment(row["updated_at"]),
        "deletedAt": None,
        "walletId": WALLET_ID,
        "AccountId": ACCOUNT_ID,
        "TransactionId": row["tx_id"],
    }


def transfer(row: Row) -> dict[str, Any]:
    """Return a transfer as the API answers it: the name is `full_name`."""
    return _transfer_start(row) | {
        "full_name": row["beneficiary_name"] or "N/A",
        "created_at": moment(row["created_at"]),
    }


def transfer_event(row: Row) -> dict[str, Any]:
    """Return webhook shape 1 for a transfer: the name is `fullname`."""
    data = _transfer_start(row) | {
        "fullname": row["beneficiary_name"] or "N/A",
        "created_at": moment(row["created_at"]),
    }
    return {"event": "transfer.completed", "event.type": "Transfer", "data": data}


def transfer_event_wrapped(row: Row) -> dict[str, Any]:
    """Return webhook shape 3, the legacy one."""
    data = _transfer_start(row) | {
        "fullname": row["beneficiary_name"] or "N/A",
        "date_created": moment(row["created_at"]),
    }
    return {"event.type": "Transfer", "transfer": data}


def subaccount(row: Row) -> dict[str, Any]:
    """Return a subaccount; `split_value` is the platform's part."""
    return {
        "id": row["id"],
        "account_number": row["account_number"],
        "account_bank": row["account_bank"],
        "business_name": row["business_name"],
        "full_name": row["business_name"],
        "created_at": moment(row["created_at"]),
        "meta": decoded(row["meta"]),
        "account_id": ACCOUNT_ID,
        "split_ratio": 1,
        "split_type": row["split_type"],
        "split_value": number(row["split_value"]),
        "subaccount_id": row["subaccount_id"],
        "bank_name": row["account_bank"],
        "country": row["country"],
    }


def chargeback(row: Row, tx: Row) -> dict[str, Any]:
    """Return a chargeback with what it disputes."""
    return {
        "id": row["id"],
        "amount": number(row["amount"]),
        "flw_ref": tx["flw_ref"],
        "status": row["status"],
        "stage": "new",
        "comment": row["comment"],
        "meta": {"uploaded_proof": row["proof"], "history": decoded(row["history"])},
        "due_date": moment(row["due_at"]),
        "settlement_id": row["settlement_id"] or "N/A",
        "created_at": moment(row["created_at"]),
        "transaction_id": tx["id"],
        "tx_ref": tx["tx_ref"],
        "currency": tx["currency"],
    }


def settlement(row: Row, *, tx_ids: list[int], refund_ids: list[int], chargeback_ids: list[int]) -> dict[str, Any]:
    """Return a settlement; `meta` lists its transactions."""
    at = moment(row["created_at"])
    return {
        "id": row["id"],
        "account_id": ACCOUNT_ID,
        "merchant_name": MERCHANT,
        "merchant_email": "merchant@example.com",
        "settlement_account": "0000000000",
        "bank_code": "000",
        "transaction_date": at,
        "due_date": at,
        "processed_date": at,
        "status": "completed",
        "is_local": True,
        "currency": row["currency"],
        "gross_amount": number(row["gross"]),
        "app_fee": number(row["app_fee"]),
        "merchant_fee": 0,
        "chargeback": number(row["chargeback"]),
        "refund": number(row["refund"]),
        "stampduty_charge": 0,
        "net_amount": number(row["net"]),
        "transaction_count": len(tx_ids),
        "processor_ref": None,
        "disburse_ref": f"SIM{row['id']}",
        "disburse_message": None,
        "channel": "web",
        "destination": "account",
        "fx_data": None,
        "flag_message": None,
        "meta": tx_ids,
        "refund_meta": refund_ids,
        "chargeback_meta": chargeback_ids,
        "source_bankcode": None,
        "created_at": at,
    }


def settlement_line(tx: Row) -> dict[str, Any]:
    """Return a transaction as a single settlement lists it."""
    return {
        "customer_email": _customer(tx)["email"],
        "flw_ref": tx["flw_ref"],
        "tx_ref": tx["tx_ref"],
        "id": tx["id"],
        "charged_amount": number(tx["charged_amount"]),
        "app_fee": number(tx["app_fee"]),
        "merchant_fee": 0,
        "stampduty_charge": 0,
        "settlement_amount": number(settled(tx)),
        "status": tx["status"],
        "payment_entity": tx["payment_type"],
        "transaction_date": moment(tx["created_at"])[:10],
        "currency": tx["currency"],
        "card_locale": "LOCAL",
        "rrn": "N/A",
        "subaccount_settlement": 0,
    }


def timeline(tx: Row, deliveries: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what happened to a transaction, oldest first."""
    actor = _customer(tx)["email"]
    events = [(tx["created_at"], "Pay button clicked", "click", "MODAL")]
    if tx["completed_at"] is not None:
        note = f"Payment {tx['status']}: {tx['processor_response']}"
        events.append((tx["completed_at"], note, "completed", "transaction"))
    events += [(d["created_at"], f"Webhook {d['state']}", "hooknotifier", "webhook") for d in deliveries]
    return [
        {
            "note": note,
            "actor": actor,
            "object": subject,
            "action": action,
            "context": "web",
            "created_at": moment(at),
        }
        for at, note, action, subject in sorted(events)
    ]


def _customer(tx: Row) -> dict[str, Any]:
    customer = decoded(tx["customer"])
    return {
        "id": tx["id"],
        "name": customer["name"] or "Anonymous customer",
        "phone_number": customer["phonenumber"] or "N/A",
        "email": customer["email"],
        "created_at": moment(tx["created_at"]),
    }


def _event_type(tx: Row) -> str:
    return f"{tx['payment_type'].upper()}_TRANSACTION"


def _refund_meta(row: Row) -> dict[str, Any]:
    meta = {"source": "availablebalance"}
    if row["disburse_status"] is not None:
        meta["disburse_status"] = row["disburse_status"]
    return meta


def _transfer_start(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "account_number": row["account_number"],
        "bank_name": "FA-BANK",
        "bank_code": row["account_bank"],
        "currency": row["currency"],
        "debit_currency": row["debit_currency"],
        "amount": number(row["amount"]),
        "fee": number(row["fee"]),
        "status": row["status"],
        "reference": row["reference"],
        "meta": decoded(row["meta"]),
        "narration": row["narration"],
        "approver": None,
        "complete_message": row["complete_message"],
        "requires_approval": 0,
        "is_approved": 1,
    }
