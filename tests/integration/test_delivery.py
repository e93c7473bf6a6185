"""Handing mail and text messages over: what an answer means, what its absence means, and over which wires."""

import asyncio
import ssl
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace
from tests.postoffice import MailServer, SmsDesk

from kiti.core.settings import BadConfiguration, load
from kiti.gateways import mail
from kiti.gateways.delivery import Accepted, Delivery, NotNow, Rejected, Unknown
from kiti.gateways.mail import ConsoleMailer, Letter, NoMailer, Security, Smtp, mailer_of
from kiti.gateways.sms import AfricasTalking, ConsoleTexter, NoTexter, Twilio, texter_of

LETTER = Letter(
    id=UUID(int=5),
    to="grace@example.com",
    subject="Bonjour à tous",
    text="à l\u2019arrêt\n.\nfin",
    html="<p>à l\u2019arrêt</p>",
    language="fr",
)
TO = "+256772123456"
TEXT = "K7MPQR: 1A & 1B + é=50% €"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 with its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "mail.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def secured(certificate: Path) -> MailServer:
    server = MailServer()
    server.certificate = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.certificate.load_cert_chain(certificate)
    return server


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mail_goes_over_tls_with_user_and_password(
    certificate: Path, security: Security, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with secured(certificate).listening(tls=security == "tls") as server:
        mailer = server.mailer(security=security, username="kiti", password="s3 cret")
        assert isinstance(await mailer.send(LETTER), Accepted)
        await mailer.close()
    assert server.logins == [b64encode(b"\0kiti\0s3 cret").decode()]
    ((recipient, found),) = server.mails
    assert recipient == LETTER.to
    plain = found.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().replace("\r\n", "\n") == LETTER.text  # a line of one dot ends nothing


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_that_nobody_vouches_for_gets_no_mail(certificate: Path, security: Security) -> None:
    async with secured(certificate).listening(tls=security == "tls") as server:
        mailer = server.mailer(security=security, username="kiti", password="secret")
        assert isinstance(await mailer.send(LETTER), NotNow)
    assert (server.mails, server.logins) == ([], [])


async def test_where_tls_was_promised_no_mail_goes_in_the_clear() -> None:
    async with MailServer().listening() as server:
        assert isinstance(await server.mailer(security="starttls").send(LETTER), NotNow)
    assert server.mails == []


@pytest.mark.parametrize(
    ("command", "answer", "outcome"),
    [
        ("EHLO", "554 go away", NotNow),
        ("MAIL", "530 log in first", NotNow),
        ("MAIL", "421 closing", NotNow),
        ("RCPT", "550 no such user", Rejected),
        ("RCPT", "452 mailbox full", NotNow),
        ("RCPT", "", NotNow),
        ("DATA", "451 not now", NotNow),
        (".", "554 looks like spam", Rejected),
        (".", "452 no space", NotNow),
        (".", "", Unknown),
    ],
)
async def test_what_a_mail_server_s_answer_means(command: str, answer: str, outcome: type[Delivery]) -> None:
    async with MailServer().listening() as server:
        server.refuse = lambda line, _: answer if line.split(" ")[0].replace("HELO", "EHLO") == command else None
        mailer = server.mailer()
        delivery = await mailer.send(LETTER)
        assert isinstance(delivery, outcome), delivery
        assert not isinstance(delivery, Accepted)
        server.refuse = lambda *_: None
        assert isinstance(await mailer.send(LETTER), Accepted)
        await mailer.close()


async def test_a_mail_server_that_goes_silent_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "TIMEOUT_SECONDS", 1.0)

    async def silence() -> None:
        await asyncio.sleep(60)

    async with MailServer().listening() as server:
        server.before_answer = silence
        async with asyncio.timeout(30):
            assert isinstance(await server.mailer().send(LETTER), Unknown)


async def test_letters_share_connections_and_a_broken_one_is_replaced() -> None:
    async with MailServer().listening() as server:
        mailer = server.mailer()
        for _ in range(5):
            assert isinstance(await mailer.send(LETTER), Accepted)
        assert server.connections == 1
        server.refuse = lambda line, _: "" if line == "RSET" else None
        assert isinstance(await mailer.send(LETTER), Accepted)
        assert server.connections == 2
        await mailer.close()


