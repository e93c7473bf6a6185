"""Doorway: the JSON API, provider webhooks, problem+json. The contract stands in the generated OpenAPI document."""

from typing import Any

import psycopg
from litestar import Request
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from kiti import __version__
from kiti.api.auth import Auth
from kiti.api.bookings import Bookings, Reservations
from kiti.api.cancellation import Cancellations
from kiti.api.changes import SeatChanges
from kiti.api.jobs import Jobs
from kiti.api.operations import Operations
from kiti.api.payment_history import PaymentHistories, RefundHistories
from kiti.api.payments import Payments, Refunds
from kiti.api.problems import of_error, of_http_error
from kiti.api.settlements import Settlements
from kiti.api.tickets import Tickets
from kiti.api.trips import Trips
from kiti.api.waiting import Places
from kiti.core.errors import KitiError
from kiti.flows.house import House

BODY_BYTES = 64 * 1024


def create_api() -> AppConfig:
    """Handlers, errors and the OpenAPI document of the JSON API."""
    return AppConfig(
        route_handlers=[
            Trips,
            Places,
            Reservations,
            Bookings,
            SeatChanges,
            Cancellations,
            Payments,
            PaymentHistories,
            RefundHistories,
            Refunds,
            Settlements,
            Tickets,
            Auth,
            Jobs,
            Operations,
        ],
        dependencies={"house": Provide(_house, sync_to_thread=False)},
        exception_handlers={
            KitiError: of_error,
            HTTPException: of_http_error,
            psycopg.OperationalError: of_error,
            Exception: of_error,
        },
        openapi_config=OpenAPIConfig(
            title="Kiti",
            version=__version__,
            description="Sells seats on dated departures. Amounts are integers in minor units, times RFC 3339 UTC.",
            path="/schema",
            render_plugins=[],
            components=Components(
                security_schemes={
                    "hold": SecurityScheme(
                        type="apiKey",
                        name="Authorization",
                        security_scheme_in="header",
                        description="`Hold <holdToken>`, as the reservation answered it.",
                    ),
                    "staff": SecurityScheme(
                        type="http",
                        scheme="bearer",
                        bearer_format="JWT",
                        description="The token of `/api/auth/login`.",
                    ),
                    "scheduler": SecurityScheme(type="http", scheme="bearer", description="JOB_SECRET_KEY"),
                }
            ),
        ),
    )


def _house(request: Request[Any, Any, Any]) -> House:
    found = request.app.state.house
    assert isinstance(found, House)
    return found
