"""Receipts for cash, and cash that was handed back."""

from datetime import datetime
from uuid import UUID

import msgspec

LONGEST_COUNTER = 80


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Cash that somebody took for an attempt to pay; `amount` in minor units, `number` is read aloud."""

    booking_id: UUID
    id: UUID
    payment_id: UUID
    number: str
    amount: int
    currency: str
    staff_id: UUID
    counter: str
    taken_at: datetime


class Handout(msgspec.Struct, frozen=True, kw_only=True):
    """Cash that somebody handed back for a refund."""

    booking_id: UUID
    refund_id: UUID
    staff_id: UUID
    counter: str
    handed_at: datetime


class CashRefund(msgspec.Struct, frozen=True, kw_only=True):
    """A refund in cash, whether handed out or not; `amount` in minor units."""

    refund_id: UUID
    transaction_id: str
    amount: int
    is_handed_out: bool
