"""The composition root: settings -> pool, queue, gateways, doorways. The only file that knows everything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from litestar import Litestar, Request, Response
from litestar.datastructures import State

from kiti import jobs
from kiti.api import BODY_BYTES, create_api
from kiti.api.express import Express
from kiti.api.idempotency import Idempotency
from kiti.cli import Composition, run
from kiti.core.settings import Settings
from kiti.db import Database
from kiti.db.queue import Queue
from kiti.flows.availability import Availability
from kiti.flows.capture import group_captures
from kiti.flows.cash import OpenTill
from kiti.flows.catalogue import Catalogue
from kiti.flows.commit import group_reservations
from kiti.flows.holds import group_extensions, group_releases
from kiti.flows.house import House
from kiti.flows.rooms import Rooms
from kiti.gateways.cash import Cash
from kiti.gateways.flutterwave import Flutterwave
from kiti.gateways.flutterwave_v4 import FlutterwaveV4
from kiti.gateways.gateway import Gateway
from kiti.gateways.hooks import caller_of
from kiti.gateways.mail import mailer_of
from kiti.gateways.sms import texter_of
from kiti.tickets import actions as tickets
from kiti.web import create_web, is_page

log = structlog.get_logger(__name__)

WORKER_CONCURRENCY = 8
WORKER_SHUTDOWN_SECONDS = 10.0
WORKER_RESTART_SECONDS = 2.0


@asynccontextmanager
async def open_house(settings: Settings) -> AsyncIterator[House]:
    """Connect to everything, and let go of it again."""
    db = Database(settings.database_url)
    await db.open()
    queue = Queue(db)
    gateways = gateways_of(settings, db)
    mailer, texter, caller = mailer_of(settings.mail), texter_of(settings.sms), caller_of(settings)
    try:
        async with db.transaction() as tx:
            ticket_key = await tickets.ensure_key(tx, secret=settings.jwt_secret)
        house = House(
            settings=settings,
            db=db,
            queue=queue,
            catalogue=Catalogue(db),
            availability=Availability(db),
            commits=group_reservations(db),
            extensions=group_extensions(db),
            releases=group_releases(db),
            captures=group_captures(db, key=ticket_key, channels=settings.message_channels),
            rooms=Rooms(db),
            gateways=gateways,
            mailer=mailer,
            texter=texter,
            caller=caller,
            ticket_key=ticket_key,
        )
        jobs.register(queue.app, house)
        async with queue.app.open_async():
            yield house
    finally:
        for gateway in gateways.values():
            await gateway.close()
        await mailer.close()
        await texter.close()
        caller.close()
        await db.close()


def gateways_of(settings: Settings, db: Database) -> dict[str, Gateway]:
    """Every way to be paid that has its keys; the first that takes a method is asked, unless a caller names one."""
    gateways: dict[str, Gateway] = {
        "flutterwave": Flutterwave(
            base_url=settings.flutterwave_base_url,
            secret_key=settings.flutterwave_secret_key,
            webhook_hash=settings.flutterwave_webhook_hash,
        )
    }
    if settings.takes_stripe:
        # Its SDK takes fourteen megabytes and half a second; who does not use it does without.
        from kiti.gateways.stripe import Stripe  # noqa: PLC0415

        gateways["stripe"] = Stripe(
            base_url=settings.stripe_api_base,
            secret_key=settings.stripe_secret_key,
            webhook_secret=settings.stripe_webhook_secret,
        )
    v4 = settings.flutterwave_v4
    if v4 is not None:
        gateways["flutterwave_v4"] = FlutterwaveV4(
            base_url=v4.base_url,
            token_url=v4.token_url,
            client_id=v4.client_id,
            client_secret=v4.client_secret,
            webhook_secret=v4.webhook_secret,
        )
    return {**gateways, "cash": Cash(OpenTill(db))}


async def work(house: House) -> None:
    """Run jobs until cancelled; a worker that dies with its connection is started again."""
    while True:
        try:
            await house.queue.app.run_worker_async(
                concurrency=WORKER_CONCURRENCY,
                install_signal_handlers=False,
                delete_jobs="successful",
                fetch_job_polling_interval=2.0,
                shutdown_graceful_timeout=WORKER_SHUTDOWN_SECONDS,
            )
        except Exception:
            log.exception("the worker stopped; starting it again", in_seconds=WORKER_RESTART_SECONDS)
        await asyncio.sleep(WORKER_RESTART_SECONDS)


def create_asgi(settings: Settings, *, with_worker: bool) -> Express:
    """The web site and the API in one ASGI application."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_house(settings) as house:
            app.state.house = house
            worker = asyncio.create_task(work(house)) if with_worker else None
            try:
                yield
            finally:
                if worker is not None:
                    worker.cancel()
                    await asyncio.gather(worker, return_exceptions=True)

    api = create_api()
    web = create_web(settings)
    application = Litestar(
        route_handlers=[*api.route_handlers, *web.route_handlers],
        dependencies=api.dependencies,
        exception_handlers={
            kind: answer_at_doorway(handler, web.exception_handlers.get(kind, web.exception_handlers[Exception]))
            for kind, handler in api.exception_handlers.items()
        },
        openapi_config=api.openapi_config,
        middleware=web.middleware,
        template_config=web.template_config,
        csrf_config=None,
        state=State({"settings": settings}),
        lifespan=[lifespan],
        request_max_body_size=BODY_BYTES,
        after_request=web.after_request,
        debug=False,
        logging_config=None,
    )

    def house() -> House:
        found: House = application.state.house
        return found

    return Express(Idempotency(application, house), house)  # type: ignore[arg-type] # ASGI, in Litestar's types


def answer_at_doorway(of_api: Any, of_web: Any) -> Any:
    """An error of an address that leads nowhere is told in the way of the doorway that it knocked at."""

    def answer(request: Request[Any, Any, Any], error: Any) -> Response[Any]:
        told: Response[Any] = (of_web if is_page(request) else of_api)(request, error)
        return told

    return answer


def main() -> None:
    """The `kiti` command."""
    run(Composition(open_house=open_house, work=work, create_asgi=create_asgi))
