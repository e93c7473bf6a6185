"""Rows of the store as Flutterwave v4 writes them: answers and webhook bodies.

Source of the shapes: Flutterwave's v4 documentation and reference. Times in answers are ISO 8601, in webhooks now and
then seconds since 1970 as a number with a fraction.
"""

import secrets
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from kiti.simulator.store import Row
from kiti.simulator.wire import decoded, moment, number, settled

STATUSES: Final = {"successful": "succeeded", "failed": "failed", "pending": "pending"}
PROCESSOR: Final = {"successful": ("approved", "00"), "failed": ("declined", "05"), "pending": ("pending", "02")}
INSTRUCTION: Final = "Please authorise this payment on your mobile number. It may take a few minutes to confirm."
TRANSFERS: Final = {"NEW": "NEW", "PENDING": "PENDING", "SUCCESSFUL": "SUCCESSFUL", "FAILED": "FAILED"}


def charge_id(tx_id: int) -> str:
    """Return chg_… for a transaction."""
    return f"chg_{tx_id}"


def refund_id(number_: int) -> str:
    """Return rfd_… for a refund."""
    return f"rfd_{number_}"


def transfer_id(number_: int) -> str:
    """Return trf_… for a transfer."""
    return f"trf_{number_}"


def number_of(identity: str, prefix: str) -> int | None:
    """Return the row's id in an id of v4, or None."""
    kind, _, digits = identity.partition("_")
    return int(digits) if kind == prefix and digits.isascii() and digits.isdecimal() else None


