"""Asking Stripe through its SDK: what comes back is an object, a refusal, or the fact that nobody knows.

A question is asked up to three times while its time lasts. What changes something goes out once, under an idempotency
key that was written down before: Stripe answers the same key with the same answer for a day at least.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
import stripe

from kiti.gateways.gateway import Rejected, Unavailable, Unknown
from kiti.gateways.reading import printable
from kiti.gateways.stripe import wire
from kiti.gateways.stripe.transport import Transport, Withheld

T = TypeVar("T")

ASK: stripe.RequestOptions = {"max_network_retries": 2}
PAGE_ROWS = 100

CLIENT_ERRORS = range(400, 500)
# Too late, in conflict with a call that is under way, too early, too many: all may be otherwise in a moment.
NOT_DEFINITE = {408, 409, 425, 429}
NOT_FOUND = 404
# Stripe does not let us in: that says nothing about what was asked for.
NOT_LET_IN = {401, 403}
MISSING = "resource_missing"
REPLAYED = "idempotent-replayed"

# It would tell Stripe about this machine, and keep an id in the home directory to do so.
stripe.enable_telemetry = False


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Stripe says no: certainly nothing was done, now or under this key before. `is_about_us`: it refuses our key."""

    reason: str
    is_missing: bool
    is_about_us: bool = False

    def rejected(self) -> Rejected:
        """As a flow is told it."""
        return Unavailable(reason=self.reason) if self.is_about_us else Rejected(reason=self.reason)


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """No answer, or one that says nothing.

    `is_replayed`: an earlier one, which the key brought back. `was_withheld`: we have not even tried to send it.
    """

    reason: str
    is_replayed: bool = False
    was_withheld: bool = False

    def unknown(self) -> Unknown:
        """As a flow is told it."""
        return Unknown(reason=self.reason)

    def unavailable_or_unknown(self) -> Unavailable | Unknown:
        """The same to who asked for something that was asked for for the first time."""
        return Unavailable(reason=self.reason) if self.was_withheld else self.unknown()


Answer = dict[str, Any] | Refused | Silence


class Api:
    """Stripe's API below `base_url`. A call ends within `timeout_seconds`, repetitions included."""

    def __init__(self, *, secret_key: str, base_url: str, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._transport = Transport(base_url=base_url, timeout_seconds=timeout_seconds)
        self.v1 = stripe.StripeClient(
            secret_key,
            base_addresses={"api": base_url},
            max_network_retries=0,
            http_client=self._transport,
        ).v1

    async def ask(self, call: Awaitable[Any]) -> Answer:
        """The answer to a call of the SDK's, as plain data."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                found = await call
        except TimeoutError:
            self._transport.timed_out()
            return Silence(reason=f"no answer within {self._timeout_seconds:g} s")
        except stripe.StripeError as error:
            return _failed(error)
        told: dict[str, Any] = found.to_dict()
        return told

    async def read(self, call: Awaitable[Any], shape: type[T]) -> T | Refused | Silence:
        """The answer in the shape that it must have."""
        answer = await self.ask(call)
        if isinstance(answer, Refused | Silence):
            return answer
        found = wire.read(answer, shape)
        return Silence(reason=found.reason) if isinstance(found, Unknown) else found

    async def rows(
        self,
        listing: Callable[..., Awaitable[Any]],
        params: Mapping[str, Any],
        shape: type[T],
        *,
        most_pages: int,
        wanted: Callable[[T], bool] = lambda _: False,
    ) -> list[T] | Silence:
        """All rows of a list, the newest first, or up to the one that is `wanted`; Silence unless all were seen."""
        found: list[T] = []
        cursor: dict[str, str] = {}
        for _ in range(most_pages):
            asked = {**params, **cursor, "limit": PAGE_ROWS}
            page = await self.read(listing(params=asked, options=ASK), wire.Listed)
            if not isinstance(page, wire.Listed):
                return page if isinstance(page, Silence) else Silence(reason=page.reason)
            for row in page.data:
                told = wire.read(row, shape)
                if isinstance(told, Unknown):
                    return Silence(reason=told.reason)
                found.append(told)
                if wanted(told):
                    return found
            if not page.has_more or not page.data:
                return found
            cursor = {"starting_after": str(page.data[-1].get("id"))}
        return Silence(reason=f"more than {most_pages} pages of a list")

    def is_resting(self) -> bool:
        """Whether the circuit is open."""
        return self._transport.is_resting()

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close_async()


def under(key: str) -> stripe.RequestOptions:
    """A change under an idempotency key."""
    return {"idempotency_key": key}


def _failed(error: stripe.StripeError) -> Refused | Silence:
    reason = printable(str(error.user_message or error) or type(error).__name__)
    status = error.http_status or 0
    is_definite = status in CLIENT_ERRORS and status not in NOT_DEFINITE
    # A key that was used for something else was used, and for what is not known here; and an APIError is what the SDK
    # makes of a body that is not Stripe's.
    if is_definite and not isinstance(error, stripe.IdempotencyError | stripe.APIError):
        return Refused(
            reason=reason,
            is_missing=status == NOT_FOUND or error.code == MISSING,
            is_about_us=status in NOT_LET_IN,
        )
    replayed = {name.lower(): value for name, value in (error.headers or {}).items()}.get(REPLAYED) == "true"
    return Silence(
        reason=f"HTTP {status}: {reason}" if status else reason,
        is_replayed=replayed,
        was_withheld=isinstance(error, Withheld),
    )
