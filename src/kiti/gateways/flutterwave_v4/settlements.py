"""What Flutterwave paid into our bank account, by v4: `GET /settlements`, and each one with its charges.

Source: Flutterwave's v4 reference, "List settlement" and "Retrieve a settlement". Amounts are major units, some of them
strings. A charge within a settlement tells what was charged and what of it was settled: the fee is the difference. Our
reference does not stand there. More may have gone back than came in, so the net amount may be negative.
"""

from datetime import date, timedelta
from decimal import Decimal

import msgspec

from kiti.core.money import UnknownCurrency
from kiti.gateways.flutterwave_v4 import wire
from kiti.gateways.flutterwave_v4.access import Line
from kiti.gateways.flutterwave_v4.lists import all_rows, days
from kiti.gateways.flutterwave_v4.webhooks import IDENTIFIER
from kiti.gateways.gateway import GatewaySettlement, SettlementLine, Unknown
from kiti.gateways.reading import NOTHING, number, printable

# The list goes by the moment a settlement was made, and it is paid days later.
MADE_BEFORE = timedelta(days=14)
MOST_PAGES = 100
# A settlement names all its charges at once, some 300 bytes each.
LONGEST_SETTLEMENT_BYTES = 64 * 1024 * 1024
PAID = {"completed", "completed-offline"}


class SettledCharge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge within a settlement."""

    id: str
    charged_amount: msgspec.Raw = NOTHING
    settlement_amount: msgspec.Raw = NOTHING


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """A settlement as the list and one settlement tell it."""

    id: str
    currency: str
    status: str
    net_amount: msgspec.Raw = NOTHING
    gross_amount: msgspec.Raw = NOTHING
    fees: list[wire.Fee] | None = None
    refund: msgspec.Raw = NOTHING
    chargeback: msgspec.Raw = NOTHING
    charge_count: msgspec.Raw = NOTHING
    charges: list[SettledCharge] | None = None
    due_datetime: str | float | None = None
    created_datetime: str | float | None = None

    def day(self) -> date | None:
        """When it is due, else when it was made; None if neither can be read."""
        told = wire.moment(self.due_datetime) or wire.moment(self.created_datetime)
        return None if told is None else told.date()


async def settlements_between(line: Line, first: date, last: date) -> list[GatewaySettlement] | Unknown:
    """All settlements of these days with their charges; one that cannot be read or counted spoils the answer."""
    made = days(first - MADE_BEFORE, last + timedelta(days=1))
    rows = await all_rows(
        line, "/settlements", made, Settlement, most_pages=MOST_PAGES, longest_bytes=LONGEST_SETTLEMENT_BYTES
    )
    if isinstance(rows, Unknown):
        return rows
    found = []
    for row in rows:
        day = row.day()
        if day is None:
            return Unknown(reason=f"settlement {printable(row.id)} has no day")
        if not first <= day <= last:
            continue
        told = await _whole(line, row.id, day)
        if isinstance(told, Unknown):
            return told
        found.append(told)
    return found


async def _whole(line: Line, identity: str, day: date) -> GatewaySettlement | Unknown:
    if IDENTIFIER.fullmatch(identity) is None:
        return Unknown(reason="a settlement whose id is none of Flutterwave's")
    sent = await line.get(f"/settlements/{identity}", longest_bytes=LONGEST_SETTLEMENT_BYTES)
    answer = wire.read(sent, Settlement)
    match answer:
        case Settlement() if answer.id != identity:
            return Unknown(reason="the answer is about another settlement")
        case Settlement():
            return _settlement(answer, day)
        case wire.Refused():
            return Unknown(reason=f"HTTP {answer.http_status}: {answer.message}")
        case Unknown():
            return answer


def _settlement(row: Settlement, day: date) -> GatewaySettlement | Unknown:
    charges = row.charges or []
    try:
        counted = number(row.charge_count, absent=Decimal(0))
        if counted != len(charges):
            return Unknown(reason=f"settlement {printable(row.id)} names {len(charges)} of {counted} charges")
        return GatewaySettlement(
            settlement_id=row.id,
            day=day,
            currency=row.currency,
            gross_exact=_minor(row.gross_amount, row.currency),
            fee_exact=sum((_minor(fee.amount, row.currency) for fee in row.fees or []), start=Decimal(0)),
            refund_exact=_minor(row.refund, row.currency),
            chargeback_exact=_minor(row.chargeback, row.currency),
            net_exact=wire.UNITS.signed_exact(number(row.net_amount), row.currency),
            is_paid=row.status.lower() in PAID,
            lines=tuple(_line(charge, row.currency) for charge in charges),
        )
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"settlement {printable(row.id)}: {printable(str(error))}")


def _line(charge: SettledCharge, currency: str) -> SettlementLine:
    gross = wire.UNITS.to_minor_exact(number(charge.charged_amount), currency)
    settled = wire.UNITS.to_minor_exact(number(charge.settlement_amount), currency)
    return SettlementLine(transaction_id=charge.id, reference="", gross_exact=gross, fee_exact=gross - settled)


def _minor(raw: msgspec.Raw, currency: str) -> Decimal:
    return wire.UNITS.to_minor_exact(number(raw, absent=Decimal(0)), currency)
