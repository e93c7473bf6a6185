"""Posting webhooks: the least HTTP/1.1 that does it, over one kept connection.

A general client costs twenty times the processor time of this, and the simulator shares its core with benchmarks.
"""

import asyncio
import re
import ssl
from typing import Final
from urllib.parse import SplitResult, urlsplit

CONNECTION_FAILED: Final = 0
LARGEST_ANSWER_BYTES: Final = 1_000_000
STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)\s*\r\n", re.IGNORECASE)
CLOSING: Final = re.compile(rb"\r\nconnection:\s*close\s*\r\n", re.IGNORECASE)


class Postbox:
    """One connection, used by one post at a time, opened when needed."""

    def __init__(self) -> None:
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._origin = ""

    async def post(self, url: str, *, body: bytes, headers: dict[str, str], timeout_seconds: float) -> int:
        """Return the HTTP status, or CONNECTION_FAILED when there was no answer in time."""
        target = urlsplit(url)
        request = _request(target, body=body, headers=headers)
        kept = self._writer is not None and self._origin == f"{target.scheme}://{target.netloc}"
        try:
            async with asyncio.timeout(timeout_seconds):
                if kept:
                    try:
                        return await self._exchange(request)
                    except (asyncio.IncompleteReadError, ConnectionError):
                        # The receiver closed the idle connection, or was restarted: ask a new one.
                        self.close()
                await self._connect(target)
                return await self._exchange(request)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
            # TimeoutError and ssl.SSLError are OSErrors; ValueError is an answer that is no HTTP.
            self.close()
            return CONNECTION_FAILED

    def close(self) -> None:
        """Drop the connection, if there is one."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _connect(self, target: SplitResult) -> None:
        self.close()
        trust = ssl.create_default_context() if target.scheme == "https" else None
        port = target.port or (443 if trust else 80)
        self._reader, self._writer = await asyncio.open_connection(target.hostname, port, ssl=trust)
        self._origin = f"{target.scheme}://{target.netloc}"

    async def _exchange(self, request: bytes) -> int:
        assert self._reader is not None, "connected before"
        assert self._writer is not None, "connected before"
        self._writer.write(request)
        await self._writer.drain()
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = STATUS_LINE.match(head)
        if status is None:
            raise ValueError("The answer is no HTTP/1.1")
        length = CONTENT_LENGTH.search(head)
        if length is None or int(length[1]) > LARGEST_ANSWER_BYTES or CLOSING.search(head):
            self.close()
        else:
            await self._reader.readexactly(int(length[1]))
        return int(status[1])


def _request(target: SplitResult, *, body: bytes, headers: dict[str, str]) -> bytes:
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    fields = {"host": target.netloc, "content-length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
