"""What Flutterwave paid into our bank account: `GET /settlements`, and each one with its transactions.

Amounts are major units. Besides its own fee Flutterwave may keep a merchant's fee and a stamp duty; all three are
what a settlement cost. More may have gone back than came in, so the net amount may be negative.
"""

from datetime import date, datetime, timedelta
from decimal import Decimal

import msgspec

from kiti.core.money import UnknownCurrency
from kiti.gateways.flutterwave import wire
from kiti.gateways.flutterwave.lists import all_rows
from kiti.gateways.gateway import GatewaySettlement, SettlementLine, Unknown
from kiti.gateways.http import Outside
from kiti.gateways.reading import NOTHING, number, printable

# The list goes by the day a settlement was made, and it is paid days later.
MADE_BEFORE = timedelta(days=14)
MOST_PAGES = 500
# A settlement names all its transactions at once, half a kilobyte each.
LONGEST_SETTLEMENT_BYTES = 64 * 1024 * 1024
PAID = {"completed", "successful"}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction within a settlement."""

    id: int | str
    tx_ref: str = ""
    charged_amount: msgspec.Raw = NOTHING
    app_fee: msgspec.Raw = NOTHING
    merchant_fee: msgspec.Raw = NOTHING
    stampduty_charge: msgspec.Raw = NOTHING


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """A settlement; `transactions` only where it is told alone."""

    id: int | str
    currency: str
    status: str
    transaction_count: int = 0
    gross_amount: msgspec.Raw = NOTHING
    app_fee: msgspec.Raw = NOTHING
    merchant_fee: msgspec.Raw = NOTHING
    stampduty_charge: msgspec.Raw = NOTHING
    refund: msgspec.Raw = NOTHING
    chargeback: msgspec.Raw = NOTHING
    net_amount: msgspec.Raw = NOTHING
    processed_date: str | None = None
    due_date: str | None = None
    created_at: str | None = None
    transactions: list[Line] = []

    def day(self) -> date | None:
        """When it was paid, else when it is due, else when it was made; None if that cannot be read."""
        told = self.processed_date or self.due_date or self.created_at or ""
        try:
            return datetime.fromisoformat(told).date()
        except ValueError:
            return None


async def settlements_between(outside: Outside, first: date, last: date) -> list[GatewaySettlement] | Unknown:
    """All settlements of these days with their lines; one that cannot be read or counted spoils the answer."""
    made = {"from": (first - MADE_BEFORE).isoformat(), "to": (last + timedelta(days=1)).isoformat()}
    rows = await all_rows(
        outside, "/settlements", made, Settlement, most_pages=MOST_PAGES, longest_bytes=LONGEST_SETTLEMENT_BYTES
    )
    if isinstance(rows, Unknown):
        return rows
    found = []
    for row in rows:
        day = row.day()
        if day is None:
            return Unknown(reason=f"settlement {printable(str(row.id))} has no day")
        if not first <= day <= last:
            continue
        told = await _whole(outside, row, day)
        if isinstance(told, Unknown):
            return told
        found.append(told)
    return found


async def _whole(outside: Outside, listed: Settlement, day: date) -> GatewaySettlement | Unknown:
    identity = str(listed.id)
    if wire.IDENTIFIER.fullmatch(identity) is None:
        return Unknown(reason="a settlement whose id is no number")
    answer = wire.read(
        await outside.get(f"/settlements/{identity}", longest_bytes=LONGEST_SETTLEMENT_BYTES), Settlement
    )
    match answer:
        case Settlement() if str(answer.id) != identity:
            return Unknown(reason="the answer is about another settlement")
        case Settlement() if len(answer.transactions) != answer.transaction_count:
            told = f"{len(answer.transactions)} of {answer.transaction_count}"
            return Unknown(reason=f"settlement {identity} names {told} transactions")
        case Settlement():
            return _settlement(answer, day)
        case wire.Refused():
            return Unknown(reason=f"HTTP {answer.http_status}: {answer.message}")
        case Unknown():
            return answer


def _settlement(row: Settlement, day: date) -> GatewaySettlement | Unknown:
    try:
        return GatewaySettlement(
            settlement_id=str(row.id),
            day=day,
            currency=row.currency,
            gross_exact=_minor(row.gross_amount, row.currency),
            fee_exact=_costs(row, row.currency),
            refund_exact=_minor(row.refund, row.currency),
            chargeback_exact=_minor(row.chargeback, row.currency),
            net_exact=_net(row),
            is_paid=row.status.lower() in PAID,
            lines=tuple(_line(line, row.currency) for line in row.transactions),
        )
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"settlement {printable(str(row.id))}: {printable(str(error))}")


def _line(line: Line, currency: str) -> SettlementLine:
    return SettlementLine(
        transaction_id=str(line.id),
        reference=printable(line.tx_ref),
        gross_exact=_minor(line.charged_amount, currency),
        fee_exact=_costs(line, currency),
    )


def _costs(row: Settlement | Line, currency: str) -> Decimal:
    kept = (row.app_fee, row.merchant_fee, row.stampduty_charge)
    return sum((_minor(part, currency) for part in kept), start=Decimal(0))


def _net(row: Settlement) -> Decimal:
    return wire.UNITS.signed_exact(number(row.net_amount), row.currency)


def _minor(raw: msgspec.Raw, currency: str) -> Decimal:
    return wire.UNITS.to_minor_exact(number(raw, absent=Decimal(0)), currency)
