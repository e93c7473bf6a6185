"""Chargebacks: a traveller's bank wants money back, and Flutterwave waits 48 hours for our answer.

`GET /chargebacks` lists them, `PUT /chargebacks/{id}` takes `{action: "accept" | "decline", comment, prooflink}`. To
decline takes a link to a proof; it is the first address within the comment.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime

import msgspec

from kiti.core.money import UnknownCurrency
from kiti.gateways.flutterwave import wire
from kiti.gateways.flutterwave.lists import all_rows
from kiti.gateways.gateway import DisputeStatus, GatewayDispute, Missing, Rejected, Unknown
from kiti.gateways.http import Outside
from kiti.gateways.reading import NOTHING, number, printable

LINK = re.compile(r"https?://\S+")
# A dispute that we contest stays open until the banks have decided.
STATUSES: dict[str, DisputeStatus] = {"accepted": "accepted", "won": "won", "reversed": "won", "lost": "lost"}

Ask = Callable[[str], Awaitable[wire.Transaction | Missing | Unknown]]


class Chargeback(msgspec.Struct, frozen=True, kw_only=True):
    """A chargeback as the list and the answer to an answer tell it."""

    id: int | str
    status: str
    transaction_id: int | str
    amount: msgspec.Raw = NOTHING
    currency: str = ""
    tx_ref: str = ""
    comment: str | None = None
    due_date: str | None = None
    created_at: str | None = None


async def disputes_between(outside: Outside, verify: Ask, first: date, last: date) -> list[GatewayDispute] | Unknown:
    """All chargebacks that were opened on these days; one that cannot be read spoils the answer."""
    days = {"from": first.isoformat(), "to": last.isoformat()}
    rows = await all_rows(outside, "/chargebacks", days, Chargeback)
    if isinstance(rows, Unknown):
        return rows
    found = []
    for row in rows:
        opened = _moment(row.created_at)
        if opened is not None and not first <= opened.date() <= last:
            continue
        told = await _dispute(verify, row)
        if isinstance(told, Unknown):
            return told
        found.append(told)
    return found


async def answer_dispute(
    outside: Outside, verify: Ask, dispute_id: str, *, accept: bool, comment: str
) -> GatewayDispute | Rejected | Unknown:
    """Accept or decline. One that has been answered is refused: if it was this answer, all is well."""
    if wire.IDENTIFIER.fullmatch(dispute_id) is None:
        return Rejected(reason="Flutterwave's chargeback ids are whole numbers")
    body: dict[str, object] = {"action": "accept" if accept else "decline", "comment": comment}
    proof = LINK.search(comment)
    if proof is not None:
        body["prooflink"] = proof[0]
    answer = wire.read(await outside.put(f"/chargebacks/{dispute_id}", wire.encode(body)), Chargeback)
    match answer:
        case Chargeback() if str(answer.id) != dispute_id:
            return Unknown(reason="the answer is about another chargeback")
        case Chargeback():
            return await _dispute(verify, answer)
        case wire.Refused() if answer.was_done_before():
            return await _answered_before(outside, verify, dispute_id, answer, accept=accept)
        case wire.Refused():
            return wire.rejected_or_unknown(answer)
        case Unknown():
            return answer


async def _answered_before(
    outside: Outside, verify: Ask, dispute_id: str, refused: wire.Refused, *, accept: bool
) -> GatewayDispute | Rejected | Unknown:
    """It has ended, or was answered: whether as we wanted it, the list tells."""
    rows = await all_rows(outside, "/chargebacks", {}, Chargeback)
    if isinstance(rows, Unknown):
        return rows
    row = next((row for row in rows if str(row.id) == dispute_id), None)
    if row is None:
        return Unknown(reason="the chargeback is not in the list")
    if row.status.lower() == ("accepted" if accept else "declined"):
        return await _dispute(verify, row)
    return Rejected(reason=refused.message)


async def _dispute(verify: Ask, row: Chargeback) -> GatewayDispute | Unknown:
    currency, reference = row.currency, row.tx_ref
    if not currency or not reference:
        transaction = await verify(str(row.transaction_id))
        if not isinstance(transaction, wire.Transaction):
            return transaction if isinstance(transaction, Unknown) else Unknown(reason="its transaction was not found")
        currency, reference = transaction.currency, transaction.tx_ref
    try:
        amount = wire.UNITS.from_wire(number(row.amount), currency)
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"chargeback {printable(str(row.id))}: {printable(str(error))}")
    return GatewayDispute(
        dispute_id=str(row.id),
        transaction_id=str(row.transaction_id),
        reference=printable(reference),
        amount=amount,
        status=STATUSES.get(row.status.lower(), "open"),
        reason=printable(row.comment or ""),
        answer_by=_moment(row.due_date),
    )


def _moment(text: str | None) -> datetime | None:
    try:
        told = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (told if told.tzinfo else told.replace(tzinfo=UTC)).astimezone(UTC)
