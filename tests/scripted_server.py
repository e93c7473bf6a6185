"""An HTTP server on loopback that answers with raw bytes in a given order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


def answer(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Scripted\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


class ScriptedServer:
    """Answers each request with the next of some raw bytes, the last one for ever; empty bytes hang up."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.trickle_seconds = 0.0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The server's address, while it listens."""
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        listener.close()
        await listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await _request(reader):
                self.requests.append(head)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if not answer:
                    break
                for piece in [answer] if not self.trickle_seconds else [bytes([b]) for b in answer]:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(self.trickle_seconds)
        except ConnectionError:
            pass  # the client had enough
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
    return head
