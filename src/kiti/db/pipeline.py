"""A transaction whose statements go out together: one round trip for all that nobody waits for in between.

The driver's own pipeline mode saves the waiting but not the work: every statement is converted, sent and polled for by
itself, which for a batch of reservations costs several times what PostgreSQL needs for it. Here statements are put in
a list, handed to libpq in one go, and their results are read in one go. Protocol:
https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec
import psycopg
from psycopg import AsyncConnection, errors, pq
from psycopg.adapt import Transformer

from kiti.db.arrays import encode, encode_one, oid_of
from kiti.db.queries import Query

T = TypeVar("T")

# PostgreSQL ends a statement after `statement_timeout`; this is for one that does not answer at all.
ANSWER_TIMEOUT_SECONDS = 30.0

_BEGIN, _COMMIT, _ROLLBACK = (
    Query(name=f"kiti.db.{word.lower()}", kind="execute", text=word, numbered=word)
    for word in ("BEGIN", "COMMIT", "ROLLBACK")
)
_DONE = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}

# What each connection has prepared; a connection that is replaced has prepared nothing.
_prepared: WeakKeyDictionary[AsyncConnection[Any], set[str]] = WeakKeyDictionary()


class _Sent(msgspec.Struct):
    query: Query
    values: list[bytes | None]
    result: pq.abc.PGresult | None = None


class Pipeline:
    """The statements of one transaction on one connection, in the order in which they are queued.

    BEGIN goes out with the first ones and COMMIT with the last. A statement that fails makes PostgreSQL skip those
    behind it; its error is raised by whoever waits next, at the commit at latest.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._pg = connection.pgconn
        self._known = _prepared.setdefault(connection, set())
        self._queue: list[_Sent] = [_Sent(_BEGIN, [])]

    def queue(self, query: Query, params: dict[str, Any]) -> _Sent:
        """Put a statement behind the others. Every parameter has a cast in it, which says its type."""
        values = [_encode(query.casts[name], params[name]) for name in query.order]
        sent = _Sent(query, values)
        self._queue.append(sent)
        return sent

    async def rows(self, sent: _Sent, row: Callable[..., T]) -> list[T]:
        """The rows of a statement that was queued."""
        result = await self.result(sent)
        transformer = Transformer(self._connection)
        transformer.set_pgresult(result)
        if row is tuple:
            return transformer.load_rows(0, result.ntuples, tuple)  # type: ignore[arg-type] # the row's own type
        names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
        return transformer.load_rows(0, result.ntuples, lambda values: row(**dict(zip(names, values, strict=True))))

    async def result(self, sent: _Sent) -> pq.abc.PGresult:
        """The result of a statement that was queued."""
        if sent.result is None:
            await self._exchange()
        assert sent.result is not None, "a statement of another transaction"
        return sent.result

    async def commit(self) -> None:
        """Send what is left, and COMMIT."""
        commit = _Sent(_COMMIT, [])
        self._queue.append(commit)
        done = await self.result(commit)
        if done.command_status != b"COMMIT":
            raise psycopg.OperationalError("the server rolled the transaction back")

    async def roll_back(self) -> None:
        """Undo everything; what was not sent yet never is."""
        self._queue.clear()
        if self._pg.transaction_status != pq.TransactionStatus.IDLE and self._pg.status == pq.ConnStatus.OK:
            self._queue.append(_Sent(_ROLLBACK, []))
            await self._exchange()

    async def _exchange(self) -> None:
        """Send everything queued and read every result; raises the first error among them."""
        queued, self._queue = self._queue, []
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                self._pg.enter_pipeline_mode()
                expected = self._hand_over(queued)
                results = await self._read()
                self._pg.exit_pipeline_mode()
        except TimeoutError as error:
            self._pg.finish()
            raise psycopg.OperationalError("the server did not answer in time") from error
        except BaseException:
            # Nobody knows what would be read next from this connection.
            self._pg.finish()
            raise
        for sent, result in zip(expected, results, strict=True):
            if result.status not in _DONE:
                raise errors.error_from_result(result, encoding="utf-8")
            if isinstance(sent, str):
                self._known.add(sent)
            else:
                sent.result = result

    def _hand_over(self, queued: Sequence[_Sent]) -> list[_Sent | str]:
        """Give libpq the statements, and before each what has to be prepared: its name stands for that result."""
        expected: list[_Sent | str] = []
        for sent in queued:
            query = sent.query
            name = query.name.encode()
            if query.name not in self._known and query.name not in expected:
                types = [oid_of(query.casts[parameter]) for parameter in query.order]
                self._pg.send_prepare(name, query.numbered.encode(), types)
                expected.append(query.name)
            formats = [pq.Format.BINARY] * len(sent.values)
            self._pg.send_query_prepared(name, sent.values, formats, pq.Format.BINARY)
            expected.append(sent)
        self._pg.pipeline_sync()
        return expected

    async def _read(self) -> list[pq.abc.PGresult]:
        """The results up to the synchronisation point, each of one statement or preparation."""
        pg = self._pg
        while pg.flush():
            await self._ready(is_writing=True)
            pg.consume_input()
        found: list[pq.abc.PGresult] = []
        while True:
            while pg.is_busy():
                await self._ready()
                pg.consume_input()
            result = pg.get_result()
            if pg.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError("the server has closed the connection")
            if result is None:
                continue  # the end of one statement's results
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                return found
            found.append(result)

    async def _ready(self, *, is_writing: bool = False) -> None:
        """Wait until the server has sent something, or has room for more."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        socket = self._pg.socket
        loop.add_reader(socket, wake)
        if is_writing:
            loop.add_writer(socket, wake)
        try:
            await ready
        finally:
            loop.remove_reader(socket)
            if is_writing:
                loop.remove_writer(socket)


def _encode(cast: str, value: Any) -> bytes | None:
    if cast.endswith("[]"):
        return encode(value, element=cast[:-2]).data
    return encode_one(value, element=cast)
