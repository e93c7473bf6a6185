"""What people type: names, phone numbers, e-mail addresses. Cleaned once, at the border."""

import re
import unicodedata

import phonenumbers

from kiti.core.errors import InvalidInput

NAME_LENGTH = 80
EMAIL_LENGTH = 254
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")


def clean(text: str, *, field: str, length: int = NAME_LENGTH) -> str:
    """Trimmed, in NFC, single spaces; raises InvalidInput for control characters or too much text."""
    tidy = " ".join(unicodedata.normalize("NFC", text).split())
    if any(unicodedata.category(character)[0] == "C" for character in tidy):
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
    try:
        number = phonenumbers.parse(typed, region)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_possible_number(number):
        raise InvalidInput(field, "This is no phone number. Write it with the country code: +256 772 123456.")
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def search_key(text: str) -> str:
    """Lower case without accents, for comparing what people type with what we call things."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(c for c in decomposed if not unicodedata.combining(c)).split())
