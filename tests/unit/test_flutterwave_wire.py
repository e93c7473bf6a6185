import json
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiti.core.money import EXPONENTS, Money, UnknownCurrency
from kiti.gateways.flutterwave import Flutterwave, webhooks, wire
from kiti.gateways.gateway import (
    Captured,
    Declined,
    Gateway,
    GatewayRefund,
    MalformedWebhook,
    Missing,
    Pending,
    RefundStatus,
    Truth,
    Unknown,
    UnreadableAmount,
    WebhookEvent,
)
from kiti.gateways.http import Answered, NotAnswered

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
REFERENCE = "0192f0c1-7a7e-7cc3-9d0e-3f2f6f1b2a10"

currencies = st.sampled_from(sorted(EXPONENTS))
amounts = st.builds(Money, st.integers(min_value=0, max_value=10**15 - 1), currencies)


class TestMoney:
    @given(amount=amounts)
    def test_what_is_written_is_read_back(self, amount: Money) -> None:
        assert wire.UNITS.from_wire(wire.UNITS.to_wire(amount), amount.currency) == amount

    @given(amount=amounts)
    def test_what_is_written_as_json_is_read_back(self, amount: Money) -> None:
        body = wire.encode({"amount": wire.UNITS.to_wire(amount)})
        for literal in (json.loads(body, parse_float=Decimal)["amount"], str(wire.UNITS.to_wire(amount))):
            assert wire.UNITS.from_wire(literal, amount.currency) == amount
        assert b"e" not in body.lower(), "some readers take no exponents"
        assert b"." not in body or not body.rstrip(b"}").endswith(b"0"), "no trailing zeros"

    @given(text=st.text(max_size=12) | st.sampled_from(["NaN", "-1", "Infinity", "1e400", "1e-400", "9" * 40]))
    def test_no_text_crashes_the_codec(self, text: str) -> None:
        try:
            read = wire.UNITS.from_wire(text, "KES")
        except ValueError:
            return
        assert Decimal(text).scaleb(2) == read.amount

    @pytest.mark.parametrize(
        ("told", "currency", "minor"),
        [("0.58", "KES", 58), ("1500.50", "KES", 150050), (20, "RWF", 20), ("5e4", "UGX", 50_000)],
    )
    def test_major_units_become_minor_units(self, told: str | int, currency: str, minor: int) -> None:
        assert wire.UNITS.from_wire(told, currency) == Money(minor, currency)

    @pytest.mark.parametrize(("told", "currency"), [("20.5", "RWF"), ("0.005", "USD"), ("-1", "UGX")])
    def test_a_fraction_of_a_minor_unit_is_refused(self, told: str, currency: str) -> None:
        with pytest.raises(ValueError, match=r"whole number|amount of money"):
            wire.UNITS.from_wire(told, currency)

    def test_a_strange_currency_is_named(self) -> None:
        with pytest.raises(UnknownCurrency, match="JPY"):
            wire.UNITS.from_wire("1", "JPY")


def answer(data: object, *, status: str = "success", http: int = 200, **more: object) -> Answered:
    body = {"status": status, "message": "said", "data": data, **more}
    return Answered(status=http, body=wire.encode(body))


def transaction(**changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": 4100100,
        "tx_ref": REFERENCE,
        "flw_ref": "KITI-TEST-1",
        "amount": 1500,
        "charged_amount": 1500,
        "app_fee": Decimal("43.5"),
        "currency": "KES",
        "status": "successful",
        "processor_response": "Approved",
        "created_at": "2026-02-01T08:00:00.000Z",
    }
    return {**told, **changes}


def truth_of(**changes: Any) -> Truth:
    told = wire.read(answer(transaction(**changes)), wire.Transaction)
    assert isinstance(told, wire.Transaction)
    return wire.truth(told)


