"""Settings: read once from the environment, checked before anything starts. `.env.example` lists them all."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from kiti.core.errors import KitiError

PLACEHOLDERS = {"", "changeme", "change-me", "secret", "placeholder", "xxx", "todo"}
SHORTEST_SECRET = 16


class BadConfiguration(KitiError):
    """The environment does not describe a server that may start; the sentence names the variable."""


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
    demo: bool
    limits: bool
    log_format: str

    def __repr__(self) -> str:
        """Without the secrets: it must never matter who prints this."""
        return f"Settings(base_url={self.base_url!r}, ...)"

    @property
    def is_secure(self) -> bool:
        """Whether people reach us over TLS, so that cookies may insist on it."""
        return self.base_url.startswith("https://")

    def check_secrets(self) -> None:
        """Raise BadConfiguration unless every secret is set; demo mode brings its own."""
        for name, value in (
            ("JWT_SECRET", self.jwt_secret),
            ("JOB_SECRET_KEY", self.job_secret_key),
            ("FLUTTERWAVE_SECRET_KEY", self.flutterwave_secret_key),
            ("FLUTTERWAVE_WEBHOOK_HASH", self.flutterwave_webhook_hash),
        ):
            if value.strip().lower() in PLACEHOLDERS:
                raise BadConfiguration(f"{name} is not set. Give it a long random value, then start again.")
            if not self.demo and (value.startswith("demo-") or len(value) < SHORTEST_SECRET):
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
        demo=demo,
        limits=values.get("KITI_LIMITS", "on").lower() != "off",
        log_format=_choice("KITI_LOG_FORMAT", values.get("KITI_LOG_FORMAT", "console"), {"console", "json"}),
    )


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:  # noqa: PLR2004 - the range of TCP ports
        raise BadConfiguration(f"KITI_PORT is {text!r}; it must be a number from 1 to 65535.")
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
