from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiti.core.money import EXPONENTS, CurrencyMismatch, Money, UnknownCurrency, exponent, round_to_minor

AMOUNTS = st.integers(-(10**15), 10**15)
CURRENCIES = st.sampled_from(sorted(EXPONENTS))


def test_shillings_of_uganda_have_no_cents_and_those_of_kenya_do() -> None:
    assert Money(50_000, "UGX").major() == Decimal(50_000)
    assert Money(150_000, "KES").major() == Decimal("1500.00")


@given(amount=AMOUNTS, currency=CURRENCIES)
def test_major_units_are_exact(amount: int, currency: str) -> None:
    assert Money(amount, currency).major() * 10 ** exponent(currency) == amount


@given(left=AMOUNTS, right=AMOUNTS, currency=CURRENCIES)
def test_amounts_of_one_currency_add_up(left: int, right: int, currency: str) -> None:
    assert Money(left, currency) + Money(right, currency) == Money(left + right, currency)


def test_amounts_of_two_currencies_do_not() -> None:
    with pytest.raises(CurrencyMismatch, match="Cannot add KES to UGX"):
        Money(1, "UGX") + Money(1, "KES")


def test_a_currency_that_is_not_sold_in_is_named() -> None:
    with pytest.raises(UnknownCurrency, match="'BTC'"):
        Money(1, "BTC").major()


@pytest.mark.parametrize(
    ("money", "locale", "written"),
    [
        (Money(50_000, "UGX"), "en", "UGX\u00a050,000"),
        (Money(150_000, "KES"), "en", "KES\u00a01,500"),
        (Money(150_050, "KES"), "en", "KES\u00a01,500.50"),
        (Money(0, "TZS"), "en", "TZS\u00a00"),
        (Money(1_234_567, "UGX"), "fr", "UGX\u00a01\u202f234\u202f567"),
    ],
)
def test_amounts_are_written_as_people_of_the_place_do(money: Money, locale: str, written: str) -> None:
    assert money.format(locale) == written


@pytest.mark.parametrize(("exact", "rounded"), [("0.5", 0), ("1.5", 2), ("2.5", 2), ("0.58", 1), ("-0.5", 0)])
def test_fractions_of_a_minor_unit_are_rounded_half_to_even(exact: str, rounded: int) -> None:
    assert round_to_minor(Decimal(exact)) == rounded
