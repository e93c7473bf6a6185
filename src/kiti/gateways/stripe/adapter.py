"""The Gateway that is Stripe: Checkout authorises, `capture` takes the money."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from kiti.core.money import Money
from kiti.gateways.gateway import (
    Authorised,
    Capabilities,
    Captured,
    CheckoutOpened,
    CheckoutRequest,
    Declined,
    GatewayDispute,
    GatewayPayout,
    GatewayRefund,
    GatewaySettlement,
    Missing,
    PayoutRequest,
    Pending,
    RefundRequest,
    Rejected,
    Truth,
    Unknown,
    Unreadable,
    UnreadableAmount,
    WebhookEvent,
)
from kiti.gateways.stripe import disputes, settlements, transfers, webhooks, wire
from kiti.gateways.stripe.api import ASK, Api, Refused, Silence, under

TIMEOUT_SECONDS = 30.0
# docs.stripe.com/api/checkout/sessions/create: 30 minutes to 24 hours from creation, by Stripe's clock; a minute of
# distance to both, as ours may differ.
SHORTEST_SESSION_MINUTES = 31
LONGEST_SESSION_MINUTES = 24 * 60 - 1
LONGEST_NAME = 250
LONGEST_LINK = 4096
MOST_PAGES = 50
MOST_PAGES_OF_A_DAY = 1000

# A page is made right after its payment's id, which tells when that was; Stripe's clock may differ from ours.
EARLIEST_BEFORE = timedelta(minutes=2)
LATEST_AFTER = timedelta(minutes=5)
UUID_OF_TIME = 7

FEE = "latest_charge.balance_transaction"
INTENT = re.compile(r"pi_[A-Za-z0-9_]{1,200}", re.ASCII)
REFUND = re.compile(r"(?:re|pyr)_[A-Za-z0-9_]{1,200}", re.ASCII)
SESSION = re.compile(r"cs_(?:test|live)_[A-Za-z0-9]{1,200}", re.ASCII)


class Stripe:
    """Hosted Checkout with manual capture, refunds, disputes, transfers, payouts. `base_url` is without the `/v1`.

    Stripe knows a payment by `reference` in the metadata of its session and of its PaymentIntent, whose id is the
    transaction. Each call ends within `timeout_seconds`; a verb may take a few calls. No verb may be called
    inside a transaction (AssertionError).
    """

    name = "stripe"
    capabilities = Capabilities(
        hosted_page=True,
        authorise_then_capture=True,
        idempotent_refund=True,
        link_expiry=True,
        refund_webhook=True,
        currencies=frozenset(wire.EXPONENTS),
        methods=frozenset({"CARD"}),
    )

    def __init__(
        self, *, base_url: str, secret_key: str, webhook_secret: str, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._webhook_secret = webhook_secret
        self._api = Api(secret_key=secret_key, base_url=base_url, timeout_seconds=timeout_seconds)

    async def open_checkout(self, request: CheckoutRequest) -> CheckoutOpened | Rejected | Unknown:
        """Make a Checkout Session that only authorises.

        Stripe keeps a page open for half an hour at least. Whose hold is shorter closes it with `close_checkout`; a
        traveller who is quicker than that has only authorised.
        """
        if request.amount.currency not in wire.EXPONENTS:
            return Rejected(reason=f"Stripe is not asked to take {request.amount.currency}")
        if request.method not in self.capabilities.methods:
            return Rejected(reason=f"Stripe is not asked to take {request.method}")
        call = self._api.v1.checkout.sessions.create_async(
            params=_session(request), options=under(f"pay_{request.reference}_open")
        )
        match await self._api.read(call, wire.Session):
            case wire.Session(url=str(url)) if url.startswith(("https://", "http://")) and len(url) <= LONGEST_LINK:
                return CheckoutOpened(url=url)
            case wire.Session():
                return Unknown(reason="a session without a link that is an address")
            case Refused() as refused:
                return refused.rejected()
            case Silence() as silence:
                return silence.unavailable_or_unknown()

    async def close_checkout(self, url: str) -> bool:
        """Expire the session whose id stands in its link. One that is completed cannot be closed any more."""
        found = SESSION.search(urlsplit(url).path)
        if found is None:
            return False
        sessions = self._api.v1.checkout.sessions
        answer = await self._api.read(sessions.expire_async(found[0]), wire.Session)
        if not isinstance(answer, wire.Session):
            answer = await self._api.read(sessions.retrieve_async(found[0], options=ASK), wire.Session)
        return isinstance(answer, wire.Session) and answer.status == "expired"

    async def lookup(self, reference: str) -> Truth:
        """The truth about our reference; raises UnreadableAmount.

        Stripe's search lags behind by a minute and more, so that its silence proves nothing. Its lists do not: the
        session is looked for among those that were made when the reference was. A page on which nobody has tried to
        pay is Missing.
        """
        session = await self._session_of(reference)
        if not isinstance(session, wire.Session):
            return session
        if session.payment_intent is None:
            return Missing()
        intent = await self._intent(session.payment_intent)
        if not isinstance(intent, wire.PaymentIntent):
            return Unknown(reason="a session whose payment cannot be found") if isinstance(intent, Missing) else intent
        return wire.truth(intent, page_is_over=session.status != "open")

    async def verify(self, transaction_id: str) -> Truth:
        """The truth about one PaymentIntent; raises UnreadableAmount."""
        intent = await self._intent(transaction_id)
        return wire.truth(intent) if isinstance(intent, wire.PaymentIntent) else intent

    async def capture(self, transaction_id: str, *, reference: str, amount: Money) -> Captured | Rejected | Unknown:
        """Take what was authorised, once: a PaymentIntent that was captured refuses to be captured again."""
        if INTENT.fullmatch(transaction_id) is None:
            return Rejected(reason="not an id of Stripe's")
        params: dict[str, Any] = {"amount_to_capture": wire.to_units(amount), "expand": [FEE]}
        told = await self._change("capture_async", transaction_id, params, key=f"pay_{reference}_capture")
        match told:
            case Captured() | Rejected() | Unknown():
                return told
            case Authorised() | Declined() | Pending() | Missing():
                return Unknown(reason="Stripe has taken the order to capture, and the money is not captured")

    async def cancel(self, transaction_id: str, *, reference: str) -> Declined | Rejected | Unknown:
        """Let go of what was authorised."""
        if INTENT.fullmatch(transaction_id) is None:
            return Rejected(reason="not an id of Stripe's")
        params: dict[str, Any] = {"cancellation_reason": "abandoned"}
        told = await self._change("cancel_async", transaction_id, params, key=f"pay_{reference}_cancel")
        match told:
            case Declined() | Rejected() | Unknown():
                return told
            case Authorised() | Captured() | Pending() | Missing():
                return Unknown(reason="Stripe has taken the order to cancel, and the payment is not cancelled")

    async def captured_on(self, day: date) -> list[Captured | Unreadable] | Unknown:
        """Every PaymentIntent that was made on a day (UTC) and captured."""
        params = {"created": days(day, day), "expand": [f"data.{FEE}"]}
        rows = await self._api.rows(
            self._api.v1.payment_intents.list_async, params, wire.PaymentIntent, most_pages=MOST_PAGES_OF_A_DAY
        )
        if isinstance(rows, Silence):
            return rows.unknown()
        found: list[Captured | Unreadable] = []
        for intent in rows:
            if intent.status != "succeeded":
                continue
            try:
                told = wire.truth(intent)
            except UnreadableAmount as error:
                told_id, reference = error.transaction_id, error.reference
                found.append(Unreadable(transaction_id=told_id, reference=reference, reason=str(error)))
                continue
            if isinstance(told, Unknown):
                return told
            assert isinstance(told, Captured), "a payment that succeeded is captured"
            found.append(told)
        return found

    async def refund(self, request: RefundRequest) -> GatewayRefund | Rejected | Unknown:
        """Ask for money to go back, once per reference for as long as what was asked for has not failed.

        An idempotency key is forgotten after a day, so the refunds that are there are looked at as well: a live one of
        this reference is the answer. Those that failed make the key of the next try.
        """
        if INTENT.fullmatch(request.transaction_id) is None:
            return Rejected(reason="not an id of Stripe's")
        listed = await self.list_refunds(request.transaction_id)
        if isinstance(listed, Unknown):
            return listed
        ours = [refund for refund in listed if refund.reference == request.reference]
        alive = [refund for refund in ours if refund.status != "failed"]
        if alive:
            return alive[0]
        return await self._ask_refund(request, failed=len(ours))

    async def list_refunds(self, transaction_id: str) -> list[GatewayRefund] | Unknown:
        """Every refund of a PaymentIntent."""
        params = {"payment_intent": transaction_id}
        rows = await self._api.rows(self._api.v1.refunds.list_async, params, wire.Refund, most_pages=MOST_PAGES)
        if isinstance(rows, Silence):
            return rows.unknown()
        found: list[GatewayRefund] = []
        for row in rows:
            told = wire.refund(row)
            if isinstance(told, Unknown):
                return told
            found.append(told)
        return found

    async def refund_status(self, refund_id: str) -> GatewayRefund | Missing | Unknown:
        """How far a refund has come."""
        if REFUND.fullmatch(refund_id) is None:
            return Missing()
        answer = await self._api.read(self._api.v1.refunds.retrieve_async(refund_id, options=ASK), wire.Refund)
        match answer:
            case wire.Refund(id=identity) if identity != refund_id:
                return Unknown(reason="the answer is about another refund")
            case wire.Refund():
                return wire.refund(answer)
            case Refused() | Silence():
                return missing_or_unknown(answer)

    async def settlements_between(self, first: date, last: date) -> list[GatewaySettlement] | Unknown:
        """The payouts that arrive in our bank account on these days (UTC)."""
        return await settlements.settlements_between(self._api, days(first, last))

    async def disputes_between(self, first: date, last: date) -> list[GatewayDispute] | Unknown:
        """All disputes that were opened on these days (UTC)."""
        return await disputes.disputes_between(self._api, days(first, last))

    async def answer_dispute(
        self, dispute_id: str, *, accept: bool, comment: str
    ) -> GatewayDispute | Rejected | Unknown:
        """Give in, or hand in `comment` as our evidence."""
        return await disputes.answer_dispute(self._api, dispute_id, accept=accept, comment=comment)

    async def pay_out(self, request: PayoutRequest) -> GatewayPayout | Rejected | Unknown:
        """Transfer money to an operator's connected account."""
        return await transfers.pay_out(self._api, request)

    async def find_payout(self, reference: str) -> GatewayPayout | Missing | Unknown:
        """How far the transfer of our reference has come."""
        return await transfers.find_payout(self._api, reference)

    def is_resting(self) -> bool:
        """Whether the circuit is open."""
        return self._api.is_resting()

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether the header signs this body with our secret, and did so just now."""
        return webhooks.is_authentic(headers, body, secret=self._webhook_secret, now=time.time())

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:  # noqa: ARG002 - all is in the body
        """Where to look because of an authentic webhook; raises MalformedWebhook."""
        return webhooks.read_webhook(body)

    def to_wire(self, amount: Money) -> Decimal:
        """Stripe's units; raises UnknownCurrency."""
        return Decimal(wire.to_units(amount))

    def from_wire(self, amount: Decimal | int | str, currency: str) -> Money:
        """Stripe's units in minor units; raises ValueError if they are not whole, UnknownCurrency."""
        try:
            units = Decimal(amount)
        except InvalidOperation:
            raise ValueError(f"{amount!r} is not a number") from None
        if not units.is_finite() or units != units.to_integral_value():
            raise ValueError(f"{amount!r} is no amount of Stripe's")
        return wire.from_units(int(units), currency)

    async def close(self) -> None:
        """Close every connection."""
        await self._api.close()

    async def _intent(self, transaction_id: str) -> wire.PaymentIntent | Missing | Unknown:
        if INTENT.fullmatch(transaction_id) is None:
            return Missing()
        call = self._api.v1.payment_intents.retrieve_async(transaction_id, params={"expand": [FEE]}, options=ASK)
        answer = await self._api.read(call, wire.PaymentIntent)
        match answer:
            case wire.PaymentIntent(id=identity) if identity != transaction_id:
                return Unknown(reason="the answer is about another payment")
            case wire.PaymentIntent():
                return answer
            case Refused() | Silence():
                return missing_or_unknown(answer)

    async def _session_of(self, reference: str) -> wire.Session | Missing | Unknown:
        made_at = _made_at(reference)
        if made_at is None:
            return Unknown(reason="a reference that does not tell when it was made")
        span = {"gte": _seconds(made_at - EARLIEST_BEFORE), "lte": _seconds(made_at + LATEST_AFTER)}

        def is_ours(session: wire.Session) -> bool:
            return session.client_reference_id == reference

        rows = await self._api.rows(
            self._api.v1.checkout.sessions.list_async,
            {"created": span},
            wire.Session,
            most_pages=MOST_PAGES,
            wanted=is_ours,
        )
        if isinstance(rows, Silence):
            return rows.unknown()
        return next((session for session in rows if is_ours(session)), Missing())

    async def _ask_refund(self, request: RefundRequest, *, failed: int) -> GatewayRefund | Rejected | Unknown:
        call = self._api.v1.refunds.create_async(
            params={
                "payment_intent": request.transaction_id,
                "amount": wire.to_units(request.amount),
                "metadata": {wire.REFERENCE: request.reference},
            },
            options=under(f"refund_{request.reference}" + (f"_{failed}" if failed else "")),
        )
        match await self._api.read(call, wire.Refund):
            case wire.Refund() as row if row.payment_intent != request.transaction_id:
                return Unknown(reason="the answer is about another transaction")
            case wire.Refund() as row:
                return wire.refund(row)
            case Refused() as refused:
                return refused.rejected()
            case Silence() as silence:
                return silence.unknown()

    async def _change(self, verb: str, transaction_id: str, params: dict[str, Any], *, key: str) -> Truth | Rejected:
        """Capture or cancel a PaymentIntent, and what it then is.

        Under the same key Stripe repeats its first answer, a failure of its own included, for a day. Neither verb can
        happen twice, so a failure that is only repeated is asked about anew.
        """
        ask = getattr(self._api.v1.payment_intents, verb)
        answer = await self._api.read(ask(transaction_id, params=params, options=under(key)), wire.PaymentIntent)
        if isinstance(answer, Silence) and answer.is_replayed:
            anew = under(f"{key}_{uuid4()}")
            answer = await self._api.read(ask(transaction_id, params=params, options=anew), wire.PaymentIntent)
        match answer:
            case wire.PaymentIntent(id=identity) if identity != transaction_id:
                return Unknown(reason="the answer is about another payment")
            case wire.PaymentIntent():
                return wire.truth(answer)
            case Refused():
                return answer.rejected()
            case Silence():
                return answer.unknown()


