"""What Flutterwave v4 says on the wire, and what that means to Kiti. Pure: no I/O.

Source: Flutterwave's v4 documentation and reference (developer.flutterwave.com). Amounts are major units with decimals;
they are read as exact decimals, never as floats. A good answer is `{status: "success", message, data, meta?}`, a bad
one `{status: "failed", error: {type, code, message, validation_errors}}`.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

import msgspec

from kiti.core.money import Money, UnknownCurrency
from kiti.gateways.gateway import (
    Captured,
    Declined,
    GatewayPayout,
    GatewayRefund,
    Missing,
    PayoutStatus,
    Pending,
    RefundStatus,
    Rejected,
    Truth,
    Unavailable,
    Unknown,
    UnreadableAmount,
)
from kiti.gateways.http import Answered, NotAnswered
from kiti.gateways.major_units import MajorUnits
from kiti.gateways.reading import NOTHING, UNREADABLE, number, printable

T = TypeVar("T")

# The currencies that v4 is asked to take, and how many decimals their amounts have there.
UNITS = MajorUnits(
    gateway="Flutterwave v4",
    decimals={
        "EUR": 2, "GBP": 2, "GHS": 2, "KES": 2, "MWK": 2, "NGN": 2, "RWF": 0, "TZS": 2, "UGX": 0, "USD": 2, "XAF": 0,
        "XOF": 0, "ZAR": 2, "ZMW": 2,
    },
)  # fmt: skip

# A word that says what is wrong with our request, before anything was done. 401 and 403 are about us, not about it.
CLIENT_ERRORS = range(400, 500)
NOT_FOUND = 404
CONFLICT = 409
# The gateway does not let us in: that says nothing about what was asked for.
NOT_LET_IN = {401, 403}

REFUND_FAILURES = {"failed", "cancelled", "canceled"}
TRANSFER_FAILURES = {"failed", "cancelled", "canceled"}

_encoder = msgspec.json.Encoder(decimal_format="number")


class Fee(msgspec.Struct, frozen=True, kw_only=True):
    """A part of what Flutterwave keeps: vat, app, merchant, stamp_duty."""

    amount: msgspec.Raw = NOTHING


class Address(msgspec.Struct, frozen=True):
    """Where the traveller is to be sent."""

    url: str


class NextAction(msgspec.Struct, frozen=True, kw_only=True):
    """What has to happen before a charge can succeed."""

    type: str = ""
    redirect_url: Address | None = None


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """What the bank or the mobile network said."""

    type: str | None = None
    code: str | None = None


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as its creation, one charge and the list of charges tell it; amounts are still unread."""

    id: str
    reference: str
    status: str
    currency: str
    amount: msgspec.Raw = NOTHING
    fees: list[Fee] | None = None
    next_action: NextAction | None = None
    processor_response: Processor | None = None
    created_datetime: str | float | None = None


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """A refund; it does not tell its currency."""

    id: str
    charge_id: str
    status: str
    amount_refunded: msgspec.Raw = NOTHING
    meta: msgspec.Raw = NOTHING


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A hosted checkout page."""

    reference: str
    checkout_url: str
    currency: str
    amount: msgspec.Raw = NOTHING


class Customer(msgspec.Struct, frozen=True):
    """Who pays, as Flutterwave knows them."""

    id: str


class TransferAmount(msgspec.Struct, frozen=True, kw_only=True):
    """An amount of a transfer, and in which of its two currencies it is meant."""

    value: msgspec.Raw = NOTHING


class TransferFee(msgspec.Struct, frozen=True, kw_only=True):
    """What sending it costs on top."""

    value: msgspec.Raw = NOTHING
    total: msgspec.Raw = NOTHING


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer to somebody's bank account or mobile money."""

    id: str
    reference: str
    status: str
    destination_currency: str
    amount: TransferAmount
    fee: TransferFee | None = None
    provider_response: dict[str, object] | None = None
    reversal: dict[str, object] | None = None


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """An error envelope; `kind` is its `type`, such as REQUEST_NOT_VALID."""

    http_status: int
    kind: str
    message: str

    def is_definite(self) -> bool:
        """Whether the refusal proves that nothing was done, now or by an earlier call of ours."""
        return self.http_status in CLIENT_ERRORS and self.http_status != CONFLICT

    def is_about_it(self) -> bool:
        """Whether the refusal is about what was asked for, and not about who asks."""
        return self.http_status in CLIENT_ERRORS and self.http_status not in NOT_LET_IN

    def is_unknown_id(self) -> bool:
        """Whether it says that there is no such thing."""
        return self.http_status == NOT_FOUND and self.kind in {"RESOURCE_NOT_FOUND", "NOT_FOUND"}


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list; `next` is the cursor of transfers, `total_pages` the number of pages of the other lists."""

    rows: msgspec.Raw
    total_pages: int | None
    next: str


def encode(body: dict[str, object]) -> bytes:
    """JSON in which a Decimal is a plain number."""
    return _encoder.encode(body)


def read(outcome: Answered | NotAnswered | Refused, shape: type[T]) -> T | Refused | Unknown:
    """The data of a successful answer, an error envelope, or Unknown for everything else."""
    envelope = _envelope(outcome)
    if not isinstance(envelope, _Envelope):
        return envelope
    try:
        return msgspec.json.decode(envelope.data, type=shape)
    except UNREADABLE as error:
        return Unknown(reason=f"data of another shape: {printable(str(error))}")


def read_page(outcome: Answered | NotAnswered | Refused) -> Page | Unknown:
    """One page of a list."""
    envelope = _envelope(outcome)
    if isinstance(envelope, Unknown):
        return envelope
    if isinstance(envelope, Refused):
        return Unknown(reason=f"HTTP {envelope.http_status}: {envelope.message}")
    try:
        meta = msgspec.json.decode(envelope.meta, type=_Meta | None) or _Meta()
        cursor = msgspec.json.decode(envelope.cursor, type=_Cursor | None) or meta.cursor or _Cursor()
    except UNREADABLE:
        return Unknown(reason="a list without the numbers of its pages")
    pages = meta.page_info.total_pages if meta.page_info is not None else None
    return Page(rows=envelope.data, total_pages=pages, next=cursor.next or "")


def rows_of(page: Page, shape: type[T]) -> list[T] | Unknown:
    """The rows of a page; one that cannot be read spoils the page, since it could be the one looked for."""
    try:
        return msgspec.json.decode(page.rows, type=list[shape] | None) or []  # type: ignore[valid-type]
    except UNREADABLE as error:
        return Unknown(reason=f"a row of another shape: {printable(str(error))}")


def truth(charge: Charge) -> Truth:
    """What a charge's status means; raises UnreadableAmount for captured money that cannot be counted."""
    match charge.status.lower():
        case "succeeded":
            return _captured(charge)
        case "failed" | "voided":
            return Declined(transaction_id=charge.id, reference=charge.reference, reason=why_not(charge))
        case "pending":
            return Pending(transaction_id=charge.id, reference=charge.reference)
        case other:
            return Unknown(reason=f"a charge's status is {printable(other)!r}")


