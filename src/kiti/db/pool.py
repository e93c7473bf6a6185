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
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, errors, pq
from psycopg.rows import class_row, tuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from kiti.core.errors import KitiError
from kiti.db.arrays import dumpers, encode
from kiti.db.pipeline import Pipeline
from kiti.db.queries import Query, load

T = TypeVar("T")
Pool = AsyncConnectionPool[AsyncConnection[Any]]

OPEN_TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 10
ACQUIRE_TIMEOUT_SECONDS = 10.0
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 3_000
DEADLOCK_ATTEMPTS = 5
MOST_PIPELINES = 8

sql = load("kiti.db")

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
            await cursor.execute(query.text, _bind(query, params))
            return await cursor.fetchall()

    async def maybe(self, query: Query, row: Callable[..., T], **params: Any) -> T | None:
        """The only row, or None; two rows are a bug of ours."""
        assert query.kind in {"maybe", "one"}, query.name
        async with self.connection.cursor(binary=True, row_factory=_factory(row)) as cursor:
            await cursor.execute(query.text, _bind(query, params))
            found = await cursor.fetchmany(2)
        assert len(found) <= 1, f"{query.name} gave more than one row"
        return found[0] if found else None

    async def one(self, query: Query, row: Callable[..., T], **params: Any) -> T:
        """The one row that there must be."""
        assert query.kind == "one", query.name
        found = await self.maybe(query, row, **params)
        assert found is not None, f"{query.name} gave no row"
        return found

    async def ask(self, query: Query, row: Callable[..., T], **params: Any) -> Callable[[], Awaitable[list[T]]]:
        """Like `many`, but the rows are waited for only when the returned function is called.

        In a pipelined transaction several questions so cost one round trip.
        """
        assert query.kind == "many", query.name
        cursor = self.connection.cursor(binary=True, row_factory=_factory(row))
        await cursor.execute(query.text, _bind(query, params))
        return cursor.fetchall


class Transaction(Reader):
    """A Reader that may also write; everything is committed together, or nothing is.

    Verbs put into `changed` whose copies elsewhere in this process are out of date once it is committed.
    """

    is_pipelined = False

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        super().__init__(connection)
        self.changed: set[UUID] = set()

    async def execute(self, query: Query, **params: Any) -> int:
        """Run a statement for its effect; the number of rows it touched."""
        assert query.kind == "execute", query.name
        async with self.connection.cursor(binary=True, row_factory=tuple_row) as cursor:
            await cursor.execute(query.text, _bind(query, params))
            return cursor.rowcount

    async def send(self, query: Query, **params: Any) -> None:
        """Run a statement whose outcome nobody needs to know: if it fails, everything does, at the commit at latest."""
        await self.execute(query, **params)

    async def wait_for_locks(self, milliseconds: int) -> None:
        """Wait no longer than this for a lock, instead of LOCK_TIMEOUT_MS, until the transaction ends."""
        await self.execute(sql.wait_for_locks, limit=f"{milliseconds}ms")


class _Pipelined(Transaction):
    """A Transaction whose statements go out with the next one that is waited for."""

    is_pipelined = True

    def __init__(self, connection: AsyncConnection[Any], pipeline: Pipeline) -> None:
        super().__init__(connection)
        self._pipeline = pipeline

    async def many(self, query: Query, row: Callable[..., T], **params: Any) -> list[T]:
        assert query.kind == "many", query.name
        return await self._pipeline.rows(self._pipeline.queue(query, params), row)

    async def maybe(self, query: Query, row: Callable[..., T], **params: Any) -> T | None:
        assert query.kind in {"maybe", "one"}, query.name
        found = await self._pipeline.rows(self._pipeline.queue(query, params), row)
        assert len(found) <= 1, f"{query.name} gave more than one row"
        return found[0] if found else None

    async def ask(self, query: Query, row: Callable[..., T], **params: Any) -> Callable[[], Awaitable[list[T]]]:
        assert query.kind == "many", query.name
        sent = self._pipeline.queue(query, params)
        return lambda: self._pipeline.rows(sent, row)

    async def execute(self, query: Query, **params: Any) -> int:
        assert query.kind == "execute", query.name
        return (await self._pipeline.result(self._pipeline.queue(query, params))).command_tuples or 0

    async def send(self, query: Query, **params: Any) -> None:
        assert query.kind == "execute", query.name
        self._pipeline.queue(query, params)

    async def wait_for_locks(self, milliseconds: int) -> None:
        self._pipeline.queue(sql.wait_for_locks, {"limit": f"{milliseconds}ms"})


