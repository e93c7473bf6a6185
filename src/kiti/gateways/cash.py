"""The Gateway that is a counter: staff take the money, and what they have written down is the truth.

Gateways lie below the slices, so what the counters have written down is asked of a Till that the composition root hands
in. No network is involved; yet no verb may be called inside a transaction, for the till opens a connection of its own.
"""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Protocol

from kiti.core.money import Money
from kiti.db import assert_no_transaction
from kiti.gateways.gateway import (
    Capabilities,
    Captured,
    CheckoutOpened,
    CheckoutRequest,
    GatewayRefund,
    MalformedWebhook,
    Missing,
    RefundRequest,
    Rejected,
    Truth,
    Unknown,
    Unreadable,
    WebhookEvent,
)
from kiti.gateways.major_units import MajorUnits

# Notes and coins have the minor units of ISO 4217.
UNITS = MajorUnits(
    gateway="A counter",
    decimals={
        "AED": 2, "BIF": 0, "BWP": 2, "CDF": 2, "EGP": 2, "ETB": 2, "EUR": 2, "GBP": 2, "GHS": 2, "KES": 2, "MAD": 2,
        "MUR": 2, "MWK": 2, "MZN": 2, "NGN": 2, "RWF": 0, "SCR": 2, "SSP": 2, "TZS": 2, "UGX": 0, "USD": 2, "XAF": 0,
        "XOF": 0, "ZAR": 2, "ZMW": 2,
    },
)  # fmt: skip


class Till(Protocol):
    """What the counters have written down."""

    async def receipt_for(self, reference: str) -> Captured | None:
        """The money that was taken for a payment of ours."""

    async def receipt(self, transaction_id: str) -> Captured | None:
        """The money of one receipt."""

    async def receipts_on(self, day: date) -> list[Captured]:
        """All that was taken on a day, in UTC."""

    async def refund(self, refund_id: str) -> GatewayRefund | None:
        """A refund in cash: pending until it was handed out."""

    async def handed_out_of(self, transaction_id: str) -> list[GatewayRefund]:
        """The refunds of a receipt that were handed out."""


class Cash:
    """Attempts wait, without a page, until a counter takes the money; refunds wait until one hands it back."""

    name = "cash"
    capabilities = Capabilities(
        hosted_page=False,
        authorise_then_capture=False,
        idempotent_refund=True,
        link_expiry=False,
        refund_webhook=False,
        currencies=frozenset(UNITS.decimals),
        methods=frozenset({"CASH"}),
    )

    def __init__(self, till: Till) -> None:
        self._till = till

    async def open_checkout(self, request: CheckoutRequest) -> CheckoutOpened | Rejected | Unknown:
        """Nothing has to be asked of anybody: the attempt waits for a counter until the hold is over."""
        assert_no_transaction()
        if request.method != "CASH":
            return Rejected(reason="a counter takes cash only")
        return CheckoutOpened(url=None)

    async def close_checkout(self, url: str) -> bool:  # noqa: ARG002 - there is no page
        """Always False: there is no page."""
        return False

    async def lookup(self, reference: str) -> Truth:
        """Captured once a receipt is written, else Missing: nobody has begun to pay until they have paid."""
        assert_no_transaction()
        return await self._till.receipt_for(reference) or Missing()

    async def verify(self, transaction_id: str) -> Truth:
        """The truth about a receipt."""
        assert_no_transaction()
        return await self._till.receipt(transaction_id) or Missing()

    async def captured_on(self, day: date) -> list[Captured | Unreadable] | Unknown:
        """Every receipt of a day."""
        assert_no_transaction()
        return [*await self._till.receipts_on(day)]

    async def refund(self, request: RefundRequest) -> GatewayRefund | Rejected | Unknown:
        """Pending until a counter hands the money out; our refund's id is the gateway's."""
        told = await self.refund_status(request.reference)
        if isinstance(told, Missing):
            return Rejected(reason="no counter knows this refund")
        return told

    async def list_refunds(self, transaction_id: str) -> list[GatewayRefund] | Unknown:
        """The refunds of a receipt that were handed out."""
        assert_no_transaction()
        return await self._till.handed_out_of(transaction_id)

    async def refund_status(self, refund_id: str) -> GatewayRefund | Missing | Unknown:
        """Succeeded once it was handed out."""
        assert_no_transaction()
        return await self._till.refund(refund_id) or Missing()

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:  # noqa: ARG002 - nobody may send any
        """Never: a counter sends no webhooks."""
        return False

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:  # noqa: ARG002 - as above
        """Raises MalformedWebhook."""
        raise MalformedWebhook("a counter sends no webhooks")

    def to_wire(self, amount: Money) -> Decimal:
        """Major units, as notes and coins have them."""
        return UNITS.to_wire(amount)

    def from_wire(self, amount: Decimal | int | str, currency: str) -> Money:
        """Major units in minor units; raises ValueError if they are not whole, UnknownCurrency."""
        return UNITS.from_wire(amount, currency)

    async def close(self) -> None:
        """There is nothing to let go of."""
