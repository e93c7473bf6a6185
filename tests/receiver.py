"""An integrator's endpoint on loopback: it keeps what it is told, and answers as it is told to."""

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from standardwebhooks import Webhook

Reply = tuple[int, dict[str, str], bytes]
Answer = Callable[["Told"], Awaitable[Reply]]
TOO_LONG_HEAD = 2**16


class Told(msgspec.Struct, frozen=True):
    """A request as the endpoint saw it."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def body(self) -> dict[str, Any]:
        return dict(msgspec.json.decode(self.raw))

    @property
    def type(self) -> str:
        return str(self.body["type"])

    def is_signed_by(self, secret: str) -> bool:
        """As an integrator would look at it; the library raises for a signature that is none."""
        return bool(Webhook(secret).verify(self.raw, self.headers) == self.body)


async def fine(_told: Told) -> Reply:
    return 204, {}, b""


def always(status: int, body: bytes = b"", **headers: str) -> Answer:
    async def answer(_told: Told) -> Reply:
        return status, {name.replace("_", "-"): value for name, value in headers.items()}, body

    return answer


async def tarpit(_told: Told) -> Reply:
    await asyncio.sleep(3600)
    raise AssertionError("nobody waits for so long")


class Receiver:
    """Takes every POST, keeps it, and answers with what `answer` makes of it."""

    def __init__(self, answer: Answer = fine) -> None:
        self.answer = answer
        self.told: list[Told] = []
        self.at_once = 0
        self.most_at_once = 0
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/kiti"

    @property
    def ids(self) -> Counter[str]:
        return Counter(one.id for one in self.told)

    @property
    def types(self) -> list[str]:
        return [one.type for one in self.told]

    async def number(self) -> int:
        """How often it was told something."""
        return len(self.told)

    def of(self, booking: object) -> list[Told]:
        """What it was told of a booking."""
        return [one for one in self.told if one.body["data"].get("bookingId") == str(booking)]

    @asynccontextmanager
    async def listening(self, *, tls: ssl.SSLContext | None = None) -> AsyncIterator["Receiver"]:
        conversations: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            conversations.add(task)
            self.connections += 1
            try:
                while await self._talk(reader, writer):
                    pass
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # the caller had enough, or the test is over
            finally:
                writer.close()
                conversations.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=TOO_LONG_HEAD, backlog=200)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(conversations):
                task.cancel()
            await asyncio.gather(*conversations, return_exceptions=True)
            await server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = {name.lower(): value for name, value in re.findall(r"([\w-]+): (.*)\r\n", head)}
        raw = await reader.readexactly(int(headers["content-length"]))
        told = Told(head.split(" ")[1], headers, raw)
        self.told.append(told)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            status, more, body = await self.answer(told)
        finally:
            self.at_once -= 1
        lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body)
        await writer.drain()
        return True
