"""Money that cannot be lost: travellers, staff and operators do what they like, the gateway loses, delays, repeats,
reorders and lies, our server is killed at random, buses leave, operators are paid, and in the end every unit has one
place.

A state machine drives the running product over HTTP. Nothing is asserted while it is in motion but that no answer is a
bug of ours (500); once the gateway behaves again and time has passed, gateway, charges, refunds, bookings and ledger
are compared to the minor unit.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from tests.earnings import WRONG_BALANCES, WRONG_LINES, WRONG_TOTALS, somebody
from tests.examples import TIMES, examples
from tests.house import JsonObject, RunningHouse, holder
from tests.market import GATEWAY_FAULTS, WEBHOOK_FAULTS, Bought, Market
from tests.promises import broken, evidence
from tests.staff import staff_headers

from kiti.flows.cancel_trip import cancel_trip
from kiti.flows.payouts import request_payout
from kiti.flows.reconcile import reconcile
from kiti.flows.refunds import retry_refund
from kiti.flows.settlements import approve, list_settlements
from kiti.flows.wellbeing import examine
from kiti.network.actions import TripNotScheduled

T = TypeVar("T")

pytestmark = pytest.mark.storm

EXAMPLES = 10
STEPS = 22
MOST_CRASHES = 2
DAY_AND_A_BIT_MINUTES = 26 * 60
# A step that waits is one that something kept from its end for good.
ROUNDS_UNTIL_CALM = 80
NIGHTS_APART = 10


class Money(RuleBasedStateMachine):
    """One example: two fresh buses, and whatever happens on them."""

    market: Market

    def __init__(self) -> None:
        super().__init__()
        self.trips = [self.house.network.bus(), self.house.network.bus()]
        self.bought: list[Bought] = []
        self.crashes = 0

    @property
    def house(self) -> RunningHouse:
        return self.market.there

    def run(self, work: Awaitable[T]) -> T:
        return self.market.run(work)

    # ---------------------------------------------------------------- travellers

    @rule(trip=st.integers(0, 1), seats=st.integers(1, 3))
    def reserve(self, trip: int, seats: int) -> None:
        answer = self.run(self.house.ask_to_reserve(self.trips[trip], seats, contact={"email": "amina@example.com"}))
        assert answer.status_code in {201, 409}, answer.text
        if answer.status_code == 201:
            self.bought.append(Bought(answer.json()))

    @precondition(lambda self: self.bought)
    @rule(pick=st.integers(0, 99), action=st.sampled_from(["pay", "pay", "pay", "pay-twice", "decline", "say-nothing"]))
    def pay(self, pick: int, action: str) -> None:
        self.run(self._pay(self._picked(pick), action))

    @precondition(lambda self: self.bought)
    @rule(pick=st.integers(0, 99), amount=st.sampled_from([1, 25_000, 500_000]))
    def pay_another_amount(self, pick: int, amount: int) -> None:
        self.run(self._pay(self._picked(pick), "pay", amount=amount))

    @precondition(lambda self: self.bought)
    @rule(pick=st.integers(0, 99))
    def pay_on_an_old_page(self, pick: int) -> None:
        bought = self._picked(pick)
        if bought.payments:
            self.run(self.house.sim.http.post("/_sim/pay", json=_press(bought.payments[0], "pay", force=True)))

    @precondition(lambda self: self.bought)
    @rule(pick=st.integers(0, 99))
    def cancel(self, pick: int) -> None:
        self.run(self._cancel(self._picked(pick)))

    @precondition(lambda self: self.bought)
    @rule(pick=st.integers(0, 99))
    def cancel_one_seat(self, pick: int) -> None:
        bought = self._picked(pick)
        seat = {"tripId": bought.booking["tripId"], "seatNumber": bought.booking["seatNumbers"][0]}
        self.run(self._cancel(bought, seats=[seat]))

    @precondition(lambda self: self.bought)
    @rule(pick=st.integers(0, 99))
    def the_hold_runs_out(self, pick: int) -> None:
        bought = self._picked(pick)
        over = "kiti_now() - interval '1 second'"
        rows = self.run(
            self.house.box.rows(
                f"UPDATE booking SET hold_expires_at = {over}, hold_cap_at = {over}"
                " WHERE id = %s AND state IN ('held', 'awaiting_payment') RETURNING id",
                bought.id,
            )
        )
        if rows:
            self.run(
                self.house.box.rows(
                    f"UPDATE seat_claim SET expires_at = {over} WHERE owner_id = %s AND expires_at < 'infinity'",
                    bought.id,
                )
            )

    # ---------------------------------------------------------------- staff and operators

    @precondition(lambda self: self.bought)
    @rule(pick=st.integers(0, 99), percent=st.sampled_from([10, 50, 100]))
    def staff_refund(self, pick: int, percent: int) -> None:
        bought = self._picked(pick)
        if bought.payments:
            amount = bought.booking["amount"] * percent // 100
            body = {"amount": amount, "reason": "The bus had no air conditioning."}
            self._staff(f"/api/payments/{bought.payments[-1]['paymentId']}/refund", body)

    @precondition(lambda self: self.bought)
    @rule(pick=st.integers(0, 99), action=st.sampled_from(["accept", "refund", "ask"]))
    def a_person_decides(self, pick: int, action: str) -> None:
        bought = self._picked(pick)
        if bought.payments:
            path = f"/api/payments/{bought.payments[-1]['paymentId']}/review"
            self._staff(path, {"action": action, "reason": "They called us."})

    @rule(trip=st.integers(0, 1), dice=st.integers(0, 3))
    def a_bus_leaves(self, trip: int, dice: int) -> None:
        if dice == 0:
            self.run(self._leave(self.trips[trip]))
            self.run(self.house.job("recognise-revenue"))

    @rule(trip=st.integers(0, 1), dice=st.integers(0, 3))
    def the_operator_cancels_a_trip(self, trip: int, dice: int) -> None:
        if dice == 0:
            with contextlib.suppress(TripNotScheduled):
                self.run(cancel_trip(self.market.house, trip=self.trips[trip], reason="A breakdown.", actor="test"))

    # ---------------------------------------------------------------- the world

    @rule(fault=st.sampled_from(GATEWAY_FAULTS), call=st.sampled_from(["*", "POST /v3/*", "GET /v3/transactions/*"]))
    def the_gateway_goes_wrong(self, fault: JsonObject, call: str) -> None:
        narrow = "lie" in fault or "not_found" in fault
        self.run(self.house.sim.api_fault(match="*" if narrow else call, times=1, **fault))

    @rule(fault=st.sampled_from(WEBHOOK_FAULTS))
    def webhooks_go_wrong(self, fault: JsonObject) -> None:
        self.run(self.house.sim.webhook_fault(times=2, **fault))

    @rule(outcome=st.sampled_from(["paid", "paid", "failed"]))
    def refunds_end(self, outcome: str) -> None:
        self.run(self.house.sim.config(refund_outcome=outcome))

    @rule(name=st.sampled_from(["expire-seats", "reconcile-payments", "refund-cancelled-trips", "process-refunds"]))
    def a_job_runs(self, name: str) -> None:
        self.run(self.house.job(name))

    @rule()
    def time_passes_for_polls(self) -> None:
        self.run(self._poll())

    @precondition(lambda self: self.bought and self.crashes < MOST_CRASHES)
    @rule(
        pick=st.integers(0, 99),
        action=st.sampled_from(["pay", "pay-twice"]),
        ends=st.booleans(),
        milliseconds=st.integers(0, 250),
    )
    def the_server_is_killed(self, pick: int, action: str, ends: bool, milliseconds: int) -> None:  # noqa: FBT001
        self.crashes += 1
        self.run(self._crash(self._picked(pick), action, ends=ends, after_seconds=milliseconds / 1000))

    # ---------------------------------------------------------------- in the end

    def teardown(self) -> None:
        try:
            self.run(self._settle_down())
            self.run(self._compare())
            self.run(self._pay_the_operator())
        finally:
            self.run(self.house.sim.behave())

    async def _settle_down(self) -> None:
        """The gateway behaves, time passes, people who look after failed refunds do so."""
        await self.house.sim.behave()
        await self.house.sim.config(refund_outcome="paid")
        await self.house.revive_jobs()
        # After two minutes of "unknown there" a request has never arrived.
        await self.house.box.rows(
            "UPDATE payment SET created_at = created_at - interval '3 minutes'"
            " WHERE booking_id = ANY(%s) AND state IN ('submitting', 'unknown')",
            self._ids(),
        )
        waiting: list[Any] = []
        for turn in range(ROUNDS_UNTIL_CALM):
            await self._poll()
            await self.house.job("refund-cancelled-trips")
            if turn % NIGHTS_APART == 0:
                # What the gateway called pending, and never told of again, is found by comparing its lists.
                await self.house.job("reconcile-payments")
            await self.house.follow_refunds()
            waiting = [one for one in await self._unfinished() if not await self._is_for_a_person(one)]
            if not waiting:
                break
            await asyncio.sleep(0.1)
        assert not waiting, waiting
        await self.house.queue_is_empty()
        await reconcile(self.market.house)
        await self.house.follow_refunds()

    async def _pay_the_operator(self) -> None:
        """The buses leave, the day ends, two people have the operator paid, the server dies; it is paid once."""
        for trip in self.trips:
            await self._leave(trip)
        await self.house.job("recognise-revenue")
        await self.house.box.travel(minutes=DAY_AND_A_BIT_MINUTES)
        await self.house.job("calculate-settlements")
        drafts = (await list_settlements(self.market.house, staff=somebody(number=2), state="draft")).settlements
        for draft in drafts:
            await approve(self.market.house, settlement=draft.id, staff=somebody(number=2))
            await request_payout(self.market.house, settlement=draft.id, staff=somebody(number=3))
        if drafts and self.crashes < MOST_CRASHES:
            paying = asyncio.ensure_future(self.house.job("payouts"))
            await asyncio.sleep(0.02)
            self.house.kill9()
            await asyncio.gather(paying, return_exceptions=True)
            await self.house.restart()
        waiting: list[JsonObject] = []
        for _ in range(ROUNDS_UNTIL_CALM):
            await self.house.box.rows("UPDATE payout SET act_after = kiti_now() WHERE act_after IS NOT NULL")
            await self.house.job("payouts")
            waiting = await self.house.box.rows(
                "SELECT id, state FROM payout WHERE state NOT IN ('succeeded', 'reconciled')"
            )
            if not waiting:
                break
            await asyncio.sleep(0.1)
        assert not waiting, waiting
        sent = await self.house.sim.http.get("/_sim/state")
        transfers = [one for one in sent.json()["transfers"] if one["status"] == "SUCCESSFUL"]
        ours = await self.house.box.rows("SELECT id::text AS id, amount FROM payout")
        assert sorted((one["reference"], round(float(one["amount"]))) for one in transfers) == sorted(
            (row["id"], row["amount"]) for row in ours
        )
        for wrong in (WRONG_LINES, WRONG_TOTALS, WRONG_BALANCES):
            assert await self.house.box.rows(wrong) == []

    async def _leave(self, trip: UUID) -> None:
        """Everybody has boarded two hours ago."""
        then = "kiti_now() - interval '2 hours'"
        calls = f"departs_at = {then} + seq * interval '1 minute', arrives_at = {then} + seq * interval '1 minute'"
        await self.house.box.rows(f"UPDATE trip_stop SET {calls} WHERE trip_id = %s", trip)
        await self.house.box.rows(f"UPDATE trip SET departs_at = {then} WHERE id = %s", trip)

    async def _is_for_a_person(self, unfinished: JsonObject) -> bool:
        """A refund that failed is tried again by hand; one of more than the gateway says it took stays with them.

        It can only be one of money about whose amount the gateway has lied.
        """
        if unfinished["what"] != "refund needs_attention":
            return False
        refund = await retry_refund(self.market.house, unfinished["id"])
        if refund.state != "needs_attention":
            return False
        known = {
            str(transaction["id"]): round(float(transaction["amount"]))
            for bought in self.bought
            for payment in bought.payments
            for transaction in await self._transactions(payment)
        }
        asked = await self.house.box.value(
            "SELECT refund_reserved FROM charge WHERE transaction_id = %s", refund.transaction_id
        )
        return bool(asked > known[refund.transaction_id])

    async def _unfinished(self) -> list[JsonObject]:
        """What has no end yet, of this example."""
        return await self.house.box.rows(
            "SELECT id, 'refund ' || state AS what FROM refund WHERE booking_id = ANY(%s) AND state <> 'succeeded'"
            " UNION ALL SELECT id, 'payment ' || state FROM payment"
            " WHERE booking_id = ANY(%s) AND state IN ('submitting', 'unknown')"
            " UNION ALL SELECT tx.id, 'unheard ' || tx.reference"
            " FROM unnest(%s::uuid[], %s::text[]) AS tx (id, reference)"
            " INNER JOIN payment ON payment.id = tx.id AND payment.state <> 'review' WHERE NOT EXISTS"
            " (SELECT FROM charge WHERE charge.payment_id = tx.id AND charge.transaction_id = tx.reference)",
            self._ids(),
            self._ids(),
            *await self._taken(),
        )

    async def _compare(self) -> None:
        taken = [t for bought in self.bought for p in bought.payments for t in await self._transactions(p)]
        breaks = {
            row["transaction_id"]
            for row in await self.house.box.rows(
                "SELECT transaction_id FROM reconciliation_break WHERE resolved_at IS NULL"
            )
        }
        for bought in self.bought:
            await self._every_charge_has_one_end(bought)
            await self._nobody_got_more_than_they_paid(bought, breaks)
        await self._gateway_and_books_agree(taken, breaks)
        async with self.house.box.db.pool.connection() as connection:
            found = await broken(connection, evidence([], []))
        # A person has the money of payments in review; a cancelled booking's money and tickets went another way.
        for excused in (
            "other money goes back to the last coin",
            "money has bought every seat of the booking a ticket",
        ):
            found.pop(excused, None)
        assert not found, found
        findings = [finding for finding in await examine(self.market.house) if finding.check not in {"jobs", "money"}]
        assert all(finding.ok for finding in findings), findings

    async def _every_charge_has_one_end(self, bought: Bought) -> None:
        """A ticket, a refund, or a person."""
        rows = await self.house.box.rows(
            "SELECT charge.transaction_id, charge.purpose, charge.amount, payment.state, booking.state AS booking,"
            " (SELECT coalesce(sum(amount), 0) FROM refund WHERE refund.booking_id = charge.booking_id"
            " AND refund.transaction_id = charge.transaction_id AND refund.state = 'succeeded')::bigint AS back,"
            " EXISTS (SELECT FROM refund WHERE refund.booking_id = charge.booking_id"
            " AND refund.transaction_id = charge.transaction_id AND refund.state = 'needs_attention') AS failed,"
            " (SELECT count(*) FROM ticket WHERE ticket.booking_id = charge.booking_id AND state = 'valid') AS tickets,"
            " (SELECT count(*) FROM booking_seat AS line WHERE line.booking_id = charge.booking_id) AS seats"
            " FROM charge INNER JOIN payment ON payment.booking_id = charge.booking_id"
            " AND payment.id = charge.payment_id"
            " INNER JOIN booking ON booking.id = charge.booking_id WHERE charge.booking_id = %s",
            bought.id,
        )
        for row in rows:
            assert row["back"] <= row["amount"], row
            if row["purpose"] == "fulfils":
                cancelled = await self._is_cancelled(bought)
                assert row["booking"] in {"confirmed", "completed"} or cancelled, row
                assert row["tickets"] == row["seats"] or cancelled, row
            else:
                waits = (row["state"] == "review" or row["failed"]) and row["back"] < row["amount"]
                assert waits or row["back"] == row["amount"], row

    async def _is_cancelled(self, bought: Bought) -> bool:
        given_up = await self.house.box.value(
            "SELECT (SELECT state = 'cancelled' FROM booking WHERE id = %s)"
            " OR EXISTS (SELECT FROM trip_refund WHERE booking_id = %s)",
            bought.id,
            bought.id,
        )
        return bool(given_up)

    async def _nobody_got_more_than_they_paid(self, bought: Bought, breaks: set[str]) -> None:
        """By the gateway's own books, and ours tell the same."""
        for payment in bought.payments:
            state = await self.house.sim.state(payment)
            for transaction in state["transactions"]:
                if str(transaction["id"]) in breaks:
                    continue
                theirs = [r for r in state["refunds"] if r["tx_id"] == transaction["id"] and _is_paid_out(r)]
                back = sum(round(float(refund["amount_refunded"])) for refund in theirs)
                assert back <= round(float(transaction["amount"])), (transaction, theirs)
                ours = await self.house.box.value(
                    "SELECT coalesce(sum(amount), 0)::bigint FROM refund"
                    " WHERE transaction_id = %s AND state = 'succeeded'",
                    str(transaction["id"]),
                )
                assert back == ours, (transaction, theirs)

    async def _gateway_and_books_agree(self, taken: list[JsonObject], breaks: set[str]) -> None:
        """To the minor unit, or the difference has been found and has a name."""
        for transaction in taken:
            name = str(transaction["id"])
            gross = await self.house.box.rows(
                "SELECT coalesce(sum(amount) FILTER (WHERE debit LIKE 'gateway_clearing:%%'), 0)::bigint AS taken,"
                " min(currency) AS currency"
                " FROM transfer WHERE event = %s",
                f"capture:flutterwave:{name}",
            )
            is_same = (gross[0]["taken"], gross[0]["currency"]) == (
                round(float(transaction["amount"])),
                transaction["currency"],
            )
            assert is_same or name in breaks, (transaction, gross)

    # ---------------------------------------------------------------- words

    def _picked(self, pick: int) -> Bought:
        return self.bought[pick % len(self.bought)]

    def _ids(self) -> list[UUID]:
        return [UUID(bought.id) for bought in self.bought]

    def _staff(self, path: str, body: JsonObject) -> None:
        answer = self.run(self.house.api.post(path, json=body, headers=self.market.staff))
        if answer.status_code == 401:
            self.market.staff = self.run(staff_headers(self.house, "platform_finance"))
            answer = self.run(self.house.api.post(path, json=body, headers=self.market.staff))
        assert answer.status_code in {200, 202, 409, 422, 504}, answer.text

    async def _pay(self, bought: Bought, action: str, **options: Any) -> None:
        answer = await self.house.ask_to_pay(bought.booking)
        assert answer.status_code in {200, 201, 402, 409, 502, 503, 504}, answer.text
        if answer.status_code in {200, 201}:
            payment = answer.json()
            if all(known["paymentId"] != payment["paymentId"] for known in bought.payments):
                bought.payments.append(payment)
            # The page may have been paid on before, or be closed: the gateway says so, and that is an answer.
            await self.house.sim.http.post("/_sim/pay", json=_press(payment, action, **options))

    async def _cancel(self, bought: Bought, **part: Any) -> None:
        path = f"/api/bookings/{bought.id}/cancel"
        answer = await self.house.api.post(path, json=part, headers=holder(bought.booking))
        assert answer.status_code in {200, 409, 422}, answer.text

    async def _poll(self) -> None:
        """Also about attempts of which a killed server never told their payer."""
        due = "UPDATE payment SET poll_after = kiti_now() WHERE poll_after IS NOT NULL AND booking_id = ANY(%s)"
        await self.house.box.rows(due, self._ids())
        await self.house.job("poll-payments")

    async def _crash(self, bought: Bought, action: str, *, ends: bool, after_seconds: float) -> None:
        """Much is under way; then the server is gone, and comes back."""
        under_way = [self._pay(bought, action), self._poll(), self.house.follow_refunds()]
        if ends:
            under_way.append(self._cancel(random.Random(len(self.bought)).choice(self.bought)))
        tasks = [asyncio.ensure_future(work) for work in under_way]
        await asyncio.sleep(after_seconds)
        self.house.kill9()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, BaseException) and not isinstance(ended, httpx.TransportError):
                raise ended
        await self.house.restart()

    async def _transactions(self, payment: JsonObject) -> list[JsonObject]:
        found = (await self.house.sim.state(payment))["transactions"]
        return [transaction for transaction in found if transaction["status"] == "successful"]

    async def _taken(self) -> tuple[list[UUID], list[str]]:
        """Payments and transactions for which the gateway has money."""
        pairs = [
            (UUID(payment["paymentId"]), str(transaction["id"]))
            for bought in self.bought
            for payment in bought.payments
            for transaction in await self._transactions(payment)
        ]
        return [payment for payment, _ in pairs], [transaction for _, transaction in pairs]


def _press(payment: JsonObject, action: str, **options: Any) -> JsonObject:
    return {"tx_ref": payment["paymentId"], "action": action, **options}


def _is_paid_out(refund: JsonObject) -> bool:
    return str(refund["status"]).startswith("completed-")


@pytest.fixture
def market(fresh_url: str, tmp_path: Path) -> Iterator[Market]:
    there = Market(fresh_url, tmp_path / "house")
    yield there
    there.close()


@pytest.mark.timeout(600 * TIMES)
def test_every_unit_of_money_has_one_place_in_the_end(market: Market) -> None:
    class MoneyHere(Money):
        pass

    MoneyHere.market = market
    run_state_machine_as_test(
        MoneyHere,
        settings=settings(
            max_examples=examples(EXAMPLES),
            stateful_step_count=STEPS,
            deadline=timedelta(seconds=60),
            # Making a failure small takes longer than understanding it: each step is a call, a crash two seconds.
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
