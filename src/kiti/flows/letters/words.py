"""The words of letters in each language: catalogues compiled once, and the alphabet of text messages."""

import io
import unicodedata
from datetime import date
from functools import cache
from importlib import resources
from typing import Any

from babel import Locale
from babel.dates import format_date
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

from kiti.core.text import LANGUAGES

DEFAULT = "en"
# 3GPP TS 23.038, the default alphabet; those of the second line count for two.
GSM7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_DOUBLE = frozenset("^{}\\[~]|€\f")
# What is written differently on paper only.
PLAIN = str.maketrans(dict(zip("\u2013\u2014\u2019\u2018\u201c\u201d\u00ab\u00bb", '--\'\'""""', strict=True)))


class Words:
    """The words and formats of one language."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.locale = Locale(language)
        self._catalogue = _catalogue(language)

    def gettext(self, message: str) -> str:
        """The message in this language; its values go in afterwards."""
        return str(self._catalogue.gettext(message))

    def ngettext(self, one: str, many: str, number: int) -> str:
        """The form of the message that goes with `number`."""
        return str(self._catalogue.ngettext(one, many, number))

    def say(self, message: str, **values: Any) -> str:
        """The message with values in their places."""
        return self.gettext(message) % values

    def day(self, moment: date) -> str:
        """Tuesday 24 November 2026."""
        return str(format_date(moment, "EEEE d MMMM y", locale=self.locale))


@cache
def words(language: str) -> Words:
    """The words of a language; English for one that we do not have."""
    return Words(language if language in LANGUAGES else DEFAULT)


def fold(text: str) -> str:
    """The text with as few letters beyond GSM-7 as can be: one of them more than doubles the price of the message."""
    return "".join(c if c in GSM7 or c in GSM7_DOUBLE else _bare(c) for c in " ".join(text.translate(PLAIN).split()))


def septets(text: str) -> int | None:
    """The length of a text message in GSM-7, of which 160 fit into one; None where the alphabet does not suffice."""
    if not set(text) <= GSM7 | GSM7_DOUBLE:
        return None
    return len(text) + sum(c in GSM7_DOUBLE for c in text)


def _bare(character: str) -> str:
    """Without accents where that is in the alphabet, else as it was."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    return bare if bare and set(bare) <= GSM7 else character


def _catalogue(language: str) -> NullTranslations:
    if language == DEFAULT:
        return NullTranslations()
    place = resources.files("kiti.flows.letters").joinpath(f"locale/{language}/LC_MESSAGES/letters.po")
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(place.read_bytes()), locale=language))
    compiled.seek(0)
    return Translations(compiled)
