"""Identifiers made by the application: UUIDv7, and references that a person reads aloud."""

import os
import secrets
import time
from datetime import datetime
from uuid import UUID

# No 0 O 1 I L: nothing that is misheard or misread.
REFERENCE_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
REFERENCE_LENGTH = 6
_REFERENCES = len(REFERENCE_ALPHABET) ** REFERENCE_LENGTH


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def first_id_at(moment: datetime) -> UUID:
    """The smallest id that `new_id` could make at a moment: what ranges of time are, where ids are the order."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=(milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | 0x2 << 62)


def new_reference() -> str:
    """Six characters out of 31: 887 million references; the database refuses a repeated one."""
    number = secrets.randbelow(_REFERENCES)
    characters = []
    for _ in range(REFERENCE_LENGTH):
        number, index = divmod(number, len(REFERENCE_ALPHABET))
        characters.append(REFERENCE_ALPHABET[index])
    return "".join(characters)
