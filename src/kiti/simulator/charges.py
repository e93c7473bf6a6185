"""Taking money: links, the buttons of the hosted page, direct charges."""

import json
import secrets
import time
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, Literal
from urllib.parse import urlencode

import msgspec

from kiti.simulator import webhooks
from kiti.simulator.machine import GatewayRefusalError, Machine
from kiti.simulator.store import Row
from kiti.simulator.timers import set_timer

Action = Literal[
    "pay",
    "decline",
    "pay-late",
    "pay-twice",
    "say-nothing",
    "pay-without-webhook",
    "cancel",
]

# Per cent of the amount. The real table has many more lines; a Rwandan 20 francs cost 0.58.
FEE_PERCENT: Final = {"NGN": Decimal("1.4"), "USD": Decimal("3.8"), "EUR": Decimal("3.8")}
OTHER_FEE_PERCENT: Final = Decimal("2.9")
FEE_STEP: Final = Decimal("0.01")

MOBILE_MONEY: Final = {
    "RWF": "mobilemoneyrw",
    "UGX": "mobilemoneyug",
    "GHS": "mobilemoneygh",
    "ZMW": "mobilemoneyzm",
    "TZS": "mobilemoneytz",
    "XAF": "mobilemoneyfranco",
    "XOF": "mobilemoneyfranco",
    "KES": "mpesa",
}
CHARGE_CURRENCIES: Final = {
    "mpesa": ("KES",),
    "mobile_money_uganda": ("UGX",),
    "mobile_money_rwanda": ("RWF",),
    "mobile_money_ghana": ("GHS",),
    "mobile_money_zambia": ("ZMW",),
    "mobile_money_tanzania": ("TZS",),
    "mobile_money_franco": ("XAF", "XOF"),
}
REDIRECTING_CHARGES: Final = {"mobile_money_uganda", "mobile_money_rwanda", "mobile_money_ghana"}
# What a page offers that was asked for just this.
ONLY: Final = {"card": "card", "banktransfer": "bank_transfer", "ussd": "ussd"}
PAY_METHODS: Final = {*ONLY.values(), *MOBILE_MONEY.values()}
DEFAULT_SESSION_MINUTES: Final = 1440
CURRENCY_LENGTH: Final = 3


class Customer(msgspec.Struct):
    """Who pays, as `POST /payments` names them."""

    email: str
    name: str | None = None
    phonenumber: str | None = None


class Configurations(msgspec.Struct):
    """How long the link lives and how often a payment may fail on it."""

    session_duration: int = DEFAULT_SESSION_MINUTES
    max_retry_attempt: int | None = None


class PaymentRequest(msgspec.Struct):
    """The body of `POST /payments`; the amount is in major units, a number or a string."""

    tx_ref: str
    amount: Decimal
    redirect_url: str
    customer: Customer
    currency: str = "NGN"
    configurations: Configurations = msgspec.field(default_factory=Configurations)
    payment_options: str | None = None
    meta: dict[str, Any] | None = None
    subaccounts: list[dict[str, Any]] | None = None
    customizations: dict[str, Any] | None = None


class ChargeRequest(msgspec.Struct):
    """The body of `POST /charges?type=`; the amount is in major units."""

    tx_ref: str
    amount: Decimal
    currency: str
    email: str
    phone_number: str
    fullname: str | None = None
    redirect_url: str | None = None
    meta: dict[str, Any] | None = None


class PayOptions(msgspec.Struct, kw_only=True):
    """How a button is pressed; what is absent comes from the link or the configuration."""

    amount: Decimal | None = None
    currency: str | None = None
    payment_type: str | None = None
    delay_seconds: float | None = None
    force: bool = False


class Paid(msgspec.Struct, frozen=True):
    """What pressing a button did: the browser's status, the transactions, where it goes next."""

    status: str
    transaction_ids: list[int]
    redirect: str | None


class Offer(msgspec.Struct, frozen=True):
    """What may be paid: a link, or a direct charge that waits (`pending_id`)."""

    tx_ref: str
    amount: str
    currency: str
    customer: str
    meta: str | None
    redirect_url: str | None
    payment_type: str
    link_id: str | None
    pending_id: int | None
    version: str = "v3"


