import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.scripted_server import ScriptedServer, answer

from kiti.gateways.http import LONGEST_ANSWER_BYTES, Answered, Breaker, NotAnswered, Outside

OK = answer(200, b"{}")
BUSY = answer(429)
BROKEN = answer(503)


@asynccontextmanager
async def outside_of(server: ScriptedServer, *, timeout_seconds: float = 5.0) -> AsyncIterator[Outside]:
    async with server.listening() as url:
        outside = Outside(base_url=f"{url}/v3", headers={"Authorization": "Bearer k"}, timeout_seconds=timeout_seconds)
        yield outside
        await outside.close()


async def test_an_answer_comes_back_whole_and_the_key_is_sent() -> None:
    server = ScriptedServer(OK)
    async with outside_of(server) as outside:
        assert await outside.get("/x", {"tx_ref": "a b&c"}) == Answered(status=200, body=b"{}")
    assert server.requests[0].startswith(b"GET /v3/x?tx_ref=a+b%26c HTTP/1.1")
    assert b"Authorization: Bearer k" in server.requests[0]


async def test_a_get_is_tried_three_times_at_most() -> None:
    for failure in (BROKEN, b""):
        server = ScriptedServer(failure)
        async with outside_of(server) as outside:
            assert isinstance(await outside.get("/x"), NotAnswered)
        assert len(server.requests) == 3
        server = ScriptedServer(failure, failure, OK)
        async with outside_of(server) as outside:
            assert isinstance(await outside.get("/x"), Answered)


async def test_a_post_is_sent_once_whatever_happens() -> None:
    for failure in (BROKEN, BUSY, b""):
        server = ScriptedServer(failure, OK)
        async with outside_of(server) as outside:
            assert isinstance(await outside.post("/x", b"{}"), NotAnswered)
        assert len(server.requests) == 1


async def test_too_many_requests_are_not_answered_with_more() -> None:
    server = ScriptedServer(BUSY, OK)
    async with outside_of(server) as outside:
        assert await outside.get("/x") == NotAnswered(reason="HTTP 429")
    assert len(server.requests) == 1


async def test_an_endless_trickle_ends_in_time() -> None:
    server = ScriptedServer(answer(200, b" " * 5000))
    server.trickle_seconds = 0.02
    async with outside_of(server, timeout_seconds=0.5) as outside, asyncio.timeout(60):
        assert isinstance(await outside.get("/x"), NotAnswered)
        assert isinstance(await outside.post("/x", b"{}"), NotAnswered)
    assert len(server.requests) == 2


async def test_an_answer_that_is_too_long_is_cut_off() -> None:
    server = ScriptedServer(answer(200, b" " * (LONGEST_ANSWER_BYTES + 1)))
    async with outside_of(server) as outside:
        outcome = await outside.get("/x")
    assert isinstance(outcome, NotAnswered)
    assert str(LONGEST_ANSWER_BYTES) in outcome.reason


async def test_a_redirect_is_not_followed() -> None:
    server = ScriptedServer(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")
    async with outside_of(server) as outside:
        assert await outside.post("/x", b"{}") == Answered(status=302, body=b"")


async def test_a_refusal_is_an_answer_and_keeps_the_circuit_closed() -> None:
    server = ScriptedServer(answer(400, b"{}"))
    async with outside_of(server) as outside:
        for _ in range(10):
            assert isinstance(await outside.post("/x", b"{}"), Answered)


async def test_a_cancelled_call_leaves_the_way_usable() -> None:
    server = ScriptedServer(answer(200, b" " * 50), OK)
    server.trickle_seconds = 0.05
    async with outside_of(server) as outside:
        call = asyncio.create_task(outside.get("/x"))
        await asyncio.sleep(0.2)
        call.cancel()
        assert (await asyncio.gather(call, return_exceptions=True))[0].__class__ is asyncio.CancelledError
        server.trickle_seconds = 0.0
        assert isinstance(await outside.get("/x"), Answered)


def test_the_circuit_opens_after_failures_in_a_row_and_lets_one_try_at_a_time() -> None:
    breaker = Breaker(failures_to_open=3, open_seconds=10)
    _fail(breaker, times=2, at=0)
    breaker.succeeded()
    _fail(breaker, times=2, at=0)
    assert breaker.allows(0)
    _fail(breaker, times=1, at=0)
    assert [breaker.allows(now) for now in (0, 9.9)] == [False, False]
    assert [breaker.allows(now) for now in (10, 10, 19.9)] == [True, False, False]
    assert breaker.allows(20), "the first who tried was cancelled and said nothing"
    breaker.failed(25)
    assert [breaker.allows(now) for now in (34.9, 35)] == [False, True]
    breaker.succeeded()
    assert [breaker.allows(now) for now in (35, 35)] == [True, True]


def test_asking_whether_the_circuit_is_open_takes_nobodys_leave_to_try() -> None:
    breaker = Breaker(failures_to_open=1, open_seconds=10)
    assert not breaker.is_open(0)
    breaker.failed(0)
    assert [breaker.is_open(now) for now in (9.9, 10, 10)] == [True, False, False]
    assert breaker.allows(10)
    assert breaker.is_open(10), "one is trying"


def test_a_pause_that_was_asked_for_is_kept_and_ends_with_one_try() -> None:
    breaker = Breaker(failures_to_open=5, open_seconds=10)
    breaker.pause(0, seconds=3)
    assert [breaker.allows(now) for now in (2.9, 3, 3)] == [False, True, False]
    breaker.succeeded()
    assert breaker.allows(3)


async def test_a_gateway_that_asks_for_a_pause_gets_it_and_no_more_than_half_a_minute() -> None:
    for asked in (b"2", b"86400", b"99999999999999999999"):
        busy = b"HTTP/1.1 429 Busy\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n" % asked
        server = ScriptedServer(busy, OK)
        async with outside_of(server) as outside:
            assert await outside.get("/x") == NotAnswered(reason="HTTP 429")
            assert outside.is_resting()
            assert await outside.post("/x", b"{}") == NotAnswered(
                reason="the circuit is open", had_no_effect=True, was_withheld=True
            )
        assert len(server.requests) == 1


async def test_a_pause_until_a_date_is_not_guessed_at() -> None:
    busy = b"HTTP/1.1 429 Busy\r\nRetry-After: Fri, 31 Dec 2027 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n"
    server = ScriptedServer(busy, OK)
    async with outside_of(server) as outside:
        assert isinstance(await outside.get("/x"), NotAnswered)
        assert isinstance(await outside.put("/x", b"{}"), Answered)


async def test_no_refusal_makes_a_gateway_rest() -> None:
    for status in (400, 401, 402, 403, 404, 409, 422):
        server = ScriptedServer(answer(status, b"{}"))
        async with outside_of(server) as outside:
            for _ in range(6):
                await outside.post("/x", b"{}")
            assert not outside.is_resting()


def _fail(breaker: Breaker, *, times: int, at: float) -> None:
    fail: Callable[[float], None] = breaker.failed
    for _ in range(times):
        fail(at)
