"""Settings: read once from the environment, checked before anything starts. `.env.example` lists them all."""

import os
from collections.abc import Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

import msgspec

from kiti.core.errors import KitiError

PLACEHOLDERS = {"", "changeme", "change-me", "secret", "placeholder", "xxx", "todo"}
SHORTEST_SECRET = 16
# Gateways repeat a webhook for days: until they are done, it must be known by its bytes.
FEWEST_DAYS, MOST_DAYS = 7, 3650


class BadConfiguration(KitiError):
    """The environment does not describe a server that may start; the sentence names the variable."""


SmsProvider = Literal["none", "console", "africastalking", "twilio"]


class MailSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How mail goes out; without `smtp_url` to the log, or not at all. `sender` is "Name <address>"."""

    smtp_url: str
    sender: str
    console: bool

    def __repr__(self) -> str:
        """Without the password."""
        return f"MailSettings(sender={self.sender!r}, ...)"


class SmsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How text messages go out. `sender` is a number, a name or a short code that the provider knows as ours."""

    provider: SmsProvider
    sender: str
    africastalking_username: str
    africastalking_api_key: str
    africastalking_base_url: str
    twilio_account_sid: str
    twilio_auth_token: str
    twilio_base_url: str

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"SmsSettings(provider={self.provider!r}, ...)"


class FlutterwaveV4Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The second API of Flutterwave, with keys of its own."""

    client_id: str
    client_secret: str
    webhook_secret: str
    base_url: str
    token_url: str

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"FlutterwaveV4Settings(base_url={self.base_url!r}, ...)"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the environment decides."""

    database_url: str
    data_dir: Path
    base_url: str
    host: str
    port: int
    jwt_secret: str
    job_secret_key: str
    flutterwave_public_key: str
    flutterwave_secret_key: str
    flutterwave_webhook_hash: str
    flutterwave_base_url: str
    stripe_secret_key: str
    stripe_webhook_secret: str
    stripe_api_base: str
    flutterwave_v4: FlutterwaveV4Settings | None
    demo: bool
    limits: bool
    hooks_allow_private: bool
    webhook_days: int
    log_format: str
    mail: MailSettings
    sms: SmsSettings

    def __repr__(self) -> str:
        """Without the secrets: it must never matter who prints this."""
        return f"Settings(base_url={self.base_url!r}, ...)"

    @property
    def message_channels(self) -> tuple[Literal["email", "sms"], ...]:
        """How travellers are told of things. Mail that is not set up is parked, so that it can be noticed."""
        return ("email",) if self.sms.provider == "none" else ("email", "sms")

    @property
    def takes_stripe(self) -> bool:
        """Whether travellers may pay through Stripe: its two secrets go together."""
        return bool(self.stripe_secret_key)

    @property
    def is_secure(self) -> bool:
        """Whether people reach us over TLS, so that cookies may insist on it."""
        return self.base_url.startswith("https://")

    def check_secrets(self) -> None:
        """Raise BadConfiguration unless every secret is set; demo mode brings its own.

        Stripe may be left out, and so may Flutterwave v4.
        """
        stripe = (
            ("STRIPE_SECRET_KEY", self.stripe_secret_key),
            ("STRIPE_WEBHOOK_SECRET", self.stripe_webhook_secret),
        )
        v4 = self.flutterwave_v4
        for name, value in (
            ("JWT_SECRET", self.jwt_secret),
            ("JOB_SECRET_KEY", self.job_secret_key),
            ("FLUTTERWAVE_SECRET_KEY", self.flutterwave_secret_key),
            ("FLUTTERWAVE_WEBHOOK_HASH", self.flutterwave_webhook_hash),
            *(stripe if any(value for _, value in stripe) else ()),
            *(() if v4 is None else (("FLUTTERWAVE_V4_CLIENT_SECRET", v4.client_secret),)),
            *(() if v4 is None else (("FLUTTERWAVE_V4_WEBHOOK_SECRET", v4.webhook_secret),)),
        ):
            if value.strip().lower() in PLACEHOLDERS:
                raise BadConfiguration(f"{name} is not set. Give it a long random value, then start again.")
            is_known = value.startswith("demo-") or value in DEMO_DEFAULTS.values()
            if not self.demo and (is_known or len(value) < SHORTEST_SECRET):
                raise BadConfiguration(
                    f"{name} is a placeholder or shorter than {SHORTEST_SECRET} characters."
                    " Give it a long random value, then start again."
                )


