"""Operators are paid once: whatever becomes of the answer, of the process that asked, and of the money afterwards."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from tests.earnings import BANK, Earnings, open_earnings, somebody
from tests.network import STANDARD_UGX
from tests.paying_bank import Act, Bank, BankGateway, open_bank

from kiti.core.errors import InvalidInput, NotAllowed
from kiti.flows.house import House
from kiti.flows.payouts import look_again, process_payout, request_payout
from kiti.flows.settlements import approve
from kiti.flows.upkeep import payouts
from kiti.settlements.actions import SettlementChanged

ROOT = Path(__file__).parents[2]
APPROVER, PAYER = somebody(number=2), somebody(number=3)
MONTH_SECONDS = 32 * 86_400
DAY_SECONDS = 86_400


class Desk:
    """Earnings of one operator, a bank, and an approved statement to be paid."""

    def __init__(self, earnings: Earnings, bank: Bank, settlement: UUID) -> None:
        self.earnings = earnings
        self.bank = bank
        self.settlement = settlement
        gateways: dict[str, Any] = {"bank": BankGateway(bank.port)}
        self.house: House = msgspec.structs.replace(earnings.house, gateways=gateways)

    async def request(self) -> UUID:
        return await request_payout(self.house, settlement=self.settlement, staff=PAYER)

    async def go_on(self, times: int = 1, *, seconds: float = 120) -> None:
        """Let time pass, and do what is due; so many times."""
        for _ in range(times):
            tally = await payouts(self.house)
            assert tally.failed == 0
            await self.earnings.box.travel(seconds=seconds)
            await payouts(self.house)

    async def states(self) -> tuple[str, list[str]]:
        """Of the statement, and of its payouts."""
        state = await self.earnings.box.value("SELECT state FROM settlement WHERE id = %s", self.settlement)
        rows = await self.earnings.box.rows("SELECT state FROM payout ORDER BY id")
        return state, [row["state"] for row in rows]

    async def is_paid_once(self) -> None:
        assert (await self.states())[0] in {"paid", "reconciled"}
        assert [sent["amount"] for sent in self.bank.sent.values()] == [STANDARD_UGX]
        assert await self.earnings.balance(f"operator_payable:{self.earnings.pearl}") == 0
        assert await self.earnings.balance("payout_in_transit:bank") == 0
        assert await self.earnings.balance("bank:bank") == STANDARD_UGX + 250
        await self.earnings.statements_equal_the_ledger()


@pytest.fixture
async def desk(fresh_url: str) -> AsyncIterator[Desk]:
    async with open_earnings(fresh_url) as earnings, open_bank() as bank:
        await earnings.terms(earnings.pearl)
        trip = earnings.network.bus()
        await earnings.buy(trip, "1A")
        await earnings.after(trip)
        await earnings.recognise()
        await earnings.box.travel(seconds=MONTH_SECONDS)
        (made,) = await earnings.settle()
        await approve(earnings.house, settlement=made["id"], staff=APPROVER)
        yield Desk(earnings, bank, made["id"])


async def test_an_approved_statement_is_paid_and_a_day_later_reconciled(desk: Desk) -> None:
    await desk.request()
    assert await desk.earnings.balance("payout_in_transit:bank") == STANDARD_UGX
    await desk.go_on()
    await desk.is_paid_once()
    assert await desk.states() == ("paid", ["succeeded"])
    (sent,) = desk.bank.sent.values()
    assert sent["account"] == BANK.account
    await desk.go_on(seconds=DAY_SECONDS)
    assert await desk.states() == ("reconciled", ["reconciled"])
    await desk.is_paid_once()
    assert await desk.earnings.box.value("SELECT count(*) FROM payout WHERE act_after IS NOT NULL") == 0


async def test_whoever_approved_cannot_have_it_paid_nor_can_an_operator(desk: Desk) -> None:
    for staff in (APPROVER, somebody("operator_finance"), somebody("operator_staff")):
        with pytest.raises(NotAllowed):
            await request_payout(desk.house, settlement=desk.settlement, staff=staff)
    assert await desk.states() == ("approved", [])


async def test_terms_that_change_after_the_approval_do_not_redirect_the_money(desk: Desk) -> None:
    await desk.earnings.box.rows("UPDATE settlement_terms SET account = 'elsewhere'")
    await desk.request()
    await desk.go_on()
    (sent,) = desk.bank.sent.values()
    assert sent["account"] == BANK.account


async def test_only_one_of_many_who_ask_at_once_has_it_paid(desk: Desk) -> None:
    results = await asyncio.gather(*(desk.request() for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, UUID) for result in results) == 1
    assert all(isinstance(result, UUID | SettlementChanged) for result in results)
    await desk.go_on()
    await desk.is_paid_once()


async def test_the_database_refuses_a_second_payout_of_a_statement(desk: Desk) -> None:
    await desk.request()
    with pytest.raises(psycopg.errors.UniqueViolation):
        await desk.earnings.box.rows(
            "INSERT INTO payout SELECT gen_random_uuid(), settlement_id, operator_id, gateway, kind, country, bank,"
            " account, account_name, amount, currency, 'requested', 0, NULL, NULL, NULL, requested_by, created_at, NULL"
            " FROM payout"
        )


async def test_two_workers_at_once_pay_once(desk: Desk) -> None:
    desk.bank.delay_seconds = 0.2
    await desk.request()
    await asyncio.gather(*(payouts(desk.house) for _ in range(4)))
    assert list(desk.bank.asked.values()) == [1]
    await desk.go_on()
    await desk.is_paid_once()


@pytest.mark.parametrize(
    "acts",
    [
        ["lose answer"],
        ["lose request"],
        ["lose request", "lose request", "lose answer"],
        ["lose request", "refuse"],
    ],
    ids=" then ".join,
)
async def test_an_answer_that_was_lost_is_looked_up_before_anybody_asks_again(desk: Desk, acts: list[Act]) -> None:
    desk.bank.plan(*acts)
    await desk.request()
    await desk.go_on(len(acts) + 1)
    await desk.is_paid_once()


async def test_while_the_first_request_may_be_under_way_nobody_asks_again(desk: Desk) -> None:
    desk.bank.plan("lose request")
    payout = await desk.request()
    for _ in range(3):
        await process_payout(desk.house, payout)
    assert list(desk.bank.asked.values()) == [1]
    await desk.go_on(2)
    await desk.is_paid_once()


async def test_a_bank_that_never_takes_it_is_asked_a_bounded_number_of_times(desk: Desk) -> None:
    never: list[Act] = ["lose request"]
    desk.bank.plan(*never * 20)
    payout = await desk.request()
    await desk.go_on(8)
    assert await desk.states() == ("paying", ["needs_attention"])
    assert list(desk.bank.asked.values()) == [5]
    assert await desk.earnings.balance("payout_in_transit:bank") == STANDARD_UGX
    with pytest.raises(NotAllowed):
        await look_again(desk.house, payout=payout, staff=somebody("operator_finance"))
    await look_again(desk.house, payout=payout, staff=PAYER)
    assert await desk.states() == ("failed", ["failed"])
    assert await desk.earnings.balance(f"operator_payable:{desk.earnings.pearl}") == STANDARD_UGX


async def test_what_the_bank_refuses_is_owed_again_and_may_be_paid_once_more(desk: Desk) -> None:
    desk.bank.plan("refuse")
    await desk.request()
    await desk.go_on()
    assert await desk.states() == ("failed", ["failed"])
    assert await desk.earnings.balance("payout_in_transit:bank") == 0
    await desk.earnings.statements_equal_the_ledger()
    await desk.request()
    await desk.go_on()
    assert (await desk.states())[1] == ["failed", "succeeded"]
    await desk.is_paid_once()


async def test_money_that_the_operators_bank_sends_back_is_owed_again(desk: Desk) -> None:
    await desk.request()
    await desk.go_on()
    desk.bank.status = "failed"
    await desk.go_on(seconds=DAY_SECONDS)
    assert await desk.states() == ("failed", ["failed"])
    assert await desk.earnings.balance(f"operator_payable:{desk.earnings.pearl}") == STANDARD_UGX
    assert await desk.earnings.balance("bank:bank") == 250
    await desk.earnings.statements_equal_the_ledger()


async def test_a_payout_that_takes_its_time_is_followed(desk: Desk) -> None:
    desk.bank.status = "pending"
    await desk.request()
    await desk.go_on(2)
    assert await desk.states() == ("paying", ["pending"])
    desk.bank.is_silent = True
    await desk.go_on(2, seconds=3700)
    desk.bank.is_silent = False
    desk.bank.status = "succeeded"
    await desk.go_on(seconds=3700)
    await desk.is_paid_once()


async def test_another_amount_than_was_asked_for_is_for_a_person(desk: Desk) -> None:
    payout = await desk.request()
    desk.bank.sent[str(payout)] = {"id": "T9", "reference": str(payout), "amount": 1, "account": "x"}
    desk.bank.plan("lose request")
    await desk.go_on(2)
    assert await desk.states() == ("paying", ["needs_attention"])


async def test_a_gateway_that_sends_no_money_is_said_so_before_anything_happens(desk: Desk) -> None:
    sends_none: dict[str, Any] = {"bank": object()}
    house = msgspec.structs.replace(desk.house, gateways=sends_none)
    with pytest.raises(InvalidInput):
        await request_payout(house, settlement=desk.settlement, staff=PAYER)
    assert await desk.states() == ("approved", [])


async def work(desk: Desk, url: str) -> int:
    """A worker of its own makes one pass; how it ended."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.payout_worker", url, str(desk.bank.port), cwd=ROOT
    )
    return await worker.wait()


@pytest.mark.parametrize("acts", [["kill before"], ["kill after"], ["kill before", "kill after"]], ids=" then ".join)
async def test_a_worker_that_is_killed_while_it_pays_leaves_it_to_the_next_one(
    desk: Desk, fresh_url: str, acts: list[Act]
) -> None:
    desk.bank.plan(*acts)
    await desk.request()
    for _ in acts:
        assert await work(desk, fresh_url) == -9
        assert (await desk.states())[1] == ["submitting"]
        await desk.earnings.box.travel(seconds=61)
    await asyncio.gather(payouts(desk.house), payouts(desk.house))
    await desk.go_on()
    await desk.is_paid_once()


async def test_two_processes_at_once_pay_once(desk: Desk, fresh_url: str) -> None:
    desk.bank.delay_seconds = 0.5
    await desk.request()
    assert list(await asyncio.gather(work(desk, fresh_url), work(desk, fresh_url))) == [0, 0]
    assert list(desk.bank.asked.values()) == [1]
    await desk.go_on()
    await desk.is_paid_once()
