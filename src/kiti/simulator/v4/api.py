"""The routes of Flutterwave v4 that Kiti uses, below `/v4`, and the token endpoint."""

import json
import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler

from kiti.simulator import charges, refunds, transfers
from kiti.simulator.api import body_of, machine_of
from kiti.simulator.machine import GatewayRefusalError, Machine
from kiti.simulator.store import Row
from kiti.simulator.v4 import wire
from kiti.simulator.wire import ENCODER

AnyRequest = Request[Any, Any, Any]

IDENTITY_PROVIDER: Final = "/idp/realms/flutterwave/protocol/openid-connect/token"
NO_CHARGE: Final = "The requested resource could not be found"
MOST_ROWS: Final = 50
DIRECT_KINDS: Final = {
    currencies[0]: kind for kind, currencies in charges.CHARGE_CURRENCIES.items() if kind != "mobile_money_franco"
}


class Name(msgspec.Struct):
    """A person's name."""

    first: str
    last: str


class Phone(msgspec.Struct):
    """A person's number, without a plus."""

    country_code: str
    number: str


class CustomerRequest(msgspec.Struct):
    """The body of `POST /customers`; only the address is required."""

    email: str
    name: Name | None = None
    phone: Phone | None = None


class SearchRequest(msgspec.Struct):
    """The body of `POST /customers/search`."""

    email: str


class SessionRequest(msgspec.Struct):
    """The body of `POST /checkout/sessions`."""

    amount: Decimal
    currency: str
    customer_id: str
    redirect_url: str
    reference: str
    max_retry_attempts: int | None = None
    session_duration: int = charges.DEFAULT_SESSION_MINUTES


class MobileMoney(msgspec.Struct):
    """Whose phone is asked."""

    country_code: str
    network: str
    phone_number: str


class PaymentMethod(msgspec.Struct):
    """How a direct charge is paid; only mobile money is simulated."""

    type: str
    mobile_money: MobileMoney | None = None


class DirectChargeRequest(msgspec.Struct):
    """The body of `POST /orchestration/direct-charges`."""

    amount: Decimal
    currency: str
    reference: str
    customer: CustomerRequest
    payment_method: PaymentMethod
    redirect_url: str | None = None
    meta: dict[str, Any] | None = None


class RefundRequest(msgspec.Struct):
    """The body of `POST /refunds`."""

    amount: Decimal
    reason: str
    charge_id: str
    meta: dict[str, str] | None = None


class TransferAmount(msgspec.Struct):
    """How much, and of which currency."""

    value: Decimal
    applies_to: str


class Instruction(msgspec.Struct):
    """From what to whom."""

    source_currency: str
    destination_currency: str
    amount: TransferAmount
    recipient: dict[str, dict[str, str]]


class TransferRequest(msgspec.Struct):
    """The body of `POST /direct-transfers`."""

    action: str
    type: str
    reference: str
    payment_instruction: Instruction
    narration: str | None = None


@post(IDENTITY_PROVIDER, status_code=200)
async def grant_token(request: AnyRequest) -> Response[bytes]:
    """Grant a token to whoever knows the client's secret."""
    machine = machine_of(request)
    fields = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
    config = machine.config
    known = (fields.get("client_id"), fields.get("client_secret")) == (config.v4_client_id, config.v4_client_secret)
    if not known or not config.v4_client_id or fields.get("grant_type") != "client_credentials":
        return _json({"error": "unauthorized_client", "error_description": "Invalid client or credentials"}, 401)
    token = secrets.token_urlsafe(32)
    machine.tokens[token] = time.time() + config.v4_token_seconds
    return _json(
        {
            "access_token": token,
            "expires_in": config.v4_token_seconds,
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": "profile email",
        }
    )


