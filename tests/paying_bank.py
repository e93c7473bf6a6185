"""A bank that sends money, over a real socket, and the gateway that speaks to it: one JSON line each way.

What the bank does with the next requests is scripted: answer, lose the answer, refuse, or kill who asks.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Literal

from kiti.gateways.gateway import GatewayPayout, Missing, PayoutRequest, Rejected, Unknown

Act = Literal["pay", "refuse", "lose request", "lose answer", "kill before", "kill after"]
FEE = "250.4"


class Bank:
    """Keeps what it was asked to send, by reference; a reference that it has is refused, not sent again."""

    def __init__(self) -> None:
        self.sent: dict[str, dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()
        self.status = "succeeded"
        self.acts: list[Act] = []
        self.is_silent = False
        self.delay_seconds = 0.0
        self.port = 0

    def plan(self, *acts: Act) -> None:
        """What to do with the next requests to pay; after that it pays."""
        self.acts += acts

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        told = json.loads(await reader.readline())
        reply = self._find(told) if told["verb"] == "find" else await self._pay(told)
        if reply is not None:
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _find(self, told: dict[str, Any]) -> dict[str, Any] | None:
        if self.is_silent:
            return None
        found = self.sent.get(told["reference"])
        return {"missing": True} if found is None else {**found, "status": self.status}

    async def _pay(self, told: dict[str, Any]) -> dict[str, Any] | None:
        self.asked[told["reference"]] += 1
        act = self.acts.pop(0) if self.acts else "pay"
        await asyncio.sleep(self.delay_seconds)
        if act == "kill before":
            os.kill(told["pid"], signal.SIGKILL)
            return None
        if act == "lose request":
            return None
        if act == "refuse":
            return {"refused": "The account is closed."}
        if told["reference"] in self.sent:
            return {"refused": "This reference was used before."}
        self.sent[told["reference"]] = {
            "id": f"T{len(self.sent) + 1}",
            "reference": told["reference"],
            "amount": told["amount"],
            "account": told["account"],
        }
        if act == "kill after":
            os.kill(told["pid"], signal.SIGKILL)
        if act in {"kill after", "lose answer"}:
            return None
        return {**self.sent[told["reference"]], "status": self.status}


class BankGateway:
    """Speaks to the bank; a connection that breaks is an answer that nobody knows."""

    name = "bank"

    def __init__(self, port: int) -> None:
        self.port = port

    async def pay_out(self, request: PayoutRequest) -> GatewayPayout | Rejected | Unknown:
        """Send money."""
        told = await self._ask(
            verb="pay",
            reference=request.reference,
            amount=request.amount.amount,
            account=request.destination.account,
            pid=os.getpid(),
        )
        if told is None:
            return Unknown(reason="the connection broke")
        return Rejected(reason=told["refused"]) if "refused" in told else _payout(told)

    async def find_payout(self, reference: str) -> GatewayPayout | Missing | Unknown:
        """How far it has come."""
        told = await self._ask(verb="find", reference=reference)
        if told is None:
            return Unknown(reason="the connection broke")
        return Missing() if "missing" in told else _payout(told)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _ask(self, **request: Any) -> dict[str, Any] | None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(json.dumps(request).encode() + b"\n")
            line = await reader.readline()
            writer.close()
        except OSError:
            return None
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer


def _payout(told: dict[str, Any]) -> GatewayPayout:
    return GatewayPayout(
        payout_id=told["id"],
        reference=told["reference"],
        amount_exact=Decimal(told["amount"]),
        fee_exact=Decimal(FEE),
        status=told["status"],
        failure_reason="The bank sent it back." if told["status"] == "failed" else "",
    )


@asynccontextmanager
async def open_bank() -> AsyncIterator[Bank]:
    """A bank on a free port."""
    bank = Bank()
    server = await asyncio.start_server(bank.answer, "127.0.0.1", 0)
    bank.port = server.sockets[0].getsockname()[1]
    async with server:
        yield bank
