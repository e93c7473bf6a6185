"""Languages: catalogues compiled when the program starts, the choice among them, and local formats."""

import io
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from babel import Locale
from babel.core import negotiate_locale
from babel.dates import format_date
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import NullTranslations, Translations
from litestar import Request

from kiti.core.clock import local
from kiti.core.money import Money
from kiti.core.text import LANGUAGES
from kiti.fees.model import Charge

DEFAULT = "en"
COOKIE = "kiti_lang"
COOKIE_SECONDS = 365 * 24 * 3600
MINUTES_PER_HOUR = 60


def marked(message: str) -> str:
    """The same message; the call puts it into the catalogues, for `gettext` of a variable elsewhere."""
    return message


class Words:
    """The words and formats of one language."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.locale = Locale(language)
        self._catalogue = _catalogue(language)

    def gettext(self, message: str, **values: Any) -> str:
        """The message in this language, with values in their places."""
        text = self._catalogue.gettext(message)
        return text % values if values else text

    def ngettext(self, one: str, many: str, number: int, **values: Any) -> str:
        """The form of the message that goes with `number`."""
        return self.form(one, many, number) % {"num": number, **values}

    def form(self, one: str, many: str, number: int) -> str:
        """The same without the values."""
        return str(self._catalogue.ngettext(one, many, number))

    def money(self, amount: Money) -> str:
        """UGX 65,000."""
        return amount.format(self.language)

    def day(self, moment: date | datetime, form: str = "EEE d MMM") -> str:
        """Tue 24 Nov; `form` is a CLDR pattern."""
        return format_date(moment, form, locale=self.locale)

    def weekday(self, day: date) -> str:
        """Tue; Swahili's names of days are long, and CLDR does not shorten them."""
        return self.gettext(WEEKDAYS[day.weekday()])

    def duration(self, minutes: int) -> str:
        """9 h 55 min."""
        hours, rest = divmod(minutes, MINUTES_PER_HOUR)
        if not hours:
            return self.gettext("%(minutes)s min", minutes=rest)
        if not rest:
            return self.gettext("%(hours)s h", hours=hours)
        return self.gettext("%(hours)s h %(minutes)s min", hours=hours, minutes=f"{rest:02d}")

    def seat_class(self, name: str) -> str:
        """The name of a class of seats; one that we do not know is shown as it is called."""
        return self.gettext(CLASSES[name]) if name in CLASSES else name.capitalize()

    def charge(self, charge: Charge) -> str:
        """What a price has beside the fares: Service fee, VAT 18% included. A rate as a person writes it."""
        if charge.kind != "tax":
            return self.gettext(CHARGES[charge.kind])
        whole, hundredths = divmod(charge.basis_points, 100)
        rate = format_decimal(Decimal(whole) + Decimal(hundredths).scaleb(-2), locale=self.locale)
        return self.gettext(TAXES[charge.is_included], rate=rate)

    def vehicle(self, name: str) -> str:
        """The kind of vehicle, where its name is one that we know."""
        return self.gettext(VEHICLES[name]) if name in VEHICLES else name


WEEKDAYS = (marked("Mon"), marked("Tue"), marked("Wed"), marked("Thu"), marked("Fri"), marked("Sat"), marked("Sun"))
CHARGES: dict[str, str] = {"platform_fee": marked("Service fee"), "gateway_fee": marked("Payment fee")}
TAXES = (marked("VAT %(rate)s%%"), marked("VAT %(rate)s%% included"))
CLASSES = {"STANDARD": marked("Standard"), "VIP": marked("VIP")}
VEHICLES = {
    "Coach": marked("Coach"),
    "Double-decker": marked("Double-decker"),
    "Shuttle": marked("Shuttle"),
    "Ferry": marked("Ferry"),
}


@cache
def words(language: str) -> Words:
    """The words of a language that we have."""
    return Words(language)


def of_request(request: Request[Any, Any, Any]) -> str:
    """The language that was asked for by link, by cookie, by the browser's wishes; else English."""
    for asked in (request.query_params.get("lang", ""), request.cookies.get(COOKIE, "")):
        if asked in LANGUAGES:
            return str(asked)
    wishes = _wishes(request.headers.get("accept-language", "")[:500])
    found = negotiate_locale(wishes, list(LANGUAGES), sep="-")
    return found.partition("-")[0] if found else DEFAULT


def clock(moment: datetime, timezone: str) -> str:
    """A local time, 24 hours, alike in every language: 06:30."""
    return f"{local(moment, timezone=timezone):%H:%M}"


def _wishes(header: str) -> list[str]:
    """The tags of Accept-Language (RFC 9110, section 12.5.4), dearest first."""
    weighed = []
    for part in header.split(","):
        tag, _, parameter = part.strip().partition(";")
        name, _, value = parameter.strip().partition("=")
        try:
            weight = float(value) if name == "q" else 1.0
        except ValueError:
            weight = 0.0
        if tag and weight > 0:
            weighed.append((weight, tag))
    return [tag for _, tag in sorted(weighed, key=lambda wish: -wish[0])]


def _catalogue(language: str) -> NullTranslations:
    if language == DEFAULT:
        return NullTranslations()
    source = resources.files("kiti.web").joinpath(f"locale/{language}/LC_MESSAGES/kiti.po").read_bytes()
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(source), locale=language))
    compiled.seek(0)
    return Translations(compiled)
