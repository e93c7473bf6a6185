"""A market for tests that let money go every way: the running house, its gateways' faults, its operators' terms, and
what travellers, clerks, banks and operators do in it.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec

from kiti.app import open_house
from kiti.core.ids import new_id
from kiti.core.settings import load
from kiti.disputes.actions import DisputeChanged, DisputeNotAnswerable
from kiti.disputes.model import Answer
from kiti.fees import actions as fees
from kiti.fees.model import Bearer, FeeRule, Kind
from kiti.flows.corrections import NotReversible, correct_event
from kiti.flows.dispute_answers import answer_dispute
from kiti.flows.house import House
from kiti.flows.payouts import request_payout
from kiti.flows.settlements import approve, list_settlements, set_terms
from kiti.gateways.gateway import Destination
from kiti.network.actions import set_refund_policy
from kiti.network.model import RefundPolicy, RefundRule
from kiti.settlements.model import Terms
from tests.earnings import somebody
from tests.house import JsonObject, RunningHouse, holder
from tests.network import FIRST_DAY
from tests.staff import staff_headers
from tests.stage import Stage, copy_trip

GATEWAY_FAULTS: list[JsonObject] = [
    {"latency_ms": 120},
    {"http_status": 503},
    {"http_status_after": 503},
    {"http_status": 429},
    {"drop_connection_before": True},
    {"drop_connection_after": True},
    {"malformed": True},
    {"not_found": True},
    {"lie": {"status": "failed"}},
    {"lie": {"status": "pending"}},
    {"lie": {"currency": "KES"}},
    {"lie": {"amount": 1.0}},
    {"lie": {"amount": 999_000.0}},
    {"lie": {"tx_ref": "somebody else's"}},
]
CALLS = ["*", "POST /v3/*", "GET /v3/transactions/*", "POST /v4/*", "GET /v4/*", "POST /v1/*", "GET /v1/*"]
WEBHOOK_FAULTS: list[JsonObject] = [
    {"drop": True},
    {"duplicate": 4},
    {"delay_ms": 250},
    {"reorder": 3, "hold_seconds": 0.4},
    {"lie": {"status": "successful"}},
    {"lie": {"amount": 5.0}},
    {"shape": "legacy"},
]
# Operators are paid day by day: after this much time a day has ended, whatever the hour.
DAY_AND_A_BIT_MINUTES = 26 * 60
TRAVELS_IN_DAYS = 30
# Flutterwave takes no objection without a link.
PROOF = "They travelled: https://proof.example/boarded"
PHONES = {"UGX": "+256772123456", "KES": "+254712345678"}
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
# What is asked beside the fares, and who bears it.
FEES: list[tuple[Kind, Bearer, str, JsonObject]] = [
    ("commission", "operator", "UGX", {"basis_points": 1_000}),
    ("commission", "operator", "KES", {"basis_points": 725}),
    ("gateway_fee", "operator", "UGX", {"basis_points": 290}),
    ("platform_fee", "traveller", "UGX", {"fixed": 1_500}),
    ("tax", "traveller", "KES", {"basis_points": 1_600}),
]

Way = dict[str, Any]
# How one can pay: what is sent to `initiate` beside the booking.
WAYS: dict[str, Way] = {
    "page": {"gateway": "flutterwave"},
    "phone": {"gateway": "flutterwave", "paymentMethod": "MOBILE_MONEY", "channel": "DIRECT"},
    "second page": {"gateway": "flutterwave_v4"},
    "second phone": {"gateway": "flutterwave_v4", "paymentMethod": "MOBILE_MONEY"},
    "authorised": {"gateway": "stripe"},
    "counter": {"paymentMethod": "CASH"},
}


class Bought(msgspec.Struct, frozen=True):
    """A booking as its buyer knows it, and how they mean to pay."""

    booking: JsonObject
    way: Way

    @property
    def id(self) -> str:
        return str(self.booking["bookingId"])

    @property
    def seats(self) -> list[tuple[UUID, str]]:
        """Every seat that was booked, with its trip."""
        return [(UUID(item["tripId"]), seat) for item in self.booking["items"] for seat in item["seatNumbers"]]

    @property
    def trips(self) -> list[UUID]:
        return [UUID(item["tripId"]) for item in self.booking["items"]]


class Market(Stage):
    """The running house, and a second composition for what operators do on the command line."""

    def __init__(self, url: str, logs: Path) -> None:
        super().__init__()
        self.there = RunningHouse(url, logs)
        self.stack.push_async_callback(self.there.stop)
        self.run(self.there.start())
        self.box = self.there.box
        self.staff = self.run(staff_headers(self.there))
        self.house: House = self.enter(open_house(load({**self.there.environment, "DATABASE_URL": url})))
        self.run(self._set_terms())

    async def _set_terms(self) -> None:
        """Operators are paid each day, bear a commission and the gateway's fee; one keeps something of who cancels."""
        account = Destination(kind="mobile_money", country="UG", bank="MPS", account="256772000111", name="Pearl")
        network = self.there.network
        for line in (network.bus_line, network.lake_line, network.shuttle_line):
            terms = Terms(
                operator_id=line.operator.id,
                currency=line.fares[0].currency,
                period="daily",
                minimum_payout=0,
                gateway="flutterwave",
                destination=account,
                set_by="test",
            )
            await set_terms(self.house, terms=terms, staff=somebody(number=1))
        policy = RefundPolicy(rules=(RefundRule(hours_before=0, percent=80),), fees={"KES": 5_000})
        async with self.box.db.transaction() as tx:
            await set_refund_policy(tx, operator=network.lake_line.operator.id, policy=policy)
            for kind, bearer, currency, said in FEES:
                fields: dict[str, Any] = {"valid_from": LONG_AGO, **said}
                rule = FeeRule(id=new_id(), kind=kind, borne_by=bearer, currency=currency, **fields)
                await fees.set_rule(tx, rule=rule)
        await self.there.sim.config(transfer_delay_seconds=0.1, pay_late_seconds=0.2)

    async def fresh_trips(self) -> list[UUID]:
        """A bus, another operator's shuttle to go on with, and a bus of theirs that is paid in KES; in a month."""
        days = TRAVELS_IN_DAYS + int(self.box.travelled_seconds // 86_400)
        network = self.there.network
        return [
            await copy_trip(self.box.db, line.trip_on(FIRST_DAY), days_later=days)
            for line in (network.bus_line, network.shuttle_line, network.lake_line)
        ]

    # ---------------------------------------------------------------- travellers

    async def ask_for(self, trips: list[UUID], seats: int) -> httpx.Response:
        """POST a reservation of so many seats on each of these trips; whatever the answer."""
        body = {
            "items": [{"tripId": str(trip), "seatCount": seats} for trip in trips],
            "contact": {"email": "amina@example.com"},
        }
        return await self.there.api.post("/api/bookings/reserve", json=body)

    async def attempts(self, bought: Bought) -> list[JsonObject]:
        """Every attempt to pay, also those of which the traveller never heard; the oldest first."""
        return await self.box.rows(
            "SELECT id::text AS id, gateway, state, amount + fee AS total, currency FROM payment"
            " WHERE booking_id = %s ORDER BY created_at, id",
            bought.id,
        )

    async def pay(self, bought: Bought, action: str, **options: Any) -> None:
        """Begin, and press a button of whatever there is now, even where the answer was lost."""
        is_on_phone = bought.way.get("paymentMethod") == "MOBILE_MONEY"
        phone = {"phoneNumber": PHONES[bought.booking["currency"]]} if is_on_phone else {}
        answer = await self.there.ask_to_pay(bought.booking, **bought.way, **phone)
        assert answer.status_code in {200, 201, 402, 409, 502, 503, 504}, answer.text
        found = await self.attempts(bought)
        if found:
            await self.press(found[-1], action, **options)

    async def press(self, attempt: JsonObject, action: str, **options: Any) -> None:
        """Press a button; that a page is closed, or was paid on, is an answer too."""
        if attempt["gateway"] == "cash":
            for _ in range({"pay": 1, "pay-twice": 2}.get(action, 0)):
                await self.as_staff(
                    f"/api/payments/{attempt['id']}/cash",
                    {"amount": attempt["total"], "currency": attempt["currency"], "counter": "Kampala 1"},
                )
        elif attempt["gateway"] == "stripe":
            order = {"reference": attempt["id"], "action": "pay" if action == "pay-twice" else action}
            await self.there.sim.http.post("/_sim/stripe/press", json=order)
        else:
            await self.there.sim.http.post("/_sim/pay", json={"tx_ref": attempt["id"], "action": action, **options})

    async def cancel(self, bought: Bought, **part: Any) -> None:
        """Cancel all of a booking, or a part."""
        path = f"/api/bookings/{bought.id}/cancel"
        answer = await self.there.api.post(path, json=part, headers=holder(bought.booking))
        assert answer.status_code in {200, 409, 422}, answer.text

    async def let_hold_run_out(self, bought: Bought) -> None:
        """Nobody has paid for a booking in time."""
        over = "kiti_now() - interval '1 second'"
        rows = await self.box.rows(
            f"UPDATE booking SET hold_expires_at = {over}, hold_cap_at = {over}"
            " WHERE id = %s AND state IN ('held', 'awaiting_payment') RETURNING id",
            bought.id,
        )
        if rows:
            await self.box.rows(
                f"UPDATE seat_claim SET expires_at = {over} WHERE owner_id = %s AND expires_at < 'infinity'", bought.id
            )

    # ---------------------------------------------------------------- staff and operators

    async def as_staff(self, path: str, body: JsonObject) -> None:
        """POST as somebody who may do everything; that it cannot be done is an answer too."""
        answer = await self.there.api.post(path, json=body, headers=self.staff)
        if answer.status_code == 401:
            self.staff = await staff_headers(self.there)
            answer = await self.there.api.post(path, json=body, headers=self.staff)
        assert answer.status_code in {200, 201, 202, 409, 422, 504}, answer.text

    async def hand_out_cash(self, bookings: list[UUID]) -> None:
        """Give every refund in cash to who waits for it at the counter."""
        for row in await self.box.rows(
            "SELECT id FROM refund WHERE booking_id = ANY(%s) AND gateway = 'cash' AND state <> 'succeeded'", bookings
        ):
            await self.as_staff(f"/api/refunds/{row['id']}/cash", {"counter": "Kampala 1"})

    async def leave(self, trip: UUID) -> None:
        """Everybody has boarded two hours ago."""
        then = "kiti_now() - interval '2 hours'"
        calls = f"departs_at = {then} + seq * interval '1 minute', arrives_at = {then} + seq * interval '1 minute'"
        await self.box.rows(f"UPDATE trip_stop SET {calls} WHERE trip_id = %s", trip)
        await self.box.rows(f"UPDATE trip SET departs_at = {then} WHERE id = %s", trip)
        await self.there.job("recognise-revenue")

    async def correct(self, bought: Bought) -> None:
        """Undo the revenue of a trip, or what undid it."""
        events = [f"departed:{trip}" for trip in bought.trips]
        for event in (*events, *(f"reversal:{event}" for event in events)):
            try:
                await correct_event(
                    self.house, booking=UUID(bought.id), event=event, reason="A wrong trip.", staff=somebody(number=4)
                )
            except NotReversible:
                continue
            return

    async def end_day(self) -> None:
        """The day ends: statements are made, one person approves each and another has it paid."""
        await self.box.travel(minutes=DAY_AND_A_BIT_MINUTES)
        await self.there.job("recognise-revenue")
        await self.there.job("calculate-settlements")
        page = await list_settlements(self.house, staff=somebody(number=2), state="draft")
        for draft in page.settlements:
            await approve(self.house, settlement=draft.id, staff=somebody(number=2))
            await request_payout(self.house, settlement=draft.id, staff=somebody(number=3))

    # ---------------------------------------------------------------- banks

    async def dispute(self, attempt: JsonObject, transaction: str, *, part: int | None) -> None:
        """The traveller's bank wants all of a transaction back, or one `part`-th."""
        if attempt["gateway"] == "stripe":
            intent = next(one for one in (await self.there.sim.state(attempt["id"]))["stripe"]["intents"])
            amount = None if part is None else intent["amount_received"] // part // 100 * 100
            order = {"payment_intent": transaction, "amount": amount}
            (await self.there.sim.http.post("/_sim/stripe/disputes", json=order)).raise_for_status()
        else:
            found = (await self.there.sim.state(attempt["id"]))["transactions"]
            [paid] = [row["amount"] for row in found if str(row["id"]) == transaction]
            order = {"transaction_id": int(transaction), "amount": None if part is None else paid // part}
            (await self.there.sim.http.post("/_sim/chargebacks", json=order)).raise_for_status()

    async def decide(self, dispute: JsonObject, status: str) -> None:
        """The bank decides."""
        kind = "stripe/disputes" if dispute["gateway"] == "stripe" else "chargebacks"
        path = f"/_sim/{kind}/{dispute['dispute_id']}"
        (await self.there.sim.http.post(path, json={"status": status})).raise_for_status()

    async def answer(self, dispute: JsonObject, answer: Answer) -> None:
        """Staff give in, or contest."""
        try:
            await answer_dispute(self.house, dispute=dispute["id"], answer=answer, comment=PROOF, actor="test")
        except (DisputeNotAnswerable, DisputeChanged):
            return
