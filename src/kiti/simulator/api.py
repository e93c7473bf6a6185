"""The routes of Flutterwave v3 that Kiti uses, below `/v3`."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request, Response, get, post, put
from litestar.handlers import HTTPRouteHandler

from kiti.simulator import charges, refunds, settlements, transfers, webhooks, wire
from kiti.simulator.machine import GatewayRefusalError, Machine
from kiti.simulator.store import Row

Body = TypeVar("Body")
AnyRequest = Request[Any, Any, Any]

TRANSACTIONS_PER_PAGE: Final = 10
ROWS_PER_PAGE: Final = 20
ID: Final = re.compile(r"[0-9]{1,18}")
MISSING_FIELD: Final = re.compile(r"Object missing required field `(\w+)`(?: - at `\$\.(.+)`)?")


def answer(data: Any, *, message: str, meta: dict[str, Any] | None = None, http_status: int = 200) -> Response[bytes]:
    """Return the success envelope."""
    envelope: dict[str, Any] = {"status": "success", "message": message, "data": data}
    if meta is not None:
        envelope["meta"] = meta
    return _json(envelope, http_status=http_status)


def refusal(_request: AnyRequest, error: GatewayRefusalError) -> Response[bytes]:
    """Return the error envelope."""
    envelope = {"status": "error", "message": error.message, "data": None}
    return _json(envelope, http_status=error.http_status)


def machine_of(request: AnyRequest) -> Machine:
    """Return the simulator that serves the request."""
    machine: Machine = request.app.state.machine
    return machine


async def body_of(request: AnyRequest, kind: type[Body]) -> Body:
    """Return the JSON body; an empty one counts as `{}`. Refuses (400) what does not fit."""
    raw = await request.body()
    try:
        return msgspec.json.decode(raw or b"{}", type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise GatewayRefusalError(_complaint(str(error))) from error
    except msgspec.DecodeError as error:
        raise GatewayRefusalError("Invalid JSON body") from error


@post("/v3/payments", status_code=200)
async def create_payment(request: AnyRequest) -> Response[bytes]:
    """Answer a hosted link, and nothing else."""
    machine = machine_of(request)
    wanted = await body_of(request, charges.PaymentRequest)
    link_id = charges.open_link(machine, wanted=wanted)
    return answer({"link": f"{_base_url(request)}/pay/{link_id}"}, message="Hosted Link")


@post("/v3/payments/link/disable", status_code=200)
async def disable_payment_link(request: AnyRequest) -> Response[bytes]:
    """End a hosted link."""
    wanted = await body_of(request, dict[str, Any])
    link_id = str(wanted.get("link", "")).rpartition("/")[2]
    charges.disable_link(machine_of(request), link_id=link_id)
    return answer(None, message="Payment link disabled successfully")


@get("/v3/transactions/{tx_id:str}/verify")
async def verify(request: AnyRequest, tx_id: str) -> Response[bytes]:
    """Answer the truth about a transaction."""
    tx = _known_tx(request, tx_id)
    return answer(wire.verified(tx), message="Transaction fetched successfully")


@get("/v3/transactions/verify_by_reference")
async def verify_by_reference(request: AnyRequest) -> Response[bytes]:
    """Answer the truth about the best transaction with a reference: a successful one, the latest."""
    machine = machine_of(request)
    tx_ref = request.query_params.get("tx_ref", "")
    tx = charges.find_tx_by_reference(machine, tx_ref=tx_ref)
    if tx is None:
        raise GatewayRefusalError(
            "No transaction was found for this reference",
            http_status=machine.config.not_found_http_status,
        )
    return answer(wire.verified(tx), message="Transaction fetched successfully")


@get("/v3/transactions")
async def list_transactions(request: AnyRequest) -> Response[bytes]:
    """List transactions, newest first; `from` and `to` are days, both included."""
    return _page(
        request,
        count="SELECT count(*) FROM tx WHERE version = 'v3' AND created_at >= ?1 AND created_at < ?2"
        " AND (?3 IS NULL OR tx_ref = ?3) AND (?4 IS NULL OR status = ?4)"
        " AND (?5 IS NULL OR currency = ?5)",
        rows="SELECT * FROM tx WHERE version = 'v3' AND created_at >= ?1 AND created_at < ?2"
        " AND (?3 IS NULL OR tx_ref = ?3) AND (?4 IS NULL OR status = ?4)"
        " AND (?5 IS NULL OR currency = ?5) ORDER BY id DESC LIMIT ?6 OFFSET ?7",
        filters=("tx_ref", "status", "currency"),
        shape=wire.listed,
        message="Transactions fetched",
        page_size=TRANSACTIONS_PER_PAGE,
    )


@get("/v3/transactions/fee")
async def transaction_fee(request: AnyRequest) -> Response[bytes]:
    """Answer what Flutterwave would keep of an amount."""
    try:
        amount = Decimal(request.query_params.get("amount", ""))
    except InvalidOperation as error:
        raise GatewayRefusalError("amount is required") from error
    if not amount.is_finite() or amount <= 0:
        raise GatewayRefusalError("amount must be greater than 0")
    currency = request.query_params.get("currency", "NGN")
    fee = charges.fee(amount, currency)
    by_customer = machine_of(request).config.fee_bearer == "customer"
    data = {
        "charge_amount": wire.number(amount + fee if by_customer else amount),
        "fee": wire.number(fee),
        "merchant_fee": 0,
        "flutterwave_fee": wire.number(fee),
        "stamp_duty_fee": 0,
        "currency": currency,
    }
    return answer(data, message="Charged fee")


@post("/v3/transactions/{tx_id:str}/resend-hook", status_code=200)
async def resend_hook(request: AnyRequest, tx_id: str) -> Response[bytes]:
    """Send the webhook of a transaction that has ended once more."""
    tx = _known_tx(request, tx_id)
    if tx["status"] == "pending":
        raise GatewayRefusalError("Transaction is still pending")
    webhooks.announce_charge(machine_of(request), tx=tx)
    return answer("hook sent", message="hook sent successfully")


@get("/v3/transactions/{tx_id:str}/events")
async def transaction_events(request: AnyRequest, tx_id: str) -> Response[bytes]:
    """Answer the timeline of a transaction."""
    tx = _known_tx(request, tx_id)
    deliveries = machine_of(request).store.all(
        "SELECT state, created_at FROM delivery WHERE tx_id = ? ORDER BY id LIMIT 1000", tx["id"]
    )
    return answer(wire.timeline(tx, deliveries), message="Transaction events fetched")


@post("/v3/charges", status_code=200)
async def create_charge(request: AnyRequest) -> Response[bytes]:
    """Start a direct charge; some kinds answer only where to send the buyer, with no id."""
    kind = request.query_params.get("type", "")
    wanted = await body_of(request, charges.ChargeRequest)
    tx = charges.start_charge(machine_of(request), kind=kind, wanted=wanted)
    if kind not in charges.REDIRECTING_CHARGES:
        return answer(wire.charge(tx), message="Charge initiated")
    redirect = f"{_base_url(request)}/approve/{tx['flw_ref']}"
    authorization = {"redirect": redirect, "mode": "redirect"}
    meta = {"authorization": authorization}
    return _json({"status": "success", "message": "Charge initiated", "meta": meta})


@post("/v3/transactions/{tx_id:str}/refund", status_code=200)
async def create_refund(request: AnyRequest, tx_id: str) -> Response[bytes]:
    """Refund a transaction, or a part of it; every call is a new refund."""
    wanted = await body_of(request, refunds.RefundRequest)
    tx = _known_tx(request, tx_id)
    refund = refunds.start_refund(machine_of(request), tx_id=tx["id"], wanted=wanted)
    return answer(wire.refund(refund), message="Transaction refund initiated")


@get("/v3/refunds")
async def list_refunds(request: AnyRequest) -> Response[bytes]:
    """List refunds, newest first."""
    return _page(
        request,
        count="SELECT count(*) FROM refund WHERE tx_id IN (SELECT id FROM tx WHERE version = 'v3')"
        " AND created_at >= ?1 AND created_at < ?2"
        " AND (?3 IS NULL OR status = ?3) AND (?4 IS NULL OR currency = ?4)",
        rows="SELECT * FROM refund WHERE tx_id IN (SELECT id FROM tx WHERE version = 'v3')"
        " AND created_at >= ?1 AND created_at < ?2"
        " AND (?3 IS NULL OR status = ?3) AND (?4 IS NULL OR currency = ?4)"
        " ORDER BY id DESC LIMIT ?5 OFFSET ?6",
        filters=("status", "currency"),
        shape=wire.refund,
        message="Refunds fetched",
    )


@get("/v3/refunds/{refund_id:int}")
async def get_refund(request: AnyRequest, refund_id: int) -> Response[bytes]:
    """Answer one refund."""
    refund = refunds.find_refund(machine_of(request), refund_id=refund_id)
    if refund is None:
        raise GatewayRefusalError("No refund was found for this id", http_status=404)
    return answer(wire.refund(refund), message="Refund fetched")


@post("/v3/transfers", status_code=200)
async def create_transfer(request: AnyRequest) -> Response[bytes]:
    """Queue a transfer."""
    wanted = await body_of(request, transfers.TransferRequest)
    row = transfers.start_transfer(machine_of(request), wanted=wanted)
    return answer(wire.transfer(row), message="Transfer Queued Successfully")


@get("/v3/transfers")
async def list_transfers(request: AnyRequest) -> Response[bytes]:
    """List transfers, newest first; `reference` is ours."""
    return _page(
        request,
        count="SELECT count(*) FROM transfer WHERE created_at >= ?1 AND created_at < ?2"
        " AND (?3 IS NULL OR reference = ?3) AND (?4 IS NULL OR status = upper(?4))",
        rows="SELECT * FROM transfer WHERE created_at >= ?1 AND created_at < ?2"
        " AND (?3 IS NULL OR reference = ?3) AND (?4 IS NULL OR status = upper(?4))"
        " ORDER BY id DESC LIMIT ?5 OFFSET ?6",
        filters=("reference", "status"),
        shape=wire.transfer,
        message="Transfers fetched",
    )


@get("/v3/transfers/{transfer_id:int}")
async def get_transfer(request: AnyRequest, transfer_id: int) -> Response[bytes]:
    """Answer one transfer."""
    row = transfers.find_transfer(machine_of(request), transfer_id=transfer_id)
    if row is None:
        raise GatewayRefusalError("No transfer was found for this id", http_status=404)
    return answer(wire.transfer(row), message="Transfer fetched")


@post("/v3/subaccounts", status_code=200)
async def create_subaccount(request: AnyRequest) -> Response[bytes]:
    """Open a subaccount."""
    wanted = await body_of(request, settlements.SubaccountRequest)
    row = settlements.open_subaccount(machine_of(request), wanted=wanted)
    return answer(wire.subaccount(row), message="Subaccount created")


@get("/v3/subaccounts")
async def list_subaccounts(request: AnyRequest) -> Response[bytes]:
    """List subaccounts, newest first."""
    return _page(
        request,
        count="SELECT count(*) FROM subaccount WHERE created_at >= ?1 AND created_at < ?2",
        rows="SELECT * FROM subaccount WHERE created_at >= ?1 AND created_at < ?2 ORDER BY id DESC LIMIT ?3 OFFSET ?4",
        filters=(),
        shape=wire.subaccount,
        message="Subaccounts fetched",
    )


@get("/v3/settlements")
async def list_settlements(request: AnyRequest) -> Response[bytes]:
    """List settlements, newest first."""
    machine = machine_of(request)
    return _page(
        request,
        count="SELECT count(*) FROM settlement WHERE version = 'v3' AND created_at >= ?1 AND created_at < ?2",
        rows="SELECT * FROM settlement WHERE version = 'v3' AND created_at >= ?1 AND created_at < ?2"
        " ORDER BY id DESC LIMIT ?3 OFFSET ?4",
        filters=(),
        shape=lambda row: settlements.full_settlement(machine, row=row),
        message="Settlements fetched",
    )


@get("/v3/settlements/{settlement_id:int}")
async def get_settlement(request: AnyRequest, settlement_id: int) -> Response[bytes]:
    """Answer one settlement with its transactions."""
    machine = machine_of(request)
    row = machine.store.one("SELECT * FROM settlement WHERE id = ? AND version = 'v3'", settlement_id)
    if row is None:
        raise GatewayRefusalError("No settlement was found for this id", http_status=404)
    lines = settlements.settled_transactions(machine, settlement_id=settlement_id)
    data = settlements.full_settlement(machine, row=row)
    data["transactions"] = [wire.settlement_line(tx) for tx in lines]
    return answer(data, message="Settlement fetched")


@get("/v3/chargebacks")
async def list_chargebacks(request: AnyRequest) -> Response[bytes]:
    """List chargebacks, newest first."""
    machine = machine_of(request)
    return _page(
        request,
        count="SELECT count(*) FROM chargeback WHERE tx_id IN (SELECT id FROM tx WHERE version = 'v3')"
        " AND created_at >= ?1 AND created_at < ?2 AND (?3 IS NULL OR status = ?3)",
        rows="SELECT * FROM chargeback WHERE tx_id IN (SELECT id FROM tx WHERE version = 'v3')"
        " AND created_at >= ?1 AND created_at < ?2 AND (?3 IS NULL OR status = ?3)"
        " ORDER BY id DESC LIMIT ?4 OFFSET ?5",
        filters=("status",),
        shape=lambda row: wire_chargeback(machine, row),
        message="Chargebacks fetched",
    )


@put("/v3/chargebacks/{chargeback_id:int}")
async def answer_chargeback(request: AnyRequest, chargeback_id: int) -> Response[bytes]:
    """Accept or decline a chargeback."""
    machine = machine_of(request)
    wanted = await body_of(request, settlements.ChargebackAnswer)
    row = settlements.answer_chargeback(machine, chargeback_id=chargeback_id, answer=wanted)
    return answer(wire_chargeback(machine, row), message=f"Chargeback {row['status']}")


ROUTES: Final[list[HTTPRouteHandler]] = [
    create_payment,
    disable_payment_link,
    verify,
    verify_by_reference,
    list_transactions,
    transaction_fee,
    resend_hook,
    transaction_events,
    create_charge,
    create_refund,
    list_refunds,
    get_refund,
    create_transfer,
    list_transfers,
    get_transfer,
    create_subaccount,
    list_subaccounts,
    list_settlements,
    get_settlement,
    list_chargebacks,
    answer_chargeback,
]


def wire_chargeback(machine: Machine, row: Row) -> dict[str, Any]:
    """Return a chargeback as the API answers it."""
    tx = charges.find_tx(machine, tx_id=row["tx_id"])
    assert tx is not None, "a chargeback has a transaction"
    return wire.chargeback(row, tx)


def _json(envelope: dict[str, Any], *, http_status: int = 200) -> Response[bytes]:
    content = wire.ENCODER.encode(envelope)
    return Response(content, status_code=http_status, media_type="application/json")


def _complaint(error: str) -> str:
    missing = MISSING_FIELD.match(error)
    if missing is None:
        return error
    field, parent = missing.groups()
    return f"{parent}.{field} is required" if parent else f"{field} is required"


def _base_url(request: AnyRequest) -> str:
    config = machine_of(request).config
    return config.public_url or f"http://{request.headers['host']}"


def _known_tx(request: AnyRequest, tx_id: str) -> Row:
    machine = machine_of(request)
    tx = charges.find_tx(machine, tx_id=int(tx_id)) if ID.fullmatch(tx_id) else None
    if tx is None:
        status = machine.config.not_found_http_status
        raise GatewayRefusalError(wire.NO_TRANSACTION, http_status=status)
    return tx


def _page(
    request: AnyRequest,
    *,
    count: str,
    rows: str,
    filters: tuple[str, ...],
    shape: Callable[[Row], dict[str, Any]],
    message: str,
    page_size: int = ROWS_PER_PAGE,
) -> Response[bytes]:
    """Answer one page of rows. Both statements take from, to and the filters, in this order."""
    query = request.query_params
    store = machine_of(request).store
    number = query.get("page", "1")
    page = int(number) if number.isdecimal() and int(number) > 0 else 1
    values = (
        _day(query.get("from"), default=0.0),
        _day_after(query.get("to")),
        *(query.get(name) for name in filters),
    )
    total = store.value(count, *values)
    found = store.all(rows, *values, page_size, (page - 1) * page_size)
    page_info = {
        "total": total,
        "current_page": page,
        "total_pages": -(-total // page_size),
        "page_size": page_size,
    }
    return answer([shape(row) for row in found], message=message, meta={"page_info": page_info})


def _day(text: str | None, *, default: float) -> float:
    if not text:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise GatewayRefusalError("Dates must be YYYY-MM-DD") from error
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _day_after(text: str | None) -> float:
    """Return the end of a day, or the exact time when one is given."""
    at = _day(text, default=time.time() + 1)
    only_a_day = bool(text) and len(text or "") == len("YYYY-MM-DD")
    return at + timedelta(days=1).total_seconds() if only_a_day else at
