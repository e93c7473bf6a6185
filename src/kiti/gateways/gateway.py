"""What Kiti asks of a payment gateway, and the closed set of answers it reckons with.

Every call that moves money carries a reference of ours that was written down before. Every answer may be
"we don't know": a time-out, a broken connection, a 5xx. Then we ask with `lookup`, never by repeating the call.
Amounts are `Money` in ISO minor units on this side; each adapter has its own codec for the wire.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, Protocol, runtime_checkable

import msgspec

from kiti.core.errors import KitiError
from kiti.core.money import Money

Method = Literal["CARD", "MOBILE_MONEY", "BANK_TRANSFER", "USSD", "CASH"]


class MalformedWebhook(KitiError):
    """The body is authentic but of no shape that the gateway is known to send."""


class UnreadableAmount(KitiError):
    """The gateway has captured money, but the amount it tells is none that Kiti can hold.

    An unknown currency, a fraction of a minor unit, no number at all: rounding would lose money and `Unknown`
    would ask forever, so `lookup` and `verify` raise this and a person reviews the payment.
    """

    def __init__(self, message: str, *, transaction_id: str, reference: str) -> None:
        super().__init__(message)
        self.transaction_id = transaction_id
        self.reference = reference


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway can do, so that flows ask instead of naming providers."""

    hosted_page: bool
    authorise_then_capture: bool
    idempotent_refund: bool
    link_expiry: bool
    refund_webhook: bool
    currencies: frozenset[str]
    methods: frozenset[Method]
    # The currencies of a method that not all of `currencies` have; a method that is not named has them all.
    method_currencies: Mapping[Method, frozenset[str]] = {}

    def takes(self, method: Method, currency: str) -> bool:
        """Whether this method can be paid with in this currency."""
        known = currency in self.currencies and method in self.methods
        return known and currency in self.method_currencies.get(method, self.currencies)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a payment that the gateway settles to an operator's subaccount; the rest is the platform's."""

    subaccount_id: str
    amount: Money


class CheckoutRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A page to pay on. `reference` is the payment's id; `session_minutes` is how long the page stays open."""

    reference: str
    amount: Money
    method: Method
    customer_email: str
    customer_name: str
    customer_phone: str
    return_url: str
    session_minutes: int
    description: str
    shares: tuple[Share, ...] = ()