DEMO_DEFAULTS = {
    "JWT_SECRET": "demo-jwt-secret-not-for-production",
    "JOB_SECRET_KEY": "demo-job-secret-not-for-production",
    "FLUTTERWAVE_PUBLIC_KEY": "FLWPUBK_TEST-demo",
    "FLUTTERWAVE_SECRET_KEY": "FLWSECK_TEST-demo-not-for-production",
    "FLUTTERWAVE_WEBHOOK_HASH": "demo-webhook-hash-not-for-production",
    "STRIPE_SECRET_KEY": "sk_test_demo-not-for-production",
    "STRIPE_WEBHOOK_SECRET": "whsec_demo-not-for-production",
    "FLUTTERWAVE_V4_CLIENT_ID": "demo-client",
    "FLUTTERWAVE_V4_CLIENT_SECRET": "demo-client-secret-not-for-production",
    "FLUTTERWAVE_V4_WEBHOOK_SECRET": "demo-v4-webhook-secret-not-for-production",
}


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the environment; raises BadConfiguration naming the variable that cannot be used."""
    demo = environ.get("KITI_DEMO", "") == "1"
    values = {**(DEMO_DEFAULTS if demo else {}), **{k: v for k, v in environ.items() if v}}
    port = _port(values.get("KITI_PORT", "8000"))
    host = values.get("KITI_HOST", "127.0.0.1")
    return Settings(
        database_url=_database_url(values.get("DATABASE_URL", "")),
        data_dir=Path(values.get("KITI_DATA_DIR") or _default_data_dir(environ)).expanduser(),
        base_url=_url("KITI_BASE_URL", values.get("KITI_BASE_URL", f"http://{host}:{port}")),
        host=host,
        port=port,
        jwt_secret=values.get("JWT_SECRET", ""),
        job_secret_key=values.get("JOB_SECRET_KEY", ""),
        flutterwave_public_key=values.get("FLUTTERWAVE_PUBLIC_KEY", ""),
        flutterwave_secret_key=values.get("FLUTTERWAVE_SECRET_KEY", ""),
        flutterwave_webhook_hash=values.get("FLUTTERWAVE_WEBHOOK_HASH", ""),
        flutterwave_base_url=_url(
            "FLUTTERWAVE_BASE_URL",
            values.get("FLUTTERWAVE_BASE_URL", "https://api.flutterwave.com/v3"),
        ),
        stripe_secret_key=values.get("STRIPE_SECRET_KEY", ""),
        stripe_webhook_secret=values.get("STRIPE_WEBHOOK_SECRET", ""),
        stripe_api_base=_url("STRIPE_API_BASE", values.get("STRIPE_API_BASE", "https://api.stripe.com")),
        flutterwave_v4=_flutterwave_v4(values, demo=demo),
        demo=demo,
        limits=values.get("KITI_LIMITS", "on").lower() != "off",
        hooks_allow_private=values.get("KITI_HOOKS_ALLOW_PRIVATE", "") == "1",
        webhook_days=_days("KITI_WEBHOOK_DAYS", values.get("KITI_WEBHOOK_DAYS", "90")),
        log_format=_choice("KITI_LOG_FORMAT", values.get("KITI_LOG_FORMAT", "console"), {"console", "json"}),
        mail=_mail(values, demo=demo),
        sms=_sms(values, demo=demo),
    )


def _flutterwave_v4(values: Mapping[str, str], *, demo: bool) -> FlutterwaveV4Settings | None:
    """All of its keys, or none of them; None: it is not used. The demo's keys are good for a simulator only."""
    if demo and "FLUTTERWAVE_V4_BASE_URL" not in values:
        return None
    keys = {
        "FLUTTERWAVE_V4_CLIENT_ID": values.get("FLUTTERWAVE_V4_CLIENT_ID", ""),
        "FLUTTERWAVE_V4_CLIENT_SECRET": values.get("FLUTTERWAVE_V4_CLIENT_SECRET", ""),
        "FLUTTERWAVE_V4_WEBHOOK_SECRET": values.get("FLUTTERWAVE_V4_WEBHOOK_SECRET", ""),
    }
    if not any(keys.values()):
        return None
    for name, value in keys.items():
        if not value:
            raise BadConfiguration(f"{name} is not set, and others of FLUTTERWAVE_V4_ are. Set all of them, or none.")
    base_url = values.get("FLUTTERWAVE_V4_BASE_URL", "https://f4bexperience.flutterwave.com")
    token_url = values.get(
        "FLUTTERWAVE_V4_TOKEN_URL",
        "https://idp.flutterwave.com/realms/flutterwave/protocol/openid-connect/token",
    )
    return FlutterwaveV4Settings(
        client_id=keys["FLUTTERWAVE_V4_CLIENT_ID"],
        client_secret=keys["FLUTTERWAVE_V4_CLIENT_SECRET"],
        webhook_secret=keys["FLUTTERWAVE_V4_WEBHOOK_SECRET"],
        base_url=_url("FLUTTERWAVE_V4_BASE_URL", base_url),
        token_url=_url("FLUTTERWAVE_V4_TOKEN_URL", token_url),
    )


