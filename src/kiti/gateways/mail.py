"""Mail: by SMTP, on the console, or not at all."""

import asyncio
import ipaddress
import time
from base64 import encodebytes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.errors import MessageError
from email.header import Header
from email.headerregistry import Address
from email.utils import format_datetime, formataddr, localtime, parseaddr
from typing import Literal, Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib
import msgspec
import structlog
from aiosmtplib import SMTPConnectError, SMTPException, SMTPResponseException, SMTPServerDisconnected

from kiti.core.settings import MailSettings
from kiti.db import assert_no_transaction
from kiti.gateways.delivery import Accepted, Delivery, NotNow, Rejected, Unknown

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 20.0
MOST_CONNECTIONS = 20
MAILS_PER_CONNECTION = 100
# Servers hang up on who says nothing for some minutes; who knows about proxies.
IDLE_SECONDS = 15.0
HOPELESS = range(500, 600)
Security = Literal["none", "starttls", "tls"]
PORTS: dict[Security, int] = {"none": 25, "starttls": 587, "tls": 465}


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A mail as it is read: a subject of one line, a text, and the same as HTML. `id` makes its Message-ID."""

    id: UUID
    to: str
    subject: str
    text: str
    html: str
    language: str


class Mailer(Protocol):
    """Whoever sends mail. No transaction may be open while one is sent."""

    async def send(self, letter: Letter) -> Delivery:
        """Hand one letter over."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def mailer_of(settings: MailSettings) -> Mailer:
    """Whoever the settings name: `smtps://` is TLS from the start, `smtp://` STARTTLS unless to this machine."""
    if not settings.smtp_url:
        return ConsoleMailer() if settings.console else NoMailer()
    parts = urlsplit(settings.smtp_url)
    host = parts.hostname or ""
    security: Security = "tls" if parts.scheme == "smtps" else "none" if _is_loopback(host) else "starttls"
    return Smtp(
        host=host,
        port=parts.port or PORTS[security],
        security=security,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        sender=settings.sender,
    )


class Smtp:
    """Hands letters to a mail server (RFC 5321), over connections that are kept for a while.

    A letter counts as handed over when the server has answered the end of its text. Before that text is sent, nothing
    can have arrived; once it is, only an answer tells. Message-IDs are made of the messages' ids: a letter that comes
    twice after a lost answer has the same one, so that mailboxes can tell.
    """

    def __init__(
        self, *, host: str, port: int, security: Security, username: str = "", password: str = "", sender: str
    ) -> None:
        self._host = host
        self._port = port
        self._security = security
        self._username = username
        self._password = password
        self._sender = sender
        self._idle: list[_Line] = []
        self._limit = asyncio.Semaphore(MOST_CONNECTIONS)

    async def send(self, letter: Letter) -> Delivery:
        """Hand one letter over; at most MOST_CONNECTIONS at once, the others wait."""
        assert_no_transaction()
        try:
            mail = compose(letter, sender=self._sender)
        except (ValueError, MessageError) as error:
            return Rejected(reason=f"No mail can go to that address: {error}")
        async with self._limit:
            try:
                async with self._line() as line:
                    return await self._hand_over(line, letter, mail)
            except (SMTPConnectError, SMTPException, OSError, TimeoutError) as error:
                # Raised before the text was sent: refused, no TLS, wrong password.
                return NotNow(reason=f"The mail server cannot be used: {_words(error)}")

    async def close(self) -> None:
        """Let go of connections."""
        while self._idle:
            await _hang_up(self._idle.pop())

    async def _hand_over(self, line: "_Line", letter: Letter, mail: bytes) -> Delivery:
        client = line.client
        _, sender = parseaddr(self._sender)
        try:
            await client.mail(sender)
            await client.rcpt(_address(letter.to).addr_spec)
        except SMTPResponseException as error:
            is_hopeless = isinstance(error, aiosmtplib.SMTPRecipientRefused) and error.code in HOPELESS
            line.is_usable = error.code != aiosmtplib.SMTPStatus.domain_unavailable  # 421: it hangs up
            return Rejected(reason=_words(error)) if is_hopeless else NotNow(reason=_words(error))
        line.is_usable = False
        try:
            answer = await client.data(mail)
        except aiosmtplib.SMTPDataError as error:
            return Rejected(reason=_words(error)) if error.code in HOPELESS else NotNow(reason=_words(error))
        except (SMTPException, OSError, TimeoutError) as error:
            return Unknown(reason=f"no answer to the mail's text: {_words(error)}")
        line.is_usable = True
        return Accepted(provider_id=message_id(letter, sender=self._sender) + " " + answer.message[:100])

    @asynccontextmanager
    async def _line(self) -> AsyncIterator["_Line"]:
        """A connection on which a letter may begin; given back if it is still good."""
        line = await self._kept() or await self._connected()
        try:
            yield line
        except BaseException:
            line.client.close()
            raise
        line.mails += 1
        line.used_at = time.monotonic()
        if line.is_usable and line.mails < MAILS_PER_CONNECTION:
            self._idle.append(line)
        else:
            line.client.close()

    async def _kept(self) -> "_Line | None":
        while self._idle:
            line = self._idle.pop()
            if time.monotonic() - line.used_at < IDLE_SECONDS and line.client.is_connected:
                try:
                    await line.client.rset()
                except (SMTPException, OSError):
                    line.client.close()
                else:
                    return line
            else:
                line.client.close()
        return None

    async def _connected(self) -> "_Line":
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._username or None,
            password=self._password or None,
            use_tls=self._security == "tls",
            start_tls=self._security == "starttls",
            timeout=TIMEOUT_SECONDS,
            local_hostname="localhost",
        )
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await client.connect()
        except BaseException:
            client.close()
            raise
        return _Line(client=client)


