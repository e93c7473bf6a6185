"""What Flutterwave v3 says on the wire, and what that means to Kiti. Pure: no I/O.

Source: Flutterwave's v3 reference (developer.flutterwave.com) and answers seen in the wild. Amounts are major units,
numbers or strings; they are read as exact decimals, never as floats. Every answer is in an envelope
`{status: "success" | "error", message, data, meta?}`.
"""

import re
from decimal import Decimal
from typing import TypeVar

import msgspec

from kiti.core.money import UnknownCurrency
from kiti.gateways.gateway import (
    Captured,
    Declined,
    GatewayRefund,
    Missing,
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

# The decimals that v3 takes of a currency. It writes all of them in major units, and those that ISO 4217 gives no
# minor unit as whole numbers.
UNITS = MajorUnits(
    gateway="Flutterwave",
    decimals={
        "AED": 2, "BIF": 0, "BWP": 2, "CDF": 2, "EGP": 2, "ETB": 2, "EUR": 2, "GBP": 2, "GHS": 2, "KES": 2, "MAD": 2,
        "MUR": 2, "MWK": 2, "MZN": 2, "NGN": 2, "RWF": 0, "SCR": 2, "SSP": 2, "TZS": 2, "UGX": 0, "USD": 2, "XAF": 0,
        "XOF": 0, "ZAR": 2, "ZMW": 2,
    },
)  # fmt: skip

# An unknown id is an error with 200, 400 or 404; a 401 or 403 says nothing about the transaction.
UNKNOWN_ID_HTTP_STATUSES = {200, 400, 404}
CLIENT_ERRORS = range(400, 500)
CONFLICT = 409

# A refusal because it was done before: then it may well be our own call whose answer was lost.
DONE_BEFORE = re.compile(r"duplicate|already|(?<!not )exists|unique|taken|has been (used|refunded)", re.IGNORECASE)

# An id of Flutterwave's; a webhook or a browser may claim anything, and it becomes part of a path.
IDENTIFIER = re.compile(r"[0-9]{1,19}", re.ASCII)

LONGEST_LINK = 2048

# The gateway does not let us in: that says nothing about what was asked for.
NOT_LET_IN = {401, 403}

# Money is out of the gateway's hands only with these; bare "completed" means initiated, not yet paid out.
PAID_OUT_PREFIX = "completed-"
REFUND_FAILURES = {"failed", "failure", "cancelled", "canceled", "rejected", "declined", "reversed"}

_encoder = msgspec.json.Encoder(decimal_format="number")


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction as verify and the list of transactions tell it; amounts are still unread."""

    id: int | str
    tx_ref: str
    status: str
    currency: str
    flw_ref: str = ""
    amount: msgspec.Raw = NOTHING
    charged_amount: msgspec.Raw = NOTHING
    app_fee: msgspec.Raw = NOTHING
    processor_response: str | None = None
    created_at: str | None = None


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """A refund as its creation, one refund and the list of refunds tell it; they do not agree on the names."""

    id: int | str
    status: str
    amount_refunded: msgspec.Raw = NOTHING
    tx_id: int | str | None = None
    transaction_id: int | str | None = None
    flw_ref: str | None = None
    comments: str | None = None
    comment: str | None = None
    meta: msgspec.Raw = NOTHING

    def transaction(self) -> str:
        """The gateway's transaction id, or empty where this call does not tell it."""
        found = self.tx_id if self.tx_id is not None else self.transaction_id
        return "" if found is None else str(found)

    def is_of(self, transaction: Transaction) -> bool:
        """Whether it gives back money of that transaction."""
        told = self.transaction()
        return told == str(transaction.id) if told else self.flw_ref == transaction.flw_ref != ""


class Link(msgspec.Struct, frozen=True):
    """What `POST /payments` answers: an address and no id."""

    link: str


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """An error envelope. `is_bare` when `data` is null."""

    http_status: int
    message: str
    is_bare: bool

    def is_definite(self) -> bool:
        """Whether the refusal proves that nothing was done, now or by an earlier call of ours."""
        return self.http_status in CLIENT_ERRORS and not self.was_done_before()

    def was_done_before(self) -> bool:
        """Whether it was refused because an earlier call, perhaps our own, did it."""
        return self.http_status == CONFLICT or DONE_BEFORE.search(self.message) is not None

    def is_unknown_id(self) -> bool:
        """Whether it says that there is no such thing."""
        return self.is_bare and self.http_status in UNKNOWN_ID_HTTP_STATUSES


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A successful answer, its parts still unread."""

    status: str
    message: str | None = None
    data: msgspec.Raw = NOTHING
    meta: msgspec.Raw = NOTHING


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list; `total_pages` is None where the gateway does not say."""

    rows: msgspec.Raw
    total_pages: int | None


def encode(body: dict[str, object]) -> bytes:
    """JSON in which a Decimal is a plain number."""
    return _encoder.encode(body)


def envelope(outcome: Answered | NotAnswered) -> Envelope | Refused | Unknown:
    """A successful answer, an error, or Unknown for everything else."""
    if isinstance(outcome, NotAnswered):
        return Unknown(reason=outcome.reason)
    try:
        answer = msgspec.json.decode(outcome.body, type=Envelope)
    except UNREADABLE:
        told = f"HTTP {outcome.status} with a body that is not Flutterwave's"
        if outcome.status in NOT_LET_IN:
            return Refused(http_status=outcome.status, message=told, is_bare=True)
        return Unknown(reason=told)
    is_bare = bytes(answer.data) == b"null"
    if answer.status == "error":
        message = printable(answer.message or "no message")
        return Refused(http_status=outcome.status, message=message, is_bare=is_bare)
    if answer.status != "success" or outcome.status not in range(200, 300):
        return Unknown(reason=f"HTTP {outcome.status} with status {printable(answer.status)!r}")
    return answer


def read(outcome: Answered | NotAnswered, shape: type[T]) -> T | Refused | Unknown:
    """The data of a successful answer, an error envelope, or Unknown for everything else."""
    answer = envelope(outcome)
    if not isinstance(answer, Envelope):
        return answer
    try:
        return msgspec.json.decode(answer.data, type=shape)
    except UNREADABLE as error:
        return Unknown(reason=f"data of another shape: {printable(str(error))}")


def read_page(outcome: Answered | NotAnswered) -> Page | Unknown:
    """One page of a list."""
    answer = envelope(outcome)
    if isinstance(answer, Unknown):
        return answer
    if isinstance(answer, Refused):
        return Unknown(reason=f"HTTP {answer.http_status}: {answer.message}")
    try:
        meta = msgspec.json.decode(answer.meta, type=_Meta | None)
    except UNREADABLE:
        return Unknown(reason="a list without the numbers of its pages")
    info = meta.page_info if meta is not None else None
    return Page(rows=answer.data, total_pages=None if info is None else info.total_pages)


def rows_of(page: Page, shape: type[T]) -> list[T] | Unknown:
    """The rows of a page; one that cannot be read spoils the page, since it could be the one looked for."""
    try:
        return msgspec.json.decode(page.rows, type=list[shape] | None) or []  # type: ignore[valid-type]
    except UNREADABLE as error:
        return Unknown(reason=f"a row of another shape: {printable(str(error))}")


def truth(transaction: Transaction) -> Truth:
    """What a transaction's status means; raises UnreadableAmount for captured money that cannot be counted."""
    identity = str(transaction.id)
    match transaction.status.lower():
        case "successful":
            return _captured(transaction)
        case "failed":
            reason = printable(transaction.processor_response or "the gateway gave no reason")
            return Declined(transaction_id=identity, reference=transaction.tx_ref, reason=reason)
        case "pending":
            return Pending(transaction_id=identity, reference=transaction.tx_ref)
        case other:
            return Unknown(reason=f"a transaction's status is {printable(other)!r}")


def rejected_or_unknown(refused: Refused) -> Rejected | Unknown:
    """What an error means to a request to do something; Unavailable where it is our key that is refused."""
    if refused.http_status in NOT_LET_IN:
        return Unavailable(reason=f"HTTP {refused.http_status}: {refused.message}")
    if refused.is_definite():
        return Rejected(reason=refused.message)
    return Unknown(reason=f"HTTP {refused.http_status}: {refused.message}")


def unavailable_or_unknown(outcome: Answered | NotAnswered, answer: Unknown) -> Unavailable | Unknown:
    """Unavailable where the request was not even sent."""
    is_withheld = isinstance(outcome, NotAnswered) and outcome.was_withheld
    return Unavailable(reason=answer.reason) if is_withheld else answer


def missing_or_unknown(refused: Refused) -> Missing | Unknown:
    """What an error means to a question."""
    if refused.is_unknown_id():
        return Missing()
    return Unknown(reason=f"HTTP {refused.http_status}: {refused.message}")


def refund(row: Refund, *, transaction_id: str, currency: str, reference: str = "") -> GatewayRefund | Unknown:
    """A refund in minor units; Unknown when its amount cannot be read. `reference` stands in for no comment."""
    try:
        amount = UNITS.to_minor_exact(number(row.amount_refunded), currency)
    except (ValueError, UnknownCurrency) as error:
        return Unknown(reason=f"refund {printable(str(row.id))}: {printable(str(error))}")
    meta = _refund_meta(row.meta)
    status = refund_status(row.status, disburse_status=meta.disburse_status)
    why = meta.disburse_message or f"status {row.status}, disbursement {meta.disburse_status or 'not told'}"
    return GatewayRefund(
        refund_id=str(row.id),
        transaction_id=transaction_id,
        reference=printable(row.comments or row.comment or reference),
        amount_exact=amount,
        status=status,
        failure_reason=printable(why) if status == "failed" else "",
    )


def refund_status(status: str, *, disburse_status: str | None) -> RefundStatus:
    """What the words mean. A word that nobody knows is pending: no money is believed to be out because of it."""
    said = status.lower()
    if (disburse_status or "").lower() == "failed" or said in REFUND_FAILURES:
        return "failed"
    return "succeeded" if said.startswith(PAID_OUT_PREFIX) else "pending"


def is_address(url: str) -> bool:
    """Whether a browser may be sent there."""
    return url.startswith(("https://", "http://")) and len(url) <= LONGEST_LINK


def email_for(email: str, *, phone: str, reference: str) -> str:
    """The traveller's address; Flutterwave wants one.

    A traveller who gave none gets `<digits of the phone number, or the reference>@example.com`: a domain that passes
    every validator, and that RFC 2606 keeps from being anyone's.
    """
    digits = "".join(c for c in phone if c in "0123456789")
    return email or f"{digits or reference}@example.com"


class _PageInfo(msgspec.Struct, frozen=True):
    total_pages: int | None = None


class _Meta(msgspec.Struct, frozen=True):
    page_info: _PageInfo | None = None


class _RefundMeta(msgspec.Struct, frozen=True):
    disburse_status: str | None = None
    disburse_message: str | None = None


def _captured(transaction: Transaction) -> Captured:
    try:
        amount = UNITS.from_wire(number(transaction.amount), transaction.currency)
        fee = _fee_of_ours(transaction)
    except (ValueError, UnknownCurrency) as error:
        raise UnreadableAmount(
            f"Flutterwave's transaction {transaction.id} is paid, but: {printable(str(error))}."
            " Look at it in the gateway's dashboard.",
            transaction_id=str(transaction.id),
            reference=transaction.tx_ref,
        ) from error
    return Captured(transaction_id=str(transaction.id), reference=transaction.tx_ref, amount=amount, fee_exact=fee)


def _fee_of_ours(transaction: Transaction) -> Decimal:
    """What the gateway keeps of `amount`, in minor units: `app_fee` less what the customer paid on top for it.

    A customer who bears the fee is charged 50.72 for 50, and the whole 50 reaches us.
    """
    currency = transaction.currency
    fee = UNITS.to_minor_exact(number(transaction.app_fee, absent=Decimal(0)), currency)
    asked = number(transaction.amount)
    charged = number(transaction.charged_amount, absent=asked)
    on_top = max(UNITS.to_minor_exact(charged, currency) - UNITS.to_minor_exact(asked, currency), Decimal(0))
    return max(fee - on_top, Decimal(0))


def _refund_meta(raw: msgspec.Raw) -> _RefundMeta:
    """`meta` is an object, null, or a string of JSON; in another shape it says nothing."""
    try:
        inner: str | bytes = msgspec.json.decode(raw, type=str)
    except UNREADABLE:
        inner = bytes(raw)
    try:
        return msgspec.json.decode(inner, type=_RefundMeta | None) or _RefundMeta()
    except UNREADABLE:
        return _RefundMeta()
