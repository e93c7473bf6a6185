"""The Gateway that is Flutterwave v3."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from kiti.core.money import Money
from kiti.gateways.flutterwave import webhooks, wire
from kiti.gateways.gateway import (
    Authorised,
    Capabilities,
    Captured,
    CheckoutOpened,
    CheckoutRequest,
    Declined,
    GatewayRefund,
    Method,
    Missing,
    Pending,
    RefundRequest,
    Rejected,
    Truth,
    Unknown,
    Unreadable,
    UnreadableAmount,
    WebhookEvent,
)
from kiti.gateways.http import Outside

# Flutterwave gives up on a slow bank after 28 s and answers 503; one who hangs up before learns less.
TIMEOUT_SECONDS = 30.0
LONGEST_SESSION_MINUTES = 1440
# A decline ends our attempt, and our own page offers the next one; a page that went on would pay for a dead one.
MOST_ATTEMPTS_ON_A_PAGE = 1
LONGEST_TITLE = 100
LONGEST_LINK = 2048
MOST_PAGES = 50
MOST_PAGES_OF_A_DAY = 5000

Row = TypeVar("Row", wire.Transaction, wire.Refund)

# An id of Flutterwave's; a webhook or a browser may claim anything, and it becomes part of a path.
IDENTIFIER = re.compile(r"[0-9]{1,19}", re.ASCII)

# A hosted page offers mobile money under one name for each country.
MOBILE_MONEY = {
    "GHS": "mobilemoneyghana",
    "KES": "mpesa",
    "MWK": "mobilemoneymalawi",
    "RWF": "mobilemoneyrwanda",
    "TZS": "mobilemoneytanzania",
    "UGX": "mobilemoneyuganda",
    "XAF": "mobilemoneyfranco",
    "XOF": "mobilemoneyfranco",
    "ZMW": "mobilemoneyzambia",
}

CURRENCIES = frozenset(MOBILE_MONEY) | {"NGN", "USD", "EUR", "GBP", "ZAR"}


class Flutterwave:
    """Hosted checkout, verification and refunds. `base_url` includes the `/v3`.

    Each call ends within `timeout_seconds`; a verb may take a few calls, `list_refunds` up to MOST_PAGES of them.
    No verb may be called inside a transaction (AssertionError).
    """

    name = "flutterwave"
    capabilities = Capabilities(
        hosted_page=True,
        authorise_then_capture=False,
        idempotent_refund=False,
        link_expiry=True,
        refund_webhook=True,
        currencies=CURRENCIES,
        methods=frozenset({"CARD", "MOBILE_MONEY", "BANK_TRANSFER", "USSD"}),
    )

    def __init__(
        self, *, base_url: str, secret_key: str, webhook_hash: str, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._webhook_hash = webhook_hash
        self._outside = Outside(
            base_url=base_url,
            headers={"Authorization": f"Bearer {secret_key}"},
            timeout_seconds=timeout_seconds,
        )

    async def open_checkout(self, request: CheckoutRequest) -> CheckoutOpened | Rejected | Unknown:
        """Make a hosted page for one payment.

        Rejected is only what a refusal proves: a repeated `tx_ref` is refused because an earlier call did it, so
        that is Unknown. Likewise a refused connection: Rejected would end the payment over a moment's outage.

        Flutterwave wants an e-mail address. A traveller who gave none gets `<digits of the phone number, or the
        reference>@example.com`: a domain that passes every validator, and that RFC 2606 keeps from being anyone's.
        """
        options = _payment_options(request.method, request.amount.currency)
        if isinstance(options, Rejected):
            return options
        minutes = min(max(request.session_minutes, 1), LONGEST_SESSION_MINUTES)
        body: dict[str, object] = {
            "tx_ref": request.reference,
            "amount": wire.to_wire(request.amount),
            "currency": request.amount.currency,
            "redirect_url": request.return_url,
            "customer": _customer(request),
            "configurations": {"session_duration": minutes, "max_retry_attempt": MOST_ATTEMPTS_ON_A_PAGE},
            "payment_options": options,
            "customizations": {"title": request.description[:LONGEST_TITLE]},
            "meta": {"reference": request.reference},
        }
        answer = wire.read(await self._outside.post("/payments", wire.encode(body)), wire.Link)
        match answer:
            case wire.Link(link=url) if url.startswith(("https://", "http://")) and len(url) <= LONGEST_LINK:
                return CheckoutOpened(url=url)
            case wire.Link():
                return Unknown(reason="a link that is no address")
            case wire.Refused():
                return _rejected_or_unknown(answer)
            case Unknown():
                return answer

    async def close_checkout(self, url: str) -> bool:
        """Disable the link; an inactive one is as good as closed."""
        answer = wire.read(await self._outside.post("/payments/link/disable", wire.encode({"link": url})), object)
        if isinstance(answer, wire.Refused):
            return "inactive" in answer.message.lower()
        return not isinstance(answer, Unknown)

    async def lookup(self, reference: str) -> Truth:
        """The truth about our reference; raises UnreadableAmount.

        A page allows several attempts and each is a transaction, while Flutterwave does not say which of them
        verify_by_reference tells. So unless it tells of a captured one, the list is asked for one.
        """
        answer = wire.read(
            await self._outside.get("/transactions/verify_by_reference", {"tx_ref": reference}),
            wire.Transaction,
        )
        if isinstance(answer, wire.Refused):
            return wire.missing_or_unknown(answer)
        if isinstance(answer, Unknown):
            return answer
        truth = wire.truth(answer)
        match truth:
            case Declined() | Pending():
                captured = await self._captured_among(reference)
                return truth if captured is None else captured
            case Captured() | Authorised() | Missing() | Unknown():
                return truth

    async def verify(self, transaction_id: str) -> Truth:
        """The truth about one transaction; raises UnreadableAmount. What is no number is asked of nobody."""
        answer = await self._transaction(transaction_id)
        return wire.truth(answer) if isinstance(answer, wire.Transaction) else answer

    async def captured_on(self, day: date) -> list[Captured | Unreadable] | Unknown:
        """Every successful transaction of a day, from the list of all."""
        days = {"from": day.isoformat(), "to": day.isoformat()}
        rows = await self._all("/transactions", days, wire.Transaction, most_pages=MOST_PAGES_OF_A_DAY)
        if isinstance(rows, Unknown):
            return rows
        found: list[Captured | Unreadable] = []
        for row in rows:
            try:
                told = wire.truth(row)
            except UnreadableAmount as error:
                told_id, reference = error.transaction_id, error.reference
                found.append(Unreadable(transaction_id=told_id, reference=reference, reason=str(error)))
                continue
            if isinstance(told, Captured):
                found.append(told)
        return found

    async def refund(self, request: RefundRequest) -> GatewayRefund | Rejected | Unknown:
        """Ask for money to go back; `comments` carries our reference. There is no idempotency key."""
        if IDENTIFIER.fullmatch(request.transaction_id) is None:
            return Rejected(reason="Flutterwave's transaction ids are whole numbers")
        body: dict[str, object] = {"amount": wire.to_wire(request.amount), "comments": request.reference}
        path = f"/transactions/{request.transaction_id}/refund"
        answer = wire.read(await self._outside.post(path, wire.encode(body)), wire.Refund)
        match answer:
            case wire.Refund() if answer.transaction() not in {"", request.transaction_id}:
                return Unknown(reason="the answer is about another transaction")
            case wire.Refund():
                return wire.refund(
                    answer,
                    transaction_id=request.transaction_id,
                    currency=request.amount.currency,
                    reference=request.reference,
                )
            case wire.Refused():
                return _rejected_or_unknown(answer)
            case Unknown():
                return answer

    async def list_refunds(self, transaction_id: str) -> list[GatewayRefund] | Unknown:
        """Every refund of a transaction, picked from the list of all since the day before it was paid.

        The list's own filter by transaction is not relied on: where it is ignored or misread, an empty answer would
        look like leave to refund again. More than MOST_PAGES pages are Unknown for the same reason.
        """
        transaction = await self._transaction(transaction_id)
        if not isinstance(transaction, wire.Transaction):
            return _unknown_transaction(transaction)
        rows = await self._refunds(_days_around(transaction.created_at))
        if isinstance(rows, Unknown):
            return rows
        found: list[GatewayRefund] = []
        for row in rows:
            if row.is_of(transaction):
                told = wire.refund(row, transaction_id=transaction_id, currency=transaction.currency)
                if isinstance(told, Unknown):
                    return told
                found.append(told)
        return found

    async def refund_status(self, refund_id: str) -> GatewayRefund | Missing | Unknown:
        """How far a refund has come; a refund does not tell its currency, so its transaction is asked for."""
        if IDENTIFIER.fullmatch(refund_id) is None:
            return Missing()
        row = wire.read(await self._outside.get(f"/refunds/{refund_id}"), wire.Refund)
        if isinstance(row, wire.Refused):
            return wire.missing_or_unknown(row)
        if isinstance(row, Unknown):
            return row
        if str(row.id) != refund_id:
            return Unknown(reason="the answer is about another refund")
        transaction = await self._transaction(row.transaction())
        if not isinstance(transaction, wire.Transaction):
            return _unknown_transaction(transaction)
        return wire.refund(row, transaction_id=str(transaction.id), currency=transaction.currency)

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:  # noqa: ARG002 - nothing signs it
        """Whether the header holds the shared secret. The body is not covered by it."""
        return webhooks.is_authentic(headers, webhook_hash=self._webhook_hash)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Where to look because of an authentic webhook; raises MalformedWebhook."""
        return webhooks.read_webhook(headers, body)

    def to_wire(self, amount: Money) -> Decimal:
        """Major units."""
        return wire.to_wire(amount)

    def from_wire(self, amount: Decimal | int | str, currency: str) -> Money:
        """Major units in minor units; raises ValueError if they are not whole, UnknownCurrency."""
        return wire.from_wire(amount, currency)

    async def close(self) -> None:
        """Close every connection."""
        await self._outside.close()

    async def _transaction(self, transaction_id: str) -> wire.Transaction | Missing | Unknown:
        if IDENTIFIER.fullmatch(transaction_id) is None:
            return Missing()
        answer = wire.read(await self._outside.get(f"/transactions/{transaction_id}/verify"), wire.Transaction)
        if isinstance(answer, wire.Refused):
            return wire.missing_or_unknown(answer)
        if isinstance(answer, wire.Transaction) and str(answer.id) != transaction_id:
            return Unknown(reason="the answer is about another transaction")
        return answer

    async def _captured_among(self, reference: str) -> Truth | None:
        """The truth about a successful transaction in the list, None if there is none; Unknown if none can be had."""
        page = wire.read_page(await self._outside.get("/transactions", {"tx_ref": reference}))
        if isinstance(page, Unknown):
            return page
        rows = wire.rows_of(page, wire.Transaction)
        if isinstance(rows, Unknown):
            return rows
        for row in rows:
            if row.tx_ref == reference and row.status.lower() == "successful":
                return await self.verify(str(row.id))
        return None

    async def _refunds(self, days: Mapping[str, str]) -> list[wire.Refund] | Unknown:
        """All refunds of these days."""
        return await self._all("/refunds", days, wire.Refund, most_pages=MOST_PAGES)

    async def _all(
        self, path: str, params: Mapping[str, str], shape: type[Row], *, most_pages: int
    ) -> list[Row] | Unknown:
        """All rows of a list, each once; Unknown unless the last page was seen."""
        found: dict[str, Row] = {}
        for number in range(1, most_pages + 1):
            page = wire.read_page(await self._outside.get(path, {**params, "page": str(number)}))
            if isinstance(page, Unknown):
                return page
            rows = wire.rows_of(page, shape)
            if isinstance(rows, Unknown):
                return rows
            known = len(found)
            found.update((str(row.id), row) for row in rows)
            is_last = len(found) == known if page.total_pages is None else number >= page.total_pages
            if is_last:
                return list(found.values())
        return Unknown(reason=f"more than {most_pages} pages of {path}")