async def test_a_domain_of_other_letters_is_handed_over_as_the_dns_has_it() -> None:
    async with MailServer().listening() as server:
        mailer = server.mailer()
        assert isinstance(await mailer.send(replace(LETTER, to="grace@kampalâ.example")), Accepted)
        assert isinstance(await mailer.send(replace(LETTER, to="grâce@example.com")), Rejected)
        await mailer.close()
    assert list(server.recipients) == ["grace@xn--kampal-1ta.example"]


def africastalking(code: int = 101, *, status: str = "Success") -> dict[str, Any]:
    recipient = {"statusCode": code, "number": TO, "status": status, "cost": "UGX 30", "messageId": "ATXid_1"}
    return {"SMSMessageData": {"Message": "Sent to 1/1", "Recipients": [recipient]}}


async def by_africastalking(status: int, answer: object, *, sender: str = "") -> tuple[Delivery, SmsDesk]:
    async with SmsDesk(lambda _: None if status == 0 else (status, answer)).listening() as desk:
        texter = AfricasTalking(base_url=desk.url, username="kiti", api_key="at-key", sender=sender)
        delivery = await texter.send(to=TO, text=TEXT)
        await texter.close()
    return delivery, desk


async def by_twilio(status: int, answer: object, *, sender: str = "+15005550006") -> tuple[Delivery, SmsDesk]:
    async with SmsDesk(lambda _: None if status == 0 else (status, answer)).listening() as desk:
        texter = Twilio(base_url=desk.url, account_sid="AC1", auth_token="tw-token", sender=sender)
        delivery = await texter.send(to=TO, text=TEXT)
        await texter.close()
    return delivery, desk


async def test_africas_talking_gets_a_form_with_its_key() -> None:
    delivery, desk = await by_africastalking(201, africastalking(), sender="KITI")
    assert delivery == Accepted(provider_id="ATXid_1")
    (form,) = desk.forms
    assert form.path == "/version1/messaging"
    assert form.headers["apikey"] == "at-key"
    assert form.headers["content-type"] == "application/x-www-form-urlencoded"
    assert form.fields == {"username": "kiti", "to": TO, "message": TEXT, "from": "KITI"}


@pytest.mark.parametrize(
    ("status", "answer", "outcome"),
    [
        (201, africastalking(100), Accepted),
        (201, africastalking(102), Accepted),
        (201, africastalking(403, status="InvalidPhoneNumber"), Rejected),
        (201, africastalking(406, status="UserInBlacklist"), Rejected),
        (201, africastalking(405, status="InsufficientBalance"), NotNow),
        (201, africastalking(501, status="GatewayError"), Unknown),
        (201, {"SMSMessageData": {"Message": "InvalidSenderId", "Recipients": []}}, NotNow),
        (201, {"what": "is this"}, Unknown),
        (401, "The supplied authentication is invalid", NotNow),
        (400, "Bad request", NotNow),
        (429, {}, NotNow),
        (503, {}, Unknown),
        (0, None, Unknown),
    ],
)
async def test_what_africas_talking_s_answer_means(status: int, answer: object, outcome: type[Delivery]) -> None:
    delivery, _ = await by_africastalking(status, answer)
    assert isinstance(delivery, outcome), delivery


async def test_twilio_gets_a_form_with_basic_authentication() -> None:
    delivery, desk = await by_twilio(201, {"sid": "SM1", "status": "queued"})
    assert delivery == Accepted(provider_id="SM1")
    (form,) = desk.forms
    assert form.path == "/2010-04-01/Accounts/AC1/Messages.json"
    assert form.headers["authorization"] == "Basic " + b64encode(b"AC1:tw-token").decode()
    assert form.fields == {"To": TO, "From": "+15005550006", "Body": TEXT}
    _, desk = await by_twilio(201, {"sid": "SM2"}, sender="MG123")
    assert desk.forms[0].fields == {"To": TO, "MessagingServiceSid": "MG123", "Body": TEXT}


