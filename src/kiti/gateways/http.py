"""The way out to a gateway: bounded in time, size, connections and attempts.

What comes back is an answer or the fact that there was none, never an exception of the HTTP library. Only GETs are
tried again; whether a POST is repeated is for the caller to decide, who knows whether it can be asked about first.
"""

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Mapping
from functools import cache
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
import stamina

from kiti.db import assert_no_transaction

LONGEST_ANSWER_BYTES = 1024 * 1024
CONNECT_TIMEOUT_SECONDS = 5.0
MOST_CONNECTIONS = 20
KEEP_ALIVE_SECONDS = 15.0

GET_ATTEMPTS = 3
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 1.0

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 10.0
# A gateway may ask for a pause; one that asked for hours would take itself out of the world.
LONGEST_PAUSE_SECONDS = 30

# Nothing can be said about the request's effect: the server gave up, or had no time for us.
TRY_LATER = {408, 425, 429}
SERVER_ERROR = 500
# RFC 6585, RFC 8470: the server says that it has not looked at the request.
NOT_LOOKED_AT = {425, 429}

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's whole answer, neither a server error nor "too many requests"."""

    status: int
    body: bytes


class NotAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """Time-out, broken connection, server error, too long an answer, or the circuit is open.

    `had_no_effect`: the request of a POST certainly never got to where it could have one. `was_withheld`: we have not
    even tried to send it.
    """

    reason: str
    had_no_effect: bool = False
    was_withheld: bool = False


