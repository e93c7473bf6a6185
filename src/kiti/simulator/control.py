"""The control API below `/_sim`: for tests and demonstrations, never part of Flutterwave."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler

from kiti.simulator import charges, refunds, settlements, transfers, webhooks, wire
from kiti.simulator.api import body_of, machine_of, wire_chargeback
from kiti.simulator.charges import Action, PayOptions
from kiti.simulator.faults import ApiFault, WebhookFault
from kiti.simulator.machine import Config, GatewayRefusalError, Machine
from kiti.simulator.store import Row
from kiti.simulator.stripe import control as stripe_control
from kiti.simulator.stripe import objects as stripe_objects
from kiti.simulator.stripe import sessions as stripe_sessions
from kiti.simulator.v4 import wire as v4

AnyRequest = Request[Any, Any, Any]

MOST_ROWS: Final = 10_000
MOST_COPIES: Final = 10_000
MOST_CONCURRENT: Final = 100


class FaultOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /_sim/faults`."""

    api: ApiFault | list[ApiFault] = msgspec.field(default_factory=list)
    webhooks: WebhookFault | list[WebhookFault] = msgspec.field(default_factory=list)


class PayOrder(PayOptions, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/pay`."""

    tx_ref: str
    action: Action


class ExpireOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /_sim/expire`."""

    tx_ref: str


class ReplayOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/webhooks/replay`."""

    transaction_id: int | str
    copies: int = 1
    concurrency: int = 1


class SendOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/webhooks/send`."""

    body: Any
    gateway: Literal["flutterwave", "flutterwave_v4", "stripe"] = "flutterwave"
    verif_hash: str | None = None
    copies: int = 1
    concurrency: int = 1


class SettleOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/settle`."""

    currency: str | None = None
    version: Literal["v3", "v4"] = "v3"


class StatusOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /_sim/chargebacks/{id}`."""

    status: str


@get("/_sim/health")
async def health() -> dict[str, bool]:
    """Answer once the server listens."""
    return {"ok": True}


@get("/_sim/state")
async def state(request: AnyRequest) -> Response[bytes]:
    """Answer everything the simulator remembers."""
    machine = machine_of(request)
    tx_ref = request.query_params.get("tx_ref")
    return _json(_remembered(machine, tx_ref=tx_ref) | _about_process(machine))


@post("/_sim/faults", status_code=200)
async def add_faults(request: AnyRequest) -> Response[bytes]:
    """Add faults behind those that wait already."""
    machine = machine_of(request)
    order = await body_of(request, FaultOrder)
    machine.faults.api += order.api if isinstance(order.api, list) else [order.api]
    machine.faults.webhooks += order.webhooks if isinstance(order.webhooks, list) else [order.webhooks]
    return _json(_faults(machine))


@delete("/_sim/faults", status_code=200)
async def clear_faults(request: AnyRequest) -> Response[bytes]:
    """Forget every fault."""
    machine = machine_of(request)
    machine.faults.clear()
    return _json(_faults(machine))


@post("/_sim/pay", status_code=200)
async def pay(request: AnyRequest) -> Response[bytes]:
    """Press a button of the hosted page, without a browser."""
    order = await body_of(request, PayOrder)
    if order.payment_type is not None and order.payment_type not in charges.PAY_METHODS:
        raise GatewayRefusalError(f"payment_type is none of {sorted(charges.PAY_METHODS)}")
    machine = machine_of(request)
    if stripe_sessions.session_of(machine, order.tx_ref) is not None:
        if order.action == "pay-twice":
            raise GatewayRefusalError("Nobody can pay twice on a page of Stripe's", http_status=409)
        seconds = order.delay_seconds
        return _json(stripe_control.press(machine, order.tx_ref, order.action, delay_seconds=seconds))
    paid = charges.act(machine, tx_ref=order.tx_ref, action=order.action, options=order)
    return _json(msgspec.structs.asdict(paid))


@post("/_sim/expire", status_code=200)
async def expire(request: AnyRequest) -> Response[bytes]:
    """Let the time of a link pass at once."""
    order = await body_of(request, ExpireOrder)
    charges.expire_link(machine_of(request), tx_ref=order.tx_ref)
    return _json({"tx_ref": order.tx_ref})


@post("/_sim/webhooks/replay", status_code=200)
async def replay(request: AnyRequest) -> Response[bytes]:
    """Post the last webhook of a transaction again, byte for byte."""
    machine = machine_of(request)
    order = await body_of(request, ReplayOrder)
    if isinstance(order.transaction_id, str):
        return await _replay_event(machine, order.transaction_id, order)
    tx = charges.find_tx(machine, tx_id=order.transaction_id)
    if tx is None:
        raise GatewayRefusalError(wire.NO_TRANSACTION, http_status=404)
    body = machine.store.value(
        "SELECT body FROM delivery WHERE tx_id = ? AND kind = 'charge' ORDER BY id DESC LIMIT 1",
        tx["id"],
    )
    if body is None:
        event = v4.charge_event(tx) if tx["version"] == "v4" else wire.charge_event(tx)
        body = wire.ENCODER.encode(event).decode()
    return await _post_copies(machine, webhooks.GATEWAYS[tx["version"]], body, order, verif_hash=None)


@post("/_sim/webhooks/send", status_code=200)
async def send(request: AnyRequest) -> Response[bytes]:
    """Post any body as a webhook."""
    order = await body_of(request, SendOrder)
    body = wire.ENCODER.encode(order.body).decode()
    return await _post_copies(machine_of(request), order.gateway, body, order, verif_hash=order.verif_hash)


@post("/_sim/config", status_code=200)
async def configure(request: AnyRequest) -> Response[bytes]:
    """Change some of the configuration and answer all of it."""
    machine = machine_of(request)
    changes = await body_of(request, dict[str, Any])
    whole = msgspec.structs.asdict(machine.config) | changes
    try:
        machine.config = msgspec.convert(whole, Config, strict=False)
    except msgspec.ValidationError as error:
        raise GatewayRefusalError(str(error)) from error
    # Whoever waits for the next retry may now have to wait less.
    machine.post_bell.set()
    return _json(msgspec.structs.asdict(machine.config))


@post("/_sim/refunds/{refund_id:int}", status_code=200)
async def order_refund(request: AnyRequest, refund_id: int) -> Response[bytes]:
    """Set a refund's state by hand."""
    order = await body_of(request, refunds.RefundOrder)
    row = refunds.order_refund(machine_of(request), refund_id=refund_id, order=order)
    return _json(wire.refund(row))


@post("/_sim/transfers/{transfer_id:int}", status_code=200)
async def order_transfer(request: AnyRequest, transfer_id: int) -> Response[bytes]:
    """Set a transfer's state by hand."""
    order = await body_of(request, transfers.TransferOrder)
    row = transfers.order_transfer(machine_of(request), transfer_id=transfer_id, order=order)
    return _json(wire.transfer(row))


@post("/_sim/chargebacks", status_code=200)
async def open_chargeback(request: AnyRequest) -> Response[bytes]:
    """Have a buyer's bank dispute a transaction."""
    machine = machine_of(request)
    order = await body_of(request, settlements.ChargebackOrder)
    return _json(wire_chargeback(machine, settlements.open_chargeback(machine, order=order)))


@post("/_sim/chargebacks/{chargeback_id:int}", status_code=200)
async def end_chargeback(request: AnyRequest, chargeback_id: int) -> Response[bytes]:
    """End a chargeback: won, lost."""
    machine = machine_of(request)
    order = await body_of(request, StatusOrder)
    row = settlements.end_chargeback(machine, chargeback_id=chargeback_id, status=order.status)
    return _json(wire_chargeback(machine, row))


@post("/_sim/settle", status_code=200)
async def settle(request: AnyRequest) -> Response[bytes]:
    """Settle what is not settled yet."""
    order = await body_of(request, SettleOrder)
    ids = settlements.settle(machine_of(request), currency=order.currency, version=order.version)
    return _json({"settlement_ids": ids})


ROUTES: Final[list[HTTPRouteHandler]] = [
    health,
    state,
    add_faults,
    clear_faults,
    pay,
    expire,
    replay,
    send,
    configure,
    order_refund,
    order_transfer,
    open_chargeback,
    end_chargeback,
    settle,
]


async def _replay_event(machine: Machine, intent: str, order: ReplayOrder) -> Response[bytes]:
    """The last event of a PaymentIntent."""
    events = stripe_objects.below(machine, intent, "event")
    if not events:
        raise GatewayRefusalError(wire.NO_TRANSACTION, http_status=404)
    body = wire.ENCODER.encode(events[-1]).decode()
    return await _post_copies(machine, "stripe", body, order, verif_hash=None)


async def _post_copies(
    machine: Machine, gateway: str, body: str, order: ReplayOrder | SendOrder, *, verif_hash: str | None
) -> Response[bytes]:
    if not (1 <= order.copies <= MOST_COPIES and 1 <= order.concurrency <= MOST_CONCURRENT):
        raise GatewayRefusalError(f"copies is 1 to {MOST_COPIES}, concurrency 1 to {MOST_CONCURRENT}")
    statuses = await webhooks.post_copies(
        machine,
        gateway=gateway,
        body=body,
        verif_hash=verif_hash,
        copies=order.copies,
        concurrency=order.concurrency,
    )
    return _json({"statuses": statuses})


def _remembered(machine: Machine, *, tx_ref: str | None) -> dict[str, Any]:
    store = machine.store
    links = store.all(
        "SELECT * FROM link WHERE ?1 IS NULL OR tx_ref = ?1 ORDER BY created_at DESC LIMIT ?2",
        *(tx_ref, MOST_ROWS),
    )
    below = (
        "SELECT * FROM {table} WHERE ?1 IS NULL OR {column} IN (SELECT id FROM tx"
        " WHERE tx_ref = ?1) ORDER BY id DESC LIMIT ?2"
    )
    txs = store.all(
        "SELECT * FROM tx WHERE ?1 IS NULL OR tx_ref = ?1 ORDER BY id DESC LIMIT ?2",
        *(tx_ref, MOST_ROWS),
    )

    def rows(table: str, column: str) -> Sequence[Row]:
        statement = below.format(table=table, column=column)
        return store.all(statement, tx_ref, MOST_ROWS)

    return {
        "links": [_link(row) for row in reversed(links)],
        "transactions": [_transaction(row) for row in reversed(txs)],
        "refunds": _shaped(rows("refund", "tx_id"), wire.refund),
        "deliveries": _shaped(rows("delivery", "tx_id"), _delivery),
        "chargebacks": _shaped(rows("chargeback", "tx_id"), lambda row: wire_chargeback(machine, row)),
        "transfers": _shaped(rows("transfer", "NULL"), wire.transfer),
        "subaccounts": _shaped(rows("subaccount", "NULL"), wire.subaccount),
        "settlements": _shaped(
            rows("settlement", "NULL"),
            lambda row: settlements.full_settlement(machine, row=row),
        ),
        "stripe": stripe_control.remembered(machine, tx_ref),
    }


def _about_process(machine: Machine) -> dict[str, Any]:
    pending = "SELECT count(*) FROM delivery WHERE state IN ('waiting', 'held', 'sending')"
    return {
        "pending_deliveries": machine.store.value(pending),
        "pending_timers": machine.store.value("SELECT count(*) FROM timer"),
        "calls": dict(machine.faults.calls),
        "faults": _faults(machine),
        "config": msgspec.structs.asdict(machine.config),
    }


def _shaped(rows: Sequence[Row], shape: Any) -> list[Any]:
    return [shape(row) for row in reversed(rows)]


def _link(row: Row) -> dict[str, Any]:
    return _columns(row, json_columns=("customer", "meta", "subaccounts")) | {
        "amount": wire.number(row["amount"]),
        "state": charges.link_state(row),
        "created_at": wire.moment(row["created_at"]),
    }


def _transaction(row: Row) -> dict[str, Any]:
    extra = {"link_id": row["link_id"], "settlement_id": row["settlement_id"]}
    return wire.verified(row) | extra


def _delivery(row: Row) -> dict[str, Any]:
    return _columns(row, json_columns=("body",)) | {
        "next_at": wire.moment(row["next_at"]),
        "created_at": wire.moment(row["created_at"]),
    }


def _columns(row: Row, *, json_columns: Iterable[str]) -> dict[str, Any]:
    return {k: wire.decoded(row[k]) if k in json_columns else row[k] for k in row.keys()}  # noqa: SIM118


def _faults(machine: Machine) -> dict[str, Any]:
    return {"api": machine.faults.api, "webhooks": machine.faults.webhooks}


def _json(value: Any) -> Response[bytes]:
    return Response(wire.ENCODER.encode(value), media_type="application/json")
