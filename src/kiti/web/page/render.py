"""From a template to a response: the environment, and what every page knows."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import phonenumbers
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from litestar import Request, Response
from litestar.datastructures import Cookie

from kiti.bookings.model import BookedSeat, Booking, CancelledSeat
from kiti.core.clock import local
from kiti.core.money import Money
from kiti.core.text import LANGUAGES
from kiti.network.model import TripStop
from kiti.web.page import language, rights
from kiti.web.page.language import Words
from kiti.web.page.static import address

HTML = "text/html; charset=utf-8"
PATH_LENGTH = 1500


def page(
    request: Request[Any, Any, Any],
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    cookies: Iterable[Cookie] = (),
    **context: Any,
) -> Response[str]:
    """A page in the language of the request. `template` is a path below this package: "seats/map.html"."""
    words = words_of(request)
    text = environment().get_template(template).render(words=words, here=here(request), **context)
    response = Response(text, status_code=status, media_type=HTML, headers={"Vary": "Accept-Language, Cookie"})
    response.headers.update(headers or {})
    for cookie in [*cookies, *_lasting(request)]:
        response.set_cookie(cookie)
    return response


def words_of(request: Request[Any, Any, Any]) -> Words:
    """The words in which the request is answered."""
    return language.words(language.of_request(request))


def here(request: Request[Any, Any, Any]) -> str:
    """The path and query of the request, without what should not be passed on."""
    left = [(name, value) for name, value in request.query_params.multi_items() if name not in {"lang", "token"}]
    return (request.url.path + ("?" + urlencode(left) if left else ""))[:PATH_LENGTH]


def local_path(path: str) -> str:
    """The path if it leads to a page of ours, else the home page: never to another site."""
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if is_local and len(path) <= PATH_LENGTH else "/"


@cache
def environment() -> Environment:
    """Jinja's; what a template lacks is an error."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent.parent),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.install_gettext_callables(_gettext, _ngettext, newstyle=True)  # type: ignore[attr-defined]
    found.policies["ext.i18n.trimmed"] = True
    found.globals["static"] = address
    found.globals["nights"] = _nights
    found.globals["fare"] = _fare
    found.globals["money_of"] = Money
    found.globals["refunded"] = _refunded
    found.globals["languages"] = LANGUAGES
    found.filters |= {
        "money": _money,
        "day": _day,
        "phone": _phone,
        "local_day": _local_day,
        "clock": language.clock,
        "duration": _duration,
    }
    return found


def language_cookie(chosen: str, *, secure: bool) -> Cookie:
    """Remembers a language for a year."""
    return Cookie(
        key=language.COOKIE,
        value=chosen,
        max_age=language.COOKIE_SECONDS,
        path="/",
        httponly=True,
        secure=secure,
        samesite="lax",
    )


def _lasting(request: Request[Any, Any, Any]) -> list[Cookie]:
    """What a link asked to be kept: `?lang=` and `?token=`."""
    cookies = []
    settings = request.app.state.settings
    chosen = request.query_params.get("lang", "")
    if chosen in LANGUAGES:
        cookies.append(language_cookie(chosen, secure=settings.is_secure))
    booking = request.path_params.get("booking_id")
    if booking is not None and rights.is_brought(request, booking, settings):
        cookies.append(rights.grant(request, booking, settings))
    return cookies


@pass_context
def _gettext(context: Context, message: str) -> str:
    return str(context["words"].gettext(message))


@pass_context
def _ngettext(context: Context, one: str, many: str, number: int) -> str:
    # Jinja fills the values in itself.
    return str(context["words"].form(one, many, number))


@pass_context
def _money(context: Context, amount: Money) -> str:
    return str(context["words"].money(amount))


@pass_context
def _day(context: Context, moment: datetime, form: str = "EEE d MMM") -> str:
    return str(context["words"].day(moment, form))


@pass_context
def _local_day(context: Context, moment: datetime, timezone: str, form: str = "EEE d MMM") -> str:
    return str(context["words"].day(local(moment, timezone=timezone), form))


def _nights(boards: TripStop, alights: TripStop) -> int:
    """How many local dates after boarding one gets off."""
    arrival = local(alights.arrives_at, timezone=alights.timezone).date()
    return (arrival - local(boards.departs_at, timezone=boards.timezone).date()).days


def _fare(line: BookedSeat | CancelledSeat, booking: Booking) -> Money:
    return Money(line.fare, booking.currency)


def _refunded(seat: CancelledSeat, booking: Booking) -> Money:
    return Money(seat.refunded, booking.currency)


def _phone(number: str) -> str:
    """+256 772 123456: E.164 as people write it."""
    if not number:
        return ""
    return phonenumbers.format_number(phonenumbers.parse(number), phonenumbers.PhoneNumberFormat.INTERNATIONAL)


@pass_context
def _duration(context: Context, minutes: int) -> str:
    return str(context["words"].duration(minutes))
