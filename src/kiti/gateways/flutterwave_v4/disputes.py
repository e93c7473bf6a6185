"""Chargebacks by v4: `GET /chargebacks` lists them, `PUT /chargebacks/{id}` takes our answer.

Source: Flutterwave's v4 reference, "Chargebacks". An answer is `{status: "accepted" | "declined", comment,
uploaded_proof}`; the proof is a link, the first address within the comment. Later statuses are won, lost and reversed.
A chargeback tells neither currency nor our reference, so its charge is asked for.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, date

import msgspec

from kiti.core.money import UnknownCurrency
from kiti.gateways.flutterwave_v4 import wire
from kiti.gateways.flutterwave_v4.access import Line
from kiti.gateways.flutterwave_v4.lists import all_rows, days
from kiti.gateways.flutterwave_v4.webhooks import IDENTIFIER
from kiti.gateways.gateway import DisputeStatus, GatewayDispute, Missing, Rejected, Unknown
from kiti.gateways.reading import NOTHING, number, printable

LINK = re.compile(r"https?://\S+")
# A dispute that we contest stays open until the banks have decided.
STATUSES: dict[str, DisputeStatus] = {"accepted": "accepted", "won": "won", "reversed": "won", "lost": "lost"}

Ask = Callable[[str], Awaitable[wire.Charge | Missing | Unknown]]


class Chargeback(msgspec.Struct, frozen=True, kw_only=True):
    """A chargeback as the list, one chargeback and the answer to an answer tell it."""

    id: str
    charge_id: str
    status: str
    amount: msgspec.Raw = NOTHING
    comment: str | None = None
    due_datetime: str | float | None = None
    created_datetime: str | float | None = None


async def disputes_between(line: Line, charge_of: Ask, first: date, last: date) -> list[GatewayDispute] | Unknown:
    """All chargebacks that were opened on these days; one that cannot be read spoils the answer."""
    rows = await all_rows(line, "/chargebacks", days(first, last), Chargeback)
    if isinstance(rows, Unknown):
        return rows
    found = []
    for row in rows:
        opened = wire.moment(row.created_datetime)
        if opened is not None and not first <= opened.astimezone(UTC).date() <= last:
            continue
        told = await _dispute(charge_of, row)
        if isinstance(told, Unknown):
            return told
        found.append(told)
    return found


async def answer_dispute(
    line: Line, charge_of: Ask, dispute_id: str, *, accept: bool, comment: str
) -> GatewayDispute | Rejected | Unknown:
    """Accept or decline. One that is refused may have been answered before: if it was this answer, all is well."""
    if IDENTIFIER.fullmatch(dispute_id) is None:
        return Rejected(reason="Flutterwave's chargebacks have other ids")
    wanted = "accepted" if accept else "declined"
    body: dict[str, object] = {"status": wanted, "comment": comment}
    proof = LINK.search(comment)
    if proof is not None:
        body["uploaded_proof"] = proof[0]
    answer = wire.read(await line.put(f"/chargebacks/{dispute_id}", wire.encode(body)), Chargeback)
    match answer:
        case Chargeback() if answer.id != dispute_id:
            return Unknown(reason="the answer is about another chargeback")
        case Chargeback():
            return await _dispute(charge_of, answer)
        case wire.Refused():
            return await _after_refusal(line, charge_of, dispute_id, answer, wanted=wanted)
        case Unknown():
            return answer


async def _after_refusal(
    line: Line, charge_of: Ask, dispute_id: str, refused: wire.Refused, *, wanted: str
) -> GatewayDispute | Rejected | Unknown:
    """What was answered before is refused; then the chargeback shows whether it was as we want it."""
    if not refused.is_about_it():
        return wire.rejected_or_unknown(refused)
    found = wire.read(await line.get(f"/chargebacks/{dispute_id}"), Chargeback)
    match found:
        case Chargeback() if found.id == dispute_id and found.status.lower() == wanted:
            return await _dispute(charge_of, found)
        case Chargeback():
            return Rejected(reason=refused.message)
        case wire.Refused() if found.is_unknown_id():
            return Rejected(reason=refused.message)
        case wire.Refused():
            return Unknown(reason=f"HTTP {found.http_status}: {found.message}")
        case Unknown():
            return found


async def _dispute(charge_of: Ask, row: Chargeback) -> GatewayDispute | Unknown:
    charge = await charge_of(row.charge_id)
    if not isinstance(charge, wire.Charge):
        return charge if isinstance(charge, Unknown) else Unknown(reason="its charge was not found")
    try:
        amount = wire.UNITS.from_wire(number(row.amount), charge.currency)
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"chargeback {printable(row.id)}: {printable(str(error))}")
    due = wire.moment(row.due_datetime)
    return GatewayDispute(
        dispute_id=row.id,
        transaction_id=row.charge_id,
        reference=printable(charge.reference),
        amount=amount,
        status=STATUSES.get(row.status.lower(), "open"),
        reason=printable(row.comment or ""),
        answer_by=None if due is None else due.astimezone(UTC),
    )
