"""Idempotency keys, by the IETF draft (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
from datetime import datetime

import msgspec

LONGEST_KEY = 255
KEEP_HOURS = 72
# Longer than any request may take; after that its holder has died, and a retry resumes.
LOCK_SECONDS = 60


class Key(msgspec.Struct, frozen=True):
    """A request that may be repeated: `digest` says which, `fingerprint` what it asked for. Both are SHA-256."""

    digest: bytes
    fingerprint: bytes


class Lock(msgspec.Struct, frozen=True):
    """A key that its request has for itself; `locked_until` tells it from the lock of whoever takes over."""

    locked_until: datetime


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to be given again, byte for byte; a status of None: the first request is still at work."""

    fingerprint: bytes
    status: int | None
    media_type: str
    body: bytes


def key_of(*, caller: str, method: str, path: str, key: str, body: bytes) -> Key:
    """The key of a request. Its scope is the caller, the method and the path; ValueError for a key that is none."""
    if not 1 <= len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise ValueError(f"An Idempotency-Key has from 1 to {LONGEST_KEY} printable ASCII characters.")
    scope = f"{caller}\x00{method}\x00{path}\x00{key}"
    return Key(hashlib.sha256(scope.encode()).digest(), hashlib.sha256(_canonical(body)).digest())


def _canonical(body: bytes) -> bytes:
    """JSON with its spaces and its order of keys taken away; anything else as it is."""
    try:
        return msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
