"""Paying operators through Stripe Connect: a transfer from our balance to that of their connected account.

Source: docs.stripe.com/api/transfers. A transfer is done at once or refused; only a reversal undoes it.
"""

import re

import msgspec

from kiti.core.money import UnknownCurrency
from kiti.gateways.gateway import GatewayPayout, Missing, PayoutRequest, Rejected, Unknown
from kiti.gateways.reading import printable
from kiti.gateways.stripe import wire
from kiti.gateways.stripe.api import Api, Refused, Silence, under

ACCOUNT = re.compile(r"acct_[A-Za-z0-9]{1,200}", re.ASCII)
LONGEST_NARRATION = 250
MOST_PAGES = 5


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """Money that went to a connected account."""

    id: str
    amount: int
    currency: str
    amount_reversed: int = 0
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


async def pay_out(api: Api, request: PayoutRequest) -> GatewayPayout | Rejected | Unknown:
    """Transfer money to `acct_...`."""
    destination = request.destination
    if destination.kind != "connected" or ACCOUNT.fullmatch(destination.account) is None:
        return Rejected(reason="Stripe pays to connected accounts (acct_...) only")
    if request.amount.currency not in wire.EXPONENTS:
        return Rejected(reason=f"Stripe is not asked to pay {request.amount.currency}")
    call = api.v1.transfers.create_async(
        params={
            "amount": wire.to_units(request.amount),
            "currency": request.amount.currency.lower(),
            "destination": destination.account,
            "transfer_group": request.reference,
            "description": request.narration[:LONGEST_NARRATION],
            "metadata": {wire.REFERENCE: request.reference},
        },
        options=under(f"payout_{request.reference}"),
    )
    match await api.read(call, Transfer):
        case Transfer() as row:
            return _told(row)
        case Refused() as refused:
            return refused.rejected()
        case Silence() as silence:
            return silence.unknown()


async def find_payout(api: Api, reference: str) -> GatewayPayout | Missing | Unknown:
    """The transfer of our reference, by its group."""
    rows = await api.rows(api.v1.transfers.list_async, {"transfer_group": reference}, Transfer, most_pages=MOST_PAGES)
    if isinstance(rows, Silence):
        return rows.unknown()
    ours = [row for row in rows if row.metadata.get(wire.REFERENCE) == reference]
    return _told(ours[0]) if ours else Missing()


def _told(row: Transfer) -> GatewayPayout | Unknown:
    try:
        amount = wire.to_minor_exact(row.amount, row.currency)
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"transfer {printable(row.id)}: {printable(str(error))}")
    is_back = row.amount_reversed >= row.amount
    return GatewayPayout(
        payout_id=row.id,
        reference=printable(row.metadata.get(wire.REFERENCE, "")),
        amount_exact=amount,
        fee_exact=wire.to_minor_exact(0, row.currency),
        status="failed" if is_back else "succeeded",
        failure_reason="The transfer was reversed." if is_back else "",
    )