def open_link(machine: Machine, *, wanted: PaymentRequest) -> str:
    """Write down a link and return its id; refuses what Flutterwave refuses."""
    _check_money(wanted.amount, wanted.currency)
    check_email(wanted.customer.email)
    if not wanted.redirect_url.startswith(("http://", "https://")):
        raise GatewayRefusalError("redirect_url must be a valid uri")
    if not 1 <= wanted.configurations.session_duration <= DEFAULT_SESSION_MINUTES:
        raise GatewayRefusalError("session_duration must be between 1 and 1440")
    _check_reference_is_new(machine, tx_ref=wanted.tx_ref)
    link_id = f"flwlnk-{secrets.token_hex(13)}"
    machine.store.run(
        "INSERT INTO link (id, tx_ref, amount, currency, redirect_url, customer, meta,"
        " payment_options, subaccounts, title, session_minutes, max_failures, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(link_id, wanted.tx_ref, str(wanted.amount), wanted.currency, wanted.redirect_url),
        json.dumps(msgspec.structs.asdict(wanted.customer)),
        *(_json(wanted.meta), wanted.payment_options, _json(wanted.subaccounts)),
        *((wanted.customizations or {}).get("title"), wanted.configurations.session_duration),
        *(wanted.configurations.max_retry_attempt, time.time()),
    )
    return link_id


def disable_link(machine: Machine, *, link_id: str) -> None:
    """End a link; refuses when there is none or it is inactive already."""
    link = find_link(machine, link_id=link_id)
    if link is None:
        raise GatewayRefusalError("Invalid payment link")
    if link_state(link) != "active":
        raise GatewayRefusalError("This payment link is currently inactive")
    machine.store.run("UPDATE link SET state = 'disabled' WHERE id = ?", link_id)


def expire_link(machine: Machine, *, tx_ref: str) -> None:
    """Make the session of a link end now, as if its time had passed; refuses (404) an unknown reference."""
    if not machine.store.change(
        "UPDATE link SET created_at = ? - 60 * session_minutes WHERE tx_ref = ?", time.time(), tx_ref
    ):
        raise GatewayRefusalError("No link has this reference", http_status=404)


def find_link(machine: Machine, *, link_id: str) -> Row | None:
    """Return the link, or None."""
    return machine.store.one("SELECT * FROM link WHERE id = ?", link_id)


def link_state(link: Row) -> str:
    """Return active, disabled, expired, exhausted (failed too often) or paid."""
    state: str = link["state"]
    if state != "active":
        return state
    if time.time() >= link["created_at"] + 60 * link["session_minutes"]:
        return "expired"
    if link["max_failures"] is not None and link["failures"] >= link["max_failures"]:
        return "exhausted"
    return "active"


def find_tx(machine: Machine, *, tx_id: int) -> Row | None:
    """Return the transaction, or None."""
    return machine.store.one("SELECT * FROM tx WHERE id = ?", tx_id)


def find_tx_by_reference(machine: Machine, *, tx_ref: str) -> Row | None:
    """Return the latest successful transaction with the reference, else the latest, else None."""
    return machine.store.one(
        "SELECT * FROM tx WHERE tx_ref = ? ORDER BY status = 'successful' DESC, id DESC LIMIT 1",
        tx_ref,
    )


def start_charge(machine: Machine, *, kind: str, wanted: ChargeRequest) -> Row:
    """Write down a direct charge that waits for the buyer's approval on their phone."""
    if kind not in CHARGE_CURRENCIES:
        raise GatewayRefusalError("Invalid charge type")
    if wanted.currency not in CHARGE_CURRENCIES[kind]:
        raise GatewayRefusalError(f"currency must be one of {list(CHARGE_CURRENCIES[kind])}")
    _check_money(wanted.amount, wanted.currency)
    check_email(wanted.email)
    _check_reference_is_new(machine, tx_ref=wanted.tx_ref)
    customer = {
        "email": wanted.email,
        "name": wanted.fullname,
        "phonenumber": wanted.phone_number,
    }
    offer = Offer(
        tx_ref=wanted.tx_ref,
        amount=str(wanted.amount),
        currency=wanted.currency,
        customer=json.dumps(customer),
        meta=_json(wanted.meta),
        redirect_url=wanted.redirect_url,
        payment_type=MOBILE_MONEY[wanted.currency],
        link_id=None,
        pending_id=None,
    )
    return _record(machine, offer=offer, status="pending", options=PayOptions())


