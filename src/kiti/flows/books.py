"""What the ledger, the charges and the fees say of bookings, put together for whoever posts revenue or a refund."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from kiti.db import Reader
from kiti.fees import reads as fee_reads
from kiti.fees.model import Part
from kiti.ledger import reads as ledger_reads
from kiti.ledger.standing import Bill, Standing, standings
from kiti.payments import reads as payment_reads
from kiti.payments.model import Charge

# What the platform takes, under whatever name; a tax that the operator bears is theirs to pay to the state.
TAKEN_BY_PLATFORM = frozenset({"commission", "platform_fee"})


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """One booking in one currency. `gateway` took the payment that fulfils it, "" where none does."""

    gateway: str
    events: frozenset[str]
    standings: Mapping[str, Standing]
    bills: Mapping[str, Bill]

    def standing(self, owner: str) -> Standing:
        """An owner's part; empty for one who has none."""
        return self.standings.get(owner, Standing())

    def bill(self, owner: str) -> Bill:
        """What an owner bears."""
        return self.bills.get(owner, Bill())


async def books_of(reader: Reader, *, currencies: Mapping[UUID, str]) -> dict[UUID, Books]:
    """The books of these bookings, each in the currency given. Three statements, whatever their number."""
    bookings = sorted(currencies)
    lines = await ledger_reads.lines_of(reader, bookings=bookings)
    charges = await payment_reads.charges_of_bookings(reader, bookings=bookings)
    bills = _bills(await fee_reads.of_bookings(reader, bookings=bookings))
    found = {}
    for booking in bookings:
        paid = next((charge for charge in charges[booking] if charge.purpose == "fulfils"), None)
        events = frozenset(line.event for line in lines[booking])
        found[booking] = Books(
            gateway="" if paid is None else paid.gateway,
            events=events,
            standings=standings(lines[booking], currency=currencies[booking], capture_event=_paid_by(paid, events)),
            bills=bills.get(booking, {}),
        )
    return found


def _paid_by(charge: Charge | None, events: frozenset[str]) -> str:
    """The event that gave the owners their parts; one that a person accepted gave them nothing when it came."""
    if charge is None:
        return ""
    transaction = f"{charge.gateway}:{charge.transaction_id}"
    return f"accepted:{transaction}" if f"accepted:{transaction}" in events else f"capture:{transaction}"


def _bills(parts: Sequence[Part]) -> dict[UUID, dict[str, Bill]]:
    """By booking and operator, what the operator bears."""
    found: dict[UUID, dict[str, Bill]] = {}
    for part in parts:
        if part.borne_by != "operator" or part.kind == "tax":
            continue
        of_booking = found.setdefault(part.booking_id, {})
        bill = of_booking.get(str(part.operator_id), Bill())
        if part.kind in TAKEN_BY_PLATFORM:
            bill = msgspec.structs.replace(bill, commission=bill.commission + part.amount)
        else:
            bill = msgspec.structs.replace(bill, gateway_fee=bill.gateway_fee + part.amount)
        of_booking[str(part.operator_id)] = bill
    return found
