"""The Gateway that is Flutterwave v3: hosted pages, verification, refunds, and the way to the verbs beside it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from kiti.core.money import Money
from kiti.gateways.flutterwave import charges, disputes, methods, payouts, settlements, webhooks, wire
from kiti.gateways.flutterwave.lists import all_rows
from kiti.gateways.gateway import (
    Authorised,
    Captured,
    CheckoutOpened,
    CheckoutRequest,
    Declined,
    DirectRequest,
    GatewayDispute,
    GatewayPayout,
    GatewayRefund,
    GatewaySettlement,
    Missing,
    PayoutRequest,
    Pending,
    Prompted,
    RefundRequest,
    Rejected,
    Share,
    Subaccount,
    SubaccountRequest,
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
MOST_PAGES_OF_A_DAY = 5000


class Flutterwave:
    """All that Kiti asks of Flutterwave. `base_url` includes the `/v3`.

    Each call ends within `timeout_seconds`; a verb may take a few calls, `list_refunds` up to MOST_PAGES of them.
    No verb may be called inside a transaction (AssertionError).
    """

    name = "flutterwave"
    capabilities = methods.CAPABILITIES

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
        """
        options = methods.payment_option(request.method, request.amount.currency)
        if isinstance(options, Rejected):
            return options
        minutes = min(max(request.session_minutes, 1), LONGEST_SESSION_MINUTES)
        body: dict[str, object] = {
            "tx_ref": request.reference,
            "amount": wire.UNITS.to_wire(request.amount),
            "currency": request.amount.currency,
            "redirect_url": request.return_url,
            "customer": _customer(request),
            "configurations": {"session_duration": minutes, "max_retry_attempt": MOST_ATTEMPTS_ON_A_PAGE},
            "payment_options": options,
            "customizations": {"title": request.description[:LONGEST_TITLE]},
            "meta": {"reference": request.reference},
        }
        if request.shares:
            body["subaccounts"] = [_subaccount(share) for share in request.shares]
        outcome = await self._outside.post("/payments", wire.encode(body))
        answer = wire.read(outcome, wire.Link)
        match answer:
            case wire.Link(link=url) if wire.is_address(url):
                return CheckoutOpened(url=url)
            case wire.Link():
                return Unknown(reason="a link that is no address")
            case wire.Refused():
                return wire.rejected_or_unknown(answer)
            case Unknown():
                return wire.unavailable_or_unknown(outcome, answer)

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
        rows = await all_rows(self._outside, "/transactions", days, wire.Transaction, most_pages=MOST_PAGES_OF_A_DAY)
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
        if wire.IDENTIFIER.fullmatch(request.transaction_id) is None:
            return Rejected(reason="Flutterwave's transaction ids are whole numbers")
        body: dict[str, object] = {"amount": wire.UNITS.to_wire(request.amount), "comments": request.reference}
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
                return wire.rejected_or_unknown(answer)
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
        rows = await all_rows(self._outside, "/refunds", _days_around(transaction.created_at), wire.Refund)
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
        if wire.IDENTIFIER.fullmatch(refund_id) is None:
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

    def direct_countries(self, currency: str) -> frozenset[str]:
        """The countries whose phones can be asked to pay in this currency."""
        return methods.DIRECT[currency][1] if currency in methods.DIRECT else frozenset()

    def objection_to_phone(self, phone: str, *, currency: str) -> str | None:
        """Why a number cannot be asked to pay in this currency; None: it can."""
        return methods.objection_to_phone(phone, currency=currency)

    async def charge(self, request: DirectRequest) -> Prompted | Rejected | Unknown:
        """Ask a phone to approve a payment."""
        return await charges.charge(self._outside, request)

    async def fee_of(self, amount: Money) -> Decimal | Rejected | Unknown:
        """What Flutterwave keeps of this amount, in minor units."""
        return await charges.fee_of(self._outside, amount)

    async def pay_out(self, request: PayoutRequest) -> GatewayPayout | Rejected | Unknown:
        """Send money to an operator's bank or mobile money account."""
        return await payouts.pay_out(self._outside, request)

    async def find_payout(self, reference: str) -> GatewayPayout | Missing | Unknown:
        """How far the transfer of our reference has come."""
        return await payouts.find_payout(self._outside, reference)

    async def open_subaccount(self, request: SubaccountRequest) -> Subaccount | Rejected | Unknown:
        """Open an account that payments can be split to."""
        return await payouts.open_subaccount(self._outside, request)

    async def subaccounts(self) -> list[Subaccount] | Unknown:
        """All accounts that payments can be split to."""
        return await payouts.subaccounts(self._outside)

    async def settlements_between(self, first: date, last: date) -> list[GatewaySettlement] | Unknown:
        """What was paid into our bank account on these days."""
        return await settlements.settlements_between(self._outside, first, last)

    async def disputes_between(self, first: date, last: date) -> list[GatewayDispute] | Unknown:
        """The chargebacks that were opened on these days."""
        return await disputes.disputes_between(self._outside, self._transaction, first, last)

    async def answer_dispute(
        self, dispute_id: str, *, accept: bool, comment: str
    ) -> GatewayDispute | Rejected | Unknown:
        """Accept a chargeback, or decline it with a comment that holds the address of a proof."""
        return await disputes.answer_dispute(
            self._outside, self._transaction, dispute_id, accept=accept, comment=comment
        )

    def is_resting(self) -> bool:
        """Whether the circuit is open."""
        return self._outside.is_resting()

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:  # noqa: ARG002 - nothing signs it
        """Whether the header holds the shared secret. The body is not covered by it."""
        return webhooks.is_authentic(headers, webhook_hash=self._webhook_hash)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Where to look because of an authentic webhook; raises MalformedWebhook."""
        return webhooks.read_webhook(headers, body)

    def to_wire(self, amount: Money) -> Decimal:
        """Major units."""
        return wire.UNITS.to_wire(amount)

    def from_wire(self, amount: Decimal | int | str, currency: str) -> Money:
        """Major units in minor units; raises ValueError if they are not whole, UnknownCurrency."""
        return wire.UNITS.from_wire(amount, currency)

    async def close(self) -> None:
        """Close every connection."""
        await self._outside.close()

    async def _transaction(self, transaction_id: str) -> wire.Transaction | Missing | Unknown:
        if wire.IDENTIFIER.fullmatch(transaction_id) is None:
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


def _customer(request: CheckoutRequest) -> dict[str, object]:
    email = wire.email_for(request.customer_email, phone=request.customer_phone, reference=request.reference)
    return {"email": email, "name": request.customer_name, "phonenumber": request.customer_phone}


def _subaccount(share: Share) -> dict[str, object]:
    """What the operator gets of this payment, flat; the rest is ours."""
    return {
        "id": share.subaccount_id,
        "transaction_charge_type": "flat_subaccount",
        "transaction_charge": wire.UNITS.to_wire(share.amount),
    }


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
