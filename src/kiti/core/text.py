"""What people type: names, phone numbers, e-mail addresses. Cleaned once, at the border."""

import re
import unicodedata
from functools import cache

import phonenumbers

from kiti.core.errors import InvalidInput

NAME_LENGTH = 80
# What we speak with travellers, by ISO 639 code, each in its own name.
LANGUAGES = {"en": "English", "fr": "Français", "sw": "Kiswahili"}
EMAIL_LENGTH = 254
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")


def clean(text: str, *, field: str, length: int = NAME_LENGTH) -> str:
    """Trimmed, in NFC, single spaces; raises InvalidInput for control characters or too much text."""
    # ASCII is in NFC already.
    tidy = " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())
    # With single spaces as its only separators, what does not print is exactly Unicode's category C.
    if not tidy.isprintable():
        raise InvalidInput(field, "It has control characters or invisible ones in it. Type it again.")
    if len(tidy) > length:
        raise InvalidInput(field, f"It is longer than {length} characters. Shorten it.")
    return tidy


def email(text: str, *, field: str) -> str:
    """An address that mail could go to, or "" for none; raises InvalidInput."""
    address = clean(text, field=field, length=EMAIL_LENGTH)
    if address and not _EMAIL.fullmatch(address):
        raise InvalidInput(field, "This is no e-mail address. It looks like name@example.com.")
    return address


def phone(text: str, *, field: str, region: str | None = None) -> str:
    """A phone number in E.164 (+256772123456), or "" for none; raises InvalidInput.

    `region` (ISO 3166) is where a number without a country code is taken to be.
    """
    typed = clean(text, field=field, length=32)
    if not typed:
        return ""
    if _is_plain_e164(typed):
        return typed
    try:
        number = phonenumbers.parse(typed, region)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_possible_number(number):
        raise InvalidInput(field, "This is no phone number. Write it with the country code: +256 772 123456.")
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def calling_code(country: str) -> str:
    """What numbers of a country (ISO 3166) begin with, such as +256."""
    return f"+{phonenumbers.country_code_for_region(country)}"


def search_key(text: str) -> str:
    """Lower case without accents, for comparing what people type with what we call things."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(c for c in decomposed if not unicodedata.combining(c)).split())


def _is_plain_e164(typed: str) -> bool:
    """Whether `typed` is E.164 as it stands: a number that parsing would neither change nor refuse.

    Most clients send such numbers. The full parser weighs every way in which people write them, which costs more than
    the rest of checking a reservation; False only means that it has to decide.
    """
    if not _E164.fullmatch(typed):
        return False
    for digits in (1, 2, 3):  # country codes are prefix-free
        plan = _numbering_plan(typed[1 : 1 + digits])
        if plan is not None:
            lengths, national_prefix = plan
            national = typed[1 + digits :]
            return len(national) in lengths and not (national_prefix and national_prefix.match(national))
    return False


@cache
def _numbering_plan(country_code: str) -> tuple[frozenset[int], re.Pattern[str] | None] | None:
    """The possible lengths of national numbers, and what is dialled before them at home; None for no such code."""
    region = phonenumbers.region_code_for_country_code(int(country_code))
    metadata = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(int(country_code), region)
    if metadata is None or metadata.general_desc is None:
        return None
    prefix = metadata.national_prefix_for_parsing
    return frozenset(metadata.general_desc.possible_length), re.compile(prefix) if prefix else None