class TestTruth:
    def test_captured_money_is_exact(self) -> None:
        assert truth_of(amount=Decimal("1500.10"), charged_amount=Decimal("1500.1")) == Captured(
            transaction_id="4100100",
            reference=REFERENCE,
            amount=Money(150_010, "KES"),
            fee_exact=Decimal(4350),
        )

    def test_a_fee_may_be_a_fraction_of_a_minor_unit(self) -> None:
        truth = truth_of(amount="20", charged_amount="20", app_fee="0.58", currency="RWF")
        assert isinstance(truth, Captured)
        assert truth.fee_exact == Decimal("0.58")

    @pytest.mark.parametrize(
        ("charged", "app_fee", "ours"), [("50.72", "0.72", 0), ("50.72", "1", 28), ("60", "0.72", 0)]
    )
    def test_what_the_customer_pays_on_top_is_no_fee_of_ours(self, charged: str, app_fee: str, ours: int) -> None:
        truth = truth_of(amount=50, charged_amount=charged, app_fee=app_fee)
        assert isinstance(truth, Captured)
        assert (truth.amount.amount, truth.fee_exact) == (5000, Decimal(ours))

    def test_an_absent_fee_is_none(self) -> None:
        truth = truth_of(app_fee=None, charged_amount=None)
        assert isinstance(truth, Captured)
        assert truth.fee_exact == 0

    @pytest.mark.parametrize(
        ("status", "kind"),
        [("failed", Declined), ("pending", Pending), ("PENDING", Pending), ("new", Unknown), ("", Unknown)],
    )
    def test_other_statuses(self, status: str, kind: type[Truth]) -> None:
        assert isinstance(truth_of(status=status, amount=None), kind)

    @pytest.mark.parametrize(
        "changes",
        [
            {"amount": Decimal("0.005")},
            {"amount": None},
            {"amount": "much"},
            {"amount": "NaN"},
            {"amount": {"value": 1}},
            {"amount": -5},
            {"currency": "XYZ"},
            {"app_fee": "some"},
            {"charged_amount": "NaN"},
        ],
        ids=str,
    )
    def test_captured_money_that_cannot_be_counted_is_raised(self, changes: dict[str, Any]) -> None:
        with pytest.raises(UnreadableAmount) as caught:
            truth_of(**changes)
        assert (caught.value.transaction_id, caught.value.reference) == ("4100100", REFERENCE)

    @pytest.mark.parametrize(
        "outcome",
        [
            NotAnswered(reason="no answer within 30 s"),
            Answered(status=200, body=b""),
            Answered(status=200, body=b"<html>"),
            Answered(status=200, body=b'{"status":"success","data":{"id":1'),
            Answered(status=200, body=b'{"status":"success","data":' + b"[" * 100_000),
            Answered(status=200, body=b'{"status":"success","data":{"id":"\xff"}}'),
            Answered(status=200, body=b'{"status":"success"}'),
            Answered(status=302, body=wire.encode({"status": "success", "data": transaction()})),
            Answered(status=400, body=wire.encode({"status": "success", "data": transaction()})),
            Answered(status=400, body=b"Bad Request"),
            answer([transaction()]),
            answer({"id": 1}),
        ],
    )
    def test_what_cannot_be_read_is_unknown(self, outcome: Answered | NotAnswered) -> None:
        assert isinstance(wire.read(outcome, wire.Transaction), Unknown)

    @pytest.mark.parametrize(
        ("http", "data", "kind"),
        [
            (200, None, Missing),
            (400, None, Missing),
            (404, None, Missing),
            (401, None, Unknown),
            (403, None, Unknown),
            (400, {"code": 1}, Unknown),
        ],
    )
    def test_only_a_bare_error_about_the_id_means_missing(self, http: int, data: object, kind: type[Truth]) -> None:
        refused = wire.read(answer(data, status="error", http=http), wire.Transaction)
        assert isinstance(refused, wire.Refused)
        assert isinstance(wire.missing_or_unknown(refused), kind)

    @pytest.mark.parametrize(
        ("http", "message", "definite"),
        [
            (400, "amount is required", True),
            (401, "Invalid authorization key", True),
            (400, "Transaction does not exist", True),
            (400, "Refund amount is more than what can be refunded", True),
            (200, "amount is required", False),
            (409, "conflict", False),
            (400, "Duplicate transaction reference. Please check and try again", False),
            (400, "Transaction reference already exists", False),
            (400, "tx_ref must be unique", False),
            (400, "This transaction has been refunded", False),
        ],
    )
    def test_a_refusal_because_it_was_done_before_is_not_definite(
        self, http: int, message: str, *, definite: bool
    ) -> None:
        refused = wire.Refused(http_status=http, message=message, is_bare=True)
        assert refused.is_definite() is definite


