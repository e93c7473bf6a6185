"""Calls to addresses that others have given us: never into private networks, and bounded in every way.

A name is resolved once, every address that it has is checked, and the connection goes to one of those addresses and
nowhere else; the name itself is only what TLS and the header Host are told. So a name that resolves differently the
next moment gains nothing. Redirects are answers like any other, and no proxy is used: it would resolve names itself.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from kiti.core.errors import InvalidInput
from kiti.core.settings import Settings
from kiti.db import assert_no_transaction
from kiti.gateways.addresses import Target, objection_to, target_of
from kiti.gateways.http import certificates

TIMEOUT_SECONDS = 15.0
CONNECT_TIMEOUT_SECONDS = 5.0
RESOLVE_TIMEOUT_SECONDS = 5.0
MOST_ADDRESSES = 4
MOST_CONNECTIONS = 16
ANSWER_BYTES = 4096
SNIPPET_LENGTH = 500
# Names are looked up in threads of their own: a name server that does not answer must not take those of others.
LOOKUPS = 64

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\uffff]+")
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """They have answered; `snippet` is how the body begins, `retry_after_seconds` what they ask for, if anything."""

    status: int
    snippet: str
    retry_after_seconds: int | None


class NotAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """Time-out, broken connection, no such name, or an address that we do not call."""

    reason: str


class Line:
    """The way to one target by addresses that were checked. Close it."""

    def __init__(
        self, target: Target, addresses: Sequence[str], *, tls: ssl.SSLContext, timeout_seconds: float
    ) -> None:
        self._target = target
        self._addresses = addresses
        self._timeout_seconds = timeout_seconds
        # Connections are kept by address, so a client of its own for each target: none is shared between two names.
        self._client = httpx.AsyncClient(
            verify=tls,
            timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)),
            limits=httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS),
            follow_redirects=False,
            trust_env=False,
        )

    async def post(self, *, headers: Mapping[str, str], body: bytes) -> Answered | NotAnswered:
        """POST a body, once; the next address is tried only where no connection came about."""
        assert_no_transaction()
        reason = "no address"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for address in self._addresses:
                    try:
                        return await self._once(address, headers=headers, body=body)
                    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                        reason = _reason(error)
        except TimeoutError:
            reason = f"no answer within {self._timeout_seconds:g} s"
        except httpx.RequestError as error:
            reason = _reason(error)
        return NotAnswered(reason=reason)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _once(self, address: str, *, headers: Mapping[str, str], body: bytes) -> Answered:
        target = self._target
        url = httpx.URL(scheme=target.scheme, host=address, port=target.port, raw_path=target.path.encode())
        # Unpacking could grow a small answer without bound, so none is asked for.
        sent = {**headers, "Host": target.host_header, "Accept": "*/*", "Accept-Encoding": "identity"}
        async with self._client.stream(
            "POST", url, content=body, headers=sent, extensions={"sni_hostname": target.host}
        ) as response:
            return Answered(
                status=response.status_code,
                snippet=await _snippet(response),
                retry_after_seconds=_retry_after(response.headers.get("Retry-After", "")),
            )


class Caller:
    """Opens lines.

    `resolve` gives the IP addresses of a host, `tls` says whom we trust; the system's, and everybody's, if not given.
    """

    def __init__(
        self,
        *,
        is_plain_allowed: bool = False,
        is_private_allowed: bool = False,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._is_plain_allowed = is_plain_allowed
        self._is_private_allowed = is_private_allowed
        self._resolve = resolve or self._ask_system
        self._tls = tls or certificates(of_environment=True)
        self._timeout_seconds = timeout_seconds
        self._threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="kiti-lookup")

    def check(self, url: str) -> None:
        """Raise InvalidInput for a URL that would never be called."""
        target_of(url, is_plain_allowed=self._is_plain_allowed, is_private_allowed=self._is_private_allowed)

    async def reach(self, url: str) -> Line | NotAnswered:
        """A line to a URL, its host resolved and every address of it checked."""
        assert_no_transaction()
        try:
            target = target_of(
                url, is_plain_allowed=self._is_plain_allowed, is_private_allowed=self._is_private_allowed
            )
            async with asyncio.timeout(min(RESOLVE_TIMEOUT_SECONDS, self._timeout_seconds)):
                addresses = (await self._resolve(target.host, target.port))[:MOST_ADDRESSES]
        except InvalidInput as wrong:
            return NotAnswered(reason=wrong.message)
        except TimeoutError:
            return NotAnswered(reason="the name server did not answer in time")
        except OSError as error:
            return NotAnswered(reason=f"the host's name has no address: {error}")
        if not addresses:
            return NotAnswered(reason="the host's name has no address")
        # One that is not public spoils all: who sets a name up like that is not mistaken.
        objections = [] if self._is_private_allowed else [why for one in addresses if (why := objection_to(one))]
        if objections:
            return NotAnswered(reason=f"not called: {objections[0]}")
        return Line(target, addresses, tls=self._tls, timeout_seconds=self._timeout_seconds)

    def close(self) -> None:
        """Look no more names up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask_system(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        )
        return list(dict.fromkeys(str(where[0]) for *_, where in found))


def caller_of(settings: Settings) -> Caller:
    """Over TLS only, but for the demo; into private networks only where the settings allow it."""
    return Caller(is_plain_allowed=settings.demo, is_private_allowed=settings.hooks_allow_private)


async def _snippet(response: httpx.Response) -> str:
    """How the body begins. The status is the answer; a body that breaks off or never ends takes nothing from it."""
    content = bytearray()
    try:
        async with asyncio.timeout(1.0):
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) >= ANSWER_BYTES:
                    break
    except (TimeoutError, httpx.RequestError):
        content += b" (cut off)"
    text = bytes(content[:ANSWER_BYTES]).decode("utf-8", "replace")
    return _UNPRINTABLE.sub(" ", text).strip()[:SNIPPET_LENGTH]


def _retry_after(value: str) -> int | None:
    """Seconds, or a date (RFC 9110, section 10.2.3); None for neither."""
    if value.isascii() and value.isdecimal():
        return int(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0, int((moment - datetime.now(UTC)).total_seconds()))


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
