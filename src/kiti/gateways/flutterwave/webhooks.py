"""What Flutterwave's webhooks look like, and whether one is from Flutterwave. Pure: no I/O.

Source: Flutterwave's v3 reference and deliveries seen in the wild. Four shapes of JSON are in use, and the same
fields come form-encoded from old accounts:

1. `{event, data, "event.type"?, meta_data?}`;
2. flat charges, `{id, txRef, flwRef, appfee, "event.type"}`;
3. `{"event.type": "Transfer", transfer: {…}}`;
4. flat refunds in PascalCase, `{id, AmountRefunded, FlwRef, TransactionId, meta: "<json string>"}`.

A webhook carries neither a signature over its body nor a time, so whoever has seen one can replay or alter it:
nothing is taken from it but where to look. There is no event id either; effects are the same when the kind, the
gateway's id and the status are.
"""

import hmac
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec

from kiti.gateways import reading
from kiti.gateways.gateway import MalformedWebhook, WebhookEvent
from kiti.gateways.reading import UNREADABLE

LONGEST_BODY_BYTES = 64 * 1024
MOST_FORM_FIELDS = 200
FORM = "application/x-www-form-urlencoded"

IDENTIFIER = re.compile(r"[0-9]{1,19}", re.ASCII)
BRACKETS = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")


def is_authentic(headers: Mapping[str, str], *, webhook_hash: str) -> bool:
    """Whether `verif-hash` equals the secret, in constant time; False without a header or without a secret.

    ASGI servers decode header bytes as Latin-1, so encoding it so gives back what came over the wire.
    """
    given = headers.get("verif-hash")
    if not given or not webhook_hash:
        return False
    try:
        sent = given.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return hmac.compare_digest(sent, webhook_hash.encode())


def read_webhook(headers: Mapping[str, str], body: bytes) -> WebhookEvent:
    """Where to look because of a webhook; raises MalformedWebhook.

    `reference` is the payment's for charges, the payout's for transfers, empty for refunds.
    """
    if len(body) > LONGEST_BODY_BYTES:
        raise MalformedWebhook(f"a webhook of {len(body)} bytes; {LONGEST_BODY_BYTES} are the most")
    told = _fields(headers, body)
    match told:
        case {"event": str(event), "data": dict(data)}:
            return _event(event, data)
        case {"transfer": dict(transfer)}:
            return _transfer(transfer)
        case {"TransactionId": _} | {"AmountRefunded": _}:
            return _refund(told)
        case {"txRef": _} | {"flwRef": _}:
            return _charge(told)
        case _:
            raise MalformedWebhook(f"a webhook of unknown shape with {len(told)} fields")


def _fields(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """The body as JSON, or as a form if it does not look like an object and the sender does not deny it."""
    if not body.lstrip().startswith(b"{") and headers.get("content-type", FORM).lower().startswith(FORM):
        return _form(body)
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE as error:
        raise MalformedWebhook("a webhook that is neither JSON nor a form") from error


def _form(body: bytes) -> dict[str, Any]:
    """A form; `data[id]=1` and `data={"id":1}` both give an object."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FORM_FIELDS, errors="strict")
    except ValueError as error:
        raise MalformedWebhook("a webhook whose form cannot be read") from error
    told: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in pairs:
        inner = BRACKETS.fullmatch(name)
        if inner is not None:
            nested.setdefault(inner[1], {})[inner[2]] = value
        elif name in {"data", "transfer"}:
            told[name] = _object(value)
        else:
            told[name] = value
    return {**told, **nested}


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except UNREADABLE as error:
        raise MalformedWebhook("a form field that should hold a JSON object") from error


def _event(event: str, data: dict[str, Any]) -> WebhookEvent:
    match event.lower().partition(".")[0]:
        case "charge":
            return _charge(data)
        case "transfer":
            return _transfer(data)
        case "refund":
            return _refund(data)
        case _:
            name, identity = reading.word(event), _identifier(data.get("id"))
            return WebhookEvent(
                dedupe_key=f"other:{name}:{identity}:{reading.word(data.get('status'))}",
                kind="other",
                reference="",
                transaction_id="",
                refund_id="",
            )


def _charge(told: dict[str, Any]) -> WebhookEvent:
    identity = _identifier(told.get("id"))
    reference = reading.reference(_first(told, "tx_ref", "txRef"))
    if not identity and not reference:
        raise MalformedWebhook("a charge with neither an id nor a reference")
    return WebhookEvent(
        dedupe_key=f"charge:{identity or reference}:{reading.word(told.get('status'))}",
        kind="charge",
        reference=reference,
        transaction_id=identity,
        refund_id="",
    )


def _transfer(told: dict[str, Any]) -> WebhookEvent:
    identity, reference = _identifier(told.get("id")), reading.reference(told.get("reference"))
    if not identity and not reference:
        raise MalformedWebhook("a transfer with neither an id nor a reference")
    return WebhookEvent(
        dedupe_key=f"transfer:{identity or reference}:{reading.word(told.get('status'))}",
        kind="transfer",
        reference=reference,
        transaction_id="",
        refund_id="",
    )


def _refund(told: dict[str, Any]) -> WebhookEvent:
    identity = _identifier(told.get("id"))
    transaction = _identifier(_first(told, "TransactionId", "tx_id", "transaction_id"))
    if not identity or not transaction:
        raise MalformedWebhook("a refund without its id or without that of its transaction")
    disbursement = _disbursement(told.get("meta"))
    return WebhookEvent(
        dedupe_key=f"refund:{identity}:{reading.word(told.get('status'))}:{disbursement}",
        kind="refund",
        reference="",
        transaction_id=transaction,
        refund_id=identity,
    )


def _disbursement(meta: object) -> Literal["", "failed"]:
    """A failed disbursement leaves the status as it was, yet is news; other words in `meta` change nothing."""
    if isinstance(meta, str):
        try:
            meta = msgspec.json.decode(meta)
        except UNREADABLE:
            return ""
    match meta:
        case {"disburse_status": str(status)} if status.lower() == "failed":
            return "failed"
        case _:
            return ""


def _first(told: dict[str, Any], *names: str) -> object:
    return next((told[name] for name in names if told.get(name) is not None), None)


def _identifier(value: object) -> str:
    """The gateway's ids are whole numbers; empty if there is none."""
    if value is None:
        return ""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if IDENTIFIER.fullmatch(text) is None:
        raise MalformedWebhook("an id that is not a whole number")
    return text
