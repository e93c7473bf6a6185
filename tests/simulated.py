"""The simulated gateway as a process of its own, and a receiver for its webhooks, for tests that need them."""

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests import nursery

SECRET_KEY = "FLWSECK_TEST-simulated"
WEBHOOK_HASH = "a shared secret, verbatim"
# A busy machine takes its time, and that is no failure.
START_TIMEOUT_SECONDS = 90.0
PATIENCE_SECONDS = 30.0
T = TypeVar("T")
SHOP = "http://127.0.0.1:9/return"
references = count(1)


def anything(_event: dict[str, Any]) -> bool:
    return True


class Receiver:
    """A tiny HTTP server that keeps every webhook, and answers 200 unless `answers` says otherwise.

    `answers` are spent on webhooks that are `answers_about` it: those of other tests may still be on their way.
    """

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.bodies: list[dict[str, Any]] = []
        self.hashes: list[str | None] = []
        self.answers: list[int] = []
        self.answers_about: Callable[[dict[str, Any]], bool] = anything

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                fields = dict(re.findall(r"([\w-]+): (.*)\r\n", head))
                body = await reader.readexactly(int(fields["content-length"]))
                event = json.loads(body)
                status = self.answers.pop(0) if self.answers and self.answers_about(event) else 200
                self.raw.append(body)
                self.bodies.append(event)
                self.hashes.append(fields.get("verif-hash"))
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def wait(self, number: int, *, about: Callable[[dict[str, Any]], bool] = anything) -> list[Any]:
        """Return the webhooks that are about it once there are so many."""

        async def ask() -> list[Any] | None:
            found = [body for body in self.bodies if about(body)]
            return found if len(found) >= number else None

        return await eventually(ask)


class Simulator:
    """The process and an HTTP client with the right key."""

    def __init__(self, *, port: int, webhook_url: str, state: Path | None) -> None:
        self.port = port
        self.arguments = [
            *("kiti.simulator", "--port", str(port)),
            *("--webhook-url", webhook_url, "--retry-seconds", "0.2"),
            *(() if state is None else ("--state", str(state))),
        ]
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"authorization": f"Bearer {SECRET_KEY}"},
            verify=False,
        )
        self.process: nursery.Process | None = None

    async def start(self) -> None:
        self._spawn()
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            while True:
                try:
                    await self.http.get("/_sim/health")
                except httpx.TransportError:
                    assert self.process is None or self.process.poll() is None, "the simulator has ended"
                    await asyncio.sleep(0.05)
                else:
                    return

    def _spawn(self) -> None:
        secrets = {"FLUTTERWAVE_SECRET_KEY": SECRET_KEY, "FLUTTERWAVE_WEBHOOK_HASH": WEBHOOK_HASH}
        self.process = nursery.start(self.arguments, os.environ | secrets)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(timeout=PATIENCE_SECONDS)

    async def get(self, path: str, **query: Any) -> Any:
        return (await self.http.get(path, params=query)).json()

    async def post(self, path: str, **body: Any) -> Any:
        return (await self.http.post(path, json=body)).json()

    async def link(self, *, amount: Any = 5000, currency: str = "RWF", **more: Any) -> tuple[str, str]:
        """Open a link; return its reference and its address."""
        tx_ref = f"kiti-{os.getpid()}-{next(references)}"
        body = {
            "tx_ref": tx_ref,
            "amount": amount,
            "currency": currency,
            "redirect_url": SHOP,
            "customer": {"email": "amina@example.com", "name": "Amina", "phonenumber": "+250780000001"},
            **more,
        }
        answer = await self.post("/v3/payments", **body)
        assert answer["status"] == "success", answer
        return tx_ref, answer["data"]["link"]

    async def pay(self, tx_ref: str, action: str = "pay", **options: Any) -> Any:
        return await self.post("/_sim/pay", tx_ref=tx_ref, action=action, **options)

    async def paid(self, **link: Any) -> int:
        """Open a link and pay it; return the transaction's id."""
        tx_ref, _ = await self.link(**link)
        return int((await self.pay(tx_ref))["transaction_ids"][0])

    async def until(self, path: str, field: str, value: Any) -> Any:
        """Ask until a field of the data has the value; return the data."""

        async def ask() -> Any:
            data = (await self.get(path))["data"]
            return data if data[field] == value else None

        return await eventually(ask)


async def eventually(ask: Callable[[], Awaitable[T | None]]) -> T:
    """Ask again and again until there is an answer; return it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await ask()
            if found is not None:
                return found
            await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running(state: Path | None) -> AsyncIterator[tuple[Simulator, Receiver]]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    simulator = Simulator(port=free_port(), webhook_url=f"http://127.0.0.1:{port}/hook?from=sim", state=state)
    await simulator.start()
    try:
        yield simulator, receiver
    finally:
        if simulator.process is not None and simulator.process.poll() is None:
            simulator.stop()
        await simulator.http.aclose()
        server.close()