@post("/v4/customers", status_code=201)
async def create_customer(request: AnyRequest) -> Response[bytes]:
    """Make a customer; an address that is known already is a conflict."""
    machine = machine_of(request)
    wanted = await body_of(request, CustomerRequest)
    charges.check_email(wanted.email)
    identity = f"cus_{secrets.token_hex(5)}"
    row = json.dumps({"id": identity, **msgspec.to_builtins(wanted)})
    made = machine.store.change(
        "INSERT INTO v4_customer (email, id, customer) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        *(wanted.email, identity, row),
    )
    if not made:
        raise GatewayRefusalError("Customer already exists", http_status=409)
    return answer(json.loads(row), message="Customer created", http_status=201)


@post("/v4/customers/search", status_code=200)
async def search_customers(request: AnyRequest) -> Response[bytes]:
    """Answer the customers with an address."""
    wanted = await body_of(request, SearchRequest)
    rows = machine_of(request).store.all("SELECT customer FROM v4_customer WHERE email = ? LIMIT 10", wanted.email)
    return answer([json.loads(row["customer"]) for row in rows], message="Customers fetched")


@post("/v4/checkout/sessions", status_code=201)
async def create_session(request: AnyRequest) -> Response[bytes]:
    """Make a hosted page."""
    machine = machine_of(request)
    wanted = await body_of(request, SessionRequest)
    found = machine.store.one("SELECT customer FROM v4_customer WHERE id = ?", wanted.customer_id)
    if found is None:
        raise GatewayRefusalError("Customer not found", http_status=404)
    known = json.loads(found["customer"])
    link_id = charges.open_link(
        machine,
        wanted=charges.PaymentRequest(
            tx_ref=wanted.reference,
            amount=wanted.amount,
            currency=wanted.currency,
            redirect_url=wanted.redirect_url,
            customer=charges.Customer(email=known["email"], name=_full_name(known), phonenumber=_number(known)),
            configurations=charges.Configurations(
                session_duration=wanted.session_duration, max_retry_attempt=wanted.max_retry_attempts
            ),
        ),
    )
    machine.store.run(
        "UPDATE link SET version = 'v4', customer = json_set(customer, '$.id', ?) WHERE id = ?",
        *(wanted.customer_id, link_id),
    )
    link = charges.find_link(machine, link_id=link_id)
    assert link is not None, "it was just made"
    data = wire.session(link, url=f"{_base_url(request)}/pay/{link_id}")
    return answer(data, message="Checkout session created", http_status=201)


@post("/v4/orchestration/direct-charges", status_code=201)
async def create_direct_charge(request: AnyRequest) -> Response[bytes]:
    """Make customer, payment method and charge in one, and say what the buyer has to do."""
    machine = machine_of(request)
    wanted = await body_of(request, DirectChargeRequest)
    if wanted.payment_method.type != "mobile_money" or wanted.payment_method.mobile_money is None:
        raise GatewayRefusalError("payment_method.type is not supported")
    method = wanted.payment_method.mobile_money
    tx = charges.start_charge(
        machine,
        kind=DIRECT_KINDS.get(wanted.currency, ""),
        wanted=charges.ChargeRequest(
            tx_ref=wanted.reference,
            amount=wanted.amount,
            currency=wanted.currency,
            email=wanted.customer.email,
            phone_number=f"+{method.country_code}{method.phone_number}",
            fullname=_full_name(msgspec.to_builtins(wanted.customer)),
            redirect_url=wanted.redirect_url,
            meta=wanted.meta,
        ),
    )
    machine.store.run("UPDATE tx SET version = 'v4' WHERE id = ?", tx["id"])
    url = f"{_base_url(request)}/approve/{tx['flw_ref']}"
    data = wire.charge(tx, next_action=wire.next_action(machine.config.v4_next_action, url=url))
    return answer(data, message="Charge created", http_status=201)


@get("/v4/charges")
async def list_charges(request: AnyRequest) -> Response[bytes]:
    """List charges, newest first."""
    reference, status = request.query_params.get("reference"), request.query_params.get("status")
    words = {word: ours for ours, word in wire.STATUSES.items()}
    where = " FROM tx WHERE version = 'v4' AND created_at >= ?1 AND created_at <= ?2 AND (?3 IS NULL OR tx_ref = ?3)"
    where += " AND (?4 IS NULL OR status = ?4)"
    ours = None if status is None else words.get(status, "none")
    return page_of(request, where, shape=wire.charge, message="Charges fetched", matching=(reference, ours))