def act(machine: Machine, *, tx_ref: str, action: Action, options: PayOptions) -> Paid:
    """Do what the button says to the link or the waiting charge with this reference.

    Refuses (404) an unknown reference and (409) one that can no longer be paid, unless forced.
    """
    with machine.store.atomic():
        offer = _offer(machine, tx_ref=tx_ref, options=options)
        match action:
            case "pay" | "pay-without-webhook" | "pay-twice":
                count = 2 if action == "pay-twice" else 1
                webhook = action != "pay-without-webhook"
                return _pay(machine, offer, options, count=count, webhook=webhook)
            case "say-nothing":
                paid = _pay(machine, offer, options, count=1, webhook=False)
                return msgspec.structs.replace(paid, redirect=None)
            case "decline":
                return _decline(machine, offer, options)
            case "pay-late":
                return _pay_late(machine, offer, options)
            case "cancel":
                return Paid("cancelled", [], _return_url(offer, "cancelled", None))


def finish_late(machine: Machine, tx_id: int, _data: dict[str, Any]) -> None:
    """Timer: the payment that was pending succeeds, and its webhook goes out."""
    done = machine.store.change(
        "UPDATE tx SET status = 'successful', processor_response = 'Approved', completed_at = ?"
        " WHERE id = ? AND status = 'pending'",
        *(time.time(), tx_id),
    )
    if done:
        webhooks.announce_charge(machine, tx=_tx(machine, tx_id))


def fee(amount: Decimal, currency: str) -> Decimal:
    """Return Flutterwave's fee in major units, down to hundredths whatever the currency."""
    percent = FEE_PERCENT.get(currency, OTHER_FEE_PERCENT)
    return (amount * percent / 100).quantize(FEE_STEP, rounding=ROUND_HALF_UP)


def methods(link: Row) -> list[str]:
    """Return the payment types the hosted page offers, the usual one first."""
    first = MOBILE_MONEY.get(link["currency"], "card")
    if link["payment_options"] in ONLY:
        return [ONLY[link["payment_options"]]]
    return [first] if first == "card" else [first, "card"]


def _offer(machine: Machine, *, tx_ref: str, options: PayOptions) -> Offer:
    link = machine.store.one("SELECT * FROM link WHERE tx_ref = ?", tx_ref)
    if link is not None:
        state = link_state(link)
        if state != "active" and not options.force:
            raise GatewayRefusalError(f"The payment link is {state}", http_status=409)
        return Offer(
            **{name: link[name] for name in ("tx_ref", "amount", "currency", "customer", "meta")},
            redirect_url=link["redirect_url"],
            payment_type=methods(link)[0],
            link_id=link["id"],
            pending_id=None,
            version=link["version"],
        )
    tx = machine.store.one("SELECT * FROM tx WHERE tx_ref = ? ORDER BY id LIMIT 1", tx_ref)
    if tx is None:
        raise GatewayRefusalError("No payment has this reference", http_status=404)
    if tx["status"] != "pending" and not options.force:
        raise GatewayRefusalError(f"The charge is {tx['status']}", http_status=409)
    return Offer(
        **{name: tx[name] for name in ("tx_ref", "amount", "currency", "customer", "meta")},
        redirect_url=tx["redirect_url"],
        payment_type=tx["payment_type"],
        link_id=None,
        pending_id=tx["id"] if tx["status"] == "pending" else None,
        version=tx["version"],
    )


def _pay(machine: Machine, offer: Offer, options: PayOptions, *, count: int, webhook: bool) -> Paid:
    ids: list[int] = []
    for _ in range(count):
        tx = _record(machine, offer=offer, status="successful", options=options)
        offer = msgspec.structs.replace(offer, pending_id=None)
        if webhook:
            webhooks.announce_charge(machine, tx=tx)
        ids.append(tx["id"])
    _mark_link(machine, offer, state="paid")
    return Paid("successful", ids, _return_url(offer, "successful", ids[-1]))


