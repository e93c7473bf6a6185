"""Reading what a gateway, or a stranger in its name, wrote: numbers, words and references, bounded. Pure: no I/O."""

import re
from decimal import Decimal

import msgspec

from kiti.gateways.gateway import MalformedWebhook

# All that decoding may raise for bytes that a stranger wrote.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
NOTHING = msgspec.Raw(b"null")

LONGEST_REASON = 200
LONGEST_REFERENCE = 100
LONGEST_WORD = 40
WORD = re.compile(r"[A-Za-z0-9._ -]*", re.ASCII)


def number(raw: msgspec.Raw, *, absent: Decimal | None = None) -> Decimal:
    """A number or a string of one, exactly; raises ValueError, also for null unless `absent` stands in."""
    try:
        found = msgspec.json.decode(raw, type=Decimal | None)
    except UNREADABLE:
        raise ValueError(f"{bytes(raw)[:40]!r} is not a number") from None
    if found is not None:
        return found
    if absent is None:
        raise ValueError("no amount is given")
    return absent


def printable(text: str) -> str:
    """A gateway's words, bounded and without control characters, fit for a log and a database."""
    return "".join(c if c.isprintable() else " " for c in text[:LONGEST_REASON])


def reference(value: object) -> str:
    """A reference of ours in a webhook, empty if there is none; raises MalformedWebhook."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_REFERENCE or not value.isprintable():
        raise MalformedWebhook(f"a reference that is not printable text of {LONGEST_REFERENCE} characters")
    return value


def word(value: object) -> str:
    """A status, a type or an event in a webhook, in lower case, empty if there is none; raises MalformedWebhook."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_WORD or WORD.fullmatch(value) is None:
        raise MalformedWebhook(f"a status, type or event that is not a word of {LONGEST_WORD} characters")
    return value.lower()
