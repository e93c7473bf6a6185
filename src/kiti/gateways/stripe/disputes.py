"""Disputes at Stripe: list them, give in, or hand in evidence.

Source: docs.stripe.com/api/disputes. Evidence can be handed in once; a dispute that was given in to is `lost` like one
that was decided against us, so it is marked in its metadata before.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from kiti.core.money import UnknownCurrency
from kiti.gateways.gateway import DisputeStatus, GatewayDispute, Rejected, Unknown
from kiti.gateways.reading import printable
from kiti.gateways.stripe import wire
from kiti.gateways.stripe.api import ASK, Api, Refused, Silence

DISPUTE = re.compile(r"(?:du|dp)_[A-Za-z0-9_]{1,200}", re.ASCII)
INTENT = "payment_intent"
MOST_PAGES = 50
# docs.stripe.com/api/disputes/evidence_object: 20,000 characters at most.
LONGEST_EVIDENCE = 20_000


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """The PaymentIntent that the dispute is about."""

    id: str
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Until when it can be handed in, in epoch seconds."""

    due_by: int | None = None


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute with its payment expanded."""

    id: str
    amount: int
    currency: str
    status: str
    reason: str
    payment_intent: Payment | str | None = None
    evidence_details: Evidence = Evidence()
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


async def disputes_between(api: Api, created: Mapping[str, int]) -> list[GatewayDispute] | Unknown:
    """All disputes that were opened in a span of time; or Unknown."""
    params = {"created": dict(created), "expand": [f"data.{INTENT}"]}
    rows = await api.rows(api.v1.disputes.list_async, params, Dispute, most_pages=MOST_PAGES)
    if isinstance(rows, Silence):
        return rows.unknown()
    found: list[GatewayDispute] = []
    for row in rows:
        told = _told(row)
        if isinstance(told, Unknown):
            return told
        found.append(told)
    return found


async def answer_dispute(
    api: Api, dispute_id: str, *, accept: bool, comment: str
) -> GatewayDispute | Rejected | Unknown:
    """Give in, or contest; one that has our answer already is told as it is."""
    if DISPUTE.fullmatch(dispute_id) is None:
        return Rejected(reason="not an id of Stripe's")
    params: dict[str, Any] = {"expand": [INTENT]}
    evidence: Any = {
        **params,
        "evidence": {"uncategorized_text": comment[:LONGEST_EVIDENCE]},
        "submit": True,
    }
    mark: Any = {**params, "metadata": {wire.ANSWER: wire.ACCEPTED}}
    params_of_answer = mark if accept else evidence
    answer = await api.read(api.v1.disputes.update_async(dispute_id, params=params_of_answer), Dispute)
    if accept and isinstance(answer, Dispute):
        answer = await api.read(api.v1.disputes.close_async(dispute_id, params={"expand": [INTENT]}), Dispute)
    match answer:
        case Dispute():
            return _told(answer)
        case Silence():
            return answer.unknown()
        case Refused():
            return await _after_refusal(api, dispute_id, answer, accept=accept)


async def _after_refusal(
    api: Api, dispute_id: str, refused: Refused, *, accept: bool
) -> GatewayDispute | Rejected | Unknown:
    """What was answered before cannot be answered again; then the dispute shows it."""
    call = api.v1.disputes.retrieve_async(dispute_id, params={"expand": [INTENT]}, options=ASK)
    found = await api.read(call, Dispute)
    if isinstance(found, Silence):
        return found.unknown()
    if isinstance(found, Refused):
        return refused.rejected()
    is_answered = found.status == "lost" if accept else found.status in {"under_review", "warning_under_review", "won"}
    return _told(found) if is_answered else refused.rejected()


def _told(row: Dispute) -> GatewayDispute | Unknown:
    try:
        amount = wire.from_units(row.amount, row.currency)
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"dispute {printable(row.id)}: {printable(str(error))}")
    payment = row.payment_intent
    if not isinstance(payment, Payment):
        return Unknown(reason=f"dispute {printable(row.id)} does not tell its payment")
    due_by = row.evidence_details.due_by
    return GatewayDispute(
        dispute_id=row.id,
        transaction_id=payment.id,
        reference=printable(payment.metadata.get(wire.REFERENCE, "")),
        amount=amount,
        status=_status(row),
        reason=printable(row.reason),
        answer_by=None if due_by is None else datetime.fromtimestamp(due_by, UTC),
    )


def _status(row: Dispute) -> DisputeStatus:
    """An inquiry (`warning_...`) that is closed has taken nothing from us."""
    match row.status:
        case "won" | "warning_closed" | "prevented":
            return "won"
        case "lost":
            return "accepted" if row.metadata.get(wire.ANSWER) == wire.ACCEPTED else "lost"
        case _:
            return "open"