def _decline(machine: Machine, offer: Offer, options: PayOptions) -> Paid:
    tx = _record(machine, offer=offer, status="failed", options=options)
    webhooks.announce_charge(machine, tx=tx)
    machine.store.run("UPDATE link SET failures = failures + 1 WHERE id = ?", offer.link_id)
    return Paid("failed", [tx["id"]], _return_url(offer, "failed", tx["id"]))


def _pay_late(machine: Machine, offer: Offer, options: PayOptions) -> Paid:
    tx = _record(machine, offer=offer, status="pending", options=options)
    delay = options.delay_seconds
    set_timer(
        machine,
        kind="charge",
        subject=tx["id"],
        delay_seconds=machine.config.pay_late_seconds if delay is None else delay,
    )
    _mark_link(machine, offer, state="paid")
    return Paid("pending", [tx["id"]], _return_url(offer, "pending", tx["id"]))


def _mark_link(machine: Machine, offer: Offer, *, state: str) -> None:
    machine.store.run("UPDATE link SET state = ? WHERE id = ?", state, offer.link_id)


def _record(machine: Machine, *, offer: Offer, status: str, options: PayOptions) -> Row:
    """Insert a transaction, or end the one that was waiting."""
    now = time.time()
    amount = Decimal(offer.amount) if options.amount is None else options.amount
    currency = options.currency or offer.currency
    payment_type = options.payment_type or offer.payment_type
    app_fee = fee(amount, currency)
    charged = amount + app_fee if machine.config.fee_bearer == "customer" else amount
    completed_at = None if status == "pending" else now
    response = {"successful": "Approved", "failed": "Declined"}.get(status, "Transaction pending")
    money = (str(amount), currency, str(charged), str(app_fee), status, payment_type, response)
    if offer.pending_id is not None:
        machine.store.run(
            "UPDATE tx SET amount = ?, currency = ?, charged_amount = ?, app_fee = ?, status = ?,"
            " payment_type = ?, processor_response = ?, completed_at = ? WHERE id = ?",
            *(*money, completed_at, offer.pending_id),
        )
        return _tx(machine, offer.pending_id)
    tx_id = machine.store.run(
        "INSERT INTO tx (amount, currency, charged_amount, app_fee, status, payment_type,"
        " processor_response, completed_at, tx_ref, link_id, flw_ref, customer, meta,"
        " redirect_url, version, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(*money, completed_at, offer.tx_ref, offer.link_id, f"FLWSIM{secrets.token_hex(10)}"),
        *(offer.customer, offer.meta, offer.redirect_url, offer.version, now),
    )
    return _tx(machine, tx_id)


def _tx(machine: Machine, tx_id: int) -> Row:
    tx = find_tx(machine, tx_id=tx_id)
    assert tx is not None, f"transaction {tx_id} was just written"
    return tx


def _return_url(offer: Offer, status: str, tx_id: int | None) -> str | None:
    if offer.redirect_url is None:
        return None
    query = {"status": status, "tx_ref": offer.tx_ref}
    if tx_id is not None:
        query["transaction_id"] = str(tx_id)
    joint = "&" if "?" in offer.redirect_url else "?"
    return f"{offer.redirect_url}{joint}{urlencode(query)}"


def _check_money(amount: Decimal, currency: str) -> None:
    if not amount.is_finite() or amount <= 0:
        raise GatewayRefusalError("amount must be greater than 0")
    if len(currency) != CURRENCY_LENGTH or not currency.isalpha() or not currency.isupper():
        raise GatewayRefusalError("currency is invalid")


def check_email(email: str) -> None:
    """Refuse what is no address."""
    name, _, domain = email.partition("@")
    if not name or not domain:
        raise GatewayRefusalError("customer.email must be a valid email")


def _check_reference_is_new(machine: Machine, *, tx_ref: str) -> None:
    if not tx_ref:
        raise GatewayRefusalError("tx_ref is required")
    if machine.store.one(
        "SELECT 1 FROM link WHERE tx_ref = ? UNION ALL SELECT 1 FROM tx WHERE tx_ref = ?",
        *(tx_ref, tx_ref),
    ):
        raise GatewayRefusalError("Transaction reference already exists")


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
