"""A market for tests that let money go every way: the running house, its gateway's faults, its operators' terms."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import msgspec

from kiti.app import open_house
from kiti.core.settings import load
from kiti.flows.house import House
from kiti.flows.settlements import set_terms
from kiti.gateways.gateway import Destination
from kiti.settlements.model import Terms
from tests.earnings import somebody
from tests.house import JsonObject, RunningHouse
from tests.staff import staff_headers

T = TypeVar("T")

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
WEBHOOK_FAULTS: list[JsonObject] = [
    {"drop": True},
    {"duplicate": 4},
    {"delay_ms": 250},
    {"reorder": 3, "hold_seconds": 0.4},
    {"lie": {"status": "successful"}},
    {"lie": {"amount": 5.0}},
    {"shape": "legacy"},
]


class Bought(msgspec.Struct):
    """A booking as its buyer knows it, and every attempt to pay for it."""

    booking: JsonObject
    payments: list[JsonObject] = []

    @property
    def id(self) -> str:
        return str(self.booking["bookingId"])


class Market:
    """The running house in a loop of its own, and a second composition for what operators do on the command line."""

    def __init__(self, url: str, logs: Path) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.there = RunningHouse(url, logs)
        self.run(self.there.start())
        self.staff = self.run(staff_headers(self.there, "platform_finance"))
        self.house: House = self.run(
            self.stack.enter_async_context(open_house(load({**self.there.environment, "DATABASE_URL": url})))
        )

        self.run(self._settle_daily())

    def run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    async def _settle_daily(self) -> None:
        account = Destination(kind="mobile_money", country="UG", bank="MPS", account="256772000111", name="Pearl")
        terms = Terms(
            operator_id=self.there.network.bus_line.operator.id,
            currency="UGX",
            period="daily",
            minimum_payout=0,
            gateway="flutterwave",
            destination=account,
            set_by="test",
        )
        await set_terms(self.house, terms=terms, staff=somebody(number=1))
        await self.there.sim.config(transfer_delay_seconds=0.1)

    def close(self) -> None:
        self.run(self.stack.aclose())
        self.run(self.there.stop())
        self.runner.close()