def why_not(charge: Charge) -> str:
    """Why a charge failed, in the processor's words."""
    said = charge.processor_response or Processor()
    words = (said.type or "").replace("_", " ").strip()
    return printable(words.capitalize()) if words else "the gateway gave no reason"


def is_for(charge: Charge | Session, *, reference: str, amount: Money) -> bool:
    """Whether the answer is about what was asked for: a known idempotency key gets the first answer, whatever it says.

    An amount that cannot be read is none that was asked for.
    """
    try:
        told = UNITS.from_wire(number(charge.amount), charge.currency)
    except (ValueError, UnknownCurrency):
        return False
    return charge.reference == reference and told == amount


def rejected_or_unknown(refused: Refused) -> Rejected | Unknown:
    """What an error means to a request to do something; Unavailable where it is our credentials that are refused."""
    if refused.http_status in NOT_LET_IN:
        return Unavailable(reason=f"HTTP {refused.http_status}: {refused.message}")
    if refused.is_definite():
        return Rejected(reason=refused.message)
    return Unknown(reason=f"HTTP {refused.http_status}: {refused.message}")


def unavailable_or_unknown(outcome: Answered | NotAnswered | Refused, answer: Unknown) -> Unavailable | Unknown:
    """Unavailable where the request was not even sent."""
    is_withheld = isinstance(outcome, NotAnswered) and outcome.was_withheld
    return Unavailable(reason=answer.reason) if is_withheld else answer


def missing_or_unknown(refused: Refused) -> Missing | Unknown:
    """What an error means to a question."""
    if refused.is_unknown_id():
        return Missing()
    return Unknown(reason=f"HTTP {refused.http_status}: {refused.message}")


def refund(row: Refund, *, currency: str) -> GatewayRefund | Unknown:
    """A refund in minor units; Unknown when its amount cannot be read."""
    try:
        amount = UNITS.to_minor_exact(number(row.amount_refunded), currency)
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"refund {printable(row.id)}: {printable(str(error))}")
    status = refund_status(row.status)
    return GatewayRefund(
        refund_id=row.id,
        transaction_id=row.charge_id,
        reference=_reference_of(row.meta),
        amount_exact=amount,
        status=status,
        failure_reason=f"status {printable(row.status)}" if status == "failed" else "",
    )


def refund_status(status: str) -> RefundStatus:
    """What the words mean: new and pending, then succeeded or failed.

    The documentation shows `completed` in the answer to a refund that has just been asked for. So it is pending, as is
    a word that nobody knows: no money is believed to be out because of it.
    """
    said = status.lower()
    if said in REFUND_FAILURES:
        return "failed"
    return "succeeded" if said == "succeeded" else "pending"


