"""The entries of money on its way to an operator, all below the settlement's id. Pure."""

from decimal import Decimal
from uuid import UUID

from kiti.core.money import round_to_minor
from kiti.ledger.model import Entry, bank, gateway_fee, operator_payable


def in_transit(gateway: str) -> str:
    """What a gateway was told to send and may not have sent yet."""
    return f"payout_in_transit:{gateway}"


def payout_started(gateway: str, *, operator: UUID, amount: int) -> list[Entry]:
    """The operator is owed it no more: it is on its way."""
    return [Entry(debit=operator_payable(operator), credit=in_transit(gateway), amount=amount)]


def payout_done(gateway: str, *, amount: int, fee_exact: Decimal) -> list[Entry]:
    """It has left the account that the gateway pays from, and with it what sending it cost, rounded half to even.

    The platform bears that.
    """
    entries = [Entry(debit=in_transit(gateway), credit=bank(gateway), amount=amount)]
    fee = round_to_minor(fee_exact)
    if fee > 0:
        entries.append(Entry(debit=gateway_fee(gateway), credit=bank(gateway), amount=fee))
    return entries


def payout_failed(gateway: str, *, operator: UUID, amount: int) -> list[Entry]:
    """It never left: the operator is owed it again."""
    return [Entry(debit=in_transit(gateway), credit=operator_payable(operator), amount=amount)]


def payout_returned(gateway: str, *, operator: UUID, amount: int) -> list[Entry]:
    """The operator's bank sent it back: it comes by the way that it went."""
    return [
        Entry(debit=bank(gateway), credit=in_transit(gateway), amount=amount),
        Entry(debit=in_transit(gateway), credit=operator_payable(operator), amount=amount),
    ]
