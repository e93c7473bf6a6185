"""Reading what counters have taken and handed back."""

from datetime import datetime
from uuid import UUID

from kiti.cash.model import CashRefund, Handout, Receipt
from kiti.db import Reader, load

sql = load("kiti.cash")


async def receipt_of_payment(reader: Reader, *, payment: UUID) -> Receipt | None:
    """The receipt for an attempt, if somebody has taken the money."""
    return await reader.maybe(sql.receipt_of_payment, Receipt, payment=payment)


async def receipt(reader: Reader, *, receipt: UUID) -> Receipt | None:
    """A receipt by its id."""
    return await reader.maybe(sql.receipt, Receipt, id=receipt)


async def receipts_between(reader: Reader, *, since: datetime, until: datetime) -> list[Receipt]:
    """Every receipt from `since` until before `until`."""
    return await reader.many(sql.receipts_between, Receipt, since=since, until=until)


async def handout(reader: Reader, *, booking: UUID, refund: UUID) -> Handout | None:
    """Who has handed back the money of a refund, if anybody has."""
    return await reader.maybe(sql.handout, Handout, booking=booking, refund=refund)


async def refund(reader: Reader, *, refund: UUID) -> CashRefund | None:
    """A refund in cash; None if it goes back another way."""
    return await reader.maybe(sql.refund, CashRefund, refund=refund)


async def handed_out_of(reader: Reader, *, transaction_id: str) -> list[CashRefund]:
    """Up to 50 refunds of a receipt that were handed out."""
    return await reader.many(sql.handed_out_of, CashRefund, transaction_id=transaction_id)
