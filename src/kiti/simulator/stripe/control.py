"""What tests do to the simulated Stripe, below `/_sim/stripe`; never part of Stripe."""

import json
from typing import Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler

from kiti.simulator.api import body_of, machine_of
from kiti.simulator.machine import Machine
from kiti.simulator.stripe import money, sessions
from kiti.simulator.stripe.objects import Doc, StripeRefusalError, of_reference, told
from kiti.simulator.stripe.sessions import Action

AnyRequest = Request[Any, Any, Any]

KINDS: Final = {
    "sessions": "checkout.session",
    "intents": "payment_intent",
    "refunds": "refund",
    "disputes": "dispute",
    "transfers": "transfer",
    "events": "event",
}


class PressOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/stripe/press`."""

    reference: str
    action: Action
    delay_seconds: float | None = None


class ReferenceOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/stripe/expire` and `/lapse`."""

    reference: str


class RefundOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/stripe/refunds/{id}`."""

    status: str
    failure_reason: str | None = None


class StatusOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/stripe/disputes/{id}`."""

    status: str


class SettleOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/stripe/settle`."""

    currency: str | None = None


def press(machine: Machine, reference: str, action: Action, *, delay_seconds: float | None = None) -> dict[str, Any]:
    """Press a button of the page with this reference; refuses (404) an unknown one."""
    with machine.store.atomic():
        pressed = sessions.press(machine, _session(machine, reference), action, delay_seconds=delay_seconds)
    return msgspec.structs.asdict(pressed)


def remembered(machine: Machine, reference: str | None) -> dict[str, list[Doc]]:
    """Everything, or what belongs to one reference, oldest first."""
    return {name: [told(doc) for doc in of_reference(machine, reference, kind)] for name, kind in KINDS.items()}


@post("/_sim/stripe/press", status_code=200)
async def press_button(request: AnyRequest) -> Response[bytes]:
    """Press a button without a browser."""
    order = await body_of(request, PressOrder)
    return _json(press(machine_of(request), order.reference, order.action, delay_seconds=order.delay_seconds))


@post("/_sim/stripe/expire", status_code=200)
async def expire(request: AnyRequest) -> Response[bytes]:
    """Let a page's time pass at once."""
    machine, order = machine_of(request), await body_of(request, ReferenceOrder)
    with machine.store.atomic():
        return _json(told(sessions.expire(machine, _session(machine, order.reference))))


@post("/_sim/stripe/lapse", status_code=200)
async def lapse(request: AnyRequest) -> Response[bytes]:
    """Let an authorisation's time pass at once."""
    machine, order = machine_of(request), await body_of(request, ReferenceOrder)
    with machine.store.atomic():
        return _json(told(sessions.lapse(machine, order.reference)))


@post("/_sim/stripe/refunds/{identity:str}", status_code=200)
async def order_refund(request: AnyRequest, identity: str) -> Response[bytes]:
    """Set a refund's state by hand."""
    machine, order = machine_of(request), await body_of(request, RefundOrder)
    with machine.store.atomic():
        refund = money.order_refund(machine, identity, status=order.status, failure_reason=order.failure_reason)
    return _json(told(refund))


@post("/_sim/stripe/disputes", status_code=200)
async def open_dispute(request: AnyRequest) -> Response[bytes]:
    """Have a buyer's bank dispute a payment."""
    machine, order = machine_of(request), await body_of(request, dict[str, Any])
    with machine.store.atomic():
        return _json(told(money.open_dispute(machine, order)))


@post("/_sim/stripe/disputes/{identity:str}", status_code=200)
async def end_dispute(request: AnyRequest, identity: str) -> Response[bytes]:
    """Have the bank decide."""
    machine, order = machine_of(request), await body_of(request, StatusOrder)
    with machine.store.atomic():
        return _json(told(money.end_dispute(machine, identity, status=order.status)))


@post("/_sim/stripe/settle", status_code=200)
async def settle(request: AnyRequest) -> Response[bytes]:
    """Pay out what is not paid out yet."""
    machine, order = machine_of(request), await body_of(request, SettleOrder)
    with machine.store.atomic():
        return _json({"payout_ids": money.settle(machine, order.currency)})


ROUTES: Final[list[HTTPRouteHandler]] = [
    press_button,
    expire,
    lapse,
    order_refund,
    open_dispute,
    end_dispute,
    settle,
]


def _session(machine: Machine, reference: str) -> Doc:
    session = sessions.session_of(machine, reference)
    if session is None:
        raise StripeRefusalError("No session has this reference.", http_status=404)
    return session


def _json(value: Any) -> Response[bytes]:
    return Response(json.dumps(value).encode(), media_type="application/json")
