"""Who signed a webhook, and where it says to look: signatures that are forged, old, doubled, cut."""

import hashlib
import hmac
import time
from typing import Any

import msgspec
import pytest

from kiti.gateways.gateway import MalformedWebhook
from kiti.gateways.stripe import Stripe
from kiti.gateways.stripe.webhooks import LONGEST_HEADER, is_authentic, read_webhook

SECRET = "whsec_0123456789abcdef"
NOW = 1_800_000_000
BODY = b'{"id":"evt_1"}'


def sign(body: bytes = BODY, *, secret: str = SECRET, at: int | str = NOW) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def accepts(header: str | None, *, body: bytes = BODY, now: float = NOW) -> bool:
    headers = {} if header is None else {"stripe-signature": header}
    return is_authentic(headers, body, secret=SECRET, now=now)


def test_a_signature_of_ours_is_accepted() -> None:
    assert accepts(f"t={NOW},v1={sign()}")
    assert accepts(f"t={NOW}, v1={sign()}, v0=00")
    assert accepts(f"v1={sign()},t={NOW}")


def test_one_good_signature_among_several_is_enough() -> None:
    """While a secret is being rolled, Stripe signs with both."""
    other = sign(secret="whsec_another")
    assert accepts(f"t={NOW},v1={other},v1={sign()}")
    assert accepts(f"t={NOW},v1={sign()},v1={other}")
    assert not accepts(f"t={NOW},v1={other},v1={other}")


@pytest.mark.parametrize("seconds", [-301, 301, 86_400, -86_400])
def test_a_signature_of_another_time_is_refused(seconds: int) -> None:
    header = f"t={NOW},v1={sign()}"
    assert not accepts(header, now=NOW + seconds)
    assert accepts(header, now=NOW + 299)
    assert accepts(header, now=NOW - 299)


def test_a_time_that_was_not_signed_is_refused() -> None:
    assert not accepts(f"t={NOW + 1000},v1={sign()}", now=NOW + 1000)


def test_another_body_is_refused() -> None:
    header = f"t={NOW},v1={sign()}"
    assert not accepts(header, body=BODY + b" ")
    assert not accepts(header, body=b"")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "t=",
        f"t={NOW}",
        f"v1={sign()}",
        f"t={NOW},v1=",
        f"t={NOW},v1={sign()[:-1]}",
        f"t={NOW},v1={sign().upper()}",
        f"t={NOW},v0={sign()}",
        f"t={NOW},v1{sign()}",
        f"t={NOW}t={NOW},v1={sign()}",
        f"t={NOW},t={NOW},v1={sign()}",
        f"t=+{NOW},v1={sign()}",
        f"t=1e9,v1={sign(at='1e9')}",
        f"t=-1,v1={sign(at=-1)}",
        f"t=,v1={sign(at='')}",
        f"t={'9' * 400},v1={sign(at='9' * 400)}",
        f"t={NOW},v1=\N{SNOWMAN}{sign()}",
        f"t={NOW},v1=\ud800",
        "," * 1000,
        f"t={NOW}," + "v1=00," * LONGEST_HEADER + f"v1={sign()}",
    ],
    ids=lambda header: str(header)[:40].encode("ascii", "replace").decode(),
)
def test_a_header_that_is_not_whole_is_refused(header: str | None) -> None:
    assert not accepts(header)


def test_verifying_asks_nobody_and_takes_no_time() -> None:
    """Fifty microseconds each are the aim; a slow machine gets ten times that before this is a failure."""
    gateway = Stripe(base_url="http://127.0.0.1:9", secret_key="sk_test_x", webhook_secret=SECRET)
    body = b'{"id":"evt_1","data":"' + b"x" * 4_000 + b'"}'
    now = int(time.time())
    headers = {"stripe-signature": f"t={now},v1={sign(body, at=now)}"}
    best = min(_seconds(gateway, headers, body) for _ in range(20))
    assert best < 500e-6


