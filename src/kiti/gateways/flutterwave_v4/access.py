"""The way in to Flutterwave v4: an OAuth 2.0 token that is fetched before it ends, and headers that each call carries.

Source: Flutterwave's v4 documentation, "Authentication", "Supported Request Headers" and "Idempotency". The grant is
client_credentials, the token lives for ten minutes. Trace ids and idempotency keys are 12 to 255 letters and digits.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from kiti.core.ids import new_id
from kiti.gateways.flutterwave_v4.wire import Refused
from kiti.gateways.http import LONGEST_ANSWER_BYTES, Answered, NotAnswered, Outside
from kiti.gateways.reading import UNREADABLE

UNAUTHORISED = 401
OK = 200
# A token is not used for the last of its time, so that it is still good when the request arrives.
EARLY_SECONDS = 60.0
EARLY_PART = 0.2
LONGEST_TOKEN = 8192


class Tokens:
    """The token in use. However many ask at once, one request for a new one is on its way."""

    def __init__(self, *, url: str, client_id: str, client_secret: str, timeout_seconds: float) -> None:
        self._outside = Outside(base_url=url, headers={}, timeout_seconds=timeout_seconds)
        self._grant = {
            "client_id": client_id,
            "client_secret": client_secret,
            "grant_type": "client_credentials",
        }
        self._token = ""
        self._good_until = 0.0
        self._refresh: asyncio.Task[str | NotAnswered | Refused] | None = None

    async def current(self, *, instead_of: str = "") -> str | NotAnswered | Refused:
        """A token that is good for a while yet; `instead_of` is one that was turned away."""
        if self._token and self._token != instead_of and time.monotonic() < self._good_until:
            return self._token
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.create_task(self._fetch())
        # Whoever gives up waiting does not take the token away from the others.
        return await asyncio.shield(self._refresh)

    def is_resting(self) -> bool:
        """Whether a new token is needed and cannot be asked for now."""
        return time.monotonic() >= self._good_until and self._outside.is_resting()

    async def close(self) -> None:
        """Let go of the connection, and of a request that nobody waits for any more."""
        if self._refresh is not None and not self._refresh.done():
            self._refresh.cancel()
            await asyncio.gather(self._refresh, return_exceptions=True)
        await self._outside.close()

    async def _fetch(self) -> str | NotAnswered | Refused:
        asked_at = time.monotonic()
        answer = await self._outside.post_form("", self._grant)
        if isinstance(answer, NotAnswered):
            # Whatever became of it: the call that needed the token has not been made.
            return NotAnswered(
                reason=f"no token: {answer.reason}", had_no_effect=True, was_withheld=answer.was_withheld
            )
        if answer.status != OK:
            return Refused(http_status=UNAUTHORISED, kind="", message="Flutterwave does not accept our credentials")
        try:
            granted = msgspec.json.decode(answer.body, type=_Granted)
        except UNREADABLE:
            return NotAnswered(reason="no token: an answer of another shape", had_no_effect=True)
        if not 0 < len(granted.access_token) <= LONGEST_TOKEN or not granted.access_token.isascii():
            return NotAnswered(reason="no token: one that no header can hold", had_no_effect=True)
        self._token = granted.access_token
        self._good_until = asked_at + granted.expires_in - min(EARLY_SECONDS, granted.expires_in * EARLY_PART)
        return self._token


class Line:
    """Calls below the API's address, each with a token and a trace id of its own.

    A token that is turned away (401: nothing was looked at) is exchanged once, and the call is made once more.
    """

    def __init__(self, *, base_url: str, tokens: Tokens, timeout_seconds: float) -> None:
        self._outside = Outside(base_url=base_url, headers={}, timeout_seconds=timeout_seconds)
        self._tokens = tokens

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        longest_bytes: int = LONGEST_ANSWER_BYTES,
    ) -> Answered | NotAnswered | Refused:
        """Ask; tried again after a broken connection or a server error while the time lasts."""
        sent = {"X-Trace-Id": new_id().hex}
        return await self._with_token(
            lambda token: self._outside.get(
                path, params, headers={**sent, "Authorization": token}, longest_bytes=longest_bytes
            )
        )

    async def post(self, path: str, body: bytes, *, key: str) -> Answered | NotAnswered | Refused:
        """Send under an idempotency key, once."""
        sent = {"X-Trace-Id": new_id().hex, "X-Idempotency-Key": key}
        return await self._with_token(
            lambda token: self._outside.post(path, body, headers={**sent, "Authorization": token})
        )

    async def put(self, path: str, body: bytes) -> Answered | NotAnswered | Refused:
        """Send, once, what sets something to what it may be already."""
        sent = {"X-Trace-Id": new_id().hex}
        return await self._with_token(
            lambda token: self._outside.put(path, body, headers={**sent, "Authorization": token})
        )

    def is_resting(self) -> bool:
        """Whether the circuit is open, to the API or to the tokens that it wants."""
        return self._outside.is_resting() or self._tokens.is_resting()

    async def close(self) -> None:
        """Close every connection."""
        await self._outside.close()
        await self._tokens.close()

    async def _with_token(
        self, call: Callable[[str], Awaitable[Answered | NotAnswered]]
    ) -> Answered | NotAnswered | Refused:
        token = await self._tokens.current()
        if not isinstance(token, str):
            return token
        answer = await call(f"Bearer {token}")
        if isinstance(answer, Answered) and answer.status == UNAUTHORISED:
            token = await self._tokens.current(instead_of=token)
            if not isinstance(token, str):
                return token
            answer = await call(f"Bearer {token}")
        return answer


class _Granted(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float
