"""Text messages: by Africa's Talking, by Twilio, on the console, or not at all."""

from base64 import b64encode
from typing import Protocol, TypeVar

import msgspec
import structlog

from kiti.core.settings import SmsSettings
from kiti.gateways.delivery import Accepted, Delivery, NotNow, Rejected, Unknown
from kiti.gateways.http import NotAnswered, Outside

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 20.0
OK = range(200, 300)
# Our keys are wrong or were taken from us: no message's fault, and a person can repair it.
NOT_US = {401, 402, 403}
T = TypeVar("T")


class Texter(Protocol):
    """Whoever sends text messages. `to` is in E.164. No transaction may be open while one is sent."""

    async def send(self, *, to: str, text: str) -> Delivery:
        """Hand one message over."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def texter_of(settings: SmsSettings) -> Texter:
    """Whoever the settings name."""
    match settings.provider:
        case "none":
            return NoTexter()
        case "console":
            return ConsoleTexter()
        case "africastalking":
            return AfricasTalking(
                base_url=settings.africastalking_base_url,
                username=settings.africastalking_username,
                api_key=settings.africastalking_api_key,
                sender=settings.sender,
            )
        case "twilio":
            return Twilio(
                base_url=settings.twilio_base_url,
                account_sid=settings.twilio_account_sid,
                auth_token=settings.twilio_auth_token,
                sender=settings.sender,
            )


class AfricasTalking:
    """Africa's Talking's SMS API. Wire format: https://developers.africastalking.com/docs/sms/sending/bulk.

    A form to /version1/messaging with the header apiKey; answered by 201 and, for each recipient, a status of its own.
    There is no idempotency key and no way to look a message up by an id of ours.
    """

    def __init__(self, *, base_url: str, username: str, api_key: str, sender: str) -> None:
        self._username = username
        self._sender = sender
        self._outside = Outside(base_url=base_url, headers={"apiKey": api_key}, timeout_seconds=TIMEOUT_SECONDS)

    async def send(self, *, to: str, text: str) -> Delivery:
        """Hand one message over."""
        fields = {"username": self._username, "to": to, "message": text}
        if self._sender:
            fields["from"] = self._sender
        answer = await self._outside.post_form("/version1/messaging", fields)
        if isinstance(answer, NotAnswered):
            return _not_answered(answer)
        if answer.status in NOT_US:
            return NotNow(reason=f"Africa's Talking does not let us in: HTTP {answer.status}.")
        told = _read(answer.body, _AfricasTalkingAnswer)
        return _unreadable(answer.status) if told is None else _africastalking_said(told)

    async def close(self) -> None:
        """Let go of connections."""
        await self._outside.close()


# Processed, Sent, Queued.
AFRICASTALKING_TAKEN = {100, 101, 102}
# InvalidPhoneNumber, UnsupportedNumberType, UserInBlacklist, CouldNotRoute.
AFRICASTALKING_HOPELESS = {403, 404, 406, 407}
# InternalServerError, GatewayError: they do not know either.
AFRICASTALKING_DOUBTFUL = {500, 501}
# What is left passes or is repaired: RiskHold, InvalidSenderId, InsufficientBalance, DoNotDisturbRejection,
# RejectedByGateway.


class _Recipient(msgspec.Struct, rename="camel"):
    status_code: int
    status: str = ""
    message_id: str = ""


class _MessageData(msgspec.Struct, rename="pascal"):
    message: str = ""
    recipients: list[_Recipient] = []


class _AfricasTalkingAnswer(msgspec.Struct):
    data: _MessageData = msgspec.field(name="SMSMessageData")


class Twilio:
    """Twilio's Messages resource. Wire format: https://www.twilio.com/docs/messaging/api/message-resource.

    A form with basic authentication; answered by 201 and the message's `sid`, or by 4xx and a `code` of
    https://www.twilio.com/docs/api/errors. There is no idempotency key for it.
    """

    def __init__(self, *, base_url: str, account_sid: str, auth_token: str, sender: str) -> None:
        self._sender = sender
        self._path = f"/2010-04-01/Accounts/{account_sid}/Messages.json"
        credentials = b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"}
        self._outside = Outside(base_url=base_url, headers=headers, timeout_seconds=TIMEOUT_SECONDS)

    async def send(self, *, to: str, text: str) -> Delivery:
        """Hand one message over."""
        # A messaging service stands in another field than a number or a name.
        sender = "MessagingServiceSid" if self._sender.startswith("MG") else "From"
        answer = await self._outside.post_form(self._path, {"To": to, sender: self._sender, "Body": text})
        if isinstance(answer, NotAnswered):
            return _not_answered(answer)
        if answer.status in OK:
            taken = _read(answer.body, _TwilioMessage)
            return _unreadable(answer.status) if taken is None else Accepted(provider_id=taken.sid)
        refused = _read(answer.body, _TwilioError) or _TwilioError()
        reason = f"Twilio: HTTP {answer.status}, {refused.code} {refused.message}"
        if refused.code in TWILIO_HOPELESS:
            return Rejected(reason=reason)
        return NotNow(reason=reason)

    async def close(self) -> None:
        """Let go of connections."""
        await self._outside.close()


# Invalid number, unverified or unroutable number, blocked by its owner, not a mobile one, region not permitted.
TWILIO_HOPELESS = {21211, 21214, 21217, 21265, 21408, 21610, 21612, 21614}


class _TwilioMessage(msgspec.Struct):
    sid: str


class _TwilioError(msgspec.Struct):
    code: int = 0
    message: str = ""


class ConsoleTexter:
    """Writes messages to the log, for trying things out."""

    async def send(self, *, to: str, text: str) -> Delivery:
        """Log one message."""
        log.info("text message", to=to, text=text)
        return Accepted(provider_id="console")

    async def close(self) -> None:
        """Nothing to let go of."""


class NoTexter:
    """There is nobody who sends text messages."""

    async def send(self, *, to: str, text: str) -> Delivery:
        """Refuse."""
        del to, text
        return Rejected(reason="Text messages are not set up: SMS_PROVIDER is none.")

    async def close(self) -> None:
        """Nothing to let go of."""


def _not_answered(answer: NotAnswered) -> Delivery:
    return NotNow(reason=answer.reason) if answer.had_no_effect else Unknown(reason=answer.reason)


def _unreadable(status: int) -> Delivery:
    """It answered, but with what: that it took the message is as likely as not where it claims success."""
    reason = f"an answer that cannot be read, HTTP {status}"
    return Unknown(reason=reason) if status in OK else NotNow(reason=reason)


def _read(body: bytes, shape: type[T]) -> T | None:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _africastalking_said(told: _AfricasTalkingAnswer) -> Delivery:
    if not told.data.recipients:
        # The whole request was refused, for example "InvalidSenderId": nothing was sent to anybody.
        return NotNow(reason=f"Africa's Talking: {told.data.message}")
    (recipient, *_) = told.data.recipients
    if recipient.status_code in AFRICASTALKING_TAKEN:
        return Accepted(provider_id=recipient.message_id)
    reason = f"Africa's Talking: {recipient.status_code} {recipient.status}"
    if recipient.status_code in AFRICASTALKING_HOPELESS:
        return Rejected(reason=reason)
    return Unknown(reason=reason) if recipient.status_code in AFRICASTALKING_DOUBTFUL else NotNow(reason=reason)