class Database:
    """The pool. `minimum` connections are kept open, `maximum` is never exceeded."""

    def __init__(self, url: str, *, minimum: int = 2, maximum: int = 16) -> None:
        self.url = url
        self._hear: list[Callable[[set[UUID]], None]] = []
        self.pool = _pool(url, minimum=minimum, maximum=maximum)
        # Pipelined transactions prepare their own statements, so they have connections on which the driver, which
        # now and then deallocates all that there are, prepares none.
        self._pipelines = _pool(url, minimum=0, maximum=MOST_PIPELINES, prepare_threshold=None)

    def on_change(self, hear: Callable[[set[UUID]], None]) -> None:
        """Let `hear` know what each transaction has changed, as soon as it is over, however it ended."""
        self._hear.append(hear)

    async def open(self) -> None:
        """Connect; raises DatabaseUnavailable when PostgreSQL does not answer in time."""
        try:
            await self.pool.open(wait=True, timeout=OPEN_TIMEOUT_SECONDS)
            await self._pipelines.open()
        except PoolTimeout as error:
            raise DatabaseUnavailable(f"PostgreSQL does not answer. {await self._objection()}") from error

    async def close(self) -> None:
        """Give every connection back."""
        await self._pipelines.close()
        await self.pool.close()

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Reader]:
        """A connection to ask from; each statement sees what was committed when it began."""
        async with self._connection(self.pool) as connection:
            yield Reader(connection)

    @asynccontextmanager
    async def transaction(self, *, pipelined: bool = False) -> AsyncIterator[Transaction]:
        """BEGIN ... COMMIT; an exception rolls everything back and goes on to the caller.

        Pipelined, a statement goes out without waiting for the one before it, BEGIN and COMMIT included: what is
        waited for is only what `many`, `execute` and the like are asked for, and at the end the commit.
        """
        assert not _open.get(), "a transaction is already open in this task"
        async with self._connection(self._pipelines if pipelined else self.pool) as connection:
            token = _open.set(True)
            changed: set[UUID] = set()
            try:
                async with _pipelined(connection) if pipelined else _plain(connection) as tx:
                    changed = tx.changed
                    yield tx
            finally:
                _open.reset(token)
                if changed:
                    for hear in self._hear:
                        hear(changed)

    async def run(self, work: Callable[[Transaction], Awaitable[T]], *, pipelined: bool = False) -> T:
        """`work` in a transaction of its own, again if PostgreSQL chose it as a deadlock's victim.

        Keys are locked in sorted order everywhere, so a deadlock is rare; it must not become a failed request.
        """
        for attempt in range(1, DEADLOCK_ATTEMPTS + 1):
            try:
                async with self.transaction(pipelined=pipelined) as tx:
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
    async def _connection(self, pool: Pool) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            connection = await pool.getconn()
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise DatabaseUnavailable("No database connection is free. Try again in a moment.") from error
        try:
            yield connection
        finally:
            await pool.putconn(connection)


@asynccontextmanager
async def _plain(connection: AsyncConnection[Any]) -> AsyncIterator[Transaction]:
    async with connection.transaction():
        yield Transaction(connection)


@asynccontextmanager
async def _pipelined(connection: AsyncConnection[Any]) -> AsyncIterator[Transaction]:
    pipeline = Pipeline(connection)
    try:
        yield _Pipelined(connection, pipeline)
        await pipeline.commit()
    except BaseException:
        await pipeline.roll_back()
        raise


def _pool(url: str, *, minimum: int, maximum: int, **settings: Any) -> Pool:
    connect = {"autocommit": True, "application_name": "kiti", "connect_timeout": CONNECT_TIMEOUT_SECONDS}
    return AsyncConnectionPool(
        url,
        min_size=minimum,
        max_size=maximum,
        open=False,
        timeout=ACQUIRE_TIMEOUT_SECONDS,
        max_waiting=1000,
        configure=_configure,
        check=_check,
        kwargs={**connect, **settings},
    )


def assert_no_transaction() -> None:
    """For gateways: waiting for the outside world while rows are locked is a bug."""
    assert not _open.get(), "a network call inside a transaction"


def _bind(query: Query, params: dict[str, Any]) -> dict[str, Any]:
    """Lists travel as arrays of the type that the statement casts them to."""
    for name, element in query.arrays:
        params[name] = encode(params[name], element=element)
    return params


def _factory(row: Callable[..., T]) -> Any:
    if row is tuple:
        return tuple_row
    return class_row(row)  # type: ignore[arg-type] # any callable of the columns will do


async def _configure(connection: AsyncConnection[Any]) -> None:
    await connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
    await connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
    await connection.execute("SET timezone = 'UTC'")
    for kind, dumper in dumpers():
        connection.adapters.register_dumper(kind, dumper)
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