class TestRefunds:
    @pytest.mark.parametrize(
        ("status", "disbursed", "meaning"),
        [
            ("completed", None, "pending"),
            ("completed", "failed", "failed"),
            ("completed-momo", None, "succeeded"),
            ("completed-bank-transfer", "successful", "succeeded"),
            ("completed-mpgs", None, "succeeded"),
            ("completed-offline", None, "succeeded"),
            ("completed-preauth", None, "succeeded"),
            ("completed-momo", "FAILED", "failed"),
            ("processing", None, "pending"),
            ("pending-momo", None, "pending"),
            ("failed", None, "failed"),
            ("levitating", None, "pending"),
        ],
    )
    def test_statuses(self, status: str, disbursed: str | None, meaning: RefundStatus) -> None:
        assert wire.refund_status(status, disburse_status=disbursed) == meaning

    @pytest.mark.parametrize(
        "meta", [{"disburse_status": "failed"}, '{"disburse_status":"failed"}'], ids=["object", "string"]
    )
    def test_the_disbursement_is_read_from_an_object_and_from_a_string(self, meta: object) -> None:
        told = refund_of(status="completed", meta=meta)
        assert isinstance(told, GatewayRefund)
        assert told.status == "failed"
        assert "failed" in told.failure_reason

    @pytest.mark.parametrize("meta", [None, [], "", "x", 5, {"disburse_status": 5}, '"["'], ids=str)
    def test_a_strange_meta_says_nothing(self, meta: object) -> None:
        told = refund_of(status="completed-momo", meta=meta)
        assert isinstance(told, GatewayRefund)
        assert told.status == "succeeded"

    def test_the_amount_may_be_fractional_and_the_comment_carries_our_reference(self) -> None:
        told = refund_of(amount_refunded=Decimal("10.005"), comment="refund-9", comments=None)
        assert isinstance(told, GatewayRefund)
        assert (told.amount_exact, told.reference) == (Decimal("1000.5"), "refund-9")

    @pytest.mark.parametrize("changes", [{"amount_refunded": None}, {"amount_refunded": "x"}], ids=str)
    def test_a_refund_without_a_readable_amount_is_unknown(self, changes: dict[str, Any]) -> None:
        assert isinstance(refund_of(**changes), Unknown)

    def test_one_unreadable_row_spoils_the_page(self) -> None:
        page = wire.read_page(answer([refund_row(), {"id": None}]))
        assert isinstance(page, wire.Page)
        assert isinstance(wire.rows_of(page, wire.Refund), Unknown)

    def test_a_row_belongs_by_id_or_else_by_the_gateways_reference(self) -> None:
        told = wire.read(answer(transaction()), wire.Transaction)
        assert isinstance(told, wire.Transaction)
        for changes, belongs in (
            ({"tx_id": 4100100}, True),
            ({"tx_id": None, "transaction_id": "4100100"}, True),
            ({"tx_id": 4100101, "flw_ref": "KITI-TEST-1"}, False),
            ({"tx_id": None, "flw_ref": "KITI-TEST-1"}, True),
            ({"tx_id": None, "flw_ref": None}, False),
        ):
            row = wire.read(answer(refund_row(**changes)), wire.Refund)
            assert isinstance(row, wire.Refund)
            assert row.is_of(told) is belongs


