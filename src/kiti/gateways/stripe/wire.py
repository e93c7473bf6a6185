"""What Stripe's API says, and what that means to Kiti. Pure: no I/O.

Source: Stripe's API reference (docs.stripe.com/api) and its pages on currencies. Amounts are whole numbers of a unit
that is Stripe's own affair: mostly the ISO minor unit, but UGX goes in hundredths although it has none.
"""

from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from kiti.core.money import Money, UnknownCurrency, exponent
from kiti.gateways.gateway import (
    Authorised,
    Captured,
    Declined,
    GatewayRefund,
    Pending,
    RefundStatus,
    Truth,
    Unknown,
    UnreadableAmount,
)
from kiti.gateways.reading import printable

T = TypeVar("T")

# docs.stripe.com/currencies: digits after the decimal point that Stripe counts in.
EXPONENTS = {
    "AED": 2, "BIF": 0, "BWP": 2, "CDF": 2, "EGP": 2, "ETB": 2, "EUR": 2, "GBP": 2, "KES": 2, "MAD": 2, "MUR": 2,
    "MWK": 2, "MZN": 2, "NGN": 2, "RWF": 0, "TZS": 2, "UGX": 2, "USD": 2, "XAF": 0, "XOF": 0, "ZAR": 2, "ZMW": 2,
}  # fmt: skip

# Stripe takes amounts of up to eight digits; some currencies may have more, none may have these.
LARGEST_UNITS = 10**12
# Where a fee was kept in another currency than the charge, the share of it is not a finite decimal.
FEE_STEP = Decimal("0.000001")

# The names under which our ids travel in Stripe's metadata.
REFERENCE = "reference"
ANSWER = "answer"
ACCEPTED = "accepted"


class BalanceTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """What a charge did to our balance at Stripe, in the currency of the settlement."""

    id: str
    amount: int
    fee: int
    currency: str


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """The newest try of a PaymentIntent; its balance transaction is there once it is captured."""

    id: str
    balance_transaction: BalanceTransaction | str | None = None


class PaymentError(msgspec.Struct, frozen=True, kw_only=True):
    """Why the last try failed."""

    message: str | None = None
    code: str | None = None


class PaymentIntent(msgspec.Struct, frozen=True, kw_only=True):
    """A payment, from the page to the money. Its id is the transaction that Kiti knows."""

    id: str
    status: str
    currency: str
    amount: int
    created: int
    amount_capturable: int = 0
    amount_received: int = 0
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    latest_charge: Charge | str | None = None
    last_payment_error: PaymentError | None = None
    cancellation_reason: str | None = None

    @property
    def reference(self) -> str:
        """Our payment's id; empty for a payment that somebody else made through this account."""
        return printable(self.metadata.get(REFERENCE, ""))


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A hosted page. `payment_intent` is there once somebody has tried to pay."""

    id: str
    status: str | None = None
    url: str | None = None
    client_reference_id: str | None = None
    payment_intent: str | None = None


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """Money that goes back."""

    id: str
    amount: int
    currency: str
    status: str | None = None
    payment_intent: str | None = None
    metadata: dict[str, str] | None = None
    failure_reason: str | None = None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list."""

    data: list[dict[str, Any]]
    has_more: bool


def read(answer: dict[str, Any], shape: type[T]) -> T | Unknown:
    """An object in the shape that it must have, or Unknown."""
    try:
        return msgspec.convert(answer, shape)
    except msgspec.ValidationError as error:
        return Unknown(reason=f"an answer of another shape: {printable(str(error))}")


def to_units(amount: Money) -> int:
    """The amount as Stripe counts it: UGX 50000 is 5000000; raises UnknownCurrency."""
    shift = _exponent(amount.currency) - exponent(amount.currency)
    assert shift >= 0, "Stripe counts no currency more coarsely than ISO 4217"
    return int(amount.amount * 10**shift)


def from_units(units: int, currency: str) -> Money:
    """Stripe's amount in ISO minor units; raises ValueError if it is no whole number of them, UnknownCurrency."""
    minor = to_minor_exact(units, currency)
    if minor != minor.to_integral_value():
        raise ValueError(f"{units} {currency} is not a whole number of minor units")
    return Money(int(minor), currency.upper())


def to_minor_exact(units: int | Decimal, currency: str) -> Decimal:
    """The same, perhaps fractional; raises ValueError, UnknownCurrency."""
    if not 0 <= units < LARGEST_UNITS:
        raise ValueError(f"{units} is not an amount of money")
    code = currency.upper()
    return Decimal(units).scaleb(exponent(code) - _exponent(code))


