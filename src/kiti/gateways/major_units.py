"""Amounts as decimals in major units, the way some gateways write them. Pure: no I/O.

Which currencies a gateway knows, and how many decimals it takes of each, is its own affair: each brings its table.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import msgspec

from kiti.core.money import Money, UnknownCurrency, exponent

# The longest amount that is still money; a JSON number such as 1e400 is not.
LARGEST_MAJOR = Decimal(10) ** 15


class MajorUnits(msgspec.Struct, frozen=True, kw_only=True):
    """How one gateway writes money: its name for messages, and the decimals that it takes of each currency."""

    gateway: str
    decimals: Mapping[str, int]

    def to_wire(self, amount: Money) -> Decimal:
        """Major units, exactly: KES 150050 is Decimal("1500.5"), UGX 50000 is Decimal("50000").

        Raises ValueError if the gateway has no decimals for it, UnknownCurrency.
        """
        most = self._decimals(amount.currency)
        major = amount.major()
        wire = major.quantize(Decimal(1)) if amount.is_whole() else major.normalize()
        if -int(wire.as_tuple().exponent) > most:
            raise ValueError(f"{wire} {amount.currency} has more decimals than {self.gateway} takes")
        return wire

    def from_wire(self, amount: Decimal | int | str, currency: str) -> Money:
        """Major units in ISO minor units; raises ValueError if that is no whole number, UnknownCurrency."""
        minor = self.to_minor_exact(amount, currency)
        if minor != minor.to_integral_value():
            raise ValueError(f"{amount} {currency} is not a whole number of minor units")
        return Money(int(minor), currency)

    def to_minor_exact(self, amount: Decimal | int | str, currency: str) -> Decimal:
        """Major units in minor units, exactly, perhaps fractional; raises ValueError, UnknownCurrency."""
        self._decimals(currency)
        try:
            major = Decimal(amount)
        except InvalidOperation:
            raise ValueError(f"{amount!r} is not a number") from None
        if not major.is_finite() or not 0 <= major < LARGEST_MAJOR:
            raise ValueError(f"{amount!r} is not an amount of money")
        minor = major.scaleb(exponent(currency))
        if minor.scaleb(-exponent(currency)) != major:
            raise ValueError(f"{amount!r} has more digits than can be reckoned with")
        return minor

    def signed_exact(self, amount: Decimal, currency: str) -> Decimal:
        """The same for an amount that may be below zero, such as what a settlement pays."""
        minor = self.to_minor_exact(abs(amount), currency)
        return -minor if amount < 0 else minor

    def _decimals(self, currency: str) -> int:
        try:
            return self.decimals[currency]
        except KeyError:
            raise UnknownCurrency(f"{currency!r} is not a currency that {self.gateway} is asked to take.") from None
