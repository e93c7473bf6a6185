"""For whoever runs the house: liveness, readiness, metrics, the OpenAPI document."""

import asyncio
from typing import Any

import msgspec
import psycopg
from litestar import Controller, Request, Response, get
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from kiti.api.wire import Shape
from kiti.db import DatabaseUnavailable
from kiti.db.migrate import newest
from kiti.flows.house import House
from kiti.flows.wellbeing import schema_revision

# Whoever asks waits a second or two, less than requests may wait for a connection.
READY_WITHIN_SECONDS = 2.0


class HealthShape(Shape, frozen=True):
    """`ok`, or what is missing."""

    status: str
    database: str
    migrations: str


class Operations(Controller):
    """Not part of the business."""

    path = "/"
    tags = ("Operations",)

    @get("/livez", summary="The process answers")
    async def live(self) -> dict[str, str]:
        """Nothing else is looked at."""
        return {"status": "ok"}

    @get(["/readyz", "/healthz"], summary="The process can work")
    async def ready(self, house: House) -> Response[HealthShape]:
        """503 while the database does not answer or lacks a migration."""
        try:
            async with asyncio.timeout(READY_WITHIN_SECONDS), house.db.reader() as reader:
                revision = await schema_revision(reader)
        except (DatabaseUnavailable, TimeoutError, psycopg.OperationalError):
            return Response(
                HealthShape(status="unavailable", database="unreachable", migrations="unknown"), status_code=503
            )
        fits = revision == newest()
        shape = HealthShape(
            status="ok" if fits else "unavailable",
            database="ok",
            migrations="ok" if fits else f"at {revision}, expected {newest()}: run `kiti migrate`",
        )
        return Response(shape, status_code=200 if fits else 503)

    @get("/metrics", summary="Prometheus metrics", include_in_schema=False)
    async def metrics(self) -> Response[bytes]:
        """In the text format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @get("/openapi.json", include_in_schema=False)
    async def openapi(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """The whole contract, OpenAPI 3.1."""
        schema = request.app.openapi_schema.to_schema()
        return Response(msgspec.json.encode(schema), media_type="application/json")
