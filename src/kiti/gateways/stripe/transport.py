"""The HTTP client that Stripe's SDK speaks through: bounded like `gateways.http`, and barred inside a transaction.

The SDK makes requests, headers and objects of Stripe's API; this decides how long, how large and how often.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx
import stripe

from kiti.db import assert_no_transaction
from kiti.gateways.http import (
    CONNECT_TIMEOUT_SECONDS,
    KEEP_ALIVE_SECONDS,
    MOST_CONNECTIONS,
    SERVER_ERROR,
    TRY_LATER,
    Breaker,
    certificates,
    is_loopback,
)

# A page of a hundred PaymentIntents with what is expanded in them has some 400 kB.
LONGEST_ANSWER_BYTES = 8 * 1024 * 1024


class Withheld(stripe.APIConnectionError):
    """The request was not even sent."""


class Transport(stripe.HTTPClient):
    """An HTTPX client for StripeClient; raises APIConnectionError, and AssertionError inside a transaction."""

    name = "httpx"

    def __init__(self, *, base_url: str, timeout_seconds: float) -> None:
        super().__init__()
        self._breaker = Breaker()
        short = min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
        self._http = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity"},
            timeout=httpx.Timeout(timeout_seconds, connect=short, pool=short),
            limits=httpx.Limits(
                max_connections=MOST_CONNECTIONS,
                max_keepalive_connections=MOST_CONNECTIONS,
                keepalive_expiry=KEEP_ALIVE_SECONDS,
            ),
            follow_redirects=False,
            trust_env=not is_loopback(base_url),
            verify=certificates(of_environment=not is_loopback(base_url)),
        )

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One request; the answer's bytes, status and headers."""
        assert_no_transaction()
        if not self._breaker.allows(time.monotonic()):
            raise Withheld("the circuit is open", should_retry=False)  # type: ignore[no-untyped-call] # the SDK's
        try:
            async with self._http.stream(method.upper(), url, headers=dict(headers), content=post_data) as response:
                content = await _read(response)
        except httpx.PoolTimeout:
            # Our own crowd, no sign of the gateway's health.
            raise Withheld("no connection was free", should_retry=False) from None  # type: ignore[no-untyped-call] # as above
        except httpx.RequestError as error:
            self._breaker.failed(time.monotonic())
            raise _no_answer(type(error).__name__, may_repeat=True) from error
        if response.status_code >= SERVER_ERROR or response.status_code in TRY_LATER:
            self._breaker.failed(time.monotonic())
        else:
            self._breaker.succeeded()
        return content, response.status_code, response.headers

    def is_resting(self) -> bool:
        """Whether the circuit is open: a call now would not be sent."""
        return self._breaker.is_open(time.monotonic())

    def timed_out(self) -> None:
        """Whoever waited for an answer has given up."""
        self._breaker.failed(time.monotonic())

    async def sleep_async(self, secs: float) -> None:
        """Between two tries."""
        await asyncio.sleep(secs)

    async def close_async(self) -> None:
        """Close every connection."""
        await self._http.aclose()


def _no_answer(reason: str, *, may_repeat: bool = False) -> stripe.APIConnectionError:
    return stripe.APIConnectionError(reason, should_retry=may_repeat)  # type: ignore[no-untyped-call] # the SDK's


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > LONGEST_ANSWER_BYTES:
            raise _no_answer(f"an answer of more than {LONGEST_ANSWER_BYTES} bytes")
    return bytes(content)
