"""A gateway in this process that keeps books of its own: what it took, gave back, held back, and paid into the bank."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

import msgspec

from kiti.core.money import Money, round_to_minor
from kiti.flows.checkout import Intent, initiate
from kiti.flows.house import House
from kiti.flows.plan import Item
from kiti.flows.reconcile import Compared, reconcile
from kiti.flows.refunds import process_refund
from kiti.flows.settle import settle_payment
from kiti.gateways.gateway import (
    Captured,
    DisputeStatus,
    GatewayDispute,
    GatewayRefund,
    GatewaySettlement,
    Missing,
    RefundRequest,
    RefundStatus,
    Rejected,
    SettlementLine,
    Truth,
    Unknown,
    Unreadable,
    WebhookEvent,
)
from tests.box import Box
from tests.obliging import Obliging, with_gateway
from tests.office import Held, Office, open_office


class Settling(Obliging):
    """Honest as long as nobody changes what stands in it; while `mute` it answers nothing about its books."""

    def __init__(self, *, fee: str = "12.58") -> None:
        super().__init__()
        self.fee = Decimal(fee)
        self.taken: dict[str, Captured] = {}
        self.refunds: dict[str, GatewayRefund] = {}
        self.disputes: dict[str, GatewayDispute] = {}
        self.settlements: dict[str, GatewaySettlement] = {}
        self.mute = False
        self.refund_status_now: RefundStatus = "succeeded"
        self.answers: list[Rejected | Unknown] = []
        self.answered: list[tuple[str, bool, str]] = []
        self._settled: set[str] = set()
        self._held_back: dict[str, int] = {}
        self._numbers = count(7001)

    # ---------------------------------------------------------------- what travellers and banks do

    def pay(self, reference: str, *, excess: int = 0) -> str:
        """The traveller pays on the page of this reference, `excess` more than was asked for; the transaction."""
        told = Obliging.truth(self, reference, excess=excess, transaction=str(next(self._numbers)))
        told = msgspec.structs.replace(told, fee_exact=self.fee)
        self.taken[told.transaction_id] = told
        return told.transaction_id

    def dispute(self, transaction: str, *, amount: int | None = None, hours: float = 48) -> GatewayDispute:
        """The traveller's bank wants it back."""
        told = self.taken[transaction]
        opened = GatewayDispute(
            dispute_id=f"D{next(self._numbers)}",
            transaction_id=transaction,
            reference=told.reference,
            amount=told.amount if amount is None else Money(amount, told.amount.currency),
            status="open",
            reason="The traveller does not know this payment.",
            answer_by=datetime.now(UTC) + timedelta(hours=hours),
        )
        self.disputes[opened.dispute_id] = opened
        return opened

    def decide(self, dispute: GatewayDispute, status: DisputeStatus) -> None:
        """How it ends."""
        self.disputes[dispute.dispute_id] = msgspec.structs.replace(dispute, status=status)

    def settle(self, *, day: date | None = None, is_paid: bool = True, currency: str = "UGX") -> GatewaySettlement:
        """Pay out what was not paid out, less what went back since."""
        fresh = [
            t for t in self.taken.values() if t.transaction_id not in self._settled and t.amount.currency == currency
        ]
        self._settled |= {told.transaction_id for told in fresh}
        back = self._newly_held_back(currency)
        gross = Decimal(sum(told.amount.amount for told in fresh))
        fee = sum((told.fee_exact for told in fresh), start=Decimal(0))
        made = GatewaySettlement(
            settlement_id=str(next(self._numbers)),
            day=day or datetime.now(UTC).date(),
            currency=currency,
            gross_exact=gross,
            fee_exact=fee,
            refund_exact=Decimal(back["refund"]),
            chargeback_exact=Decimal(back["dispute"]),
            net_exact=gross - fee - back["refund"] - back["dispute"],
            is_paid=is_paid,
            lines=tuple(
                SettlementLine(
                    transaction_id=told.transaction_id,
                    reference=told.reference,
                    gross_exact=Decimal(told.amount.amount),
                    fee_exact=told.fee_exact,
                )
                for told in fresh
            ),
        )
        self.settlements[made.settlement_id] = made
        return made

    def _newly_held_back(self, currency: str) -> dict[str, int]:
        """What a settlement has to hold back now, by what was held back before."""
        owed: dict[str, tuple[str, int]] = {}
        for refund in self.refunds.values():
            if refund.status != "failed" and self.taken[refund.transaction_id].amount.currency == currency:
                owed[f"refund {refund.refund_id}"] = ("refund", int(refund.amount_exact))
        for dispute in self.disputes.values():
            if dispute.amount.currency == currency:
                held = 0 if dispute.status == "won" else dispute.amount.amount
                owed[f"dispute {dispute.dispute_id}"] = ("dispute", held)
        back = {"refund": 0, "dispute": 0}
        for name, (kind, amount) in owed.items():
            back[kind] += amount - self._held_back.get(name, 0)
            self._held_back[name] = amount
        return back

    # ---------------------------------------------------------------- the gateway's verbs

    async def lookup(self, reference: str) -> Truth:
        return next((told for told in self.taken.values() if told.reference == reference), Missing())

    async def verify(self, transaction_id: str) -> Truth:
        return self.taken.get(transaction_id, Missing())

    async def captured_on(self, day: date) -> list[Captured | Unreadable] | Unknown:
        if self.mute:
            return Unknown(reason="mute")
        return list(self.taken.values()) if day == datetime.now(UTC).date() else []

    async def refund(self, request: RefundRequest) -> GatewayRefund | Rejected | Unknown:
        made = GatewayRefund(
            refund_id=f"R{next(self._numbers)}",
            transaction_id=request.transaction_id,
            reference=request.reference,
            amount_exact=Decimal(request.amount.amount),
            status=self.refund_status_now,
            failure_reason="",
        )
        self.refunds[made.refund_id] = made
        return made

    async def list_refunds(self, transaction_id: str) -> list[GatewayRefund] | Unknown:
        return [one for one in self.refunds.values() if one.transaction_id == transaction_id]

    async def refund_status(self, refund_id: str) -> GatewayRefund | Missing | Unknown:
        return self.refunds.get(refund_id, Missing())

    async def settlements_between(self, first: date, last: date) -> list[GatewaySettlement] | Unknown:
        if self.mute:
            return Unknown(reason="mute")
        return [one for one in self.settlements.values() if first <= one.day <= last]

    async def disputes_between(self, first: date, last: date) -> list[GatewayDispute] | Unknown:
        assert first <= last
        return Unknown(reason="mute") if self.mute else list(self.disputes.values())

    async def answer_dispute(
        self, dispute_id: str, *, accept: bool, comment: str
    ) -> GatewayDispute | Rejected | Unknown:
        self.answered.append((dispute_id, accept, comment))
        if self.answers:
            return self.answers.pop(0)
        if accept:
            self.decide(self.disputes[dispute_id], "accepted")
        return self.disputes[dispute_id]

    def read_webhook(self, headers: Any, body: bytes) -> WebhookEvent:
        del headers
        return WebhookEvent(dedupe_key=body.decode(), kind="dispute", reference="", transaction_id="", refund_id="")

    def is_authentic(self, headers: Any, body: bytes) -> bool:
        del headers, body
        return True


