"""What becomes of captured money: refunds, disputes, transfers to connected accounts, payouts to the bank."""

import time
from typing import Any, Final

from kiti.simulator.machine import Machine
from kiti.simulator.stripe import forms
from kiti.simulator.stripe.events import announce
from kiti.simulator.stripe.forms import Form
from kiti.simulator.stripe.objects import Doc, StripeRefusalError, below, change, find, make, of_kind
from kiti.simulator.timers import set_timer

REFUND_STATUSES: Final = {"pending", "requires_action", "succeeded", "failed", "canceled"}
DISPUTE_SECONDS: Final = 7 * 86_400
DISPUTE_FEE: Final = 1500
DAY_SECONDS: Final = 86_400
WHOLE_HUNDREDS: Final = {"ugx", "isk"}
# How a refund comes out, by the configuration that Flutterwave's refunds have too.
OUTCOMES: Final = {"paid": "succeeded", "failed": "failed"}


def refund(machine: Machine, form: Form) -> Doc:
    """Give back captured money; refuses more than is left."""
    intent = find(machine, forms.text(form, "payment_intent"), "payment_intent")
    if intent["status"] != "succeeded":
        raise StripeRefusalError("This PaymentIntent does not have a successful charge to refund.")
    charge = find(machine, intent["latest_charge"], "charge")
    left = charge["amount_captured"] - charge["amount_refunded"]
    amount = forms.number(form, "amount", default=left)
    if left == 0:
        raise StripeRefusalError("Charge has already been refunded.", code="charge_already_refunded")
    if not 0 < amount <= left:
        raise StripeRefusalError(f"Refund amount ({amount}) is greater than unrefunded amount ({left})", param="amount")
    if charge["currency"] in WHOLE_HUNDREDS and amount % 100:
        raise StripeRefusalError("Invalid amount: must be divisible by 100.", param="amount")
    made = make(
        machine,
        "refund",
        "re",
        parent=intent["id"],
        reference=intent["metadata"].get("reference", ""),
        amount=amount,
        charge=charge["id"],
        currency=charge["currency"],
        metadata=forms.part(form, "metadata"),
        payment_intent=intent["id"],
        reason=form.get("reason"),
        status="pending",
        failure_reason=None,
        balance_transaction=None,
    )
    booked = _book(machine, "refund", -amount, charge["currency"], source=made["id"])
    made = change(machine, made, balance_transaction=booked["id"])
    charge = change(
        machine,
        charge,
        amount_refunded=charge["amount_refunded"] + amount,
        refunded=charge["amount_refunded"] + amount == charge["amount_captured"],
    )
    announce(machine, "refund.created", made, reference=intent["metadata"].get("reference", ""))
    announce(machine, "charge.refunded", charge, reference=intent["metadata"].get("reference", ""))
    if machine.config.refund_outcome in OUTCOMES:
        seconds = machine.config.refund_delay_seconds
        set_timer(machine, kind="stripe_refund", subject=0, delay_seconds=seconds, id=made["id"])
    return made


def end_refund(machine: Machine, _subject: int, data: dict[str, Any]) -> None:
    """Timer: a refund ends as the configuration says."""
    outcome = OUTCOMES.get(machine.config.refund_outcome)
    if outcome is not None and find(machine, data["id"], "refund")["status"] == "pending":
        order_refund(machine, data["id"], status=outcome)


def order_refund(machine: Machine, identity: str, *, status: str, failure_reason: str | None = None) -> Doc:
    """Set a refund's state. One that failed gives the money back to our balance."""
    if status not in REFUND_STATUSES:
        raise StripeRefusalError(f"status is none of {sorted(REFUND_STATUSES)}")
    made = find(machine, identity, "refund")
    has_failed = status in {"failed", "canceled"}
    if has_failed and made["status"] not in {"failed", "canceled"}:
        charge = find(machine, made["charge"], "charge")
        change(machine, charge, amount_refunded=charge["amount_refunded"] - made["amount"], refunded=False)
        _book(machine, "refund_failure", made["amount"], made["currency"], source=made["id"])
    why = (failure_reason or "lost_or_stolen_card") if status == "failed" else None
    made = change(machine, made, status=status, failure_reason=why)
    reference = find(machine, made["payment_intent"], "payment_intent")["metadata"].get("reference", "")
    announce(machine, "refund.failed" if status == "failed" else "refund.updated", made, reference=reference)
    return made


def open_dispute(machine: Machine, order: dict[str, Any]) -> Doc:
    """Have a buyer's bank want money back."""
    intent = find(machine, str(order.get("payment_intent")), "payment_intent")
    charge = find(machine, str(intent["latest_charge"]), "charge")
    amount = int(order.get("amount") or charge["amount_captured"])
    dispute = make(
        machine,
        "dispute",
        "du",
        parent=intent["id"],
        reference=intent["metadata"].get("reference", ""),
        amount=amount,
        charge=charge["id"],
        currency=charge["currency"],
        evidence={},
        evidence_details={"due_by": int(time.time()) + DISPUTE_SECONDS, "has_evidence": False, "submission_count": 0},
        metadata={},
        payment_intent=intent["id"],
        reason=order.get("reason") or "fraudulent",
        status="needs_response",
    )
    _book(machine, "adjustment", -amount, charge["currency"], fee=DISPUTE_FEE, source=dispute["id"])
    announce(machine, "charge.dispute.created", dispute, reference=intent["metadata"].get("reference", ""))
    return dispute


