"""What one minor unit, and a thousand, are on the wire of each gateway: each has a table of its own."""

from decimal import Decimal

import pytest

from kiti.core.money import EXPONENTS, Money, UnknownCurrency
from kiti.gateways import cash
from kiti.gateways.flutterwave import methods
from kiti.gateways.flutterwave import wire as v3
from kiti.gateways.flutterwave_v4 import wire as v4
from kiti.gateways.major_units import MajorUnits
from kiti.gateways.stripe import wire as stripe

WITHOUT_DECIMALS = {"BIF", "RWF", "UGX", "XAF", "XOF"}


def assert_major_units(units: MajorUnits) -> None:
    for currency in units.decimals:
        one, thousand = ("1", "1000") if currency in WITHOUT_DECIMALS else ("0.01", "10")
        assert units.to_wire(Money(1, currency)) == Decimal(one)
        assert str(units.to_wire(Money(1_000, currency))) == thousand
        assert units.from_wire(one, currency) == Money(1, currency)
        with pytest.raises(ValueError, match="whole number"):
            units.from_wire(Decimal(one) / 2, currency)
    with pytest.raises(UnknownCurrency, match="JPY"):
        units.to_wire(Money(1, "JPY"))


def test_flutterwave_v3_writes_major_units() -> None:
    assert_major_units(v3.UNITS)
    assert set(v3.UNITS.decimals) >= methods.CURRENCIES


def test_flutterwave_v4_writes_major_units_of_the_currencies_that_it_is_asked_to_take() -> None:
    assert_major_units(v4.UNITS)
    with pytest.raises(UnknownCurrency, match="ETB"):
        v4.UNITS.from_wire("1", "ETB")


def test_a_counter_counts_in_notes_and_coins() -> None:
    assert_major_units(cash.UNITS)
    assert set(cash.UNITS.decimals) == set(EXPONENTS)


def test_stripe_counts_in_units_of_its_own_and_ugx_in_hundredths() -> None:
    for currency in stripe.EXPONENTS:
        units = 100 if currency == "UGX" else 1
        assert stripe.to_units(Money(1, currency)) == units
        assert stripe.from_units(1_000 * units, currency.lower()) == Money(1_000, currency)
    with pytest.raises(ValueError, match="whole number"):
        stripe.from_units(150, "ugx")


def test_a_gateway_that_takes_fewer_decimals_than_iso_has_refuses_what_it_cannot_write() -> None:
    coarse = MajorUnits(gateway="Coarse", decimals={"KES": 0})
    assert coarse.to_wire(Money(15_000, "KES")) == 150
    with pytest.raises(ValueError, match="more decimals than Coarse takes"):
        coarse.to_wire(Money(15_050, "KES"))