class Treasury:
    """An office with that gateway, and the questions that finance asks."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.gateway = Settling()
        self.house: House = with_gateway(office.house, self.gateway)
        self.box: Box = office.box

    async def hold(self, *chosen: str, items: tuple[Item, ...] = ()) -> tuple[Held, str]:
        """A booking with a page to pay on, and the reference of that."""
        if items:
            held = await self.office.hold_items(*items)
        else:
            held = await self.office.hold(self.office.network.bus(), *(chosen or ("1A",)))
        payment = (await initiate(self.house, Intent(booking=held.booking))).payment
        return held, str(payment.id)

    async def buy(self, *chosen: str, items: tuple[Item, ...] = (), excess: int = 0) -> tuple[Held, str]:
        """A booking that is paid, and its transaction."""
        held, reference = await self.hold(*chosen, items=items)
        transaction = self.gateway.pay(reference, excess=excess)
        await settle_payment(self.house, UUID(reference), transaction_id=transaction)
        return held, transaction

    async def finish_refunds(self) -> None:
        """What jobs would do."""
        for row in await self.box.rows("SELECT id FROM refund WHERE state NOT IN ('succeeded', 'needs_attention')"):
            await process_refund(self.house, row["id"])

    async def compare(self, **more: Any) -> Compared:
        return await reconcile(self.house, **more)

    async def breaks(self) -> set[tuple[str, str, str]]:
        """The open ones: transaction, kind, sides."""
        rows = await self.box.rows(
            "SELECT transaction_id, kind, sides FROM reconciliation_break WHERE resolved_at IS NULL"
        )
        return {(row["transaction_id"], row["kind"], row["sides"]) for row in rows}

    async def clearing(self) -> dict[UUID, int]:
        """What stands in gateway_clearing below each booking or settlement, if anything does."""
        rows = await self.box.rows(
            "SELECT booking_id, sum(CASE WHEN debit LIKE 'gateway_clearing:%%' THEN amount ELSE -amount END)::bigint"
            " AS amount FROM transfer WHERE debit LIKE 'gateway_clearing:%%' OR credit LIKE 'gateway_clearing:%%'"
            " GROUP BY booking_id"
        )
        return {row["booking_id"]: row["amount"] for row in rows if row["amount"]}

    async def balance(self, account: str) -> int:
        """Debits minus credits."""
        found: int = await self.box.value(
            "SELECT coalesce(sum(CASE WHEN debit = %s THEN amount ELSE -amount END), 0)::bigint"
            " FROM transfer WHERE %s IN (debit, credit)",
            account,
            account,
        )
        return found

    def paid_out(self) -> int:
        """What the bank has got."""
        return sum(round_to_minor(one.net_exact) for one in self.gateway.settlements.values() if one.is_paid)


@asynccontextmanager
async def open_treasury(url: str) -> AsyncIterator[Treasury]:
    """On a fresh database; in the end the doctor must find nothing."""
    async with open_office(url) as office:
        yield Treasury(office)