def update_dispute(machine: Machine, identity: str, form: Form) -> Doc:
    """Hand in evidence, or mark the dispute; refuses both once it is answered."""
    dispute = find(machine, identity, "dispute")
    metadata = dispute["metadata"] | forms.part(form, "metadata")
    evidence = dispute["evidence"] | forms.part(form, "evidence")
    is_answered = dispute["status"] != "needs_response"
    if is_answered and (forms.part(form, "evidence") or form.get("submit") == "true"):
        raise StripeRefusalError("This dispute is already closed or under review.")
    is_submitted = form.get("submit", "true") == "true" and bool(forms.part(form, "evidence"))
    details = dispute["evidence_details"] | (
        {"has_evidence": True, "submission_count": dispute["evidence_details"]["submission_count"] + 1}
        if is_submitted
        else {}
    )
    status = "under_review" if is_submitted else dispute["status"]
    changed = change(machine, dispute, metadata=metadata, evidence=evidence, evidence_details=details, status=status)
    announce(machine, "charge.dispute.updated", changed, reference="")
    return changed


def close_dispute(machine: Machine, identity: str) -> Doc:
    """Give in; refuses one that is over."""
    dispute = find(machine, identity, "dispute")
    if dispute["status"] in {"won", "lost"}:
        raise StripeRefusalError("This dispute is already closed")
    return end_dispute(machine, identity, status="lost")


def end_dispute(machine: Machine, identity: str, *, status: str) -> Doc:
    """The bank decides; a dispute that is won brings the money back."""
    dispute = find(machine, identity, "dispute")
    if status == "won":
        _book(machine, "adjustment", dispute["amount"], dispute["currency"], source=identity)
    dispute = change(machine, dispute, status=status)
    announce(machine, "charge.dispute.closed", dispute, reference="")
    return dispute


def transfer(machine: Machine, form: Form) -> Doc:
    """Move money to a connected account; refuses what is no account."""
    destination = forms.text(form, "destination")
    if not destination.startswith("acct_"):
        raise StripeRefusalError(f"No such destination: '{destination}'", code="resource_missing", param="destination")
    amount, currency = forms.number(form, "amount"), forms.text(form, "currency")
    if amount <= 0:
        raise StripeRefusalError("Invalid positive integer", param="amount")
    made = make(
        machine,
        "transfer",
        "tr",
        parent=forms.text(form, "transfer_group", default=""),
        reference=forms.part(form, "metadata").get("reference", ""),
        amount=amount,
        amount_reversed=0,
        currency=currency,
        description=form.get("description"),
        destination=destination,
        metadata=forms.part(form, "metadata"),
        reversed=False,
        transfer_group=form.get("transfer_group"),
    )
    _book(machine, "transfer", -amount, currency, source=made["id"])
    announce(machine, "transfer.created", made, reference=made["metadata"].get("reference", ""))
    return made


def settle(machine: Machine, currency: str | None) -> list[str]:
    """Pay out what is not paid out yet, one payout for each currency; their ids."""
    waiting: dict[str, list[Doc]] = {}
    for row in of_kind(machine, "balance_transaction"):
        if row["_payout"] is None and (currency is None or row["currency"] == currency.lower()):
            waiting.setdefault(row["currency"], []).append(row)
    made: list[str] = []
    for code, rows in waiting.items():
        payout = make(
            machine,
            "payout",
            "po",
            amount=sum(row["net"] for row in rows),
            arrival_date=int(time.time()) // DAY_SECONDS * DAY_SECONDS,
            automatic=True,
            currency=code,
            reconciliation_status="completed",
            status="paid",
        )
        # What leaves the balance is a movement of its own, and listed with the rest.
        rows.append(_book(machine, "payout", -payout["amount"], code, source=payout["id"]))
        for row in rows:
            change(machine, row, _payout=payout["id"])
        announce(machine, "payout.paid", payout, reference="")
        made.append(payout["id"])
    return made


def refunds_of(machine: Machine, intent: str) -> list[Doc]:
    """The refunds of a payment, newest first; refuses an unknown one."""
    find(machine, intent, "payment_intent")
    return list(reversed(below(machine, intent, "refund")))


def _book(machine: Machine, kind: str, amount: int, currency: str, *, source: str, fee: int = 0) -> Doc:
    return make(
        machine,
        "balance_transaction",
        "txn",
        parent=source,
        type=kind,
        amount=amount,
        fee=fee,
        net=amount - fee,
        currency=currency,
        source=source,
        exchange_rate=None,
        status="available",
        _payout=None,
    )
