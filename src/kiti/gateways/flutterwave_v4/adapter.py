"""The Gateway that is Flutterwave v4."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from kiti.core.money import Money
from kiti.gateways.flutterwave_v4 import disputes, people, settlements, webhooks, wire
from kiti.gateways.flutterwave_v4.access import Line, Tokens
from kiti.gateways.flutterwave_v4.lists import all_rows, days, span
from kiti.gateways.flutterwave_v4.webhooks import IDENTIFIER
from kiti.gateways.gateway import (
    Capabilities,
    Captured,
    CheckoutOpened,
    CheckoutRequest,
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
from kiti.gateways.reading import printable

TIMEOUT_SECONDS = 30.0
LONGEST_SESSION_MINUTES = 1440
# A decline ends our attempt, and our own page offers the next one; a page that went on would pay for a dead one.
MOST_ATTEMPTS_ON_A_PAGE = 1
LONGEST_LINK = 2048
MOST_PAGES_OF_A_DAY = 2000

# Why a charge cannot go on here: what it wants next is asked of the traveller by whoever shows the form, and that is
# not us. Nobody can authorise such a charge any more.
NOT_OURS_TO_ASK: Mapping[str, str] = {
    "requires_otp": "The network wants a one-time code, which cannot be typed here. Choose another way to pay.",
    "requires_pin": "The bank wants a PIN, which cannot be typed here. Choose another way to pay.",
    "requires_additional_fields": "The bank wants to know more than can be told here. Choose another way to pay.",
    "requires_capture": "The bank has only set the money aside. Choose another way to pay.",
}

CUSTOMER_KNOWN = wire.CONFLICT


class FlutterwaveV4:
    """All that Kiti asks of Flutterwave v4.

    `base_url` is the API's address, `token_url` that of the token endpoint. Each call ends within `timeout_seconds`,
    and may be preceded by one for a token; a verb may take a few calls, one that lists up to MOST_PAGES of them. No
    verb may be called inside a transaction (AssertionError).
    """

    name = "flutterwave_v4"
    capabilities = Capabilities(
        hosted_page=True,
        authorise_then_capture=False,
        idempotent_refund=True,
        link_expiry=False,
        refund_webhook=True,
        currencies=frozenset(wire.UNITS.decimals),
        methods=frozenset({"CARD", "MOBILE_MONEY", "BANK_TRANSFER", "USSD"}),
    )

    def __init__(
        self,
        *,
        base_url: str,
        token_url: str,
        client_id: str,
        client_secret: str,
        webhook_secret: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._webhook_secret = webhook_secret
        tokens = Tokens(
            url=token_url, client_id=client_id, client_secret=client_secret, timeout_seconds=timeout_seconds
        )
        self._line = Line(base_url=base_url, tokens=tokens, timeout_seconds=timeout_seconds)

    async def open_checkout(self, request: CheckoutRequest) -> CheckoutOpened | Rejected | Unknown:
        """Ask on the traveller's phone where its number tells the network, else make a hosted page for one payment.

        Both are sent under a key of the reference: sent again, the first answer comes back. Rejected is only what a
        refusal proves; a conflict may be our own earlier call, so it is Unknown.
        """
        if request.method == "CASH":
            return Rejected(reason="Flutterwave takes no cash")
        if request.amount.currency not in wire.UNITS.decimals:
            return Rejected(reason=f"Flutterwave is not asked to take {request.amount.currency}")
        if request.method == "MOBILE_MONEY":
            if request.amount.currency not in people.MOBILE_MONEY:
                return Rejected(reason=f"there is no mobile money in {request.amount.currency}")
            method = people.mobile_money(request.customer_phone, currency=request.amount.currency)
            if method is not None:
                return await self._charge_phone(request, method)
        return await self._open_page(request)

    async def close_checkout(self, url: str) -> bool:  # noqa: ARG002 - there is nothing to send it to
        """Always False: v4 has no way to close a page; it ends by itself after its session."""
        return False

    async def lookup(self, reference: str) -> Truth:
        """The truth about our reference, a captured charge first, then one that may yet be; raises UnreadableAmount.

        The list is asked for the reference, and not relied on to have heeded it.
        """
        rows = await all_rows(self._line, "/charges", {"reference": reference}, wire.Charge)
        if isinstance(rows, Unknown):
            return rows
        truths = [wire.truth(row) for row in rows if row.reference == reference]
        for kind in (Captured, Unknown, Pending):
            found = next((truth for truth in truths if isinstance(truth, kind)), None)
            if found is not None:
                return found
        return truths[0] if truths else Missing()

    async def verify(self, transaction_id: str) -> Truth:
        """The truth about one charge; raises UnreadableAmount. What is no id is asked of nobody."""
        answer = await self._charge(transaction_id)
        return wire.truth(answer) if isinstance(answer, wire.Charge) else answer

    async def captured_on(self, day: date) -> list[Captured | Unreadable] | Unknown:
        """Every charge of a day that succeeded, from the list of all."""
        asked = {**days(day, day), "status": "succeeded"}
        rows = await all_rows(self._line, "/charges", asked, wire.Charge, most_pages=MOST_PAGES_OF_A_DAY)
        if isinstance(rows, Unknown):
            return rows
        found: list[Captured | Unreadable] = []
        for row in rows:
            try:
                told = wire.truth(row)
            except UnreadableAmount as error:
                found.append(
                    Unreadable(transaction_id=error.transaction_id, reference=error.reference, reason=str(error))
                )
                continue
            if isinstance(told, Captured):
                found.append(told)
        return found

    async def refund(self, request: RefundRequest) -> GatewayRefund | Rejected | Unknown:
        """Ask for money to go back, under a key of our reference; `meta` carries the reference.

        Asked again, the first answer comes back. A refund that failed there and that a person sends once more is
        another one, so its key has the failed one's id in it.
        """
        if IDENTIFIER.fullmatch(request.transaction_id) is None:
            return Rejected(reason="Flutterwave's charges have other ids")
        body: dict[str, object] = {
            "charge_id": request.transaction_id,
            "amount": wire.UNITS.to_wire(request.amount),
            "reason": "requested_by_customer",
            "meta": {"reference": request.reference},
        }
        key = _key("refund", request.reference, request.transaction_id, request.instead_of)
        answer = wire.read(await self._line.post("/refunds", wire.encode(body), key=key), wire.Refund)
        match answer:
            case wire.Refund() if answer.charge_id != request.transaction_id:
                return Unknown(reason="the answer is about another charge")
            case wire.Refund():
                told = wire.refund(answer, currency=request.amount.currency)
                if isinstance(told, GatewayRefund) and told.reference not in {"", request.reference}:
                    return Unknown(reason="the answer is about another refund")
                return told
            case wire.Refused():
                return wire.rejected_or_unknown(answer)
            case Unknown():
                return answer

    async def list_refunds(self, transaction_id: str) -> list[GatewayRefund] | Unknown:
        """Every refund of a charge, picked from the list of all since the day before it was made."""
        charge = await self._charge(transaction_id)
        if not isinstance(charge, wire.Charge):
            return _unknown_charge(charge)
        now = datetime.now(UTC)
        made = wire.moment(charge.created_datetime)
        asked = {} if made is None else span(min(made, now) - timedelta(days=1), now + timedelta(days=1))
        rows = await all_rows(self._line, "/refunds", asked, wire.Refund)
        if isinstance(rows, Unknown):
            return rows
        found: list[GatewayRefund] = []
        for row in rows:
            if row.charge_id == transaction_id:
                told = wire.refund(row, currency=charge.currency)
                if isinstance(told, Unknown):
                    return told
                found.append(told)
        return found

    async def refund_status(self, refund_id: str) -> GatewayRefund | Missing | Unknown:
        """How far a refund has come; a refund does not tell its currency, so its charge is asked for."""
        if IDENTIFIER.fullmatch(refund_id) is None:
            return Missing()
        row = wire.read(await self._line.get(f"/refunds/{refund_id}"), wire.Refund)
        if isinstance(row, wire.Refused):
            return wire.missing_or_unknown(row)
        if isinstance(row, Unknown):
            return row
        if row.id != refund_id:
            return Unknown(reason="the answer is about another refund")
        charge = await self._charge(row.charge_id)
        if not isinstance(charge, wire.Charge):
            return _unknown_charge(charge)
        return wire.refund(row, currency=charge.currency)

    async def pay_out(self, request: PayoutRequest) -> GatewayPayout | Rejected | Unknown:
        """Send money to a bank account, to mobile money or to a Flutterwave wallet, in the currency it is kept in."""
        if request.amount.currency not in wire.UNITS.decimals:
            return Rejected(reason=f"Flutterwave is not asked to send {request.amount.currency}")
        kind = "wallet" if request.destination.kind == "connected" else request.destination.kind
        body: dict[str, object] = {
            "action": "instant",
            "type": kind,
            "reference": request.reference,
            "narration": request.narration,
            "payment_instruction": {
                "source_currency": request.amount.currency,
                "destination_currency": request.amount.currency,
                "amount": {"value": wire.UNITS.to_wire(request.amount), "applies_to": "destination_currency"},
                "recipient": people.recipient(request.destination),
            },
        }
        key = _key("payout", request.reference)
        answer = wire.read(await self._line.post("/direct-transfers", wire.encode(body), key=key), wire.Transfer)
        match answer:
            case wire.Transfer() if answer.reference != request.reference:
                return Unknown(reason="the answer is about another transfer")
            case wire.Transfer():
                return wire.payout(answer)
            case wire.Refused():
                return wire.rejected_or_unknown(answer)
            case Unknown():
                return answer

    async def find_payout(self, reference: str) -> GatewayPayout | Missing | Unknown:
        """How far the payout of our reference has come, from the list of transfers, the newest first."""
        rows = await all_rows(self._line, "/transfers", {"reference": reference}, wire.Transfer)
        if isinstance(rows, Unknown):
            return rows
        found = next((row for row in rows if row.reference == reference), None)
        return Missing() if found is None else wire.payout(found)

    async def settlements_between(self, first: date, last: date) -> list[GatewaySettlement] | Unknown:
        """What was paid into our bank account on these days."""
        return await settlements.settlements_between(self._line, first, last)

    async def disputes_between(self, first: date, last: date) -> list[GatewayDispute] | Unknown:
        """The chargebacks that were opened on these days."""
        return await disputes.disputes_between(self._line, self._charge, first, last)

    async def answer_dispute(
        self, dispute_id: str, *, accept: bool, comment: str
    ) -> GatewayDispute | Rejected | Unknown:
        """Accept a chargeback, or decline it with a comment that holds the address of a proof."""
        return await disputes.answer_dispute(self._line, self._charge, dispute_id, accept=accept, comment=comment)

    def is_resting(self) -> bool:
        """Whether the circuit is open."""
        return self._line.is_resting()

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether the header signs the raw body with our secret."""
        return webhooks.is_authentic(headers, body, secret=self._webhook_secret)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:  # noqa: ARG002 - JSON always
        """Where to look because of an authentic webhook; raises MalformedWebhook."""
        return webhooks.read_webhook(body)

    def to_wire(self, amount: Money) -> Decimal:
        """Major units; raises ValueError if the gateway has no decimals for it, UnknownCurrency."""
        return wire.UNITS.to_wire(amount)

    def from_wire(self, amount: Decimal | int | str, currency: str) -> Money:
        """Major units in minor units; raises ValueError if they are not whole, UnknownCurrency."""
        return wire.UNITS.from_wire(amount, currency)

    async def close(self) -> None:
        """Close every connection."""
        await self._line.close()

    async def _charge_phone(
        self, request: CheckoutRequest, method: dict[str, object]
    ) -> CheckoutOpened | Rejected | Unknown:
        """A charge that the traveller approves with a PIN on the phone, or on a page that the network wants to show."""
        body: dict[str, object] = {
            "amount": wire.UNITS.to_wire(request.amount),
            "currency": request.amount.currency,
            "reference": request.reference,
            "customer": people.customer(request),
            "payment_method": method,
            "redirect_url": request.return_url,
            "meta": {"reference": request.reference},
        }
        key = _key("charge", request.reference)
        sent = await self._line.post("/orchestration/direct-charges", wire.encode(body), key=key)
        answer = wire.read(sent, wire.Charge)
        match answer:
            case wire.Charge() if not wire.is_for(answer, reference=request.reference, amount=request.amount):
                return Unknown(reason="the answer is about another charge")
            case wire.Charge():
                return _opened(answer)
            case wire.Refused():
                return wire.rejected_or_unknown(answer)
            case Unknown():
                return wire.unavailable_or_unknown(sent, answer)

    async def _open_page(self, request: CheckoutRequest) -> CheckoutOpened | Rejected | Unknown:
        customer = await self._customer(request)
        if not isinstance(customer, wire.Customer):
            return customer
        body: dict[str, object] = {
            "amount": wire.UNITS.to_wire(request.amount),
            "currency": request.amount.currency,
            "reference": request.reference,
            "customer_id": customer.id,
            "redirect_url": request.return_url,
            "session_duration": min(max(request.session_minutes, 1), LONGEST_SESSION_MINUTES),
            "max_retry_attempts": MOST_ATTEMPTS_ON_A_PAGE,
        }
        key = _key("page", request.reference)
        sent = await self._line.post("/checkout/sessions", wire.encode(body), key=key)
        answer = wire.read(sent, wire.Session)
        match answer:
            case wire.Session() if not wire.is_for(answer, reference=request.reference, amount=request.amount):
                return Unknown(reason="the answer is about another page")
            case wire.Session(checkout_url=url) if _is_address(url):
                return CheckoutOpened(url=url)
            case wire.Session():
                return Unknown(reason="a page whose address is none")
            case wire.Refused():
                return wire.rejected_or_unknown(answer)
            case Unknown():
                return wire.unavailable_or_unknown(sent, answer)

    async def _customer(self, request: CheckoutRequest) -> wire.Customer | Rejected | Unknown:
        """The customer of this e-mail address, made unless there is one."""
        told = people.customer(request)
        key = _key("customer", request.reference)
        sent = await self._line.post("/customers", wire.encode(told), key=key)
        made = wire.read(sent, wire.Customer)
        if isinstance(made, Unknown):
            return wire.unavailable_or_unknown(sent, made)
        if isinstance(made, wire.Customer):
            return made
        if made.http_status != CUSTOMER_KNOWN:
            return wire.rejected_or_unknown(made)
        asked = wire.encode({"email": told["email"]})
        found = wire.read(
            await self._line.post("/customers/search", asked, key=_key("search", request.reference)),
            list[wire.Customer],
        )
        if isinstance(found, wire.Refused):
            return wire.rejected_or_unknown(found)
        if isinstance(found, Unknown):
            return found
        return found[0] if found else Unknown(reason="a customer who is known, and is not found")

    async def _charge(self, transaction_id: str) -> wire.Charge | Missing | Unknown:
        if IDENTIFIER.fullmatch(transaction_id) is None:
            return Missing()
        answer = wire.read(await self._line.get(f"/charges/{transaction_id}"), wire.Charge)
        if isinstance(answer, wire.Refused):
            return wire.missing_or_unknown(answer)
        if isinstance(answer, wire.Charge) and answer.id != transaction_id:
            return Unknown(reason="the answer is about another charge")
        return answer


