"""What each gateway has in its own books about an attempt to pay, in minor units: read from the simulator's memory.

Cash has no gateway behind it: its books are the receipts and what was handed out.
"""

from decimal import Decimal
from typing import Literal

import msgspec

from kiti.core.money import exponent, round_to_minor
from kiti.simulator.stripe.sessions import fee_of
from tests.house import JsonObject, RunningHouse

# What Stripe counts of a currency, by the minor unit that the rest of the world knows.
STRIPE_UNITS = {"UGX": 100, "KES": 1}

Outcome = Literal["paid", "failed", "pending"]


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Money that a gateway has taken; `fee` is exact."""

    transaction: str
    amount: int
    currency: str
    fee: Decimal


class GivenBack(msgspec.Struct, frozen=True, kw_only=True):
    """A refund of a transaction."""

    transaction: str
    amount: int
    outcome: Outcome


class Disputed(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute about a transaction; `is_ours` once the money has come back to us."""

    id: str
    transaction: str
    amount: int
    is_open: bool
    is_ours: bool


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """All that a gateway has about one attempt. `authorised` is neither taken nor let go."""

    taken: list[Taken]
    refunds: list[GivenBack]
    disputes: list[Disputed]
    authorised: list[str] = []


async def books_of(there: RunningHouse, *, attempt: str, gateway: str) -> Books:
    """The gateway's books about an attempt, by our id of it."""
    match gateway:
        case "cash":
            return await _till(there, attempt)
        case "stripe":
            return _stripe((await there.sim.state(attempt))["stripe"])
        case _:
            prefix = "chg_" if gateway == "flutterwave_v4" else ""
            return _flutterwave(await there.sim.state(attempt), prefix)


async def taken_in_all(there: RunningHouse) -> list[tuple[str, str]]:
    """Reference and transaction of all money that gateways have, as far as the simulator remembers."""
    state = await there.sim.state()
    flutterwave = [(tx["tx_ref"], str(tx["id"])) for tx in state["transactions"] if tx["status"] == "successful"]
    stripe = [
        (str(intent["metadata"].get("reference")), intent["id"])
        for intent in state["stripe"]["intents"]
        if intent["status"] == "succeeded"
    ]
    return flutterwave + stripe


def minor(major: object, currency: str) -> int:
    """Minor units of an amount in major ones, rounded half to even."""
    return round_to_minor(_scaled(major, currency))


def _flutterwave(state: JsonObject, prefix: str) -> Books:
    currencies = {row["id"]: row["currency"] for row in state["transactions"]}
    return Books(
        taken=[
            Taken(
                transaction=f"{prefix}{row['id']}",
                amount=minor(row["amount"], row["currency"]),
                currency=row["currency"],
                fee=_scaled(row["app_fee"], row["currency"]),
            )
            for row in state["transactions"]
            if row["status"] == "successful"
        ],
        refunds=[
            GivenBack(
                transaction=f"{prefix}{row['tx_id']}",
                amount=minor(row["amount_refunded"], currencies[row["tx_id"]]),
                outcome=_outcome(row),
            )
            for row in state["refunds"]
        ],
        disputes=[
            Disputed(
                id=str(row["id"]),
                transaction=f"{prefix}{row['transaction_id']}",
                amount=minor(row["amount"], row["currency"]),
                is_open=row["status"] in {"initiated", "declined"},
                is_ours=row["status"] in {"won", "reversed"},
            )
            for row in state["chargebacks"]
        ],
    )


def _stripe(state: JsonObject) -> Books:
    currencies = {row["id"]: row["currency"].upper() for row in state["intents"]}
    outcomes: dict[str, Outcome] = {"succeeded": "paid", "failed": "failed", "canceled": "failed"}
    return Books(
        taken=[
            Taken(
                transaction=row["id"],
                amount=row["amount_received"] // STRIPE_UNITS[currencies[row["id"]]],
                currency=currencies[row["id"]],
                fee=Decimal(fee_of(row["amount_received"])) / STRIPE_UNITS[currencies[row["id"]]],
            )
            for row in state["intents"]
            if row["status"] == "succeeded"
        ],
        refunds=[
            GivenBack(
                transaction=row["payment_intent"],
                amount=row["amount"] // STRIPE_UNITS[row["currency"].upper()],
                outcome=outcomes.get(row["status"], "pending"),
            )
            for row in state["refunds"]
        ],
        disputes=[
            Disputed(
                id=row["id"],
                transaction=row["payment_intent"],
                amount=row["amount"] // STRIPE_UNITS[row["currency"].upper()],
                is_open=row["status"] not in {"won", "lost"},
                is_ours=row["status"] == "won",
            )
            for row in state["disputes"]
        ],
        authorised=[row["id"] for row in state["intents"] if row["status"] == "requires_capture"],
    )


async def _till(there: RunningHouse, attempt: str) -> Books:
    receipts = await there.box.rows("SELECT id, amount, currency FROM cash_receipt WHERE payment_id = %s", attempt)
    handed = await there.box.rows(
        "SELECT refund.transaction_id, refund.amount FROM cash_handout"
        " INNER JOIN refund ON refund.booking_id = cash_handout.booking_id AND refund.id = cash_handout.refund_id"
        " INNER JOIN cash_receipt ON cash_receipt.id::text = refund.transaction_id WHERE cash_receipt.payment_id = %s",
        attempt,
    )
    return Books(
        taken=[
            Taken(transaction=str(row["id"]), amount=row["amount"], currency=row["currency"], fee=Decimal(0))
            for row in receipts
        ],
        refunds=[GivenBack(transaction=row["transaction_id"], amount=row["amount"], outcome="paid") for row in handed],
        disputes=[],
    )


def _outcome(refund: JsonObject) -> Outcome:
    if "failed" in {refund["status"], refund["meta"].get("disburse_status")}:
        return "failed"
    # Bare `completed` is how Flutterwave calls a refund that has only begun.
    return "paid" if str(refund["status"]).startswith("completed-") else "pending"


def _scaled(major: object, currency: str) -> Decimal:
    return Decimal(str(major)).scaleb(exponent(currency))
