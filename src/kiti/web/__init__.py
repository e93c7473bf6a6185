"""Doorway: pages for travellers. They work without JavaScript; htmx and one small script make them quicker."""

from typing import Any

import psycopg
from litestar import Request, Router
from litestar.config.app import AppConfig
from litestar.config.compression import CompressionConfig
from litestar.exceptions import HTTPException
from litestar.middleware import DefineMiddleware
from litestar.middleware.compression import CompressionMiddleware

from kiti.core.errors import KitiError
from kiti.core.settings import Settings
from kiti.web.booking.cancel import ROUTES as CANCEL
from kiti.web.booking.changes import ROUTES as CHANGES
from kiti.web.booking.routes import ROUTES as BOOKING
from kiti.web.office.routes import OFFICE
from kiti.web.page.errors import of_bug, of_http_error, of_kiti_error, of_lost_database
from kiti.web.page.routes import ROUTES as PAGE
from kiti.web.page.security import check_origin, harden
from kiti.web.page.static import offline_worker, static_file
from kiti.web.pay.routes import ROUTES as PAY
from kiti.web.reference.routes import ROUTES as REFERENCE
from kiti.web.search.routes import ROUTES as SEARCH
from kiti.web.seats.routes import ROUTES as SEATS
from kiti.web.ticket.routes import ROUTES as TICKET
from kiti.web.waiting.routes import ROUTES as WAITING

# What is no page: answers from here on are read by programs.
NOT_PAGES = ("/api", "/.well-known", "/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/schema")
NO_COMPRESSION = "is_compressed_already"


def create_web(_settings: Settings) -> AppConfig:
    """The pages; everything that is theirs alone hangs on their router.

    The error handlers are for addresses that lead nowhere: the composition root asks `is_page` which doorway
    answers.
    """
    errors: dict[int | type[Exception], Any] = {
        KitiError: of_kiti_error,
        HTTPException: of_http_error,
        psycopg.OperationalError: of_lost_database,
        Exception: of_bug,
    }
    compression = CompressionConfig(backend="gzip", gzip_compress_level=6, exclude_opt_key=NO_COMPRESSION)
    pages = Router(
        path="/",
        route_handlers=[
            *SEARCH,
            *WAITING,
            *SEATS,
            *BOOKING,
            *CHANGES,
            *CANCEL,
            *PAY,
            *TICKET,
            *REFERENCE,
            *PAGE,
            OFFICE,
        ],
        middleware=[DefineMiddleware(CompressionMiddleware, config=compression)],
        guards=[check_origin],
        after_request=harden,
        exception_handlers=errors,
        include_in_schema=False,
    )
    return AppConfig(
        route_handlers=[pages, static_file, offline_worker],
        exception_handlers=errors,
    )


def is_page(request: Request[Any, Any, Any]) -> bool:
    """Whether a person looks at what this address answers."""
    return not request.url.path.startswith(NOT_PAGES)
