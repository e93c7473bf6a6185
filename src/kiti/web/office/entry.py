"""Who is at the desk: the session's cookie, the forms that belong to it, and the form before there is one."""

import re
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from litestar import Request, Response
from litestar.datastructures import Cookie

from kiti.core.errors import KitiError
from kiti.core.settings import Settings
from kiti.core.tokens import seal, unseal
from kiti.flows.house import House
from kiti.flows.sign_in import form_token, is_form_token, session_of
from kiti.people.model import Session
from kiti.web.page import language
from kiti.web.page.render import HTML, environment, local_path

HOME = "/office"
LOGIN = "/office/login"
LABEL = "login form"
LOGIN_FORM_SECONDS = 3600
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_PAGE = re.compile(rf"{HOME}/[a-z0-9/-]+(\?.*)?")


class NotSignedIn(KitiError):
    """Nobody is logged in here, or not any more."""


class FormNotOurs(KitiError):
    """A form without the token of this session: from another site, or from before somebody logged in anew."""


async def at_desk(request: Request[Any, Any, Any], house: House) -> Session:
    """The session of the browser; raises NotSignedIn."""
    found = await session_of(house, secret=session_secret(request, house.settings))
    if found is None:
        raise NotSignedIn("Log in first.")
    return found


async def at_desk_with_form(request: Request[Any, Any, Any], house: House) -> Session:
    """The same for a form that was sent; raises NotSignedIn, FormNotOurs."""
    session = await at_desk(request, house)
    form = await request.form()
    if not is_form_token(str(form.get("form", "")), session):
        raise FormNotOurs("This page was open too long. Open it again and send the form once more.")
    return session


def office_page(
    template: str,
    *,
    session: Session | None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> Response[str]:
    """A page of the office; nothing of it is kept by a browser."""
    text = (
        environment()
        .get_template(f"office/{template}")
        .render(
            words=language.words(language.DEFAULT),
            staff=None if session is None else session.staff,
            form=(lambda: "") if session is None else (lambda: form_token(session)),
            **context,
        )
    )
    return Response(text, status_code=status, media_type=HTML, headers={"Cache-Control": "no-store", **(headers or {})})


def session_secret(request: Request[Any, Any, Any], settings: Settings) -> str:
    """What the browser's cookie holds, "" for none."""
    return request.cookies.get(_name("kiti_office", settings), "")[:100]


def session_cookie(secret: str, settings: Settings) -> Cookie:
    """Keeps a browser logged in until it is closed; "" takes it away."""
    return _cookie("kiti_office", secret, settings, seconds=None if secret else 0)


def login_cookie(nonce: str, settings: Settings) -> Cookie:
    """Ties the login form to the browser that opened it; "" takes it away."""
    return _cookie("kiti_login", nonce, settings, seconds=LOGIN_FORM_SECONDS if nonce else 0)


def new_login_form(settings: Settings) -> tuple[str, str]:
    """The nonce for the cookie, and the token of the form that goes with it."""
    nonce = secrets.token_urlsafe(16)
    return nonce, seal(nonce.encode(), label=LABEL, secret=settings.jwt_secret)


def is_login_form(request: Request[Any, Any, Any], token: str, settings: Settings) -> bool:
    """Whether this browser opened the form that was sent."""
    nonce = request.cookies.get(_name("kiti_login", settings), "")
    return bool(nonce) and unseal(token, label=LABEL, secret=settings.jwt_secret) == nonce.encode()


def login_address(request: Request[Any, Any, Any]) -> str:
    """Where to log in, and to come back here from."""
    if request.method != "GET" or request.url.path == HOME:
        return LOGIN
    return f"{LOGIN}?{urlencode({'next': office_path(request.url.path + '?' + (request.url.query or ''))})}"


def office_path(path: str) -> str:
    """The path if it leads to a page of the office, else the office's first page."""
    kept = local_path(path).rstrip("?")
    return kept if _PAGE.fullmatch(kept) and not kept.startswith(LOGIN) else HOME


def is_cookie_secure(settings: Settings) -> bool:
    """Whether cookies insist on TLS: always, but for plain HTTP on this very machine."""
    base = urlsplit(settings.base_url)
    return base.scheme == "https" or base.hostname not in LOOPBACK


def _cookie(name: str, value: str, settings: Settings, *, seconds: int | None) -> Cookie:
    return Cookie(
        key=_name(name, settings),
        value=value,
        max_age=seconds,
        path="/",
        httponly=True,
        secure=is_cookie_secure(settings),
        samesite="lax",
    )


def _name(name: str, settings: Settings) -> str:
    """With the prefix by which browsers refuse it from anybody but this host over TLS (RFC 6265bis)."""
    return f"__Host-{name}" if is_cookie_secure(settings) else name
