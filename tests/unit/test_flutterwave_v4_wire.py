"""Flutterwave v4's words and what they mean; signatures that are none."""

import base64
import hashlib
import hmac
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from kiti.core.money import EXPONENTS, Money, UnknownCurrency
from kiti.gateways.flutterwave_v4 import people, webhooks, wire
from kiti.gateways.gateway import GatewayPayout, GatewayRefund, MalformedWebhook, UnreadableAmount
from kiti.gateways.http import Answered

SECRET = "a-secret-hash-of-the-dashboard"
BODY = json.dumps(
    {
        "webhook_id": "wbk_1",
        "timestamp": 1735116884019,
        "type": "charge.completed",
        "data": {"id": "chg_Hq4oBRTJ4r", "reference": "our-reference", "status": "succeeded", "amount": 1},
    }
).encode()


def signed(body: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()


def test_a_body_that_was_signed_with_our_secret_is_authentic() -> None:
    assert webhooks.is_authentic({"flutterwave-signature": signed(BODY)}, BODY, secret=SECRET)


@pytest.mark.parametrize(
    "header",
    [
        SECRET,
        "",
        signed(BODY, "another secret"),
        signed(BODY + b" "),
        signed(BODY).rstrip("="),
        signed(BODY).lower(),
        hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest(),
        base64.b64encode(SECRET.encode()).decode(),
        "\u0661",
    ],
)
def test_what_is_no_signature_of_this_body_is_turned_away(header: str) -> None:
    assert not webhooks.is_authentic({"flutterwave-signature": header}, BODY, secret=SECRET)
    assert not webhooks.is_authentic({"verif-hash": header}, BODY, secret=SECRET)


def test_without_a_header_or_a_secret_nothing_is_authentic() -> None:
    assert not webhooks.is_authentic({}, BODY, secret=SECRET)
    assert not webhooks.is_authentic({"flutterwave-signature": signed(BODY, "")}, BODY, secret="")


@pytest.mark.parametrize("created", ["2025-01-29T12:44:53.049Z", 1735116842.116, None])
@pytest.mark.parametrize("envelope", [{"webhook_id": "wbk_1"}, {"id": "wbk_1"}, {}])
def test_a_charge_s_webhook_says_where_to_look(created: object, envelope: dict[str, str]) -> None:
    data = {"id": "chg_1", "reference": "r", "status": "failed", "created_datetime": created}
    event = webhooks.read_webhook(msgspec.json.encode({**envelope, "type": "charge.completed", "data": data}))
    assert (event.kind, event.reference, event.transaction_id) == ("charge", "r", "chg_1")
    assert event.dedupe_key == "charge:chg_1:failed"


def test_refunds_transfers_and_others_say_where_to_look() -> None:
    def read(kind: str, **data: Any) -> Any:
        return webhooks.read_webhook(msgspec.json.encode({"type": kind, "data": data}))

    refund = read("refund.completed", id="rfd_1", charge_id="chg_1", status="succeeded")
    assert (refund.kind, refund.transaction_id, refund.refund_id) == ("refund", "chg_1", "rfd_1")
    sent = read("transfer.disburse", id="trf_1", reference="payout", status="SUCCESSFUL", amount=3)
    assert (sent.kind, sent.reference, sent.dedupe_key) == ("transfer", "payout", "transfer.disburse:trf_1:successful")
    back = read("transfer.reversal", id="trf_1", reference="payout", status="SUCCESSFUL")
    assert back.dedupe_key != sent.dedupe_key
    assert read("order.authorization", id="ord_1", status="x").kind == "other"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"type": "charge.completed"}',
        b'{"type": "charge.completed", "data": {}}',
        b'{"type": "charge.completed", "data": {"id": 7}}',
        b'{"type": "charge.completed", "data": {"id": "chg_1/refund"}}',
        b'{"type": "charge.completed", "data": {"id": "../charges"}}',
        b'{"type": "refund.completed", "data": {"id": "rfd_1"}}',
        b'{"type": "charge.completed", "data": {"reference": "' + b"x" * 101 + b'"}}',
        b'{"type": "charge.\\u0000", "data": {"id": "chg_1"}}',
        b"{" + b" " * 70_000 + b"}",
        b"[" * 5_000,
    ],
    ids=lambda body: body[:40],
)
def test_a_body_of_no_known_shape_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedWebhook):
        webhooks.read_webhook(body)