@pytest.mark.parametrize(
    ("status", "answer", "outcome"),
    [
        (400, {"code": 21211, "message": "The 'To' number is not valid.", "status": 400}, Rejected),
        (400, {"code": 21610, "message": "Attempt to send to unsubscribed recipient"}, Rejected),
        (400, {"code": 21606, "message": "The From phone number is not yours."}, NotNow),
        (401, {"code": 20003, "message": "Authenticate"}, NotNow),
        (404, "?", NotNow),
        (201, {"status": "queued"}, Unknown),
        (429, {"code": 20429, "message": "Too many requests"}, NotNow),
        (500, {}, Unknown),
        (0, None, Unknown),
    ],
)
async def test_what_twilio_s_answer_means(status: int, answer: object, outcome: type[Delivery]) -> None:
    delivery, _ = await by_twilio(status, answer)
    assert isinstance(delivery, outcome), delivery


async def test_a_provider_that_is_not_reached_has_certainly_sent_nothing() -> None:
    texter = Twilio(base_url="http://127.0.0.1:9", account_sid="AC1", auth_token="t", sender="+1")
    assert isinstance(await texter.send(to=TO, text=TEXT), NotNow)
    await texter.close()
    smtp = Smtp(host="127.0.0.1", port=9, security="none", sender="tickets@example.com")
    assert isinstance(await smtp.send(LETTER), NotNow)


async def test_the_settings_say_who_sends() -> None:
    demo, bare = load({"KITI_DEMO": "1"}), load({})
    assert isinstance(mailer_of(demo.mail), ConsoleMailer)
    assert isinstance(texter_of(demo.sms), ConsoleTexter)
    assert demo.message_channels == ("email", "sms")
    assert isinstance(mailer_of(bare.mail), NoMailer)
    assert isinstance(texter_of(bare.sms), NoTexter)
    assert bare.message_channels == ("email",)
    assert isinstance(await ConsoleMailer().send(LETTER), Accepted)
    assert isinstance(await ConsoleTexter().send(to=TO, text=TEXT), Accepted)
    assert await NoMailer().send(LETTER) == Rejected(reason="Mail is not set up: SMTP_URL is empty.")
    assert isinstance(await NoTexter().send(to=TO, text=TEXT), Rejected)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("smtp://127.0.0.1", ("127.0.0.1", 25, "none", "", "")),
        ("smtp://mail.example.com", ("mail.example.com", 587, "starttls", "", "")),
        ("smtp://k%40x:p%3Aw@mail.example.com:2525", ("mail.example.com", 2525, "starttls", "k@x", "p:w")),
        ("smtps://u:p@mail.example.com", ("mail.example.com", 465, "tls", "u", "p")),
    ],
)
def test_the_address_of_a_mail_server_says_how_to_speak_to_it(url: str, place: tuple[object, ...]) -> None:
    mailer = mailer_of(load({"SMTP_URL": url, "KITI_MAIL_FROM": "Kiti <t@example.com>"}).mail)
    assert isinstance(mailer, Smtp)
    assert (mailer._host, mailer._port, mailer._security, mailer._username, mailer._password) == place


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"SMTP_URL": "mail.example.com:25", "KITI_MAIL_FROM": "a@b.c"}, "SMTP_URL"),
        ({"SMTP_URL": "smtp://mail.example.com"}, "KITI_MAIL_FROM"),
        ({"KITI_MAIL_FROM": "Kiti"}, "KITI_MAIL_FROM"),
        ({"SMS_PROVIDER": "pigeon"}, "SMS_PROVIDER"),
        ({"SMS_PROVIDER": "africastalking", "AFRICASTALKING_USERNAME": "kiti"}, "AFRICASTALKING_API_KEY"),
        ({"SMS_PROVIDER": "twilio", "TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "t"}, "SMS_FROM"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(environment: dict[str, str], named: str) -> None:
    with pytest.raises(BadConfiguration, match=named):
        load(environment)


def test_secrets_are_not_shown() -> None:
    settings = load(
        {
            "SMTP_URL": "smtp://u:hidden@mail.example.com",
            "KITI_MAIL_FROM": "a@b.c",
            "TWILIO_AUTH_TOKEN": "hidden",
            "AFRICASTALKING_API_KEY": "hidden",
        }
    )
    assert "hidden" not in repr(settings.mail) + repr(settings.sms) + repr(settings)
