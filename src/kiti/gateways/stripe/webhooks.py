"""Stripe's webhooks: the signature over the raw bytes, and where an event says to look.

Source: docs.stripe.com/webhooks, "Verify webhook signatures manually". The header is `t=<seconds>,v1=<hex>,...`: an
HMAC-SHA256 of `<seconds>.<body>` for each secret that is valid at the moment (two while one is being rolled).
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from kiti.gateways import reading
from kiti.gateways.gateway import MalformedWebhook, WebhookEvent
from kiti.gateways.reading import UNREADABLE, printable
from kiti.gateways.stripe import wire

HEADER = "stripe-signature"
TOLERANCE_SECONDS = 300
LONGEST_HEADER = 4096
MOST_PARTS = 32
SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
IDENTIFIER = re.compile(r"[A-Za-z0-9_]{1,255}", re.ASCII)
WORD = re.compile(r"[a-z0-9_.]{1,80}", re.ASCII)

Kind = Literal["charge", "refund", "transfer", "dispute", "other"]


def is_authentic(headers: Mapping[str, str], body: bytes, *, secret: str, now: float) -> bool:
    """Whether one of the signatures is that of `secret` over this body, made within 300 s of `now` (epoch seconds).

    Takes as long for a wrong signature as for a right one. Header names are lower case.
    """
    moment, signatures = _parts(headers.get(HEADER, ""))
    signed = moment.encode() + b"." + body
    right = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
    is_signed = False
    for signature in signatures:
        is_signed |= hmac.compare_digest(right, signature)
    return is_signed and moment != "" and abs(now - int(moment)) <= TOLERANCE_SECONDS


def read_webhook(body: bytes) -> WebhookEvent:
    """Where to look because of an authentic webhook; raises MalformedWebhook.

    Stripe may send one event twice, and two events of one change: effects are the same when type, object and status
    are.
    """
    try:
        event = _decoder.decode(body)
    except UNREADABLE as error:
        raise MalformedWebhook(f"no event of Stripe's: {printable(str(error))}") from None
    told = event.data.object
    kind = _kind(event.type)
    is_payment = kind == "charge"
    reference = (told.client_reference_id or (told.metadata or {}).get(wire.REFERENCE) or "") if is_payment else ""
    if kind == "transfer":
        reference = (told.metadata or {}).get(wire.REFERENCE) or ""
    return WebhookEvent(
        dedupe_key=f"{_word(event.type)}:{_identifier(told.id)}:{_word(told.status or '')}",
        kind=kind,
        reference=reading.reference(reference),
        transaction_id=_transaction(event.type, told),
        refund_id=_identifier(told.id) if told.object == "refund" else "",
    )


class _Object(msgspec.Struct, frozen=True, kw_only=True):
    """What the kinds of objects have in common that lead somewhere."""

    id: str
    object: str
    status: str | None = None
    client_reference_id: str | None = None
    payment_intent: str | None = None
    metadata: dict[str, str] | None = None


class _Data(msgspec.Struct, frozen=True):
    object: _Object


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    data: _Data


_decoder = msgspec.json.Decoder(_Event)


def _parts(header: str) -> tuple[str, list[bytes]]:
    """The time and the signatures; an empty time where there is none that could be one."""
    if len(header) > LONGEST_HEADER:
        return "", []
    pairs = [part.strip().partition("=") for part in header.split(",")[:MOST_PARTS]]
    moments = [value for name, _, value in pairs if name == "t"]
    if len(moments) != 1 or SECONDS.fullmatch(moments[0]) is None:
        return "", []
    return moments[0], [value.encode("utf-8", "replace") for name, _, value in pairs if name == "v1"]


def _kind(event: str) -> Kind:
    if event.startswith("charge.dispute."):
        return "dispute"
    if event.startswith(("refund.", "charge.refund")):
        return "refund"
    if event.startswith(("checkout.session.", "payment_intent.")):
        return "charge"
    return "transfer" if event.startswith("transfer.") else "other"


def _transaction(event: str, told: _Object) -> str:
    found = told.id if told.object == "payment_intent" else told.payment_intent
    return "" if event.startswith("transfer.") else _identifier(found)


def _identifier(value: str | None) -> str:
    if value is None:
        return ""
    if IDENTIFIER.fullmatch(value) is None:
        raise MalformedWebhook("an id that is none of Stripe's")
    return value


def _word(value: str) -> str:
    if value and WORD.fullmatch(value) is None:
        raise MalformedWebhook("a type or status that is no word of Stripe's")
    return value
