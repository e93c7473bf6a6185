"""Money that cannot be lost: travellers, staff, banks and operators do what they like, gateways lose, delay, repeat,
reorder and lie, our server is killed at random, buses leave, operators are paid, and in the end every unit has one
place.

A state machine drives the running product over HTTP; each booking is paid through another gateway. Nothing is asserted
while it is in motion but that no answer is a bug of ours (500); once the gateways behave again and time has passed,
their books, charges, refunds, disputes, bookings, statements and the ledger are compared to the minor unit.

`KITI_EXAMPLES=100 pytest tests/property/test_market.py` hunts for as long as it takes.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx
import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from tests import money_audit as audit
from tests.earnings import somebody
from tests.examples import examples
from tests.house import JsonObject, RunningHouse
from tests.market import CALLS, GATEWAY_FAULTS, WAYS, WEBHOOK_FAULTS, Bought, Market
from tests.stage import OnStage, play

from kiti.flows.cancel_trip import cancel_trip
from kiti.flows.payouts import request_payout
from kiti.flows.reconcile import reconcile
from kiti.flows.refunds import retry_refund
from kiti.flows.settlements import list_settlements
from kiti.network.actions import TripNotScheduled
from kiti.payments.actions import PaymentChanged

pytestmark = pytest.mark.storm

EXAMPLES = examples(5)
STEPS = 28
# A server that starts again takes more of the machine than all else in an example.
MOST_CRASHES = 1
MOST_NIGHTS = 1
# A step that waits is one that something kept from its end for good.
ROUNDS_UNTIL_CALM = 80
NIGHTS_APART = 10

JOBS = (
    "expire-seats",
    "poll-payments",
    "reconcile-payments",
    "refund-cancelled-trips",
    "process-refunds",
    "poll-disputes",
    "payouts",
)

picks = st.integers(0, 99)
ways = st.sampled_from(sorted(WAYS))


class Money(OnStage[Market]):
    """One example: a fresh bus and another operator's shuttle that are paid in UGX, alone or as one journey, a bus of
    theirs that is paid in KES, and whatever happens on them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trips = self.run(self.stage.fresh_trips())
        self.bought: list[Bought] = []
        self.crashes = 0
        self.nights = 0

    @property
    def there(self) -> RunningHouse:
        return self.stage.there

    # ---------------------------------------------------------------- travellers

    @initialize(first=ways, second=ways, excess=st.sampled_from([None, 500_000]))
    def two_have_paid(self, first: str, second: str, excess: int | None) -> None:
        """One for a journey with two operators, perhaps too much."""
        self.reserve([0, 1], 2, first)
        self.run(self.stage.pay(self.bought[-1], "pay", **({} if excess is None else {"amount": excess})))
        self.reserve([2], 2, second)
        self.run(self.stage.pay(self.bought[-1], "pay"))

    @rule(trips=st.sampled_from([[0], [0, 1], [0, 1], [1], [2]]), seats=st.integers(1, 3), way=ways)
    def reserve(self, trips: list[int], seats: int, way: str) -> None:
        answer = self.run(self.stage.ask_for([self.trips[trip] for trip in trips], seats))
        assert answer.status_code in {201, 409}, answer.text
        if answer.status_code == 201:
            self.bought.append(Bought(answer.json(), WAYS[way]))

    @precondition(lambda self: self.bought)
    @rule(
        pick=picks,
        action=st.sampled_from(["pay", "pay", "pay", "pay-twice", "decline", "say-nothing", "pay-late"]),
    )
    def pay(self, pick: int, action: str) -> None:
        self.run(self.stage.pay(self._picked(pick), action))

    @precondition(lambda self: self.bought)
    @rule(pick=picks, amount=st.sampled_from([1, 25_000, 500_000]))
    def pay_another_amount(self, pick: int, amount: int) -> None:
        self.run(self.stage.pay(self._picked(pick), "pay", amount=amount))

    @precondition(lambda self: self.bought)
    @rule(pick=picks)
    def pay_on_an_old_page(self, pick: int) -> None:
        for attempt in self.run(self.stage.attempts(self._picked(pick)))[:1]:
            self.run(self.stage.press(attempt, "pay", force=True))

    @precondition(lambda self: self.bought)
    @rule(pick=picks, seat=st.one_of(st.none(), picks))
    def cancel(self, pick: int, seat: int | None) -> None:
        """All of it, or one seat."""
        bought = self._picked(pick)
        if seat is None:
            self.run(self.stage.cancel(bought))
        else:
            trip, number = bought.seats[seat % len(bought.seats)]
            self.run(self.stage.cancel(bought, seats=[{"tripId": str(trip), "seatNumber": number}]))

    @precondition(lambda self: self.bought)
    @rule(pick=picks)
    def the_hold_runs_out(self, pick: int) -> None:
        self.run(self.stage.let_hold_run_out(self._picked(pick)))

    # ---------------------------------------------------------------- staff and operators

    @precondition(lambda self: self.bought)
    @rule(pick=picks, percent=st.sampled_from([10, 50, 100, None]))
    def staff_refund(self, pick: int, percent: int | None) -> None:
        """A part of the price, or what was paid beyond it."""
        bought = self._picked(pick)
        what = {"excess": True} if percent is None else {"amount": bought.booking["amount"] * percent // 100}
        self._as_staff(bought, "refund", {"reason": "There was no air.", **what})

    @precondition(lambda self: self.bought)
    @rule(pick=picks, action=st.sampled_from(["accept", "refund", "ask"]))
    def a_person_decides(self, pick: int, action: str) -> None:
        self._as_staff(self._picked(pick), "review", {"action": action, "reason": "They called us."})

    @precondition(lambda self: self.bought)
    @rule(pick=picks)
    def somebody_corrects_the_books(self, pick: int) -> None:
        self.run(self.stage.correct(self._picked(pick)))

    @rule(trip=st.integers(0, 2), how=st.sampled_from(["leaves", "is cancelled", "", ""]))
    def a_trip_ends(self, trip: int, how: str) -> None:
        chosen = self.trips[trip]
        if how == "leaves":
            self.run(self.stage.leave(chosen))
        if how == "is cancelled":
            with contextlib.suppress(TripNotScheduled):
                self.run(cancel_trip(self.stage.house, trip=chosen, reason="A breakdown.", actor="test"))

    @precondition(lambda self: self.nights < MOST_NIGHTS)
    @rule(dice=st.integers(0, 2))
    def a_day_ends_and_operators_are_paid(self, dice: int) -> None:
        if dice == 0:
            self.nights += 1
            self.run(self.stage.end_day())
            self.run(self.there.job("payouts"))

    # ---------------------------------------------------------------- banks

    @precondition(lambda self: self.bought)
    @rule(pick=picks, part=st.sampled_from([None, 3]), is_heard=st.booleans())
    def a_bank_wants_money_back(self, pick: int, part: int | None, is_heard: bool) -> None:  # noqa: FBT001
        self.run(self._dispute(self._picked(pick), part))
        if is_heard:
            self.run(self.there.job("poll-disputes"))

    @rule(how=st.sampled_from(["won", "lost", "accept", "contest"]))
    def a_dispute_goes_on(self, how: Literal["won", "lost", "accept", "contest"]) -> None:
        """The bank decides, or staff answer it."""
        for dispute in self.run(self._open_disputes())[:1]:
            match how:
                case "accept" | "contest":
                    self.run(self.stage.answer(dispute, how))
                case "won" | "lost":
                    self.run(self.stage.decide(dispute, how))

    @rule()
    def a_gateway_settles(self) -> None:
        self.run(self._settle())

    # ---------------------------------------------------------------- the world

    @rule(fault=st.sampled_from(GATEWAY_FAULTS), call=st.sampled_from(CALLS))
    def a_gateway_goes_wrong(self, fault: JsonObject, call: str) -> None:
        narrow = "lie" in fault or "not_found" in fault
        self.run(self.there.sim.api_fault(match="*" if narrow else call, times=1, **fault))

    @rule(fault=st.sampled_from(WEBHOOK_FAULTS))
    def webhooks_go_wrong(self, fault: JsonObject) -> None:
        self.run(self.there.sim.webhook_fault(times=2, **fault))

    @precondition(lambda self: self.bought)
    @rule(pick=picks)
    def an_old_webhook_comes_again(self, pick: int) -> None:
        self.run(self._replay(self._picked(pick)))

    @rule(outcome=st.sampled_from(["paid", "paid", "failed"]))
    def refunds_end(self, outcome: str) -> None:
        self.run(self.there.sim.config(refund_outcome=outcome))

    @rule(name=st.sampled_from(JOBS))
    def a_job_runs(self, name: str) -> None:
        self.run(self._poll() if name == "poll-payments" else self.there.job(name))

    @precondition(lambda self: self.bought and self.crashes < MOST_CRASHES)
    @rule(
        pick=picks,
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
            self.run(self._pay_the_operators())
            self.run(self._compare())
            self.run(audit.nothing_is_owed_for_journeys_that_are_over(self.there, self._ids()))
        finally:
            self.run(self.there.sim.behave())

    async def _settle_down(self) -> None:
        """The gateways behave, time passes, people who look after failed refunds do so."""
        await self.there.sim.behave()
        await self.there.sim.config(refund_outcome="paid")
        await self.there.revive_jobs()
        # After two minutes of "unknown there" a request has never arrived.
        await self.there.box.rows(
            "UPDATE payment SET created_at = created_at - interval '3 minutes'"
            " WHERE booking_id = ANY(%s) AND state IN ('submitting', 'unknown')",
            self._ids(),
        )
        waiting: list[str] = []
        for turn in range(ROUNDS_UNTIL_CALM):
            await self._poll()
            await self.there.job("refund-cancelled-trips")
            if turn % NIGHTS_APART == 0:
                # What a gateway called pending, or did not answer about, and never told of again is found in its lists.
                await self.there.job("reconcile-payments")
                await self.there.job("poll-disputes")
            await self.stage.hand_out_cash(self._ids())
            await self.there.follow_refunds()
            waiting = await self._unfinished()
            if not waiting:
                break
            await asyncio.sleep(0.1)
        assert not waiting, waiting
        await self.there.queue_is_empty()
        await self._settle()
        await reconcile(self.stage.house)
        await self.there.follow_refunds()

    async def _unfinished(self) -> list[str]:
        """What has no end yet, of this example."""
        waiting = [
            f"payment {row['id']} {row['state']}"
            for row in await self.there.box.rows(
                "SELECT id, state FROM payment"
                " WHERE booking_id = ANY(%s) AND state IN ('submitting', 'unknown', 'authorised')",
                self._ids(),
            )
        ]
        refunds = await self.there.box.rows(
            "SELECT id, state, failure_reason FROM refund WHERE booking_id = ANY(%s) AND state <> 'succeeded'",
            self._ids(),
        )
        waiting += [
            f"refund {row['id']} {row['state']} {row['failure_reason']}"
            for row in refunds
            if not await self._is_for_a_person(row)
        ]
        return waiting or await audit.unheard_of(self.there, self._ids())

    async def _is_for_a_person(self, unfinished: JsonObject) -> bool:
        """A refund that failed is tried again by hand; one of more than the gateway says it took stays with them.

        It can only be one of money about whose amount the gateway has lied.
        """
        if unfinished["state"] != "needs_attention":
            return False
        try:
            refund = await retry_refund(self.stage.house, unfinished["id"])
        except PaymentChanged:
            return False  # the worker was quicker
        if refund.state not in {"failed", "needs_attention"}:
            return False
        found = await audit.audit_of(self.there, [refund.booking_id])
        return refund.transaction_id in found.lies

    async def _compare(self) -> None:
        found = await audit.audit_of(self.there, self._ids())
        audit.gateways_tell_the_same(found)
        audit.every_charge_has_one_end(found)
        audit.nobody_got_more_than_they_paid(found)
        await audit.sums_are_the_same(self.there, found, self._ids())
        await audit.settled_leaves_nothing(self.there, found)
        await audit.promises_are_kept(self.there, self.stage.house)

    async def _pay_the_operators(self) -> None:
        """The buses leave, the day ends, two people have operators paid, the server dies; they are paid once."""
        for trip in self.trips:
            await self.stage.leave(trip)
        await self.stage.end_day()
        if self.crashes < MOST_CRASHES:
            paying = asyncio.ensure_future(self.there.job("payouts"))
            await asyncio.sleep(0.02)
            self.there.kill9()
            await asyncio.gather(paying, return_exceptions=True)
            await self.there.restart()
        waiting: list[JsonObject] = []
        for _ in range(ROUNDS_UNTIL_CALM):
            page = await list_settlements(self.stage.house, staff=somebody(number=3), state="failed")
            for failed in page.settlements:
                await request_payout(self.stage.house, settlement=failed.id, staff=somebody(number=3))
            await self.there.box.rows("UPDATE payout SET act_after = kiti_now() WHERE act_after IS NOT NULL")
            await self.there.job("payouts")
            waiting = await self.there.box.rows(
                "SELECT id, state FROM payout WHERE state NOT IN ('succeeded', 'reconciled', 'failed')"
                " UNION ALL SELECT id, state FROM settlement WHERE state IN ('approved', 'paying', 'failed')"
            )
            if not waiting:
                break
            await asyncio.sleep(0.1)
        assert not waiting, waiting

    # ---------------------------------------------------------------- words

    def _picked(self, pick: int) -> Bought:
        return self.bought[pick % len(self.bought)]

    def _ids(self) -> list[UUID]:
        return [UUID(bought.id) for bought in self.bought]

    def _as_staff(self, bought: Bought, verb: str, body: JsonObject) -> None:
        """About the newest attempt of a booking, if there is one."""
        for attempt in self.run(self.stage.attempts(bought))[-1:]:
            self.run(self.stage.as_staff(f"/api/payments/{attempt['id']}/{verb}", body))

    async def _poll(self) -> None:
        """Also about attempts of which a killed server never told their payer."""
        due = "UPDATE payment SET poll_after = kiti_now() WHERE poll_after IS NOT NULL AND booking_id = ANY(%s)"
        await self.there.box.rows(due, self._ids())
        await self.there.job("poll-payments")

    async def _settle(self) -> None:
        """A gateway pays into the bank; `reconcile-payments` is how we hear of it."""
        (await self.there.sim.http.post("/_sim/settle", json={})).raise_for_status()

    async def _dispute(self, bought: Bought, part: int | None) -> None:
        """About money that is written down."""
        charges = await self.there.box.rows(
            "SELECT payment_id::text AS id, charge.gateway, charge.transaction_id FROM charge"
            " WHERE charge.booking_id = %s"
            " AND charge.gateway IN ('flutterwave', 'stripe') AND NOT EXISTS (SELECT FROM dispute"
            " WHERE dispute.booking_id = charge.booking_id AND dispute.transaction_id = charge.transaction_id)",
            bought.id,
        )
        for charge in charges[:1]:
            await self.stage.dispute(charge, charge["transaction_id"], part=part)

    async def _open_disputes(self) -> list[JsonObject]:
        return await self.there.box.rows(
            "SELECT id, gateway, dispute_id FROM dispute WHERE booking_id = ANY(%s) AND state = 'open' ORDER BY id",
            self._ids(),
        )

    async def _replay(self, bought: Bought) -> None:
        charges = await self.there.box.rows(
            "SELECT gateway, transaction_id FROM charge WHERE booking_id = %s AND gateway <> 'cash'", bought.id
        )
        for charge in charges:
            transaction: Any = charge["transaction_id"].removeprefix("chg_")
            await self.there.sim.replay(transaction if charge["gateway"] == "stripe" else int(transaction), copies=2)

    async def _crash(self, bought: Bought, action: str, *, ends: bool, after_seconds: float) -> None:
        """Much is under way; then the server is gone, and comes back."""
        under_way: list[Any] = [self.stage.pay(bought, action), self._poll(), self.there.follow_refunds()]
        under_way.append(self.there.job("payouts"))
        if ends:
            given_up = random.Random(len(self.bought)).choice(self.bought)
            under_way.append(self.stage.cancel(given_up))
        tasks = [asyncio.ensure_future(work) for work in under_way]
        await asyncio.sleep(after_seconds)
        self.there.kill9()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, BaseException) and not isinstance(ended, httpx.TransportError):
                raise ended
        await self.there.restart()


@pytest.fixture
def market(fresh_url: str, tmp_path: Path) -> Iterator[Market]:
    there = Market(fresh_url, tmp_path / "house")
    yield there
    there.close()


@pytest.mark.timeout(600 + 60 * EXAMPLES)
def test_every_unit_of_money_has_one_place_in_the_end(market: Market) -> None:
    play(
        Money,
        on=market,
        examples=EXAMPLES,
        steps=STEPS,
        deadline_seconds=300,
        # Making a failure small takes longer than understanding it: each step is a call, a crash two seconds.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    market.run(audit.nothing_is_unheard_of(market.there))
    market.run(audit.payouts_are_the_same(market.there))
    market.run(audit.banks_have_what_was_settled(market.there))