def payout(row: Transfer) -> GatewayPayout | Unknown:
    """A transfer in minor units of what arrives; Unknown when its amounts cannot be read."""
    fee = row.fee or TransferFee()
    try:
        amount = UNITS.to_minor_exact(number(row.amount.value), row.destination_currency)
        costs = UNITS.to_minor_exact(
            number(fee.value, absent=number(fee.total, absent=Decimal(0))), row.destination_currency
        )
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"transfer {printable(row.id)}: {printable(str(error))}")
    status = payout_status(row)
    said = (row.provider_response or {}).get("message") or f"status {row.status}"
    return GatewayPayout(
        payout_id=row.id,
        reference=row.reference,
        amount_exact=amount,
        fee_exact=costs,
        status=status,
        failure_reason=printable(str(said)) if status == "failed" else "",
    )


def payout_status(row: Transfer) -> PayoutStatus:
    """NEW, INITIATED and PENDING, then SUCCESSFUL or FAILED; what was reversed has come back."""
    said = row.status.lower()
    reversal = str((row.reversal or {}).get("reconciliation_status", "")).lower()
    if said in TRANSFER_FAILURES or reversal == "reversed":
        return "failed"
    return "succeeded" if said in {"successful", "succeeded"} else "pending"


def moment(told: str | float | None) -> datetime | None:
    """`created_datetime`, which comes as ISO 8601 or as seconds since 1970; None where it is neither."""
    try:
        if isinstance(told, str):
            found = datetime.fromisoformat(told)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        return None if told is None else datetime.fromtimestamp(told, UTC)
    except (ValueError, OverflowError, OSError):
        return None


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    status: str = ""
    message: str | None = None
    data: msgspec.Raw = NOTHING
    meta: msgspec.Raw = NOTHING
    cursor: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    type: str = ""
    message: str | None = None
    validation_errors: list[msgspec.Raw] | None = None


class _Complaint(msgspec.Struct, frozen=True, kw_only=True):
    field: str | None = None
    field_name: str | None = None
    message: str | None = None


class _PageInfo(msgspec.Struct, frozen=True):
    total_pages: int | None = None


class _Cursor(msgspec.Struct, frozen=True):
    next: str | None = None


class _Meta(msgspec.Struct, frozen=True):
    page_info: _PageInfo | None = None
    cursor: _Cursor | None = None


class _RefundMeta(msgspec.Struct, frozen=True):
    reference: str = ""


def _envelope(outcome: Answered | NotAnswered | Refused) -> _Envelope | Refused | Unknown:
    if isinstance(outcome, Refused):
        return outcome
    if isinstance(outcome, NotAnswered):
        return Unknown(reason=outcome.reason)
    try:
        envelope = msgspec.json.decode(outcome.body, type=_Envelope)
        error = msgspec.json.decode(envelope.error, type=_Error | None)
    except UNREADABLE:
        return Unknown(reason=f"HTTP {outcome.status} with a body that is not Flutterwave's")
    if envelope.status == "failed" and error is not None:
        return Refused(http_status=outcome.status, kind=printable(error.type), message=_complaint(error))
    if outcome.status not in range(200, 300) or envelope.status == "failed":
        return Unknown(reason=f"HTTP {outcome.status} with status {printable(envelope.status)!r}")
    return envelope


def _complaint(error: _Error) -> str:
    """The message, and the first field that was wrong."""
    words = error.message or "no message"
    for raw in (error.validation_errors or [])[:1]:
        try:
            told = msgspec.json.decode(raw, type=_Complaint)
        except UNREADABLE:
            continue
        words = f"{words}: {told.field_name or told.field or ''} {told.message or ''}".strip()
    return printable(words)


def _captured(charge: Charge) -> Captured:
    try:
        amount = UNITS.from_wire(number(charge.amount), charge.currency)
        fee = sum(
            (
                UNITS.to_minor_exact(number(part.amount, absent=Decimal(0)), charge.currency)
                for part in charge.fees or []
            ),
            start=Decimal(0),
        )
    except (ValueError, UnknownCurrency) as error:
        raise UnreadableAmount(
            f"Flutterwave's charge {charge.id} is paid, but: {printable(str(error))}."
            " Look at it in the gateway's dashboard.",
            transaction_id=charge.id,
            reference=charge.reference,
        ) from error
    return Captured(transaction_id=charge.id, reference=charge.reference, amount=amount, fee_exact=fee)


def _reference_of(meta: msgspec.Raw) -> str:
    """What we have put into a refund's `meta`; empty where it is not there."""
    try:
        return printable((msgspec.json.decode(meta, type=_RefundMeta | None) or _RefundMeta()).reference)
    except UNREADABLE:
        return ""