def charge(tx: Row, *, next_action: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a charge; `next_action` while it waits for the buyer."""
    kind, code = PROCESSOR[tx["status"]]
    told: dict[str, Any] = {
        "id": charge_id(tx["id"]),
        "amount": number(tx["amount"]),
        "fees": _fees(tx),
        "currency": tx["currency"],
        "customer_id": _customer(tx).get("id", f"cus_{tx['id']}"),
        "settled": tx["settlement_id"] is not None,
        "settlement_id": [],
        "meta": decoded(tx["meta"]) or {},
        "payment_method_details": {"type": _method(tx), "id": f"pmd_{tx['id']}"},
        "redirect_url": tx["redirect_url"],
        "reference": tx["tx_ref"],
        "status": STATUSES[tx["status"]],
        "processor_response": {"type": kind, "code": code},
        "created_datetime": moment(tx["created_at"]),
    }
    if next_action is not None:
        told["next_action"] = next_action
    return told


def next_action(kind: str, *, url: str) -> dict[str, Any]:
    """Return what the buyer of a direct charge has to do."""
    match kind:
        case "redirect_url":
            return {"type": kind, "redirect_url": {"url": url}}
        case "payment_instruction":
            return {"type": kind, "payment_instruction": {"note": INSTRUCTION}}
        case _:
            return {"type": kind, kind: {}}


def session(link: Row, *, url: str) -> dict[str, Any]:
    """Return a checkout session."""
    return {
        "id": f"chs_{link['id'].rpartition('-')[2]}",
        "amount": number(link["amount"]),
        "currency": link["currency"],
        "customer_id": decoded(link["customer"])["id"],
        "checkout_url": url,
        "redirect_url": link["redirect_url"],
        "reference": link["tx_ref"],
        "max_retry_attempts": link["max_failures"],
        "session_duration": link["session_minutes"],
        "created_datetime": moment(link["created_at"]),
    }


def refund(row: Row, *, is_new: bool = False) -> dict[str, Any]:
    """Return a refund: new when just made, then pending until it succeeds or fails."""
    return {
        "id": refund_id(row["id"]),
        "amount_refunded": number(row["amount"]),
        "meta": {"reference": row["comments"]} if row["comments"] else {},
        "reason": "requested_by_customer",
        "status": "new" if is_new else refund_status(row),
        "charge_id": charge_id(row["tx_id"]),
        "created_datetime": moment(row["created_at"]),
    }


def refund_status(row: Row) -> str:
    """Return v4's word for a refund's state."""
    if "failed" in {row["status"], row["disburse_status"]}:
        return "failed"
    return "succeeded" if row["status"].startswith("completed-") else "pending"


def settlement(row: Row, txs: Sequence[Row]) -> dict[str, Any]:
    """Return a settlement with the charges in it."""
    at = moment(row["created_at"])
    return {
        "id": f"stm_{row['id']}",
        "net_amount": number(row["net"]),
        "gross_amount": number(row["gross"]),
        "currency": row["currency"],
        "description": None,
        "meta": {},
        "status": "completed",
        "due_datetime": at,
        "transaction_datetime": at,
        "settlement_account": "0000000000",
        "fees": [{"type": "app", "amount": number(row["app_fee"])}],
        "chargeback": row["chargeback"],
        "refund": row["refund"],
        "destination": "account",
        "charge_count": str(len(txs)),
        "charges": [_settled_charge(tx) for tx in txs],
        "created_datetime": at,
    }


def chargeback(row: Row) -> dict[str, Any]:
    """Return a chargeback."""
    return {
        "id": f"cbk_{row['id']}",
        "charge_id": charge_id(row["tx_id"]),
        "amount": number(row["amount"]),
        "meta": {"history": decoded(row["history"])},
        "stage": "new",
        "status": row["status"],
        "type": "local",
        "due_datetime": moment(row["due_at"]),
        "settlement_id": "N/A" if row["settlement_id"] is None else f"stm_{row['settlement_id']}",
        "uploaded_proof": row["proof"],
        "comment": row["comment"],
        "provider": None,
        "arn": None,
        "initiator": "bank",
        "created_datetime": moment(row["created_at"]),
        "updated_datetime": moment(row["created_at"]),
    }


def transfer(row: Row) -> dict[str, Any]:
    """Return a transfer."""
    return {
        "id": transfer_id(row["id"]),
        "type": "mobile_money" if row["account_bank"].isalpha() else "bank",
        "action": "instant",
        "reference": row["reference"],
        "status": TRANSFERS[row["status"]],
        "narration": row["narration"],
        "source_currency": row["debit_currency"],
        "destination_currency": row["currency"],
        "amount": {"value": number(row["amount"]), "applies_to": "destination_currency"},
        "fee": {"currency": row["debit_currency"], "value": number(row["fee"])},
        "provider_response": {"message": row["complete_message"] or None},
        "created_datetime": moment(row["created_at"]),
    }


def charge_event(tx: Row) -> dict[str, Any]:
    """Return the webhook of a charge that has ended, well or badly."""
    data = charge(tx)
    for name in ("fees", "settled", "settlement_id", "customer_id", "payment_method_details"):
        data.pop(name)
    # As deliveries carry it: seconds with a fraction.
    return event("charge.completed", data | {"created_datetime": round(tx["created_at"], 3)})


def refund_event(row: Row) -> dict[str, Any]:
    """Return the webhook of a refund."""
    return event("refund.completed", refund(row))


def transfer_event(row: Row) -> dict[str, Any]:
    """Return the webhook of a transfer; `amount` is flat there."""
    return event("transfer.disburse", transfer(row) | {"amount": number(row["amount"])})


def event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return a webhook's envelope."""
    return {
        "webhook_id": f"wbk_{secrets.token_hex(10)}",
        "timestamp": int(time.time() * 1000),
        "type": kind,
        "data": data,
    }


def _fees(tx: Row) -> list[dict[str, Any]]:
    app = Decimal(tx["app_fee"]) if tx["status"] == "successful" else Decimal(0)
    return [{"type": "vat", "amount": 0}, {"type": "app", "amount": number(app)}, {"type": "merchant", "amount": 0}]


def _settled_charge(tx: Row) -> dict[str, Any]:
    return {
        "id": charge_id(tx["id"]),
        "charged_amount": number(tx["charged_amount"]),
        "customer_id": _customer(tx).get("id", f"cus_{tx['id']}"),
        "settlement_amount": number(settled(tx)),
        "payment_method_id": f"pmd_{tx['id']}",
        "currency": tx["currency"],
        "charge_date": moment(tx["created_at"])[:10],
    }


def _method(tx: Row) -> str:
    return tx["payment_type"] if tx["payment_type"] in {"card", "bank_transfer"} else "mobile_money"


def _customer(tx: Row) -> dict[str, Any]:
    found: dict[str, Any] = decoded(tx["customer"])
    return found