def _seconds(gateway: Stripe, headers: dict[str, str], body: bytes) -> float:
    began = time.thread_time()
    assert gateway.is_authentic(headers, body)
    return time.thread_time() - began


def event(kind: str, **told: Any) -> bytes:
    return msgspec.json.encode({"id": "evt_1", "object": "event", "type": kind, "data": {"object": told}})


SESSION = {
    "id": "cs_test_1",
    "object": "checkout.session",
    "client_reference_id": "ref-1",
    "payment_intent": "pi_1",
    "status": "complete",
    "metadata": {"reference": "ref-1"},
}
INTENT = {"id": "pi_1", "object": "payment_intent", "metadata": {"reference": "ref-1"}, "status": "requires_capture"}
REFUND = {"id": "re_1", "object": "refund", "payment_intent": "pi_1", "metadata": {"reference": "refund-1"}}
CHARGE = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "metadata": {"reference": "ref-1"}}
DISPUTE = {"id": "du_1", "object": "dispute", "payment_intent": "pi_1", "metadata": {}, "status": "needs_response"}
TRANSFER = {"id": "tr_1", "object": "transfer", "metadata": {"reference": "payout-1"}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (event("checkout.session.completed", **SESSION), ("charge", "ref-1", "pi_1", "")),
        (event("checkout.session.expired", **{**SESSION, "payment_intent": None}), ("charge", "ref-1", "", "")),
        (event("payment_intent.amount_capturable_updated", **INTENT), ("charge", "ref-1", "pi_1", "")),
        (event("payment_intent.succeeded", **INTENT), ("charge", "ref-1", "pi_1", "")),
        (event("payment_intent.payment_failed", **INTENT), ("charge", "ref-1", "pi_1", "")),
        (event("payment_intent.canceled", **INTENT), ("charge", "ref-1", "pi_1", "")),
        (event("payment_intent.succeeded", **{**INTENT, "metadata": {}}), ("charge", "", "pi_1", "")),
        (event("refund.updated", **REFUND), ("refund", "", "pi_1", "re_1")),
        (event("charge.refund.updated", **REFUND), ("refund", "", "pi_1", "re_1")),
        (event("charge.refunded", **CHARGE), ("refund", "", "pi_1", "")),
        (event("charge.dispute.created", **DISPUTE), ("dispute", "", "pi_1", "")),
        (event("transfer.created", **TRANSFER), ("transfer", "payout-1", "", "")),
        (event("customer.created", id="cus_1", object="customer"), ("other", "", "", "")),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, bytes) else "",
)
def test_events_lead_to_what_they_are_about(body: bytes, expected: tuple[str, str, str, str]) -> None:
    found = read_webhook(body)
    assert (found.kind, found.reference, found.transaction_id, found.refund_id) == expected


def test_two_events_of_one_change_have_the_same_effect_and_those_of_two_have_not() -> None:
    first = read_webhook(event("payment_intent.succeeded", **INTENT))
    again = read_webhook(event("payment_intent.succeeded", **INTENT).replace(b"evt_1", b"evt_2"))
    later = read_webhook(event("payment_intent.canceled", **INTENT))
    assert first.dedupe_key == again.dedupe_key != later.dedupe_key


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        event("payment_intent.succeeded", object="payment_intent"),
        event("payment_intent.succeeded", **{**INTENT, "id": 7}),
        event("payment_intent.succeeded", **{**INTENT, "id": "../refunds"}),
        event("payment_intent.succeeded", **{**INTENT, "metadata": {"reference": "x" * 101}}),
        event("payment_intent.succeeded", **{**INTENT, "metadata": {"reference": "a\nb"}}),
        event("payment_intent.succeeded", **{**INTENT, "metadata": {"reference": 7}}),
        event("payment_intent.succeeded", **{**INTENT, "status": "Two Words"}),
        event("payment_intent.\n", **INTENT),
    ],
    ids=lambda body: str(body[:40]),
)
def test_what_is_no_event_of_stripes_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedWebhook):
        read_webhook(body)