def days(first: date, last: date) -> dict[str, int]:
    """The span of these days in UTC, both included, as Stripe's lists take it."""
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    until = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    return {"gte": _seconds(since), "lt": _seconds(until)}


def missing_or_unknown(answer: Refused | Silence) -> Missing | Unknown:
    """What it means to a question that there is no answer."""
    if isinstance(answer, Silence):
        return answer.unknown()
    return Missing() if answer.is_missing else Unknown(reason=answer.reason)


def _session(request: CheckoutRequest) -> Any:
    minutes = min(max(request.session_minutes, SHORTEST_SESSION_MINUTES), LONGEST_SESSION_MINUTES)
    metadata = {wire.REFERENCE: request.reference}
    price = {
        "currency": request.amount.currency.lower(),
        "unit_amount": wire.to_units(request.amount),
        "product_data": {"name": request.description[:LONGEST_NAME]},
    }
    session: dict[str, Any] = {
        "mode": "payment",
        "client_reference_id": request.reference,
        "metadata": metadata,
        "payment_intent_data": {
            "capture_method": "manual",
            "metadata": metadata,
            "description": request.description[:LONGEST_NAME],
        },
        "payment_method_types": ["card"],
        "line_items": [{"quantity": 1, "price_data": price}],
        "success_url": request.return_url,
        "cancel_url": request.return_url,
        "expires_at": int(time.time()) + minutes * 60,
    }
    return {**session, "customer_email": request.customer_email} if request.customer_email else session


def _made_at(reference: str) -> datetime | None:
    """When a UUIDv7 was made (RFC 9562, section 5.7)."""
    try:
        identity = UUID(reference)
    except ValueError:
        return None
    if identity.version != UUID_OF_TIME:
        return None
    return datetime.fromtimestamp((identity.int >> 80) / 1000, UTC)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