class ConsoleMailer:
    """Writes letters to the log, for trying things out."""

    async def send(self, letter: Letter) -> Delivery:
        """Log one letter."""
        log.info("mail", to=letter.to, subject=letter.subject, text=letter.text)
        return Accepted(provider_id="console")

    async def close(self) -> None:
        """Nothing to let go of."""


class NoMailer:
    """There is no mail server."""

    async def send(self, letter: Letter) -> Delivery:
        """Refuse."""
        del letter
        return Rejected(reason="Mail is not set up: SMTP_URL is empty.")

    async def close(self) -> None:
        """Nothing to let go of."""


def compose(letter: Letter, *, sender: str) -> bytes:
    """The mail in MIME (RFC 2045 to 2047), seven bits; raises ValueError, MessageError for an address that is none.

    Written by hand: the standard library parses each header anew, which takes longer than all the rest of sending it.
    Values are ASCII without control characters: an address that has been parsed, what encodes words, or our own.
    """
    name, address = parseaddr(sender)
    boundary = f"=_{letter.id.hex}"
    subject = " ".join("".join(c if c.isprintable() else " " for c in letter.subject).split())
    charset = "us-ascii" if subject.isascii() else "utf-8"
    headers = (
        ("From", formataddr((name, address))),
        ("To", _address(letter.to).addr_spec),
        ("Subject", Header(subject, charset, header_name="Subject").encode(linesep="\r\n")),
        ("Message-ID", message_id(letter, sender=sender)),
        ("Date", format_datetime(localtime())),
        ("Content-Language", letter.language),
        ("Auto-Submitted", "auto-generated"),  # RFC 3834: no out-of-office answers
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/alternative;\r\n boundary="{boundary}"'),
    )
    parts = (_part("plain", letter.text), _part("html", letter.html))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    body = "".join(f"\r\n--{boundary}\r\n{part}" for part in parts)
    return f"{head}{body}\r\n--{boundary}--\r\n".encode("ascii")


def message_id(letter: Letter, *, sender: str) -> str:
    """The same for every attempt to send the letter."""
    _, address = parseaddr(sender)
    return f"<{letter.id}@{address.rpartition('@')[2]}>"


def _address(typed: str) -> Address:
    """With the domain as the DNS has it. Beyond ASCII before the @ is refused: hardly any server takes it."""
    address = Address(addr_spec=typed)
    return Address(username=address.username, domain=address.domain.encode("idna").decode())


def _part(subtype: str, text: str) -> str:
    encoded = encodebytes(text.replace("\n", "\r\n").encode()).decode().replace("\n", "\r\n")
    return f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}"


class _Line:
    """A connection, how much has gone over it, and whether another letter may begin on it."""

    def __init__(self, *, client: aiosmtplib.SMTP) -> None:
        self.client = client
        self.mails = 0
        self.used_at = time.monotonic()
        self.is_usable = True


async def _hang_up(line: _Line) -> None:
    try:
        await line.client.quit()
    except (SMTPServerDisconnected, SMTPException, OSError):
        line.client.close()  # it was gone before


def _words(error: BaseException) -> str:
    if isinstance(error, SMTPResponseException):
        return f"{error.code} {error.message}"
    return str(error) or type(error).__name__


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
