"""What a browser is told to refuse, and the check that a form was sent from a page of ours."""

from typing import Any
from urllib.parse import urlsplit

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from kiti.core.errors import KitiError
from kiti.core.settings import Settings

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}


class SentFromElsewhere(KitiError):
    """A form was sent to us from a page that is not ours."""


def check_origin(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Guard against forged requests (CSRF): the browser itself says where a form came from.

    Every browser of these years sends `Origin` with a POST, the newer ones `Sec-Fetch-Site` as well; scripts of
    other sites can set neither. A request that has none of them is refused, so nothing depends on SameSite.
    """
    if not isinstance(connection, Request) or connection.method not in CHANGING:
        return
    site = connection.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        raise SentFromElsewhere("This form was sent from another site. Open the page here and send it again.")
    if site is None and not _is_ours(connection):
        raise SentFromElsewhere(
            "Your browser did not say where this form came from. Open the page here, send it again."
        )


def harden(response: Response[Any]) -> Response[Any]:
    """Add the headers that every page has, unless the page has set its own."""
    response.headers.setdefault("Content-Security-Policy", policy())
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    response.headers.setdefault("Cache-Control", "private, no-cache")
    response.headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
    return response


def policy(*, form_targets: str = "") -> str:
    """The content security policy; `form_targets` are further sources that a form may lead to."""
    targets = f"'self' {form_targets}".strip()
    targets = f"'self' {form_targets}".strip()
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        f" manifest-src 'self'; worker-src 'self'; form-action {targets};"
        " base-uri 'none'; frame-ancestors 'none'"
    )


def gateway_sources(settings: Settings) -> str:
    """Where paying may lead: any page over TLS, and the simulated gateways where those are what we talk to."""
    gateways = [urlsplit(url) for url in (settings.flutterwave_base_url, settings.stripe_api_base)]
    simulated = {f"{gateway.scheme}://{gateway.netloc}" for gateway in gateways if gateway.scheme != "https"}
    return " ".join(["https:", *sorted(simulated)])


def _is_ours(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    settings = connection.app.state.settings
    assert isinstance(settings, Settings)
    origin = urlsplit(connection.headers.get("origin", ""))
    ours = {connection.headers.get("host", "").lower(), urlsplit(settings.base_url).netloc.lower()}
    return bool(origin.netloc) and origin.netloc.lower() in ours
