"""Calls to integrators: to the address that was checked and no other, as the host that was named, within bounds."""

import asyncio
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.receiver import Receiver, always, tarpit
from tests.scripted_server import ScriptedServer

from kiti.gateways.hooks import Answered, Caller, Line, NotAnswered

HOST = "shop.example.com"
BODY = b'{"type": "endpoint.test"}'


class Names:
    """A name server of its own mind: each question gets the next of its answers, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, _host: str, _port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def post(caller: Caller, url: str) -> Answered | NotAnswered:
    line = await caller.reach(url)
    if isinstance(line, NotAnswered):
        return line
    try:
        return await line.post(headers={"webhook-id": "1"}, body=BODY)
    finally:
        await line.close()


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for HOST, and one that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = tmp_path / "chain.pem"
    chain.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(chain)
    trusting = ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
    return server, trusting


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.7"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["2606:4700:4700::1111", "fd00::1"],
    ],
)
async def test_a_name_that_leads_inside_is_not_called(addresses: list[str]) -> None:
    async with Receiver().listening() as there:
        answer = await post(Caller(resolve=Names(addresses)), f"https://{HOST}/")
        assert isinstance(answer, NotAnswered)
        assert "not a public address" in answer.reason
        assert there.connections == 0


async def test_a_name_that_leads_elsewhere_the_next_moment_gains_nothing() -> None:
    """The name is public when it is checked and 127.0.0.1 ever after: nobody asks for it again."""
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    line = await Caller(resolve=names).reach(f"https://{HOST}/")
    assert isinstance(line, Line)
    assert line._addresses == ["8.8.8.8"]
    assert names.asked == 1
    await line.close()
    # The next line is a new question, and its answer is checked anew.
    assert isinstance(await Caller(resolve=names).reach(f"https://{HOST}/"), NotAnswered)


async def test_the_connection_goes_to_the_address_that_was_checked_though_the_system_knows_no_such_name() -> None:
    async with Receiver().listening() as there:
        names = Names(["127.0.0.1"], ["203.0.113.1"])
        caller = Caller(is_private_allowed=True, resolve=names)
        line = await caller.reach(f"http://{HOST}:{there.port}/kiti?a=b")
        assert isinstance(line, Line)
        for _ in range(3):
            assert await line.post(headers={}, body=BODY) == Answered(status=204, snippet="", retry_after_seconds=None)
        await line.close()
        assert names.asked == 1
        assert there.connections == 1
        assert {one.path for one in there.told} == {"/kiti?a=b"}
        assert {one.headers["host"] for one in there.told} == {f"{HOST}:{there.port}"}


async def test_tls_is_spoken_to_the_name_and_its_certificate_has_to_be_for_it(
    certificates: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, trusting = certificates
    asked_for: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    async with Receiver().listening(tls=server) as there:
        caller = Caller(is_private_allowed=True, resolve=Names(["127.0.0.1"]), tls=trusting)
        assert isinstance(await post(caller, f"https://{HOST}:{there.port}/"), Answered)
        assert asked_for == [HOST]
        assert there.told[0].headers["host"] == f"{HOST}:{there.port}"
        other = await post(caller, f"https://other.example.com:{there.port}/")
        assert isinstance(other, NotAnswered)
        assert "certificate" in other.reason
        distrusting = Caller(is_private_allowed=True, resolve=Names(["127.0.0.1"]))
        assert isinstance(await post(distrusting, f"https://{HOST}:{there.port}/"), NotAnswered)
        assert len(there.told) == 1


async def test_the_next_address_is_tried_where_nobody_listens() -> None:
    async with Receiver().listening() as there:
        caller = Caller(is_private_allowed=True, resolve=Names(["::1", "127.0.0.1"]))
        assert isinstance(await post(caller, f"http://{HOST}:{there.port}/"), Answered)
        assert len(there.told) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    async with Receiver().listening() as inside:
        async with Receiver(always(status, location=inside.url)).listening() as there:
            answer = await post(Caller(is_private_allowed=True), there.url)
            assert isinstance(answer, Answered)
            assert answer.status == status
        assert inside.connections == 0


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver().listening() as proxy, Receiver().listening() as there:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert isinstance(await post(Caller(is_private_allowed=True), there.url), Answered)
        assert proxy.connections == 0


async def test_a_tarpit_holds_nobody_longer_than_the_time_out() -> None:
    async with Receiver(tarpit).listening() as there:
        # It would hold us for an hour.
        async with asyncio.timeout(60):
            answer = await post(Caller(is_private_allowed=True, timeout_seconds=0.3), there.url)
        assert answer == NotAnswered(reason="no answer within 0.3 s")


async def test_an_answer_that_trickles_is_no_answer() -> None:
    server = ScriptedServer(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 1000)
    server.trickle_seconds = 0.02
    async with server.listening() as url:
        assert isinstance(await post(Caller(is_private_allowed=True, timeout_seconds=0.4), url), NotAnswered)


async def test_a_body_without_end_is_read_for_some_kilobytes_and_the_status_counts() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"a" * 200_000
    async with ScriptedServer(endless).listening() as url:
        answer = await post(Caller(is_private_allowed=True), url)
    assert isinstance(answer, Answered)
    assert (answer.status, len(answer.snippet)) == (200, 500)


async def test_a_body_that_breaks_off_takes_nothing_from_the_status() -> None:
    async with Receiver(always(200, b"\x00\x1b[31mred\xff\xfe")).listening() as there:
        answer = await post(Caller(is_private_allowed=True), there.url)
        assert isinstance(answer, Answered)
        assert answer.snippet.isprintable()
    broken = ScriptedServer(b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n")
    async with broken.listening() as url:
        answer = await post(Caller(is_private_allowed=True), url)
    assert answer == Answered(status=500, snippet="hello (cut off)", retry_after_seconds=None)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("99999999999999999999", 999_999_999),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
async def test_retry_after_is_seconds_or_a_date(said: str, seconds: int | None) -> None:
    async with Receiver(always(429, Retry_After=said)).listening() as there:
        answer = await post(Caller(is_private_allowed=True), there.url)
    assert isinstance(answer, Answered)
    assert answer.retry_after_seconds == seconds


async def test_names_that_do_not_resolve_are_told_and_a_slow_name_server_is_given_up() -> None:
    async def fails(_host: str, _port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    async def sleeps(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(3600)
        return []

    for resolve, reason in ((fails, "has no address"), (sleeps, "did not answer"), (Names([]), "has no address")):
        answer = await post(Caller(resolve=resolve, timeout_seconds=0.2), f"https://{HOST}/")
        assert isinstance(answer, NotAnswered)
        assert reason in answer.reason


async def test_the_system_is_asked_for_names_in_the_end() -> None:
    async with Receiver().listening() as there:
        caller = Caller(is_private_allowed=True)
        assert isinstance(await post(caller, f"http://localhost:{there.port}/"), Answered)
        refused = await post(Caller(is_plain_allowed=True), f"http://localhost:{there.port}/")
        assert isinstance(refused, NotAnswered)
        caller.close()
