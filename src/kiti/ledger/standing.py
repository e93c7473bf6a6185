"""What the entries below a booking come to for each owner: owed to travellers still, earned, taken off. Pure.

Revenue belongs to an operator when the trip departs; until then it is owed to the traveller. What is taken off follows
from what the operator keeps, so it is computed anew from the entries themselves each time and only the difference is
posted: parts add up to the whole, whatever order trips and refunds come in.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from kiti.core.money import half_even
from kiti.ledger.model import (
    PLATFORM,
    Entry,
    dispute_hold,
    gateway_fee,
    loss,
    operator_payable,
    refund_clearing,
    ticket_liability,
)

COMMISSION = f"platform_commission:{PLATFORM}"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the ledger, in minor units of `currency`."""

    booking_id: UUID
    event: str
    debit: str
    credit: str
    amount: int
    currency: str


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator bears of a whole booking, in minor units: what the platform takes, what the gateway kept."""

    commission: int = 0
    gateway_fee: int = 0


class Standing(msgspec.Struct, kw_only=True):
    """One owner's part of a booking, in minor units.

    `paid` came with the payment that fulfils the booking; `owed` is for trips to come; `recognised` is what was ever
    turned from owed into earned, and `earned` what refunds, disputes and corrections have left of it. `commission` and
    `fee` were taken off what is earned.
    """

    paid: int = 0
    owed: int = 0
    recognised: int = 0
    earned: int = 0
    commission: int = 0
    fee: int = 0

    @property
    def room(self) -> int:
        """How much can go back to the traveller."""
        return max(0, self.owed) + max(0, self.earned)


def standings(lines: Sequence[Line], *, currency: str, capture_event: str) -> dict[str, Standing]:
    """By owner: the operators' ids as text, `platform` and `unspent`.

    `capture_event` is what gave the operators theirs: the capture of the charge that fulfils, or that it was accepted.
    """
    found: dict[str, Standing] = {}
    for line in lines:
        if line.currency == currency:
            _add(found, line, line.credit, against=line.debit, sign=1, is_capture=line.event == capture_event)
            _add(found, line, line.debit, against=line.credit, sign=-1, is_capture=False)
    return found


def departed(owner: str, standing: Standing, *, amount: int, bill: Bill, gateway: str) -> list[Entry]:
    """A trip has left: `amount` of what is owed is the owner's now, less what they bear of the booking.

    Commission is taken in proportion to what the operator keeps of what was paid; the gateway's fee in proportion to
    what was ever recognised, because the gateway does not give its fee back. Both round half to even on the sum of all
    trips of a booking, so the trips' parts add up.
    """
    if amount == 0:
        return []
    if owner == PLATFORM:
        return [Entry(debit=ticket_liability(PLATFORM), credit=COMMISSION, amount=amount)]
    entries = [Entry(debit=ticket_liability(owner), credit=operator_payable(owner), amount=amount)]
    entries += commission_change(owner, standing, bill=bill, earned=standing.earned + amount)
    fee = proportion(bill.gateway_fee, part=standing.recognised + amount, whole=standing.paid) - standing.fee
    if fee > 0:
        entries.append(Entry(debit=operator_payable(owner), credit=gateway_fee(gateway), amount=fee))
    return entries


def commission_change(owner: str, standing: Standing, *, bill: Bill, earned: int) -> list[Entry]:
    """Bring the commission to what is due where `earned` is kept; given back if that has become less."""
    change = proportion(bill.commission, part=earned, whole=standing.paid) - standing.commission
    if change > 0:
        return [Entry(debit=operator_payable(owner), credit=COMMISSION, amount=change)]
    if change < 0:
        return [Entry(debit=COMMISSION, credit=operator_payable(owner), amount=-change)]
    return []


def given_back(
    gateway: str, *, shares: Mapping[str, int], standings: Mapping[str, Standing], bills: Mapping[str, Bill]
) -> list[Entry]:
    """What each owner gives back: first of what is owed for trips to come, then of what they have earned.

    An operator who gives back what was earned gets the commission on it back. Their account may fall below nothing;
    the next statement carries that over.
    """
    return _taken_back(refund_clearing(gateway), shares=shares, standings=standings, bills=bills)


def dispute_lost(
    gateway: str,
    *,
    amount: int,
    shares: Mapping[str, int],
    standings: Mapping[str, Standing],
    bills: Mapping[str, Bill],
) -> list[Entry]:
    """The traveller's bank has the money. Who has got it bears that as they bear a refund, commission and all.

    What is in nobody's share is a loss of the platform: it was refunded before.
    """
    entries = _taken_back(dispute_hold(gateway), shares=shares, standings=standings, bills=bills)
    lost = amount - sum(shares.values())
    if lost:
        entries.append(Entry(debit=loss(gateway), credit=dispute_hold(gateway), amount=lost))
    return entries


def overdrawn(standings: Mapping[str, Standing], entries: Sequence[Entry]) -> bool:
    """Whether the entries would take more of what is owed to an owner than there is."""
    for owner, standing in standings.items():
        account = ticket_liability(owner)
        taken = sum(entry.amount * ((entry.debit == account) - (entry.credit == account)) for entry in entries)
        if taken > max(0, standing.owed):
            return True
    return False


def reversed_entries(lines: Sequence[Line]) -> list[Entry]:
    """The entries that undo these."""
    return [Entry(debit=line.credit, credit=line.debit, amount=line.amount) for line in lines]


def proportion(amount: int, *, part: int, whole: int) -> int:
    """`amount` times part / whole, rounded half to even; between nothing and `amount`."""
    if whole <= 0:
        return 0
    return half_even(amount * min(max(part, 0), whole), whole)


def _taken_back(
    account: str, *, shares: Mapping[str, int], standings: Mapping[str, Standing], bills: Mapping[str, Bill]
) -> list[Entry]:
    """Each owner's share goes to `account`: of what is owed first, then of what was earned."""
    of_owed = {owner: min(amount, max(0, standings[owner].owed)) for owner, amount in shares.items()}
    entries = [
        Entry(debit=ticket_liability(owner), credit=account, amount=amount)
        for owner, amount in of_owed.items()
        if amount > 0
    ]
    for owner, amount in shares.items():
        of_earned = amount - of_owed[owner]
        if of_earned == 0:
            continue
        earned_in = COMMISSION if owner == PLATFORM else operator_payable(owner)
        entries.append(Entry(debit=earned_in, credit=account, amount=of_earned))
        if owner != PLATFORM:
            standing, bill = standings[owner], bills.get(owner, Bill())
            entries += commission_change(owner, standing, bill=bill, earned=standing.earned - of_earned)
    return entries


def _add(found: dict[str, Standing], line: Line, account: str, *, against: str, sign: int, is_capture: bool) -> None:
    """One side of a line, as its owner sees it: a credit is theirs, a debit is not any more."""
    name, _, owner = account.partition(":")
    other = against.partition(":")[0]
    amount = sign * line.amount
    match name, other:
        case "ticket_liability", _:
            standing = found.setdefault(owner, Standing())
            standing.owed += amount
            standing.paid += amount if is_capture else 0
            if owner == PLATFORM and other == "platform_commission":
                standing.recognised -= amount
                standing.earned -= amount
        case "operator_payable", "platform_commission":
            found.setdefault(owner, Standing()).commission -= amount
        case "operator_payable", "gateway_fee":
            found.setdefault(owner, Standing()).fee -= amount
        case "operator_payable", "ticket_liability":
            standing = found.setdefault(owner, Standing())
            standing.recognised += amount
            standing.earned += amount
        case "operator_payable", _:
            found.setdefault(owner, Standing()).earned += amount
        case "platform_commission", "refund_clearing" | "dispute_hold":
            found.setdefault(PLATFORM, Standing()).earned += amount
        case _:
            pass  # whose money it is does not change by it