def _opened(charge: wire.Charge) -> CheckoutOpened | Rejected | Unknown:
    """What a charge that has just been made wants next."""
    if charge.status.lower() == "failed":
        return Rejected(reason=wire.why_not(charge))
    action = charge.next_action or wire.NextAction()
    match action.type:
        case "redirect_url" if action.redirect_url is not None and _is_address(action.redirect_url.url):
            return CheckoutOpened(url=action.redirect_url.url)
        case "redirect_url":
            return Unknown(reason="a page whose address is none")
        case "" | "payment_instruction":
            return CheckoutOpened(url=None)
        case wanted if wanted in NOT_OURS_TO_ASK:
            return Rejected(reason=NOT_OURS_TO_ASK[wanted])
        case wanted:
            return Unknown(reason=f"the charge wants {printable(wanted)!r} next")


def _unknown_charge(answer: Missing | Unknown) -> Unknown:
    """A refund's charge that the gateway does not find says nothing about the refund."""
    return answer if isinstance(answer, Unknown) else Unknown(reason="its charge was not found")


def _key(what: Literal["charge", "page", "customer", "search", "refund", "payout"], *of: str) -> str:
    """An idempotency key: letters and digits only, 12 to 255 of them, the same for the same reference of ours."""
    return what + hashlib.sha256("\n".join(of).encode()).hexdigest()


def _is_address(url: str) -> bool:
    return url.startswith(("https://", "http://")) and len(url) <= LONGEST_LINK
