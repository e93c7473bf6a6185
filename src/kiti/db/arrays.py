"""Arrays in PostgreSQL's binary format, encoded a column at a time.

A batch sends some thirty arrays of a few types. The driver looks for a dumper for each element and asks it; one join
for a whole column costs a fraction of that. Which type an array has says the cast behind its parameter:
`%(ids)s::uuid[]`.

Wire format: PostgreSQL's array_recv and the receive functions of the element types. Dimensions, whether there are
NULLs, the element type, the length, the lower bound; then each element behind its length in bytes, -1 for NULL.
"""

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER = struct.Struct(">iiIii")
_INT16, _INT32, _INT64 = struct.Struct(">ih"), struct.Struct(">ii"), struct.Struct(">iq")
_LENGTH = struct.Struct(">i").pack
_LENGTH_BYTES = 4
_NULL = _LENGTH(-1)
_UUID_LENGTH = _LENGTH(16)
_JSONB_VERSION = b"\x01"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.date().toordinal()
_MICROSECOND = timedelta(microseconds=1)


class Encoded:
    """An encoded array. Each type has a class of its own, so that the driver can tell their types apart."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def encode(values: Sequence[Any], *, element: str) -> Encoded:
    """The array of these elements: `element` is a type's name in a cast; KeyError for one that is not known here."""
    kind = TYPES[element]
    if not values:
        return kind.encoded(struct.pack(">iiI", 0, 0, kind.element_oid))
    if kind.repeats:
        # Columns of a batch are full of equal values: currencies, classes, positions.
        known: dict[Any, bytes] = {None: _NULL}
        one = kind.element
        parts = [known.get(value) or known.setdefault(value, one(value)) for value in values]
    else:
        parts = [_NULL if value is None else kind.element(value) for value in values]
    head = _HEADER.pack(1, int(_NULL in parts), kind.element_oid, len(values), 1)
    return kind.encoded(head + b"".join(parts))


def encode_one(value: Any, *, element: str) -> bytes | None:
    """A single value of such a type, without its length; None for NULL."""
    return None if value is None else TYPES[element].element(value)[_LENGTH_BYTES:]


def oid_of(cast: str) -> int:
    """The number of the type that a cast names: "uuid", "uuid[]"."""
    kind = TYPES[cast.removesuffix("[]")]
    return kind.array_oid if cast.endswith("[]") else kind.element_oid


def dumpers() -> list[tuple[type[Encoded], type[Dumper]]]:
    """What a connection's adapters have to be told once."""
    return [(kind.encoded, kind.dumper) for kind in TYPES.values()]


class _Kind:
    def __init__(
        self, name: str, *, element_oid: int, array_oid: int, element: Callable[[Any], bytes], repeats: bool = True
    ) -> None:
        self.element_oid = element_oid
        self.array_oid = array_oid
        self.element = element
        self.repeats = repeats
        self.encoded: type[Encoded] = type(f"Encoded_{name}", (Encoded,), {"__slots__": ()})
        self.dumper: type[Dumper] = type(f"Dumper_{name}", (_Ready,), {"oid": array_oid})


class _Ready(Dumper):
    """Hands over what is encoded already."""

    format = Format.BINARY

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)

    def dump(self, obj: Encoded) -> Buffer:
        return obj.data


def _uuid(value: UUID) -> bytes:
    return _UUID_LENGTH + value.int.to_bytes(16, "big")


def _text(value: str) -> bytes:
    data = value.encode()
    return _LENGTH(len(data)) + data


def _jsonb(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _LENGTH(len(data) + 1) + _JSONB_VERSION + data


def _instant(value: datetime) -> bytes:
    return _INT64.pack(8, (value - _EPOCH) // _MICROSECOND)


def _day(value: date) -> bytes:
    return _INT32.pack(4, value.toordinal() - _EPOCH_DAY)


# Type numbers: PostgreSQL's pg_type.dat; they never change.
TYPES: dict[str, _Kind] = {
    "boolean": _Kind(
        "boolean", element_oid=16, array_oid=1000, element=lambda v: _LENGTH(1) + (b"\x01" if v else b"\x00")
    ),
    "smallint": _Kind("smallint", element_oid=21, array_oid=1005, element=lambda v: _INT16.pack(2, v)),
    "integer": _Kind("integer", element_oid=23, array_oid=1007, element=lambda v: _INT32.pack(4, v)),
    "bigint": _Kind("bigint", element_oid=20, array_oid=1016, element=lambda v: _INT64.pack(8, v)),
    "text": _Kind("text", element_oid=25, array_oid=1009, element=_text),
    "bytea": _Kind("bytea", element_oid=17, array_oid=1001, element=lambda v: _LENGTH(len(v)) + v, repeats=False),
    "uuid": _Kind("uuid", element_oid=2950, array_oid=2951, element=_uuid, repeats=False),
    "jsonb": _Kind("jsonb", element_oid=3802, array_oid=3807, element=_jsonb, repeats=False),
    "date": _Kind("date", element_oid=1082, array_oid=1182, element=_day),
    "timestamptz": _Kind("timestamptz", element_oid=1184, array_oid=1185, element=_instant),
}