@get("/v4/charges/{identity:str}")
async def get_charge(request: AnyRequest, identity: str) -> Response[bytes]:
    """Answer the truth about a charge."""
    return answer(wire.charge(_known_charge(request, identity)), message="Charge fetched")


@post("/v4/refunds", status_code=201)
async def create_refund(request: AnyRequest) -> Response[bytes]:
    """Refund a charge, or a part of it."""
    machine = machine_of(request)
    wanted = await body_of(request, RefundRequest)
    tx = _known_charge(request, wanted.charge_id)
    reference = (wanted.meta or {}).get("reference")
    made = refunds.start_refund(
        machine, tx_id=tx["id"], wanted=refunds.RefundRequest(amount=wanted.amount, comments=reference)
    )
    return answer(wire.refund(made, is_new=True), message="Refund Initiated", http_status=201)


@get("/v4/refunds")
async def list_refunds(request: AnyRequest) -> Response[bytes]:
    """List refunds, newest first."""
    where = " FROM refund WHERE tx_id IN (SELECT id FROM tx WHERE version = 'v4')"
    where += " AND created_at >= ?1 AND created_at <= ?2"
    return page_of(request, where, shape=wire.refund, message="Refunds fetched")


@get("/v4/refunds/{identity:str}")
async def get_refund(request: AnyRequest, identity: str) -> Response[bytes]:
    """Answer one refund."""
    number = wire.number_of(identity, "rfd")
    row = None if number is None else refunds.find_refund(machine_of(request), refund_id=number)
    if row is None:
        raise GatewayRefusalError(NO_CHARGE, http_status=404)
    return answer(wire.refund(row), message="Refund fetched")


@post("/v4/direct-transfers", status_code=201)
async def create_transfer(request: AnyRequest) -> Response[bytes]:
    """Send money to a bank account, mobile money or a wallet."""
    machine = machine_of(request)
    wanted = await body_of(request, TransferRequest)
    bank, account, name = _recipient(wanted)
    row = transfers.start_transfer(
        machine,
        wanted=transfers.TransferRequest(
            account_bank=bank,
            account_number=account,
            amount=wanted.payment_instruction.amount.value,
            currency=wanted.payment_instruction.destination_currency,
            reference=wanted.reference,
            beneficiary_name=name,
            debit_currency=wanted.payment_instruction.source_currency,
            narration=wanted.narration,
        ),
    )
    machine.store.run("UPDATE transfer SET version = 'v4' WHERE id = ?", row["id"])
    return answer(wire.transfer(row), message="Transfer created", http_status=201)


@get("/v4/transfers")
async def list_transfers(request: AnyRequest) -> Response[bytes]:
    """List transfers, newest first, by a cursor; a filter by reference is not documented, and not heeded."""
    query = request.query_params
    size = _positive(query.get("size"), default=10, most=MOST_ROWS)
    before = wire.number_of(query.get("next", ""), "trf")
    rows = machine_of(request).store.all(
        "SELECT * FROM transfer WHERE version = 'v4' AND (?1 IS NULL OR id < ?1) ORDER BY id DESC LIMIT ?2",
        *(before, size + 1),
    )
    more = wire.transfer_id(rows[size - 1]["id"]) if len(rows) > size else None
    envelope = {
        "status": "success",
        "message": "Transfers fetched",
        "meta": {"cursor": {"next": more, "has_more_items": more is not None}},
        "data": [wire.transfer(row) for row in rows[:size]],
    }
    return _json(envelope)


@get("/v4/transfers/{identity:str}")
async def get_transfer(request: AnyRequest, identity: str) -> Response[bytes]:
    """Answer one transfer."""
    number = wire.number_of(identity, "trf")
    row = None if number is None else transfers.find_transfer(machine_of(request), transfer_id=number)
    if row is None:
        raise GatewayRefusalError(NO_CHARGE, http_status=404)
    return answer(wire.transfer(row), message="Transfer fetched")


