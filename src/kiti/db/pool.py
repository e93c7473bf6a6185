"""Connections and transactions.

A `Reader` can only ask. A `Transaction` can write, and holding one proves that a transaction is open: verbs take
it as their first argument, and only flows and doorways open one. Nothing may wait for the outside world while one
is open; gateways call `assert_no_transaction`.
"""

import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, errors, pq
from psycopg.rows import class_row, tuple_row
from psycopg.types.array import ListBinaryDumper
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from kiti.core.errors import KitiError
from kiti.db.queries import Query

T = TypeVar("T")

OPEN_TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 10
ACQUIRE_TIMEOUT_SECONDS = 10.0
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 3_000
DEADLOCK_ATTEMPTS = 5

_open: ContextVar[bool] = ContextVar("kiti_open_transaction", default=False)


class DatabaseUnavailable(KitiError):
    """No connection to PostgreSQL could be had in time."""


class Reader:
    """Runs named queries on one connection. Parameters are given by name, rows come back as structs."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection

    async def many(self, query: Query, row: Callable[..., T], **params: Any) -> list[T]:
        """Every row, each made by calling `row` with its columns by name."""
        assert query.kind == "many", query.name
        async with self.connection.cursor(binary=True, row_factory=_factory(row)) as cursor:
            await cursor.execute(query.text, _binary(params))
            return await cursor.fetchall()

    async def maybe(self, query: Query, row: Callable[..., T], **params: Any) -> T | None:
        """The only row, or None; two rows are a bug of ours."""
        assert query.kind in {"maybe", "one"}, query.name
        async with self.connection.cursor(binary=True, row_factory=_factory(row)) as cursor:
            await cursor.execute(query.text, _binary(params))
            found = await cursor.fetchmany(2)
        assert len(found) <= 1, f"{query.name} gave more than one row"
        return found[0] if found else None

    async def one(self, query: Query, row: Callable[..., T], **params: Any) -> T:
        """The one row that there must be."""
        assert query.kind == "one", query.name
        found = await self.maybe(query, row, **params)
        assert found is not None, f"{query.name} gave no row"
        return found


class Transaction(Reader):
    """A Reader that may also write; everything is committed together, or nothing is."""

    async def execute(self, query: Query, **params: Any) -> int:
        """Run a statement for its effect; the number of rows it touched."""
        assert query.kind == "execute", query.name
        async with self.connection.cursor(binary=True, row_factory=tuple_row) as cursor:
            await cursor.execute(query.text, _binary(params))
            return cursor.rowcount


class Database:
    """The pool. `minimum` connections are kept open, `maximum` is never exceeded."""

    def __init__(self, url: str, *, minimum: int = 2, maximum: int = 16) -> None:
        self.url = url
        self.pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            url,
            min_size=minimum,
            max_size=maximum,
            open=False,
            timeout=ACQUIRE_TIMEOUT_SECONDS,
            max_waiting=1000,
            configure=_configure,
            check=_check,
            kwargs={"autocommit": True, "application_name": "kiti", "connect_timeout": CONNECT_TIMEOUT_SECONDS},
        )

    async def open(self) -> None:
        """Connect; raises DatabaseUnavailable when PostgreSQL does not answer in time."""
        try:
            await self.pool.open(wait=True, timeout=OPEN_TIMEOUT_SECONDS)
        except PoolTimeout as error:
            raise DatabaseUnavailable(f"PostgreSQL does not answer. {await self._objection()}") from error

    async def close(self) -> None:
        """Give every connection back."""
        await self.pool.close()

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Reader]:
        """A connection to ask from; each statement sees what was committed when it began."""
        async with self._connection() as connection:
            yield Reader(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """BEGIN ... COMMIT; an exception rolls everything back and goes on to the caller."""
        assert not _open.get(), "a transaction is already open in this task"
        async with self._connection() as connection:
            token = _open.set(True)
            try:
                async with connection.transaction():
                    yield Transaction(connection)
            finally:
                _open.reset(token)

    async def run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """`work` in a transaction of its own, again if PostgreSQL chose it as a deadlock's victim.

        Keys are locked in sorted order everywhere, so a deadlock is rare; it must not become a failed request.
        """
        for attempt in range(1, DEADLOCK_ATTEMPTS + 1):
            try:
                async with self.transaction() as tx:
                    return await work(tx)
            except (errors.DeadlockDetected, errors.SerializationFailure):
                if attempt == DEADLOCK_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _objection(self) -> str:
        """Why there is no connection, in PostgreSQL's words."""
        try:
            connection = await AsyncConnection.connect(self.url, connect_timeout=CONNECT_TIMEOUT_SECONDS)
        except psycopg.OperationalError as error:
            return str(error)
        await connection.close()
        return "It did so only now; try again."

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            connection = await self.pool.getconn()
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise DatabaseUnavailable("No database connection is free. Try again in a moment.") from error
        try:
            yield connection
        finally:
            await self.pool.putconn(connection)


def assert_no_transaction() -> None:
    """For gateways: waiting for the outside world while rows are locked is a bug."""
    assert not _open.get(), "a network call inside a transaction"


class _Array(list[Any]):
    """A list that travels in binary: a batch's parameters are many, and as text each is searched for quotes.

    Only ours: the queue's library, on the same connection, sends lists of composites, which have no binary form.
    """


def _binary(params: dict[str, Any]) -> dict[str, Any]:
    return {name: _Array(value) if type(value) is list else value for name, value in params.items()}


def _factory(row: Callable[..., T]) -> Any:
    return class_row(row)  # type: ignore[arg-type] # any callable of the columns will do


async def _configure(connection: AsyncConnection[Any]) -> None:
    await connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
    await connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
    await connection.execute("SET timezone = 'UTC'")
    connection.adapters.register_dumper(_Array, ListBinaryDumper)
    # Our queries are few and their parameters alike: one plan each, not a new one for each call.
    await connection.execute("SET idle_in_transaction_session_timeout = '30s'")


async def _check(connection: AsyncConnection[Any]) -> None:
    """Raise where the server has closed this connection meanwhile: it restarted, or it was killed.

    An idle connection has nothing to read; one that is closed reads as ended. Asking the kernel costs microseconds,
    asking the server would add a round trip to every transaction.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    while poll.poll(0):  # a server that stops says so first, and ends then
        connection.pgconn.consume_input()
        if connection.pgconn.status != pq.ConnStatus.OK:
            raise psycopg.OperationalError("the server has closed the connection")
