"""Money: integer minor units of an ISO 4217 currency, never a float, also while formatting."""

from collections.abc import Hashable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TypeVar

import msgspec
from babel.numbers import format_currency

from kiti.core.errors import KitiError

Whose = TypeVar("Whose", bound=Hashable)

# ISO 4217, amendment 177: digits after the decimal point of the minor unit.
EXPONENTS = {
    "AED": 2, "BIF": 0, "BWP": 2, "CDF": 2, "EGP": 2, "ETB": 2, "EUR": 2, "GBP": 2, "GHS": 2, "KES": 2,
    "MAD": 2, "MUR": 2, "MWK": 2, "MZN": 2, "NGN": 2, "RWF": 0, "SCR": 2, "SSP": 2, "TZS": 2, "UGX": 0,
    "USD": 2, "XAF": 0, "XOF": 0, "ZAR": 2, "ZMW": 2,
}  # fmt: skip


class UnknownCurrency(KitiError):
    """The currency is not one that Kiti knows the minor unit of."""


class CurrencyMismatch(KitiError):
    """Two amounts in different currencies cannot be added or compared."""


class Money(msgspec.Struct, frozen=True, order=False):
    """An amount in minor units: UGX 50000 is `Money(50000, "UGX")`, KES 1,500.00 is `Money(150000, "KES")`."""

    amount: int
    currency: str

    def __add__(self, other: "Money") -> "Money":
        """Add an amount of the same currency; raises CurrencyMismatch."""
        if other.currency != self.currency:
            raise CurrencyMismatch(f"Cannot add {other.currency} to {self.currency}.")
        return Money(self.amount + other.amount, self.currency)

    def major(self) -> Decimal:
        """The amount in major units, exactly: KES 150000 is Decimal("1500.00")."""
        return Decimal(self.amount).scaleb(-exponent(self.currency))

    def format(self, locale: str) -> str:
        """As a person in `locale` writes it: "UGX 50,000"; a plain space never breaks the line."""
        pattern = "¤¤\u00a0#,##0" if exponent(self.currency) == 0 or self.is_whole() else "¤¤\u00a0#,##0.00"
        return format_currency(self.major(), self.currency, pattern, locale=locale, currency_digits=False)

    def is_whole(self) -> bool:
        """Whether there is no fraction of a major unit."""
        return self.amount % int(10 ** exponent(self.currency)) == 0


def exponent(currency: str) -> int:
    """Digits of the minor unit; raises UnknownCurrency."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise UnknownCurrency(f"{currency!r} is not a currency that Kiti sells in.") from None


def round_to_minor(exact: Decimal) -> int:
    """A possibly fractional number of minor units, rounded half to even."""
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def half_even(dividend: int, divisor: int) -> int:
    """A quotient of integers, rounded half to even; `divisor` is above zero. Integers only, however large."""
    assert divisor > 0, "nothing to divide by"
    whole, rest = divmod(dividend, divisor)
    return whole + (2 * rest > divisor or (2 * rest == divisor and whole % 2 == 1))


def share_out(total: int, *, weights: Mapping[Whose, int]) -> dict[Whose, int]:
    """Split `total` by `weights` so that the parts add up to it (largest remainder, ties by order)."""
    whole = sum(weights.values())
    assert whole > 0, "nothing to weigh by"
    parts = {owner: total * weight // whole for owner, weight in weights.items()}
    rest = total - sum(parts.values())
    by_remainder = sorted(weights, key=lambda owner: -(total * weights[owner] % whole))
    for owner in by_remainder[:rest]:
        parts[owner] += 1
    return parts