@post("/_sim/v4/revoke-tokens", status_code=200)
async def revoke_tokens(request: AnyRequest) -> Response[bytes]:
    """Turn away every token that was granted so far, as if its time had passed."""
    machine_of(request).tokens.clear()
    return _json({"revoked": True})


ROUTES: Final[list[HTTPRouteHandler]] = [
    grant_token,
    create_customer,
    search_customers,
    create_session,
    create_direct_charge,
    list_charges,
    get_charge,
    create_refund,
    list_refunds,
    get_refund,
    create_transfer,
    list_transfers,
    get_transfer,
    revoke_tokens,
]


def answer(data: Any, *, message: str, http_status: int = 200, meta: dict[str, Any] | None = None) -> Response[bytes]:
    """Return the success envelope."""
    envelope: dict[str, Any] = {"status": "success", "message": message, "data": data}
    if meta is not None:
        envelope["meta"] = meta
    return _json(envelope, http_status)


def page_of(
    request: AnyRequest, where: str, *, shape: Any, message: str, matching: Sequence[str | None] = ()
) -> Response[bytes]:
    """Return a page of a list; `where` begins with FROM, ?1 and ?2 are the span of time, from ?3 on is `matching`."""
    query, store = request.query_params, machine_of(request).store
    size = _positive(query.get("size"), default=10, most=MOST_ROWS)
    page = _positive(query.get("page"), default=1, most=1_000_000)
    span = (_moment(query.get("from"), default=0.0), _moment(query.get("to"), default=time.time() + 1))
    given = (*span, *matching)
    total = store.value(f"SELECT count(*){where}", *given)
    order = f" ORDER BY id DESC LIMIT ?{len(given) + 1} OFFSET ?{len(given) + 2}"
    rows = store.all(f"SELECT *{where}{order}", *given, size, (page - 1) * size)
    info = {"total": total, "current_page": page, "total_pages": max(1, -(-total // size))}
    return answer([shape(row) for row in rows], message=message, meta={"page_info": info})


def _known_charge(request: AnyRequest, identity: str) -> Row:
    number = wire.number_of(identity, "chg")
    machine: Machine = machine_of(request)
    tx = None if number is None else charges.find_tx(machine, tx_id=number)
    if tx is None or tx["version"] != "v4":
        raise GatewayRefusalError(NO_CHARGE, http_status=404)
    return tx


def _recipient(wanted: TransferRequest) -> tuple[str, str, str | None]:
    """Bank or network, account, and the name where there is one."""
    told = wanted.payment_instruction.recipient
    name = told.get("name")
    called = None if name is None else f"{name.get('first', '')} {name.get('last', '')}".strip()
    match wanted.type:
        case "bank" if "bank" in told:
            return told["bank"]["code"], told["bank"]["account_number"], called
        case "mobile_money" if "mobile_money" in told:
            return told["mobile_money"]["network"], told["mobile_money"]["msisdn"], called
        case "wallet" if "wallet" in told:
            return told["wallet"]["provider"], told["wallet"]["identifier"], called
        case _:
            raise GatewayRefusalError("payment_instruction.recipient does not fit the type")


def _full_name(known: dict[str, Any]) -> str | None:
    name = known.get("name")
    return f"{name['first']} {name['last']}" if name else None


def _number(known: dict[str, Any]) -> str | None:
    phone = known.get("phone")
    return f"+{phone['country_code']}{phone['number']}" if phone else None


def _moment(text: str | None, *, default: float) -> float:
    if not text:
        return default
    try:
        return msgspec.convert(text, type=datetime).timestamp()
    except msgspec.ValidationError as error:
        raise GatewayRefusalError("from and to must be ISO 8601 date-times") from error


def _positive(text: str | None, *, default: int, most: int) -> int:
    return min(int(text), most) if text and text.isdecimal() and int(text) > 0 else default


def _base_url(request: AnyRequest) -> str:
    return machine_of(request).config.public_url or f"http://{request.headers['host']}"


def _json(envelope: dict[str, Any], http_status: int = 200) -> Response[bytes]:
    return Response(ENCODER.encode(envelope), status_code=http_status, media_type="application/json")
