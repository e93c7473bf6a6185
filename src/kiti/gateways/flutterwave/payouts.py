"""Money to operators: transfers (NEW, PENDING, then SUCCESSFUL or FAILED), and subaccounts that payments are split to.

Amounts are major units. A transfer's fee comes on top of its amount.
"""

from decimal import Decimal

import msgspec

from kiti.core.money import UnknownCurrency
from kiti.gateways.flutterwave import wire
from kiti.gateways.flutterwave.lists import all_rows
from kiti.gateways.gateway import (
    GatewayPayout,
    Missing,
    PayoutRequest,
    PayoutStatus,
    Rejected,
    Subaccount,
    SubaccountRequest,
    Unknown,
)
from kiti.gateways.http import Outside
from kiti.gateways.reading import NOTHING, number, printable

FAILURES = {"FAILED", "FAILURE", "CANCELLED", "REVERSED"}
# Flutterwave writes percentages as parts of one.
WHOLE_PERCENT = Decimal(100)


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer as its creation and the list tell it."""

    id: int | str
    reference: str
    currency: str
    status: str
    amount: msgspec.Raw = NOTHING
    fee: msgspec.Raw = NOTHING
    complete_message: str | None = None


class SubaccountRow(msgspec.Struct, frozen=True, kw_only=True):
    """A subaccount; `split_value` is the platform's part."""

    id: int | str
    subaccount_id: str
    account_bank: str
    account_number: str
    business_name: str
    split_type: str = "percentage"
    split_value: msgspec.Raw = NOTHING


async def pay_out(outside: Outside, request: PayoutRequest) -> GatewayPayout | Rejected | Unknown:
    """Send money. A reference that was used before is refused because an earlier call did it, so that is Unknown."""
    to = request.destination
    if to.kind == "connected":
        return Rejected(reason="Flutterwave pays to banks and mobile money, not to accounts of its own")
    currency = request.amount.currency
    body: dict[str, object] = {
        "account_bank": to.bank,
        "account_number": to.account.removeprefix("+"),
        "amount": wire.UNITS.to_wire(request.amount),
        "currency": currency,
        "debit_currency": currency,
        "reference": request.reference,
        "beneficiary_name": to.name,
        "narration": request.narration,
    }
    answer = wire.read(await outside.post("/transfers", wire.encode(body)), Transfer)
    match answer:
        case Transfer() if answer.reference != request.reference:
            return Unknown(reason="the answer is about another transfer")
        case Transfer():
            return _payout(answer)
        case wire.Refused():
            return wire.rejected_or_unknown(answer)
        case Unknown():
            return answer


async def find_payout(outside: Outside, reference: str) -> GatewayPayout | Missing | Unknown:
    """The transfer of our reference; the newest that did not fail, should the gateway have several.

    What the list's own filter returns is compared, and a list that was not seen to its end proves nothing.
    """
    rows = await all_rows(outside, "/transfers", {"reference": reference}, Transfer)
    if isinstance(rows, Unknown):
        return rows
    ours = [row for row in rows if row.reference == reference]
    if not ours:
        return Missing()
    return _payout(next((row for row in ours if payout_status(row.status) != "failed"), ours[0]))


async def open_subaccount(outside: Outside, request: SubaccountRequest) -> Subaccount | Rejected | Unknown:
    """Open one. Flutterwave refuses a second one for the same account; that is Unknown."""
    to = request.destination
    body: dict[str, object] = {
        "account_bank": to.bank,
        "account_number": to.account.removeprefix("+"),
        "business_name": to.name,
        "country": to.country,
        "split_type": "percentage",
        "split_value": request.platform_percent / WHOLE_PERCENT,
        "business_email": request.email,
        "business_mobile": request.phone,
    }
    answer = wire.read(await outside.post("/subaccounts", wire.encode(body)), SubaccountRow)
    match answer:
        case SubaccountRow() if answer.account_number != body["account_number"]:
            return Unknown(reason="the answer is about another subaccount")
        case SubaccountRow():
            return _subaccount(answer)
        case wire.Refused():
            return wire.rejected_or_unknown(answer)
        case Unknown():
            return answer


async def subaccounts(outside: Outside) -> list[Subaccount] | Unknown:
    """All subaccounts whose split is a percentage; others are none of ours."""
    rows = await all_rows(outside, "/subaccounts", {}, SubaccountRow)
    if isinstance(rows, Unknown):
        return rows
    found = []
    for row in rows:
        if row.split_type != "percentage":
            continue
        told = _subaccount(row)
        if isinstance(told, Unknown):
            return told
        found.append(told)
    return found


def payout_status(status: str) -> PayoutStatus:
    """What the words mean. One that nobody knows is pending: no money is believed to be out, or back, because of it."""
    said = status.upper()
    if said == "SUCCESSFUL":
        return "succeeded"
    return "failed" if said in FAILURES else "pending"


def _payout(row: Transfer) -> GatewayPayout | Unknown:
    try:
        amount = wire.UNITS.to_minor_exact(number(row.amount), row.currency)
        fee = wire.UNITS.to_minor_exact(number(row.fee, absent=Decimal(0)), row.currency)
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"transfer {printable(str(row.id))}: {printable(str(error))}")
    status = payout_status(row.status)
    why = row.complete_message or f"status {row.status}"
    return GatewayPayout(
        payout_id=str(row.id),
        reference=row.reference,
        amount_exact=amount,
        fee_exact=fee,
        status=status,
        failure_reason=printable(why) if status == "failed" else "",
    )


def _subaccount(row: SubaccountRow) -> Subaccount | Unknown:
    try:
        part = number(row.split_value)
    except ValueError as error:
        return Unknown(reason=f"subaccount {printable(str(row.id))}: {printable(str(error))}")
    return Subaccount(
        subaccount_id=row.subaccount_id,
        bank=row.account_bank,
        account=row.account_number,
        name=row.business_name,
        platform_percent=part * WHOLE_PERCENT,
    )
