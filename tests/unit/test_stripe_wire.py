"""What Stripe's words and numbers mean."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiti.core.money import EXPONENTS as ISO
from kiti.core.money import Money, UnknownCurrency
from kiti.gateways.gateway import (
    Authorised,
    Captured,
    Declined,
    Pending,
    Truth,
    Unknown,
    UnreadableAmount,
)
from kiti.gateways.stripe import wire

INTENT = {
    "id": "pi_1",
    "status": "succeeded",
    "currency": "ugx",
    "amount": 5_000_000,
    "amount_received": 5_000_000,
    "created": 1_800_000_000,
    "metadata": {"reference": "ref-1"},
    "latest_charge": {
        "id": "ch_1",
        "balance_transaction": {"id": "txn_1", "amount": 5_000_000, "fee": 145_050, "currency": "ugx"},
    },
}


def truth(*, page_is_over: bool = False, **changes: Any) -> Truth:
    return wire.truth(msgspec.convert({**INTENT, **changes}, wire.PaymentIntent), page_is_over=page_is_over)


def settled(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {"id": "txn_1", "amount": 5_000_000, "fee": 145_000, "currency": "ugx", **changes}
    return {"id": "ch_1", "balance_transaction": whole}


@given(st.sampled_from(sorted(wire.EXPONENTS)), st.integers(min_value=0, max_value=10**9))
def test_every_amount_comes_back_as_it_went(currency: str, amount: int) -> None:
    money = Money(amount, currency)
    assert wire.from_units(wire.to_units(money), currency.lower()) == money


def test_the_table_is_stripes_own_and_says_of_every_currency_that_kiti_sells_in() -> None:
    assert set(wire.EXPONENTS) <= set(ISO)
    assert {code for code in wire.EXPONENTS if wire.EXPONENTS[code] != ISO[code]} == {"UGX"}
    assert all(wire.to_units(Money(amount, "UGX")) % 100 == 0 for amount in (1, 7, 50_001))


@pytest.mark.parametrize(("units", "currency"), [(150, "ugx"), (1, "ugx"), (-1, "kes"), (10**12, "kes")])
def test_what_is_no_whole_amount_is_refused(units: int, currency: str) -> None:
    with pytest.raises(ValueError, match=str(abs(units))):
        wire.from_units(units, currency)


@pytest.mark.parametrize("currency", ["jpy", "scr", "", "gold"])
def test_a_currency_without_an_exponent_is_not_guessed(currency: str) -> None:
    with pytest.raises(UnknownCurrency):
        wire.to_minor_exact(100, currency)


def test_a_captured_payment_has_its_fee_in_minor_units_however_small() -> None:
    assert truth() == Captured(
        transaction_id="pi_1", reference="ref-1", amount=Money(50_000, "UGX"), fee_exact=Decimal("1450.5")
    )


def test_a_fee_that_was_kept_in_another_currency_is_the_same_part_of_the_charge() -> None:
    """UGX 50,000 became USD 13.50, of which Stripe kept 0.70."""
    found = truth(latest_charge=settled(amount=1_350, fee=70, currency="usd"))
    assert isinstance(found, Captured)
    assert found.fee_exact == Decimal("2592.592593")


@pytest.mark.parametrize("charge", [None, "ch_1", {"id": "ch_1"}, {"id": "ch_1", "balance_transaction": "txn_1"}])
def test_money_whose_fee_is_not_told_yet_is_asked_about_again(charge: Any) -> None:
    assert isinstance(truth(latest_charge=charge), Unknown)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_received": 5_000_050},
        {"amount_received": -100},
        {"currency": "jpy"},
        {"latest_charge": settled(currency="usd", amount=0)},
        {"status": "requires_capture", "amount_capturable": 150},
    ],
    ids=str,
)
def test_money_that_cannot_be_counted_is_for_a_person(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableAmount) as caught:
        truth(**changes)
    assert (caught.value.transaction_id, caught.value.reference) == ("pi_1", "ref-1")


def test_a_payment_that_waits_for_its_capture_is_authorised() -> None:
    found = truth(status="requires_capture", amount_capturable=5_000_000, amount_received=0)
    assert found == Authorised(transaction_id="pi_1", reference="ref-1", amount=Money(50_000, "UGX"))


@pytest.mark.parametrize("status", ["requires_payment_method", "requires_confirmation", "requires_action"])
def test_a_payment_that_may_be_tried_again_ends_with_its_page(status: str) -> None:
    open_page = truth(status=status)
    assert open_page == Pending(transaction_id="pi_1", reference="ref-1", requires_action=status == "requires_action")
    assert isinstance(truth(status=status, page_is_over=True), Declined)


def test_what_is_in_process_is_pending_whatever_the_page() -> None:
    assert isinstance(truth(status="processing", page_is_over=True), Pending)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"last_payment_error": {"message": "Your card was declined."}}, "Your card was declined."),
        ({"last_payment_error": {"code": "card_declined"}}, "card_declined"),
        ({"cancellation_reason": "automatic"}, "Stripe's payment was called off (automatic)"),
        ({}, "Stripe's payment was called off (its page is over)"),
    ],
)
def test_the_reason_of_a_decline_is_told(changes: dict[str, Any], said: str) -> None:
    found = truth(status="canceled", **changes)
    assert isinstance(found, Declined)
    assert found.reason == said


def test_a_status_that_nobody_knows_is_unknown() -> None:
    assert isinstance(truth(status="flying"), Unknown)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        ("pending", "pending"),
        ("requires_action", "pending"),
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("canceled", "failed"),
        (None, "pending"),
        ("flying", "pending"),
    ],
)
def test_a_refund_is_only_out_when_stripe_says_so(status: str | None, meaning: str) -> None:
    assert wire.refund_status(status) == meaning


def test_a_refund_that_cannot_be_counted_is_unknown() -> None:
    assert isinstance(wire.refund(wire.Refund(id="re_1", amount=5, currency="jpy")), Unknown)
