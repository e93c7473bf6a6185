"""Every call that changes something, asked for again: with the first answer kept, and with its holder killed before."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from tests.house import RunningHouse, until
from tests.mutating import RECIPES, WITHOUT_KEYS, Call, Recipe, close_rooms, ready

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}
EVERY = [pytest.param(recipe, id=f"{route} {recipe.__name__}") for route, of in RECIPES.items() for recipe in of]
# A server has sixteen connections, and each request that waits here keeps one.
KILLED_AT_ONCE = 8
LOCK = 4711

# An answer is not kept while somebody has the lock. The server's own patience with locks is not what is tried here.
STOP_KEEPING = f"""
CREATE FUNCTION wait_before_keeping() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared({LOCK}); RETURN NEW; END $$;
CREATE TRIGGER keeping_waits BEFORE INSERT OR UPDATE ON idempotency_key
FOR EACH ROW WHEN (NEW.status IS NOT NULL) EXECUTE FUNCTION wait_before_keeping();
"""
# Here, and not in the database of a test beside this one.
BLOCKED = f"""
FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK} AND NOT granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
WAITING = f"SELECT count(*) {BLOCKED}"
# The connections of a process that is dead; PostgreSQL would notice some time later, and would undo the same.
END_THEM = f"SELECT pg_terminate_backend(pid) {BLOCKED}"


async def test_every_call_that_changes_something_is_tried_here(house: RunningHouse) -> None:
    document = (await house.api.get("/openapi.json")).json()
    found = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if method.upper() in CHANGING
    }
    assert found == RECIPES.keys() | WITHOUT_KEYS.keys()


@pytest.mark.parametrize("recipe", EVERY)
async def test_a_retry_hears_the_first_answer_byte_for_byte_and_nothing_is_done_again(
    house: RunningHouse, recipe: Recipe
) -> None:
    call, key = await recipe(house), str(uuid4())
    first = await call.ask(house, key=key)
    assert first.is_success, first.text
    assert "idempotency-replayed" not in first.headers
    assert await call.done(house) == 1
    await _is_remembered(house, call, key, first.status_code, first.content, first.headers["content-type"])
    assert await call.done(house) == 1
    await close_rooms(house)


async def test_killed_before_any_answer_was_kept_a_retry_finishes_what_was_begun(own_house: RunningHouse) -> None:
    """Whatever the verb: what it did is there once, or was undone with its answer and is done by the retry."""
    house = own_house
    calls = [(call, str(uuid4())) for of_route in (await ready(house)).values() for call in of_route]
    for start in range(0, len(calls), KILLED_AT_ONCE):
        at_once = calls[start : start + KILLED_AT_ONCE]
        async with nothing_is_kept(house) as waiting:
            asked = [asyncio.create_task(call.ask(house, key=key)) for call, key in at_once]
            await until(waiting, frozenset({len(at_once)}).__contains__)
            house.kill9()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(answer, Exception) for answer in answers), answers
        await house.restart()
    await house.box.rows("UPDATE idempotency_key SET locked_until = kiti_now() WHERE status IS NULL")
    for call, key in calls:
        resumed = await call.ask(house, key=key)
        assert resumed.is_success, (call.path, resumed.text)
        assert call.is_the_same_again or await call.done(house) == 1, call.path
        done = await call.done(house)
        await _is_remembered(house, call, key, resumed.status_code, resumed.content, resumed.headers["content-type"])
        assert await call.done(house) == done
    await house.is_well()


async def _is_remembered(
    house: RunningHouse, call: Call, key: str, status: int, content: bytes, media_type: str
) -> None:
    """The same call hears the same, another one under the same key is refused."""
    again = await call.ask(house, key=key)
    assert (again.status_code, again.content) == (status, content), call.path
    assert again.headers["content-type"] == media_type
    assert again.headers["idempotency-replayed"] == "true"
    other = await call.ask(house, key=key, body={"another": "body"})
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH"), call.path


@asynccontextmanager
async def nothing_is_kept(house: RunningHouse) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Meanwhile whoever would keep an answer waits; how many do. In the end their connections are gone."""
    async with house.box.db.pool.connection() as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        await house.box.rows(STOP_KEEPING)
        yield lambda: house.box.value(WAITING)
        await house.box.rows(END_THEM)
        await until(lambda: house.box.value(WAITING), lambda number: number == 0)
        await connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    await house.box.rows("DROP FUNCTION wait_before_keeping CASCADE")
