"""Wires between a process and the world, which count what passes and cut it off at a chosen point.

Two proxies on loopback: one before PostgreSQL, one before the gateways. Every COMMIT and every request is two points:
before it passes, and when its answer is here and not handed on yet. At the fatal one the process is killed, as kill -9
does, and nothing passes any more. Nothing in the process knows of it. Messages of PostgreSQL's protocol:
https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from psycopg.conninfo import conninfo_to_dict

CHUNK_BYTES = 65_536
LONGEST_HEAD_BYTES = 65_536
# The kind of a message and its length; the first message of a connection has no kind.
HEADER_BYTES = 5
LENGTH_BYTES = 4
COMMIT = b"COMMIT"
# How connections of `db.Database` introduce themselves. The queue's own keep its books: that a job begins and is over.
# To die there is to die before a job's first point or after its last one.
FLOWS = b"application_name\0kiti\0"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Notice = Callable[[bytes, bytes], None]


class Cut(Exception):
    """The process on this wire is dead."""


class Points:
    """What has passed since a process was watched; at `fatal`, counted from 0, it dies."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self._victim: int | None = None
        self._fatal: int | None = None
        self._is_cut = False

    def watch(self, victim: int, *, fatal: int | None) -> None:
        """From now on; what a process does to get up is none of the story's points."""
        self._victim, self._fatal = victim, fatal

    def rest(self) -> None:
        """The story's part is over."""
        self._victim = None

    def reach(self, point: str) -> None:
        """Let it pass, or raise Cut."""
        if self._is_cut:
            raise Cut
        if self._victim is None:
            return
        self.passed.append(point)
        if len(self.passed) - 1 == self._fatal:
            self._is_cut = True
            os.kill(self._victim, signal.SIGKILL)
            raise Cut


class Commits:
    """Which messages ask for a commit: in words, or under a name for which the words were prepared."""

    def __init__(self) -> None:
        self._names: set[bytes] = set()

    def asks(self, kind: bytes, body: bytes) -> bool:
        """Whether this message of a client does."""
        match kind:
            case b"Q":
                return body.rstrip(b"\0").strip().upper() == COMMIT
            case b"P":  # Parse: a name, and the words that it stands for
                name, words, _ = body.split(b"\0", 2)
                (self._names.add if words.strip().upper() == COMMIT else self._names.discard)(name)
                return False
            case b"B":  # Bind: a portal, and the name of what is to be run
                return body.split(b"\0", 2)[1] in self._names
            case _:
                return False


class Wiretap:
    """The two proxies. `points` are those of the process that is on the wire now."""

    def __init__(self, database_url: str, gateways_url: str) -> None:
        self._database = conninfo_to_dict(database_url)
        self._gateways = urlsplit(gateways_url)
        self._talks: set[asyncio.Task[None]] = set()
        self.points = Points()
        self.database_url = ""
        self.gateways_url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Wiretap"]:
        """Both listen on free ports."""
        async with (
            await asyncio.start_server(self._to_database, "127.0.0.1", 0) as before_database,
            await asyncio.start_server(self._to_gateways, "127.0.0.1", 0, limit=LONGEST_HEAD_BYTES) as before_gateways,
        ):
            user, name = quote(str(self._database.get("user", ""))), quote(str(self._database["dbname"]))
            password = quote(str(self._database.get("password", "")))
            port = before_database.sockets[0].getsockname()[1]
            self.database_url = (
                f"postgresql://{user}:{password}@127.0.0.1:{port}/{name}?sslmode=disable&gssencmode=disable"
            )
            self.gateways_url = f"http://127.0.0.1:{before_gateways.sockets[0].getsockname()[1]}"
            try:
                yield self
            finally:
                for task in self._talks:
                    task.cancel()
                await self.until_silent()

    async def until_silent(self) -> None:
        """Wait until nobody is on the wire: PostgreSQL has undone or completed what the dead had begun."""
        while self._talks:
            await asyncio.gather(*self._talks, return_exceptions=True)

    def fresh(self) -> Points:
        """For the next process."""
        self.points = Points()
        return self.points

    # ---------------------------------------------------------------- PostgreSQL

    async def _to_database(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        async with self._talk(to_client), self._open_database() as (server, to_server):
            points, commits = self.points, Commits()

            def asked(kind: bytes, body: bytes) -> None:
                if commits.asks(kind, body):
                    points.reach("before COMMIT")

            def answered(kind: bytes, body: bytes) -> None:
                if kind == b"C" and body.rstrip(b"\0") == COMMIT:
                    points.reach("after COMMIT")

            length = await client.readexactly(LENGTH_BYTES)
            greeting = await client.readexactly(int.from_bytes(length) - LENGTH_BYTES)
            to_server.write(length + greeting)
            if FLOWS not in greeting:
                points = Points()  # of nobody's concern
            directions = {
                asyncio.create_task(_pass_on(client, to_server, asked)),
                asyncio.create_task(_pass_on(server, to_client, answered)),
            }
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
            # PostgreSQL hangs up once it has ended what this connection was about.
            with contextlib.suppress(OSError):
                to_server.write_eof()
                while await server.read(CHUNK_BYTES):
                    pass

    @asynccontextmanager
    async def _open_database(self) -> AsyncIterator[Streams]:
        host, port = str(self._database.get("host", "")), int(str(self._database.get("port") or 5432))
        if host.startswith("/"):
            streams = await asyncio.open_unix_connection(Path(host) / f".s.PGSQL.{port}")
        else:
            streams = await asyncio.open_connection(host or "127.0.0.1", port)
        try:
            yield streams
        finally:
            streams[1].close()

    # ---------------------------------------------------------------- gateways

    async def _to_gateways(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        async with self._talk(to_client):
            points = self.points
            while True:
                request = await _message(client)
                what = " ".join(request.split(b" ", 2)[i].decode("latin-1") for i in (0, 1))
                points.reach(f"before {what}")
                answer = await self._ask(request)
                points.reach(f"after {what}")
                to_client.write(answer)
                await to_client.drain()

    async def _ask(self, request: bytes) -> bytes:
        server, to_server = await asyncio.open_connection(self._gateways.hostname, self._gateways.port)
        try:
            to_server.write(request)
            return await _message(server)
        finally:
            to_server.close()

    @asynccontextmanager
    async def _talk(self, to_client: asyncio.StreamWriter) -> AsyncIterator[None]:
        """One connection, which ends when either side has had enough."""
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            yield
        except (Cut, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # whose process is dead, or has done its part, hangs up
        finally:
            to_client.close()
            self._talks.discard(task)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, notice: Notice) -> None:
    """Whole messages of PostgreSQL's, each after it was noticed."""
    held = bytearray()
    with contextlib.suppress(Cut, ConnectionError):
        while chunk := await reader.read(CHUNK_BYTES):
            held += chunk
            done = 0
            try:
                while len(held) - done >= HEADER_BYTES:
                    end = done + 1 + int.from_bytes(held[done + 1 : done + HEADER_BYTES])
                    if len(held) < end:
                        break
                    notice(bytes(held[done : done + 1]), bytes(held[done + HEADER_BYTES : end]))
                    done = end
            finally:
                writer.write(held[:done])
                del held[:done]
            await writer.drain()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """A request or an answer, whole; its length is told, or it has no body."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert not re.search(rb"(?i)\r\ntransfer-encoding:", head), "the simulator tells the length of what it says"
    told = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return head + (await reader.readexactly(int(told[1])) if told else b"")