def _payment_options(method: Method, currency: str) -> str | Rejected:
    if currency not in CURRENCIES:
        return Rejected(reason=f"Flutterwave is not asked to take {currency}")
    match method:
        case "CARD":
            return "card"
        case "BANK_TRANSFER":
            return "banktransfer"
        case "USSD":
            return "ussd"
        case "MOBILE_MONEY":
            return MOBILE_MONEY.get(currency) or Rejected(reason=f"there is no mobile money in {currency}")
        case "CASH":
            return Rejected(reason="Flutterwave takes no cash")


def _customer(request: CheckoutRequest) -> dict[str, object]:
    digits = "".join(c for c in request.customer_phone if c in "0123456789")
    email = request.customer_email or f"{digits or request.reference}@example.com"
    return {"email": email, "name": request.customer_name, "phonenumber": request.customer_phone}


def _rejected_or_unknown(refused: wire.Refused) -> Rejected | Unknown:
    if refused.is_definite():
        return Rejected(reason=refused.message)
    return Unknown(reason=f"HTTP {refused.http_status}: {refused.message}")


def _unknown_transaction(answer: Missing | Unknown) -> Unknown:
    """A refund's transaction that the gateway does not find says nothing about the refund."""
    return answer if isinstance(answer, Unknown) else Unknown(reason="its transaction was not found")


def _days_around(created_at: str | None) -> dict[str, str]:
    """From the day before the transaction to tomorrow, whatever the gateway's time zone; no limits if not told."""
    now = datetime.now(UTC)
    try:
        told = datetime.fromisoformat(created_at or "")
        start = min(told if told.tzinfo else told.replace(tzinfo=UTC), now) - timedelta(days=1)
    except (ValueError, OverflowError):
        return {}
    return {"from": start.date().isoformat(), "to": (now + timedelta(days=1)).date().isoformat()}