def refund_row(**changes: Any) -> dict[str, Any]:
    told = {"id": 77, "tx_id": 4100100, "amount_refunded": 10, "status": "completed", "comments": "refund-1"}
    return {**told, **changes}


def refund_of(**changes: Any) -> GatewayRefund | Unknown:
    row = wire.read(answer(refund_row(**changes)), wire.Refund)
    assert isinstance(row, wire.Refund)
    return wire.refund(row, transaction_id="4100100", currency="KES")


def event(body: object, headers: dict[str, str] = JSON) -> WebhookEvent:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return webhooks.read_webhook(headers, raw)


CHARGE = WebhookEvent(
    dedupe_key="charge:4100100:successful",
    kind="charge",
    reference=REFERENCE,
    transaction_id="4100100",
    refund_id="",
)
NEW_CHARGE = {"id": 4100100, "tx_ref": REFERENCE, "status": "successful", "amount": 1, "currency": "KES"}
OLD_CHARGE = {"id": 4100100, "txRef": REFERENCE, "flwRef": "F", "status": "successful", "appfee": 1.4}
REFUND = {"id": 77, "AmountRefunded": 10, "FlwRef": "F", "TransactionId": 4100100, "status": "completed"}


class TestWebhooks:
    def test_an_event_with_data(self) -> None:
        body = {"event": "charge.completed", "data": NEW_CHARGE, "event.type": "MOBILEMONEY_TRANSACTION"}
        assert event(body) == CHARGE
        assert event({**body, "meta_data": {"reference": "another"}}) == CHARGE

    def test_a_flat_charge(self) -> None:
        assert event({**OLD_CHARGE, "event.type": "CARD_TRANSACTION"}) == CHARGE

    def test_a_wrapped_transfer(self) -> None:
        body = {"event.type": "Transfer", "transfer": {"id": 5, "reference": "payout-1", "status": "FAILED"}}
        assert event(body) == WebhookEvent(
            dedupe_key="transfer:5:failed",
            kind="transfer",
            reference="payout-1",
            transaction_id="",
            refund_id="",
        )

    def test_a_flat_refund(self) -> None:
        assert event({**REFUND, "meta": '{"source":"availablebalance"}'}) == WebhookEvent(
            dedupe_key="refund:77:completed:",
            kind="refund",
            reference="",
            transaction_id="4100100",
            refund_id="77",
        )

    def test_a_failed_disbursement_is_news_under_the_same_status(self) -> None:
        before, after = event(REFUND), event({**REFUND, "meta": '{"disburse_status":"failed"}'})
        assert before.dedupe_key != after.dedupe_key

    @pytest.mark.parametrize(
        "body",
        [
            urlencode({**OLD_CHARGE, "event.type": "CARD_TRANSACTION"}),
            urlencode({"event": "charge.completed", "data": json.dumps(NEW_CHARGE)}),
            urlencode({"event": "charge.completed", **{f"data[{name}]": value for name, value in NEW_CHARGE.items()}}),
        ],
        ids=["flat", "data as JSON", "brackets"],
    )
    def test_a_form_says_the_same(self, body: str) -> None:
        assert event(body.encode(), FORM) == CHARGE

    def test_json_that_calls_itself_a_form_is_json(self) -> None:
        assert event(OLD_CHARGE, FORM) == CHARGE

    def test_an_event_that_is_not_ours_to_handle_is_other(self) -> None:
        told = event({"event": "subscription.cancelled", "data": {"id": 3, "status": "done"}})
        assert (told.kind, told.transaction_id, told.reference) == ("other", "", "")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"{",
            b"\xff\xfe",
            b'{"a":' + b"[" * 60_000,
            b"{}",
            {"event": "charge.completed"},
            {"event": "charge.completed", "data": None},
            {"event": "charge.completed", "data": {}},
            {"event": "charge.completed", "data": {**NEW_CHARGE, "id": "1/refund"}},
            {"event": "charge.completed", "data": {**NEW_CHARGE, "id": -1}},
            {"event": "charge.completed", "data": {**NEW_CHARGE, "id": True}},
            {"event": "charge.completed", "data": {**NEW_CHARGE, "id": 10**30}},
            {"event": "charge.completed", "data": {**NEW_CHARGE, "id": 1.5}},
            {"event": "charge.completed", "data": {**NEW_CHARGE, "tx_ref": "x" * 101}},
            {"event": "charge.completed", "data": {**NEW_CHARGE, "tx_ref": "a\x00b"}},
            {"event": "charge.completed", "data": {**NEW_CHARGE, "tx_ref": ["a"]}},
            {"event": "charge.completed", "data": {**NEW_CHARGE, "status": {"a": 1}}},
            {"event": "charge.completed", "data": {**NEW_CHARGE, "status": "s" * 41}},
            {**REFUND, "TransactionId": None},
            {**OLD_CHARGE, "id": None, "txRef": None},
            {"transfer": {}},
            {"padding": "x" * 70_000, **OLD_CHARGE},
        ],
    )
    def test_anything_else_is_malformed(self, body: object) -> None:
        with pytest.raises(MalformedWebhook):
            event(body)

    @pytest.mark.parametrize("body", [b"%ff=1", b"&".join([b"a=1"] * 300), b"data={&event=charge.completed"])
    def test_a_form_that_cannot_be_read_is_malformed(self, body: bytes) -> None:
        with pytest.raises(MalformedWebhook):
            event(body, FORM)

    @given(body=st.binary(max_size=200), headers=st.sampled_from([JSON, FORM, {}]))
    def test_no_bytes_crash_the_reader(self, body: bytes, headers: dict[str, str]) -> None:
        try:
            event(body, headers)
        except MalformedWebhook:
            return

    @given(
        fields=st.dictionaries(
            st.sampled_from(["event", "data", "id", "txRef", "transfer", "TransactionId", "status", "meta"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["id", "tx_ref", "status"]), inner, max_size=3)
                ),
                max_leaves=6,
            ),
        )
    )
    def test_no_json_crashes_the_reader(self, fields: dict[str, Any]) -> None:
        try:
            told = event(fields)
        except MalformedWebhook:
            return
        assert len(told.dedupe_key) < 300