def _mail(values: Mapping[str, str], *, demo: bool) -> MailSettings:
    smtp_url = values.get("SMTP_URL", "")
    sender = values.get("KITI_MAIL_FROM", "")
    if smtp_url:
        parts = urlsplit(smtp_url)
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
            raise BadConfiguration("SMTP_URL is not of the form smtp://user:password@host:587 or smtps://...:465.")
        if not sender:
            raise BadConfiguration("KITI_MAIL_FROM is not set, and SMTP_URL is. Say from whom mail comes.")
    if sender and "@" not in parseaddr(sender)[1]:
        raise BadConfiguration(f"KITI_MAIL_FROM is {sender!r}; write an address, or: Kiti <tickets@example.com>.")
    return MailSettings(smtp_url=smtp_url, sender=sender, console=demo)


def _sms(values: Mapping[str, str], *, demo: bool) -> SmsSettings:
    provider = values.get("SMS_PROVIDER", "console" if demo else "none")
    settings = SmsSettings(
        provider=cast("SmsProvider", _choice("SMS_PROVIDER", provider, set(get_args(SmsProvider)))),
        sender=values.get("SMS_FROM", ""),
        africastalking_username=values.get("AFRICASTALKING_USERNAME", ""),
        africastalking_api_key=values.get("AFRICASTALKING_API_KEY", ""),
        africastalking_base_url=_url(
            "AFRICASTALKING_BASE_URL", values.get("AFRICASTALKING_BASE_URL", "https://api.africastalking.com")
        ),
        twilio_account_sid=values.get("TWILIO_ACCOUNT_SID", ""),
        twilio_auth_token=values.get("TWILIO_AUTH_TOKEN", ""),
        twilio_base_url=_url("TWILIO_BASE_URL", values.get("TWILIO_BASE_URL", "https://api.twilio.com")),
    )
    needed = {
        "africastalking": {
            "AFRICASTALKING_USERNAME": settings.africastalking_username,
            "AFRICASTALKING_API_KEY": settings.africastalking_api_key,
        },
        "twilio": {
            "TWILIO_ACCOUNT_SID": settings.twilio_account_sid,
            "TWILIO_AUTH_TOKEN": settings.twilio_auth_token,
            "SMS_FROM": settings.sender,
        },
    }.get(provider, {})
    for name, value in needed.items():
        if not value:
            raise BadConfiguration(f"{name} is not set, and SMS_PROVIDER is {provider}.")
    return settings


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:  # noqa: PLR2004 - the range of TCP ports
        raise BadConfiguration(f"KITI_PORT is {text!r}; it must be a number from 1 to 65535.")
    return int(text)


def _days(name: str, text: str) -> int:
    if not text.isdecimal() or not FEWEST_DAYS <= int(text) <= MOST_DAYS:
        raise BadConfiguration(f"{name} is {text!r}; it must be a number of days from {FEWEST_DAYS} to {MOST_DAYS}.")
    return int(text)


def _database_url(text: str) -> str:
    """As it is; never shown, for it may hold a password."""
    if text and not text.startswith(("postgresql://", "postgres://")):
        raise BadConfiguration("DATABASE_URL is not of the form postgresql://user:password@host:5432/database.")
    return text


def _url(name: str, text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise BadConfiguration(f"{name} is {text!r}; it must be an http:// or https:// address.")
    return text.rstrip("/")


def _choice(name: str, text: str, allowed: set[str]) -> str:
    if text not in allowed:
        raise BadConfiguration(f"{name} is {text!r}; it must be one of {', '.join(sorted(allowed))}.")
    return text


def _default_data_dir(environ: Mapping[str, str]) -> str:
    """The XDG data home, where a desktop program of this user keeps what it must not lose."""
    return str(Path(environ.get("XDG_DATA_HOME") or "~/.local/share") / "kiti")
