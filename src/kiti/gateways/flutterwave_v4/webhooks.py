"""What Flutterwave v4's webhooks look like, and whether one is from Flutterwave. Pure: no I/O.

Source: Flutterwave's v4 documentation, "Webhooks". A webhook is `{webhook_id | id, timestamp, type, data}`, its header
`flutterwave-signature` the base64 of HMAC-SHA256 over the raw body with the secret hash. Types are charge.completed
(sent for failures too), refund.completed, transfer.disburse, transfer.reversal and order.authorization.

Nothing is taken from it but where to look. Effects are the same when the kind, the gateway's id and the status are.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from kiti.gateways import reading
from kiti.gateways.gateway import MalformedWebhook, WebhookEvent
from kiti.gateways.reading import UNREADABLE

LONGEST_BODY_BYTES = 64 * 1024
SIGNATURE = "flutterwave-signature"

# chg_Hq4oBRTJ4r, rfd_eHwAkSdZ48, trf_…: an id becomes part of a path, and a webhook or a browser may claim anything.
IDENTIFIER = re.compile(r"[a-z]{2,5}_[A-Za-z0-9]{1,60}", re.ASCII)


def is_authentic(headers: Mapping[str, str], body: bytes, *, secret: str) -> bool:
    """Whether the header signs this body, in constant time; False without a header or without a secret.

    The secret itself in the header, which older documentation tells to compare with, is no signature.
    """
    given = headers.get(SIGNATURE)
    if not given or not secret:
        return False
    try:
        sent = given.encode("ascii")
    except UnicodeEncodeError:
        return False
    expected = base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256))
    return hmac.compare_digest(sent, expected)


def read_webhook(body: bytes) -> WebhookEvent:
    """Where to look because of a webhook; raises MalformedWebhook.

    `reference` is the payment's for charges, the payout's for transfers, empty for refunds.
    """
    if len(body) > LONGEST_BODY_BYTES:
        raise MalformedWebhook(f"a webhook of {len(body)} bytes; {LONGEST_BODY_BYTES} are the most")
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE as error:
        raise MalformedWebhook("a webhook that is no JSON object") from error
    match told:
        case {"type": str(kind), "data": dict(data)}:
            return _event(reading.word(kind), data)
        case _:
            raise MalformedWebhook(f"a webhook of unknown shape with {len(told)} fields")


def _event(kind: str, data: dict[str, Any]) -> WebhookEvent:
    identity, status = _identifier(data.get("id")), reading.word(data.get("status"))
    match kind.partition(".")[0]:
        case "charge":
            reference = reading.reference(data.get("reference"))
            if not identity and not reference:
                raise MalformedWebhook("a charge with neither an id nor a reference")
            return WebhookEvent(
                dedupe_key=f"charge:{identity or reference}:{status}",
                kind="charge",
                reference=reference,
                transaction_id=identity,
                refund_id="",
            )
        case "refund":
            charge = _identifier(data.get("charge_id"))
            if not identity or not charge:
                raise MalformedWebhook("a refund without its id or without that of its charge")
            return WebhookEvent(
                dedupe_key=f"refund:{identity}:{status}",
                kind="refund",
                reference="",
                transaction_id=charge,
                refund_id=identity,
            )
        case "transfer":
            return WebhookEvent(
                dedupe_key=f"{kind}:{identity}:{status}",
                kind="transfer",
                reference=reading.reference(data.get("reference")),
                transaction_id=identity,
                refund_id="",
            )
        case _:
            return WebhookEvent(
                dedupe_key=f"other:{kind}:{identity}:{status}",
                kind="other",
                reference="",
                transaction_id="",
                refund_id="",
            )


def _identifier(value: object) -> str:
    """An id of Flutterwave's; empty if there is none."""
    if value is None:
        return ""
    if not isinstance(value, str) or IDENTIFIER.fullmatch(value) is None:
        raise MalformedWebhook("an id that is none of Flutterwave's")
    return value