class TestAuthenticity:
    @pytest.mark.parametrize(
        ("headers", "genuine"),
        [
            ({"verif-hash": "the-long-webhook-hash"}, True),
            ({"verif-hash": "the-long-webhook-hasH"}, False),
            ({"verif-hash": "the-long-webhook-hash "}, False),
            ({"verif-hash": "the-long-webhook"}, False),
            ({"verif-hash": ""}, False),
            ({"verif-hash": "日本語"}, False),
            ({"verif-hash": "\udcff"}, False),
            ({"verif-hash": "é"}, False),
            ({"authorization": "the-long-webhook-hash"}, False),
            ({}, False),
        ],
        ids=str,
    )
    def test_only_the_secret_itself_is_believed(self, headers: dict[str, str], *, genuine: bool) -> None:
        assert gateway("the-long-webhook-hash").is_authentic(headers, b"{}") is genuine

    def test_without_a_secret_nothing_is_believed(self) -> None:
        assert not gateway("").is_authentic({"verif-hash": ""}, b"{}")

    def test_a_secret_beyond_ascii_is_compared_as_it_travels(self) -> None:
        assert gateway("schlüssel").is_authentic({"verif-hash": "schlüssel".encode().decode("latin-1")}, b"")


def gateway(webhook_hash: str) -> Gateway:
    return Flutterwave(base_url="http://127.0.0.1:9/v3", secret_key="k", webhook_hash=webhook_hash)
