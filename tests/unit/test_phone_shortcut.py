"""Numbers that skip the full parser are exactly those that it would have left as they are."""

import phonenumbers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples

from kiti.core import text
from kiti.core.errors import InvalidInput

CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


def parsed(typed: str) -> str | None:
    """What the full parser makes of it; None where it refuses."""
    try:
        number = phonenumbers.parse(typed, None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@settings(max_examples=examples(500), deadline=None)
@given(st.sampled_from(CODES) | st.integers(1, 999), st.text("0123456789", min_size=2, max_size=13))
def test_the_shortcut_says_what_the_parser_says(code: int, national: str) -> None:
    typed = f"+{code}{national}"
    try:
        found: str | None = text.phone(typed, field="phone")
    except InvalidInput:
        found = None
    assert found == parsed(typed)