def signed_exact(units: int, currency: str) -> Decimal:
    """The same for what moved a balance, up or down."""
    minor = to_minor_exact(abs(units), currency)
    return -minor if units < 0 else minor


def truth(intent: PaymentIntent, *, page_is_over: bool = False) -> Truth:
    """What a PaymentIntent's status means; raises UnreadableAmount for money that cannot be counted.

    There is no status for a decline: it goes back to `requires_payment_method`, and the traveller may try again for
    as long as the page is open.
    """
    match intent.status:
        case "succeeded":
            return _captured(intent)
        case "requires_capture":
            amount = _counted(intent, intent.amount_capturable)
            return Authorised(transaction_id=intent.id, reference=intent.reference, amount=amount)
        case "canceled":
            return _declined(intent)
        case "requires_payment_method" | "requires_confirmation" | "requires_action" if page_is_over:
            return _declined(intent)
        case "requires_payment_method" | "requires_confirmation" | "requires_action" | "processing":
            is_asked = intent.status == "requires_action"
            return Pending(transaction_id=intent.id, reference=intent.reference, requires_action=is_asked)
        case other:
            return Unknown(reason=f"a payment intent's status is {printable(other)!r}")


def refund(row: Refund) -> GatewayRefund | Unknown:
    """A refund in minor units; Unknown when its amount cannot be read."""
    try:
        amount = to_minor_exact(row.amount, row.currency)
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"refund {printable(row.id)}: {printable(str(error))}")
    status = refund_status(row.status)
    why = row.failure_reason or f"status {row.status}"
    return GatewayRefund(
        refund_id=row.id,
        transaction_id=row.payment_intent or "",
        reference=printable((row.metadata or {}).get(REFERENCE, "")),
        amount_exact=amount,
        status=status,
        failure_reason=printable(why) if status == "failed" else "",
    )


def refund_status(status: str | None) -> RefundStatus:
    """What the words mean; one that nobody knows is pending: no money is believed to be back because of it."""
    match status:
        case "succeeded":
            return "succeeded"
        case "failed" | "canceled":
            return "failed"
        case _:
            return "pending"


def _exponent(currency: str) -> int:
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise UnknownCurrency(f"{currency!r} is not a currency that Stripe is asked to take.") from None


def _captured(intent: PaymentIntent) -> Captured | Unknown:
    amount = _counted(intent, intent.amount_received)
    charge = intent.latest_charge
    kept = charge.balance_transaction if isinstance(charge, Charge) else None
    if not isinstance(kept, BalanceTransaction):
        return Unknown(reason="the money is taken, and Stripe does not tell its fee yet")
    try:
        fee = _fee(kept, intent)
    except (ValueError, UnknownCurrency) as error:
        raise _unreadable(intent, error) from error
    return Captured(transaction_id=intent.id, reference=intent.reference, amount=amount, fee_exact=fee)


def _fee(kept: BalanceTransaction, intent: PaymentIntent) -> Decimal:
    """What Stripe keeps, in minor units of the charge.

    Where the money was changed into another currency, the fee is too: it is the same part of both amounts.
    """
    if kept.currency.upper() == intent.currency.upper():
        return to_minor_exact(kept.fee, intent.currency)
    if kept.amount <= 0:
        raise ValueError(f"a charge that brought {kept.amount} {kept.currency}")
    part = Decimal(kept.fee) * intent.amount_received / kept.amount
    return to_minor_exact(part, intent.currency).quantize(FEE_STEP)


def _counted(intent: PaymentIntent, units: int) -> Money:
    try:
        return from_units(units, intent.currency)
    except (ValueError, UnknownCurrency) as error:
        raise _unreadable(intent, error) from error


def _unreadable(intent: PaymentIntent, error: Exception) -> UnreadableAmount:
    return UnreadableAmount(
        f"Stripe's payment {intent.id} has money, but: {printable(str(error))}. Look at it in Stripe's dashboard.",
        transaction_id=intent.id,
        reference=intent.reference,
    )


def _declined(intent: PaymentIntent) -> Declined:
    error = intent.last_payment_error
    said = (error.message or error.code) if error is not None else None
    reason = said or f"Stripe's payment was called off ({intent.cancellation_reason or 'its page is over'})"
    return Declined(transaction_id=intent.id, reference=intent.reference, reason=printable(reason))
