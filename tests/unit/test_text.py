import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiti.core.errors import InvalidInput
from kiti.core.text import clean, email, phone, search_key


def test_names_are_trimmed_and_composed() -> None:
    assert clean("  Amina \u00a0 Nakato\n", field="name") == "Amina Nakato"
    assert clean("Rene\u0301", field="name") == "René"


@pytest.mark.parametrize("typed", ["a\u0000b", "a\u202eb", "a\u200bb", "\ufeffa"])
def test_characters_that_cannot_be_seen_are_refused(typed: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        clean(typed, field="passengers")
    assert refusal.value.field == "passengers"


def test_a_name_may_have_eighty_characters_and_no_more() -> None:
    assert clean("x" * 80, field="name") == "x" * 80
    with pytest.raises(InvalidInput):
        clean("x" * 81, field="name")


@given(typed=st.text(max_size=60))
def test_cleaning_twice_is_cleaning_once(typed: str) -> None:
    try:
        once = clean(typed, field="name", length=300)
    except InvalidInput:
        return
    assert clean(once, field="name", length=300) == once


@pytest.mark.parametrize("address", ["", "amina@example.com", "a.b+c@mail.example.co.ug"])
def test_addresses_that_mail_could_go_to(address: str) -> None:
    assert email(f" {address} ", field="email") == address


@pytest.mark.parametrize("address", ["amina", "amina@", "@example.com", "a@b", "a b@example.com", "a@@example.com"])
def test_addresses_that_it_could_not(address: str) -> None:
    with pytest.raises(InvalidInput):
        email(address, field="email")


@pytest.mark.parametrize(
    ("typed", "region", "number"),
    [
        ("", None, ""),
        ("+256 772 123456", None, "+256772123456"),
        ("0772-123-456", "UG", "+256772123456"),
        ("+254 (0)712 345678", None, "+254712345678"),
    ],
)
def test_phone_numbers_are_kept_as_e164(typed: str, region: str | None, number: str) -> None:
    assert phone(typed, field="phone", region=region) == number


@pytest.mark.parametrize("typed", ["0772123456", "+256", "call me", "+2567721234567890"])
def test_what_is_no_phone_number_is_refused(typed: str) -> None:
    with pytest.raises(InvalidInput):
        phone(typed, field="phone")


def test_people_find_places_without_capitals_and_accents() -> None:
    assert search_key("  Élan  Ñandú ") == "elan nandu"
    assert search_key("KAMPALA") == search_key("kampala")