class Breaker:
    """Stops calls to a gateway that does not answer; times are of a monotonic clock, in seconds.

    After `failures_to_open` failures in a row no call passes for `open_seconds`; then one may try in each such
    span. The first success lets everybody through again. Nothing has to be given back by a call that is cancelled.
    """

    def __init__(self, *, failures_to_open: int = FAILURES_TO_OPEN, open_seconds: float = OPEN_SECONDS) -> None:
        self._failures_to_open = failures_to_open
        self._open_seconds = open_seconds
        self._failures = 0
        self._closed_until = 0.0

    def allows(self, now: float) -> bool:
        """Whether a call may go out now; after the pause a single one takes the leave to try."""
        if self._failures < self._failures_to_open:
            return True
        if now < self._closed_until:
            return False
        self._closed_until = now + self._open_seconds
        return True

    def is_open(self, now: float) -> bool:
        """Whether no call may go out now; unlike `allows` it takes nobody's leave to try."""
        return self._failures >= self._failures_to_open and now < self._closed_until

    def pause(self, now: float, *, seconds: float) -> None:
        """The gateway has asked to be left alone for so long."""
        self._failures = max(self._failures, self._failures_to_open)
        self._closed_until = max(self._closed_until, now + seconds)

    def succeeded(self) -> None:
        """The gateway answered."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """The gateway did not answer."""
        self._failures += 1
        if self._failures >= self._failures_to_open:
            self._closed_until = now + self._open_seconds


@cache
def certificates(*, of_environment: bool) -> ssl.SSLContext:
    """Whom everybody trusts, and whom SSL_CERT_FILE names too: read once, which takes some tens of milliseconds."""
    return httpx.create_ssl_context(trust_env=of_environment)


class Outside:
    """Calls to one gateway below `base_url`. A call ends within `timeout_seconds`, repetitions included."""

    def __init__(self, *, base_url: str, headers: Mapping[str, str], timeout_seconds: float) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._breaker = Breaker()
        short = min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
        self._client = httpx.AsyncClient(
            # Unpacking could grow a small answer without bound, so none is asked for.
            headers={**headers, "Accept": JSON, "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(timeout_seconds, connect=short, pool=short),
            limits=httpx.Limits(
                max_connections=MOST_CONNECTIONS,
                max_keepalive_connections=MOST_CONNECTIONS,
                keepalive_expiry=KEEP_ALIVE_SECONDS,
            ),
            follow_redirects=False,
            # A proxy of the environment is meant for the Internet, not for a gateway on this machine.
            trust_env=not is_loopback(base_url),
            verify=certificates(of_environment=not is_loopback(base_url)),
        )

    def is_resting(self) -> bool:
        """Whether the circuit is open: a call now would not be sent."""
        return self._breaker.is_open(time.monotonic())

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        longest_bytes: int = LONGEST_ANSWER_BYTES,
    ) -> Answered | NotAnswered:
        """Ask; tried again after a broken connection or a server error while the time lasts."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                async for attempt in stamina.retry_context(
                    on=_Broken,
                    attempts=GET_ATTEMPTS,
                    timeout=self._timeout_seconds,
                    wait_initial=FIRST_WAIT_SECONDS,
                    wait_max=LONGEST_WAIT_SECONDS,
                    wait_jitter=FIRST_WAIT_SECONDS,
                ):
                    with attempt:
                        return await self._once(
                            "GET", path, params=params, headers=headers, longest_bytes=longest_bytes
                        )
        except TimeoutError:
            return self._timed_out()
        except (_Broken, _Refrained) as error:
            return NotAnswered(reason=str(error))
        raise AssertionError("unreachable")

    async def post(
        self, path: str, body: bytes, *, content_type: str = JSON, headers: Mapping[str, str] | None = None
    ) -> Answered | NotAnswered:
        """Send, once. NotAnswered says nothing about whether it had an effect, unless it says that it had none.

        Who can ask the gateway need not mind: nothing was refused either, and one question settles every doubt.
        """
        return await self._send("POST", path, body, content_type, headers)

    async def put(self, path: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> Answered | NotAnswered:
        """The same with PUT."""
        return await self._send("PUT", path, body, JSON, headers)

    async def post_form(self, path: str, fields: Mapping[str, str]) -> Answered | NotAnswered:
        """The same with the fields of a form, in UTF-8."""
        return await self.post(path, urlencode(fields).encode(), content_type=FORM)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _send(
        self, method: str, path: str, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
    ) -> Answered | NotAnswered:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._once(method, path, body=body, content_type=content_type, headers=headers)
        except TimeoutError:
            return self._timed_out()
        except (_Broken, _Refrained) as error:
            return NotAnswered(
                reason=str(error), had_no_effect=error.had_no_effect, was_withheld=isinstance(error, _Withheld)
            )

    async def _once(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
        longest_bytes: int = LONGEST_ANSWER_BYTES,
    ) -> Answered:
        assert_no_transaction()
        if not self._breaker.allows(time.monotonic()):
            raise _Withheld("the circuit is open", had_no_effect=True)
        sent = {**(headers or {}), **({} if body is None else {"Content-Type": content_type})}
        try:
            async with self._client.stream(
                method, self._base_url + path, params=params, content=body, headers=sent
            ) as response:
                content = await _read(response, longest_bytes)
        except httpx.PoolTimeout:
            # Our own crowd, no sign of the gateway's health.
            raise _Withheld("no connection was free", had_no_effect=True) from None
        except httpx.RequestError as error:
            self._breaker.failed(time.monotonic())
            never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise _Broken(type(error).__name__, had_no_effect=never_sent) from error
        if response.status_code >= SERVER_ERROR or response.status_code in TRY_LATER:
            self._breaker.failed(time.monotonic())
            if pause_seconds := _asked_pause_seconds(response):
                self._breaker.pause(time.monotonic(), seconds=pause_seconds)
            kind = _Broken if response.status_code >= SERVER_ERROR else _Refrained
            raise kind(f"HTTP {response.status_code}", had_no_effect=response.status_code in NOT_LOOKED_AT)
        self._breaker.succeeded()
        return Answered(status=response.status_code, body=content)

    def _timed_out(self) -> NotAnswered:
        self._breaker.failed(time.monotonic())
        return NotAnswered(reason=f"no answer within {self._timeout_seconds:g} s")


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Failed(Exception):
    def __init__(self, reason: str, *, had_no_effect: bool = False) -> None:
        super().__init__(reason)
        self.had_no_effect = had_no_effect


class _Broken(_Failed):
    """The call went out and failed; a GET may be tried again."""


class _Refrained(_Failed):
    """No call, or an answer after which to back off: trying again at once would make it worse."""


class _Withheld(_Refrained):
    """No call: it was not even tried."""


def _asked_pause_seconds(response: httpx.Response) -> int:
    """What `Retry-After` asks for in seconds, within bounds; 0 where it names a date or nothing."""
    told = response.headers.get("retry-after", "").strip()
    return min(int(told[:6]), LONGEST_PAUSE_SECONDS) if told.isascii() and told.isdecimal() else 0


async def _read(response: httpx.Response, longest_bytes: int) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > longest_bytes:
            raise _Refrained(f"an answer of more than {longest_bytes} bytes")
    return bytes(content)
