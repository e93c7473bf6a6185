"""The form above a list: its fields as data, drawn by the macro `filter_form` of `office/parts.html`.

What was typed comes from the address, goes back into the fields, and into the addresses of the export and of the page
after.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec
from litestar import Request

LONGEST_WORD = 64


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field: a choice among `options` (value -> as it is read), a day, or a word."""

    name: str
    label: str
    kind: Literal["choice", "day", "word"]
    value: str
    options: Mapping[str, str] = msgspec.field(default_factory=dict)


def typed(request: Request[Any, Any, Any], *names: str) -> dict[str, str]:
    """What the address says of these fields, "" where it says nothing; of that what can be printed."""
    said = {name: request.query_params.get(name, "")[: 2 * LONGEST_WORD] for name in names}
    return {name: "".join(filter(str.isprintable, word)).strip()[:LONGEST_WORD] for name, word in said.items()}


def choice(
    name: str, label: str, options: Sequence[str] | Mapping[str, str], value: str, *, everything: str | None = "all"
) -> Field:
    """One of some values, or with "" `everything`; None: one has to be chosen."""
    named = options if isinstance(options, Mapping) else {option: option for option in options}
    usual = {} if everything is None else {"": everything}
    return Field(name=name, label=label, kind="choice", value=value, options={**usual, **named})


def day(name: str, label: str, value: date | str | None) -> Field:
    """A day, empty for none."""
    return Field(name=name, label=label, kind="day", value="" if value is None else str(value))


def word(name: str, label: str, value: str) -> Field:
    """Something that is typed."""
    return Field(name=name, label=label, kind="word", value=value)


def address(path: str, fields: Sequence[Field], **more: Any) -> str:
    """The path with what the fields say, as a link needs it."""
    said = {field.name: field.value for field in fields if field.value} | {name: str(more[name]) for name in more}
    return f"{path}?{urlencode(said)}" if said else path
