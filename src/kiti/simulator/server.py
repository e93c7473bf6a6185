"""Putting the simulator together and keeping it running: one process, one event loop."""

import asyncio
import signal
from pathlib import Path
from typing import Any, Final

from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from kiti.simulator import api, charges, control, hosted, refunds, settlements, transfers
from kiti.simulator.gate import Gate
from kiti.simulator.machine import Config, GatewayRefusalError, Machine
from kiti.simulator.store import Store
from kiti.simulator.stripe import api as stripe_api
from kiti.simulator.stripe import control as stripe_control
from kiti.simulator.stripe import hosted as stripe_hosted
from kiti.simulator.stripe import money as stripe_money
from kiti.simulator.stripe import sessions as stripe_sessions
from kiti.simulator.stripe.objects import StripeRefusalError
from kiti.simulator.stripe.replay import Replay
from kiti.simulator.timers import Action, run_timers
from kiti.simulator.v4 import api as v4
from kiti.simulator.v4 import settled as v4_settled
from kiti.simulator.v4.errors import refusal as v4_refusal
from kiti.simulator.webhooks import run_courier

LARGEST_BODY_BYTES: Final = 1_000_000
BACKLOG: Final = 1024
GRACE_SECONDS: Final = 0.3

TIMER_ACTIONS: Final[dict[str, Action]] = {
    "charge": charges.finish_late,
    "refund": refunds.finish_refund,
    "transfer": transfers.advance_transfer,
    "chargeback": settlements.lapse_chargeback,
    "stripe_session": stripe_sessions.expire_in_time,
    "stripe_late": stripe_sessions.pay_late,
    "stripe_refund": stripe_money.end_refund,
}


def run(config: Config, *, host: str, port: int, state: Path | str | None) -> None:
    """Serve in the foreground, in this process, until SIGTERM or SIGINT."""
    asyncio.run(_serve(config, host=host, port=port, state=None if state is None else Path(state)))


def create_app(machine: Machine) -> ASGIApp:
    """Return the ASGI application: the gateway, its pages and the control API."""
    app = Litestar(
        route_handlers=[
            *(*api.ROUTES, *v4.ROUTES, *v4_settled.ROUTES, *hosted.ROUTES, *control.ROUTES),
            *(*stripe_api.ROUTES, *stripe_hosted.ROUTES, *stripe_control.ROUTES),
        ],
        exception_handlers={
            GatewayRefusalError: _refused,
            StripeRefusalError: stripe_api.refusal,
            HTTPException: _refused_by_http,
        },
        state=State({"machine": machine}),
        openapi_config=None,
        # Litestar would set up the root logger, and every webhook would become a line.
        logging_config=None,
        request_max_body_size=LARGEST_BODY_BYTES,
    )
    return Gate(Replay(app, machine=machine), machine=machine)


async def _serve(config: Config, *, host: str, port: int, state: Path | None) -> None:
    machine = Machine(config=config, store=Store(state))
    server = Server(
        create_app(machine),
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        websockets=False,
        backlog=BACKLOG,
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, server.stop)
    try:
        async with asyncio.TaskGroup() as group:
            # If one of these fails the group stops the others: never a gateway without webhooks.
            background = [
                group.create_task(run_courier(machine)),
                group.create_task(run_timers(machine, actions=TIMER_ACTIONS)),
            ]
            await server.serve()
            # Granian's threads let go of their connections a moment later; meeting an interpreter
            # that is being taken down, they would abort the process.
            await asyncio.sleep(GRACE_SECONDS)
            for task in background:
                task.cancel()
    finally:
        machine.store.close()


def _refused(request: Request[Any, Any, Any], error: GatewayRefusalError) -> Response[bytes]:
    """In the words of the version that was asked."""
    return v4_refusal(error) if request.url.path.startswith("/v4/") else api.refusal(request, error)


def _refused_by_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    return _refused(request, GatewayRefusalError(error.detail or "Error", http_status=error.status_code))