class CheckoutOpened(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway has taken the request; the traveller pays at `url`, or without a page where it is None."""

    url: str | None


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway has certainly not done it, and says why."""

    reason: str


class Unavailable(Rejected, frozen=True, kw_only=True):
    """Certainly not done either, for a reason that lies with the gateway or with us and not with this payment.

    Nothing was sent because its circuit is open, or it refuses our key. Another gateway may do it, or this one later.
    """


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """It may have happened or not; `reason` is for the log. Ask again later."""

    reason: str


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway has the traveller's money: its transaction, what it took, what it keeps.

    `amount` is what was asked for (never the charged amount, which may include a fee that the customer bears).
    `fee_exact` is in minor units and may be a fraction of one.
    """

    transaction_id: str
    reference: str
    amount: Money
    fee_exact: Decimal


class Declined(msgspec.Struct, frozen=True, kw_only=True):
    """This transaction failed for good."""

    transaction_id: str
    reference: str
    reason: str


class Authorised(msgspec.Struct, frozen=True, kw_only=True):
    """The traveller's bank keeps the money ready: it is ours once it is captured, theirs again once that is cancelled.

    Only a gateway that is Authorising tells of it.
    """

    transaction_id: str
    reference: str
    amount: Money


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """The traveller or the bank has not decided yet. `transaction_id` is empty where none exists yet.

    `requires_action`: the traveller is before a question of their bank's.
    """

    transaction_id: str
    reference: str
    requires_action: bool = False


class Missing(msgspec.Struct, frozen=True):
    """The gateway knows no such transaction (yet: nobody may have opened the page)."""


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """Captured money whose amount is none that Kiti can hold; see UnreadableAmount."""

    transaction_id: str
    reference: str
    reason: str


Truth = Captured | Authorised | Declined | Pending | Missing | Unknown

RefundStatus = Literal["pending", "succeeded", "failed"]


class RefundRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Give back `amount` of the transaction; `reference` (our refund's id) is put where the gateway shows it again.

    `instead_of` is the gateway's id of a refund of ours that failed and that a person sends once more: a gateway that
    answers a known idempotency key as before needs another one then.
    """

    reference: str
    transaction_id: str
    amount: Money
    instead_of: str = ""


class GatewayRefund(msgspec.Struct, frozen=True, kw_only=True):
    """A refund as the gateway tells it. `reference` is ours, empty where the gateway does not carry it."""

    refund_id: str
    transaction_id: str
    reference: str
    amount_exact: Decimal  # in minor units
    status: RefundStatus
    failure_reason: str


class WebhookEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook is about: a hint where to look, never a fact.

    `reference` is our payment's id (or empty), `transaction_id` and `refund_id` the gateway's.
    Effects are the same when `dedupe_key` is.
    """

    dedupe_key: str
    kind: Literal["charge", "refund", "transfer", "dispute", "other"]
    reference: str
    transaction_id: str
    refund_id: str


class DirectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask a phone to approve a payment. `reference` is the payment's id, `phone` E.164."""

    reference: str
    amount: Money
    phone: str
    customer_email: str
    customer_name: str
    return_url: str


class Prompted(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway has taken the charge: the traveller approves on the phone.

    `url` is where they have to be sent for that first, None where the phone asks by itself.
    """

    url: str | None


@runtime_checkable
class DirectCharges(Protocol):
    """A gateway that can ask a phone to approve a mobile money payment, without a page of its own."""

    def direct_countries(self, currency: str) -> frozenset[str]:
        """The countries (ISO 3166) whose phones can be asked to pay in this currency; none: it cannot be done."""

    def objection_to_phone(self, phone: str, *, currency: str) -> str | None:
        """Why this number (E.164) cannot be asked to pay in this currency, as a sentence; None: it can."""

    async def charge(self, request: DirectRequest) -> Prompted | Rejected | Unknown:
        """Have the phone asked. After Unknown call `lookup`, never this again."""


@runtime_checkable
class FeeQuotes(Protocol):
    """A gateway that tells before a payment what it will keep of it."""

    async def fee_of(self, amount: Money) -> Decimal | Rejected | Unknown:
        """The gateway's fee for taking this amount, in minor units, perhaps a fraction of one."""


@runtime_checkable
class Guarded(Protocol):
    """A gateway that is left alone for a while when it does not answer."""

    def is_resting(self) -> bool:
        """Whether a call now would not even be sent, because the last ones failed; no I/O."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """Where an operator's money goes.

    `bank` is the gateway's code of a bank or of a mobile money network, `account` the number there; for `connected`
    `account` is the operator's account at the gateway itself and `bank` is empty. `country` is ISO 3166, two letters.
    """

    kind: Literal["bank", "mobile_money", "connected"]
    country: str
    bank: str
    account: str
    name: str


class PayoutRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Send `amount` to an operator; `reference` is ours, unique, and written down before."""

    reference: str
    amount: Money
    destination: Destination
    narration: str


PayoutStatus = Literal["pending", "succeeded", "failed"]


class GatewayPayout(msgspec.Struct, frozen=True, kw_only=True):
    """A payout as the gateway tells it; amounts are in minor units and the fee comes on top."""

    payout_id: str
    reference: str
    amount_exact: Decimal
    fee_exact: Decimal
    status: PayoutStatus
    failure_reason: str


@runtime_checkable
class Payouts(Protocol):
    """A gateway that can send money to operators."""

    async def pay_out(self, request: PayoutRequest) -> GatewayPayout | Rejected | Unknown:
        """Send money. After Unknown call `find_payout` before asking again."""

    async def find_payout(self, reference: str) -> GatewayPayout | Missing | Unknown:
        """How far the payout of our reference has come."""


class SubaccountRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's account at the gateway; `platform_percent` of each payment stays with the platform."""

    destination: Destination
    platform_percent: Decimal
    email: str
    phone: str


class Subaccount(msgspec.Struct, frozen=True, kw_only=True):
    """The same as the gateway tells it; `subaccount_id` is what a Share names."""

    subaccount_id: str
    bank: str
    account: str
    name: str
    platform_percent: Decimal


@runtime_checkable
class Subaccounts(Protocol):
    """A gateway that can settle parts of a payment to operators by itself."""

    async def open_subaccount(self, request: SubaccountRequest) -> Subaccount | Rejected | Unknown:
        """Open an account for an operator. After Unknown look for it in `subaccounts` before asking again."""

    async def subaccounts(self) -> list[Subaccount] | Unknown:
        """All of them."""


class SettlementLine(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction within a settlement, in minor units; `reference` is ours, or empty."""

    transaction_id: str
    reference: str
    gross_exact: Decimal
    fee_exact: Decimal


class GatewaySettlement(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway paid into our bank account, in minor units.

    net = gross - fee - refunds - chargebacks - cost - payout. `cost_exact` is what it kept for no payment, such as a
    fee for a dispute; `payout_exact` what it sent to operators for us, which is in our books as a payout.
    """

    settlement_id: str
    day: date
    currency: str
    gross_exact: Decimal
    fee_exact: Decimal
    refund_exact: Decimal
    chargeback_exact: Decimal
    net_exact: Decimal
    is_paid: bool
    lines: tuple[SettlementLine, ...]
    cost_exact: Decimal = Decimal(0)
    payout_exact: Decimal = Decimal(0)
    # The gateway's refunds and disputes that it held back in this one, where it names them.
    refund_ids: tuple[str, ...] = ()
    dispute_ids: tuple[str, ...] = ()


@runtime_checkable
class Settlements(Protocol):
    """A gateway that tells what it paid into our bank account."""

    async def settlements_between(self, first: date, last: date) -> list[GatewaySettlement] | Unknown:
        """All settlements of these days, both included, with their lines; or Unknown."""


DisputeStatus = Literal["open", "won", "lost", "accepted"]


class GatewayDispute(msgspec.Struct, frozen=True, kw_only=True):
    """A traveller's bank wants money back. `answer_by` is None where the gateway names no end."""

    dispute_id: str
    transaction_id: str
    reference: str
    amount: Money
    status: DisputeStatus
    reason: str
    answer_by: datetime | None


@runtime_checkable
class Disputes(Protocol):
    """A gateway that tells of disputes (chargebacks) and takes our answer."""

    async def disputes_between(self, first: date, last: date) -> list[GatewayDispute] | Unknown:
        """All disputes that were opened on these days, both included; or Unknown."""

    async def answer_dispute(
        self, dispute_id: str, *, accept: bool, comment: str
    ) -> GatewayDispute | Rejected | Unknown:
        """Give in, or contest with a comment; asking again with the same answer does no harm."""


@runtime_checkable
class Authorising(Protocol):
    """A gateway whose pages only authorise: nothing is taken before somebody asks for it."""

    async def capture(self, transaction_id: str, *, reference: str, amount: Money) -> Captured | Rejected | Unknown:
        """Take what was authorised; asking again does no harm. After Unknown and Rejected `verify` tells the truth."""

    async def cancel(self, transaction_id: str, *, reference: str) -> Declined | Rejected | Unknown:
        """Let go of what was authorised; likewise."""


class Gateway(Protocol):
    """A payment provider. What only some can do stands in the Protocols above."""

    name: str
    capabilities: Capabilities

    async def open_checkout(self, request: CheckoutRequest) -> CheckoutOpened | Rejected | Unknown:
        """Make a hosted page for one payment."""

    async def close_checkout(self, url: str) -> bool:
        """Make the page unusable; False where the gateway would not or could not say."""

    async def lookup(self, reference: str) -> Truth:
        """The truth about our reference, a captured transaction first; raises UnreadableAmount."""

    async def verify(self, transaction_id: str) -> Truth:
        """The truth about one of the gateway's transactions; raises UnreadableAmount."""

    async def captured_on(self, day: date) -> list[Captured | Unreadable] | Unknown:
        """Every transaction of a day, by the gateway's calendar, that took money; all of them, or Unknown."""

    async def refund(self, request: RefundRequest) -> GatewayRefund | Rejected | Unknown:
        """Ask for money to go back. After Unknown call `list_refunds` before asking again."""

    async def list_refunds(self, transaction_id: str) -> list[GatewayRefund] | Unknown:
        """Every refund that the gateway has for a transaction."""

    async def refund_status(self, refund_id: str) -> GatewayRefund | Missing | Unknown:
        """How far a refund has come."""

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether the raw webhook is from the gateway; constant time, no I/O. Header names are lower case."""

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """What an authentic webhook is about; raises MalformedWebhook."""

    def to_wire(self, amount: Money) -> Decimal:
        """The amount as the gateway writes it."""

    def from_wire(self, amount: Decimal | int | str, currency: str) -> Money:
        """The gateway's amount in ISO minor units; raises ValueError if it is not a whole number of them."""

    async def close(self) -> None:
        """Let go of connections."""
