"""A mail server and an SMS provider on loopback: they keep what they get, and answer as they are told."""

import asyncio
import email
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import default
from urllib.parse import parse_qsl

import msgspec

from kiti.gateways.mail import Security, Smtp

SENDER = "Kiti <tickets@example.com>"


class MailServer:
    """Takes every mail (RFC 5321), unless `refuse` answers a command or the end of a text with something else.

    `refuse` is given "MAIL FROM:<...>", "RCPT TO:<...>", "DATA" and "." with the recipient; "" hangs up.
    """

    def __init__(self) -> None:
        self.raw: list[tuple[str, bytes]] = []
        self.senders: list[str] = []
        self.logins: list[str] = []
        self.connections = 0
        self.refuse: Callable[[str, str], str | None] = lambda _command, _recipient: None
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self.certificate: ssl.SSLContext | None = None
        self.port = 0

    @property
    def mails(self) -> list[tuple[str, EmailMessage]]:
        """Recipients and what they got."""
        return [(recipient, email.message_from_bytes(raw, policy=default)) for recipient, raw in self.raw]

    @property
    def recipients(self) -> Counter[str]:
        return Counter(recipient for recipient, _ in self.raw)

    @property
    def message_ids(self) -> Counter[str]:
        return Counter(str(mail["Message-ID"]) for _, mail in self.mails)

    def mailer(self, *, security: Security = "none", username: str = "", password: str = "") -> Smtp:
        return Smtp(
            host="127.0.0.1",
            port=self.port,
            security=security,
            username=username,
            password=password,
            sender=SENDER,
        )

    @asynccontextmanager
    async def listening(self, *, tls: bool = False) -> AsyncIterator["MailServer"]:
        conversations: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            conversations.add(task)
            self.connections += 1
            try:
                await self._talk(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # the client had enough, or the test is over
            finally:
                writer.close()
                conversations.discard(task)

        server = await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=self.certificate if tls else None, limit=2**20, backlog=200
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(conversations):
                task.cancel()
            await asyncio.gather(*conversations, return_exceptions=True)
            await server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipient = ""
        await _say(writer, "220 mail.example")
        while line := (await reader.readline()).decode().strip():
            verb = line.split(" ")[0].upper()
            if verb == "RCPT":
                recipient = line.partition("<")[2].partition(">")[0]
            refusal = self.refuse(line, recipient)
            if refusal is not None:
                if not refusal:
                    return
                await _say(writer, refusal)
                continue
            match verb:
                case "EHLO":
                    extra = "250-STARTTLS\r\n" if self.certificate else ""
                    await _say(writer, f"250-mail.example\r\n{extra}250-AUTH PLAIN\r\n250 8BITMIME")
                case "STARTTLS":
                    await _say(writer, "220 go on")
                    assert self.certificate is not None
                    await writer.start_tls(self.certificate)
                case "AUTH":
                    self.logins.append(line.split(" ")[2])
                    await _say(writer, "235 welcome")
                case "DATA":
                    await _say(writer, "354 go on")
                    if not await self._take(reader, writer, recipient):
                        return
                case "QUIT":
                    await _say(writer, "221 bye")
                    return
                case _:
                    self.senders += [line] if verb == "MAIL" else []
                    await _say(writer, "250 ok")

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, recipient: str) -> bool:
        raw = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")  # RFC 5321, section 4.5.2
        refusal = self.refuse(".", recipient)
        if refusal is None or not refusal:
            # Who hangs up after the text has it all the same.
            self.raw.append((recipient, raw))
        if self.before_answer is not None:
            await self.before_answer()
        if refusal is None:
            await _say(writer, "250 queued as 1")
        elif refusal:
            await _say(writer, refusal)
        return refusal != ""


class Form(msgspec.Struct, frozen=True):
    """A request as the provider saw it."""

    path: str
    headers: dict[str, str]
    fields: dict[str, str]


class SmsDesk:
    """Takes forms over HTTP; `answer` makes status and JSON of one, None hangs up."""

    def __init__(self, answer: Callable[[Form], tuple[int, object] | None]) -> None:
        self.answer = answer
        self.forms: list[Form] = []
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["SmsDesk"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield self
        server.close()
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                headers = {name.lower(): value for name, value in re.findall(r"([\w-]+): (.*)\r\n", head)}
                body = (await reader.readexactly(int(headers["content-length"]))).decode()
                form = Form(head.split(" ")[1], headers, dict(parse_qsl(body)))
                self.forms.append(form)
                told = self.answer(form)
                if told is None:
                    break
                status, answer = told
                content = msgspec.json.encode(answer)
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client had enough
        finally:
            writer.close()


async def _say(writer: asyncio.StreamWriter, line: str) -> None:
    writer.write(line.encode() + b"\r\n")
    await writer.drain()