@pytest.mark.parametrize("currency", sorted(wire.UNITS.decimals))
@pytest.mark.parametrize("minor", [1, 7, 100, 150_050, 12_345_678_901])
def test_an_amount_comes_back_as_it_went(currency: str, minor: int) -> None:
    amount = Money(minor, currency)
    assert wire.UNITS.from_wire(wire.UNITS.to_wire(amount), currency) == amount
    assert wire.UNITS.from_wire(str(wire.UNITS.to_wire(amount)), currency) == amount


def test_the_gateway_s_decimals_are_those_of_the_minor_units() -> None:
    assert all(wire.UNITS.decimals[currency] == EXPONENTS[currency] for currency in wire.UNITS.decimals)


@pytest.mark.parametrize("told", ["0.5", "-1", "nan", "inf", "1e400", "x", "1.0000000000000000000000000000001"])
def test_an_amount_that_is_none_is_refused(told: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        wire.UNITS.from_wire(told, "UGX")
    with pytest.raises(UnknownCurrency):
        wire.UNITS.from_wire("1", "JPY")


def test_a_captured_charge_without_a_readable_amount_is_no_money_that_is_counted() -> None:
    charge = msgspec.convert({"id": "chg_1", "reference": "r", "status": "succeeded", "currency": "UGX"}, wire.Charge)
    with pytest.raises(UnreadableAmount):
        wire.truth(charge)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("new", "pending"),
        ("pending", "pending"),
        ("completed", "pending"),
        ("requires_action", "pending"),
        ("never heard of", "pending"),
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("cancelled", "failed"),
    ],
)
def test_a_refund_is_believed_to_be_out_when_it_says_so(said: str, means: str) -> None:
    row = wire.Refund(id="rfd_1", charge_id="chg_1", status=said, amount_refunded=msgspec.Raw(b"12.34"))
    told = wire.refund(row, currency="KES")
    assert isinstance(told, GatewayRefund)
    assert (told.status, told.amount_exact) == (means, Decimal(1234))


def test_a_transfer_that_was_reversed_has_failed() -> None:
    row = wire.Transfer(
        id="trf_1",
        reference="r",
        status="SUCCESSFUL",
        destination_currency="UGX",
        amount=wire.TransferAmount(value=msgspec.Raw(b"5")),
        reversal={"reconciliation_status": "REVERSED"},
    )
    told = wire.payout(row)
    assert isinstance(told, GatewayPayout)
    assert told.status == "failed"


def test_an_error_says_which_field_was_wrong() -> None:
    body = {
        "status": "failed",
        "error": {
            "type": "REQUEST_NOT_VALID",
            "code": "10400",
            "message": "Request is not valid",
            "validation_errors": [{"field_name": "amount", "message": "must be positive"}],
        },
    }
    refused = wire.read(Answered(status=400, body=msgspec.json.encode(body)), wire.Charge)
    assert isinstance(refused, wire.Refused)
    assert refused.message == "Request is not valid: amount must be positive"
    assert refused.is_definite()
    conflict = wire.read(Answered(status=409, body=msgspec.json.encode(body)), wire.Charge)
    assert isinstance(conflict, wire.Refused)
    assert not conflict.is_definite()


def test_names_of_two_words_are_first_and_last() -> None:
    assert people.person(" Asha  Nabirye Nakato ") == {"first": "Asha", "last": "Nabirye Nakato"}
    assert people.person("Asha") == {}
    assert people.person("") == {}
