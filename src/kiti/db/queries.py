"""Named queries: SQL lives in `.sql` files beside the slice that owns it.

    -- expire :execute
    UPDATE booking SET state = 'expired' WHERE id = %(id)s AND state = 'held' RETURNING id;

`load("kiti.bookings").expire` is that statement. The word after the colon says how many rows it may give, and
`Reader` and `Transaction` hold it to that.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Literal, cast, get_args

import msgspec

Kind = Literal["many", "one", "maybe", "execute"]
_HEADER = re.compile(r"^-- (?P<name>[a-z][a-z0-9_]*) :(?P<kind>[a-z]+)$", re.MULTILINE)
_PARAMETER = re.compile(r"%\((?P<name>[a-z0-9_]+)\)s(::(?P<cast>[a-z0-9]+(\[\])?))?")


class Query(msgspec.Struct, frozen=True):
    """One statement: `kind` is many, one, maybe (no row or one) or execute (its row count matters).

    `order` are its parameters, `casts` the types of those that are cast: `%(ids)s::uuid[]`. `numbered` is the text
    with $1 for the first of them.
    """

    name: str
    kind: Kind
    text: str
    numbered: str
    order: tuple[str, ...] = ()
    casts: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def arrays(self) -> Iterator[tuple[str, str]]:
        """The parameters that are cast to arrays, with the type of their elements."""
        return ((name, cast.removesuffix("[]")) for name, cast in self.casts.items() if cast.endswith("[]"))


class Queries:
    """The statements of one file, as attributes."""

    def __init__(self, package: str, statements: dict[str, Query]) -> None:
        self._package = package
        self._statements = statements

    def __getattr__(self, name: str) -> Query:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"{self._package} has no query {name!r}") from None

    def __iter__(self) -> Iterator[Query]:
        return iter(self._statements.values())


@cache
def load(package: str) -> Queries:
    """The queries of `package`'s queries.sql; raises ValueError where the file is not in the form above."""
    text = resources.files(package).joinpath("queries.sql").read_text()
    return Queries(package, _parse(package, text))


def parse_query(name: str, kind: str, text: str) -> Query:
    """One statement of such a file; raises ValueError for a kind that there is not."""
    if kind not in get_args(Kind):
        raise ValueError(f"query {name} is of unknown kind {kind!r}")
    parameters = list(_PARAMETER.finditer(text))
    order = tuple(dict.fromkeys(match["name"] for match in parameters))
    casts = {match["name"]: match["cast"] for match in parameters if match["cast"]}
    numbers = {parameter: f"${number}" for number, parameter in enumerate(order, 1)}
    numbered = _PARAMETER.sub(lambda match: numbers[match["name"]] + (match[2] or ""), text).replace("%%", "%")
    return Query(name=name, kind=cast("Kind", kind), text=text, numbered=numbered, order=order, casts=casts)


def _parse(package: str, text: str) -> dict[str, Query]:
    found: dict[str, Query] = {}
    headers = list(_HEADER.finditer(text))
    if not headers:
        raise ValueError(f"{package}: no named query found")
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        name, kind = header["name"], header["kind"]
        if name in found:
            raise ValueError(f"{package}: query {name} stands twice")
        body = text[header.end() : following.start() if following else None]
        found[name] = parse_query(f"{package}.{name}", kind, _statement(body))
    return found


def _statement(body: str) -> str:
    """Without the semicolon, and without the comment that stands above the next statement."""
    lines = body.strip().split("\n")
    while lines and (not lines[-1].strip() or lines[-1].startswith("--")):
        lines.pop()
    return "\n".join(lines).removesuffix(";")
