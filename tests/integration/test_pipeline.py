"""Pipelined transactions: fewer round trips, and otherwise what a transaction is."""

import asyncio

import psycopg
import pytest
from psycopg import errors
from tests.box import Box

from kiti.core.ids import new_id
from kiti.db import Database, Query, Transaction
from kiti.db.queries import parse_query


def query(kind: str, text: str) -> Query:
    return parse_query(f"test.{abs(hash(text))}", kind, text)


ADD = query("execute", "INSERT INTO pile (number) VALUES (%(number)s::integer)")
ADD_MANY = query("execute", "INSERT INTO pile (number) SELECT unnest(%(numbers)s::integer[])")
ALL = query("many", "SELECT number FROM pile ORDER BY number")
RAISE = query("execute", "UPDATE pile SET number = number + %(by)s::integer")
GONE_WITHIN_MS = 10_000
SLEEP = query("many", "SELECT pg_sleep(%(seconds)s::integer)::text AS slept")


@pytest.fixture
async def pile(box: Box) -> Box:
    await box.rows("CREATE TABLE pile (number integer PRIMARY KEY DEFERRABLE CHECK (number < 1000))")
    return box


async def numbers(box: Box) -> list[int]:
    return [row["number"] for row in await box.rows("SELECT number FROM pile ORDER BY number")]


async def test_what_is_sent_asked_and_waited_for_happens_in_order_and_together(pile: Box) -> None:
    async with pile.db.transaction(pipelined=True) as tx:
        await tx.send(ADD, number=1)
        before = await tx.ask(ALL, tuple)
        await tx.send(ADD_MANY, numbers=[2, 3])
        assert await tx.execute(RAISE, by=10) == 3
        assert await before() == [(1,)]
        assert await tx.many(ALL, tuple) == [(11,), (12,), (13,)]
        assert await numbers(pile) == []
    assert await numbers(pile) == [11, 12, 13]


async def test_rows_become_what_the_caller_makes_of_them(pile: Box) -> None:
    async with pile.db.transaction(pipelined=True) as tx:
        await tx.send(ADD, number=7)
        assert await tx.many(ALL, lambda number: f"no. {number}") == ["no. 7"]


async def test_an_error_of_a_statement_nobody_waited_for_undoes_everything_at_the_commit(pile: Box) -> None:
    async def work(tx: Transaction) -> None:
        await tx.send(ADD, number=1)
        await tx.send(ADD, number=5000)
        await tx.send(ADD, number=2)

    with pytest.raises(errors.CheckViolation):
        await pile.db.run(work, pipelined=True)
    assert await numbers(pile) == []


async def test_the_first_error_is_told_not_what_it_led_to(pile: Box) -> None:
    async def work(tx: Transaction) -> None:
        await tx.send(ADD, number=5000)
        await tx.many(ALL, tuple)

    with pytest.raises(errors.CheckViolation):
        await pile.db.run(work, pipelined=True)
    assert await numbers(pile) == []


async def test_an_error_that_shows_only_at_the_commit_is_told(pile: Box) -> None:
    async def work(tx: Transaction) -> None:
        await tx.send(query("execute", "SET CONSTRAINTS ALL DEFERRED"))
        await tx.send(ADD_MANY, numbers=[1, 1])

    with pytest.raises(errors.UniqueViolation):
        await pile.db.run(work, pipelined=True)
    assert await numbers(pile) == []


async def test_an_error_of_the_caller_undoes_everything(pile: Box) -> None:
    async def work(tx: Transaction) -> None:
        assert await tx.execute(ADD, number=1) == 1
        raise KeyError

    with pytest.raises(KeyError):
        await pile.db.run(work, pipelined=True)
    assert await numbers(pile) == []


async def test_a_connection_is_as_good_as_new_after_an_error(pile: Box) -> None:
    """More often than there are connections: each is used again."""
    for number in range(20):
        with pytest.raises(errors.CheckViolation):
            async with pile.db.transaction(pipelined=True) as tx:
                await tx.execute(ADD, number=5000)
        async with pile.db.transaction(pipelined=True) as tx:
            await tx.send(ADD, number=number)
    assert len(await numbers(pile)) == 20


async def test_a_batch_larger_than_any_socket_buffer_goes_through(pile: Box) -> None:
    many = list(range(-200_000, 0))
    async with pile.db.transaction(pipelined=True) as tx:
        await tx.send(ADD_MANY, numbers=many)
        assert [number for (number,) in await tx.many(ALL, tuple)] == many


async def test_who_goes_away_in_the_middle_leaves_nothing_behind(pile: Box) -> None:
    reached = asyncio.Event()

    async def work() -> None:
        async with pile.db.transaction(pipelined=True) as tx:
            await tx.execute(ADD, number=1)
            reached.set()
            await tx.many(SLEEP, tuple, seconds=30)

    gone = asyncio.create_task(work())
    await reached.wait()
    await asyncio.sleep(0.05)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    async with pile.db.transaction(pipelined=True) as tx:
        assert await tx.many(ALL, tuple) == []


async def test_a_connection_that_is_cut_is_an_operational_error_and_replaced(pile: Box) -> None:
    async def cut(tx: Transaction) -> None:
        await tx.execute(ADD, number=1)
        await pile.rows(
            f"SELECT pg_terminate_backend(pid, {GONE_WITHIN_MS}) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'idle in transaction'"
        )
        await tx.many(ALL, tuple)

    with pytest.raises(psycopg.OperationalError):
        await pile.db.run(cut, pipelined=True)
    async with pile.db.transaction(pipelined=True) as tx:
        await tx.send(ADD, number=2)
    assert await numbers(pile) == [2]


async def test_what_a_transaction_has_changed_is_told_once_it_is_over(fresh_url: str, pile: Box) -> None:
    del pile
    db = Database(fresh_url, minimum=1, maximum=2)
    await db.open()
    heard: list[set[object]] = []
    db.on_change(lambda changed: heard.append(set(changed)))
    marker = new_id()
    async with db.transaction(pipelined=True) as tx:
        tx.changed.add(marker)
        assert heard == []
    assert heard == [{marker}]

    async def failing(tx: Transaction) -> None:
        tx.changed.add(marker)
        raise KeyError

    with pytest.raises(KeyError):
        await db.run(failing)
    assert heard == [{marker}, {marker}]
    await db.close()
