"""Stripe's objects as they are told, each a document in the simulator's file.

What begins with an underscore is the simulator's own and is told to nobody.
"""

import json
import re
import secrets
import time
from typing import Any, Final

from kiti.simulator.machine import Machine

Doc = dict[str, Any]

MOST_ROWS: Final = 10_000
DEEPEST_EXPANSION: Final = 4
EXPANDABLE: Final = re.compile(r"(?:pi|ch|txn|re|du|cs|tr|po|evt)_\w+")


class StripeRefusalError(Exception):
    """Stripe says no, in its own envelope."""

    def __init__(self, message: str, *, http_status: int = 400, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.http_status = http_status
        kind = "idempotency_error" if code == "idempotency_key_in_use" else "invalid_request_error"
        told = {"type": kind, "message": message, "code": code, "param": param}
        self.envelope = {"error": {name: value for name, value in told.items() if value}}


def new_id(prefix: str) -> str:
    """An id of Stripe's kind."""
    return f"{prefix}_{secrets.token_hex(12)}"


def make(machine: Machine, kind: str, prefix: str, *, parent: str = "", reference: str = "", **fields: Any) -> Doc:
    """Write down a new object; `parent` is what it belongs to, `reference` the shop's."""
    now = int(time.time())
    doc: Doc = {"id": new_id(prefix), "object": kind, "created": now, "livemode": False, **fields}
    machine.store.run(
        "INSERT INTO stripe_object (id, kind, parent, reference, created, doc) VALUES (?, ?, ?, ?, ?, ?)",
        *(doc["id"], kind, parent, reference, now, json.dumps(doc)),
    )
    return doc


def change(machine: Machine, doc: Doc, **fields: Any) -> Doc:
    """Write down what has changed of an object."""
    changed = doc | fields
    machine.store.run("UPDATE stripe_object SET doc = ? WHERE id = ?", json.dumps(changed), doc["id"])
    return changed


def find(machine: Machine, identity: str, kind: str) -> Doc:
    """The object; refuses (404) an id that is none of that kind."""
    text = machine.store.value("SELECT doc FROM stripe_object WHERE id = ? AND kind = ?", identity, kind)
    if text is None:
        raise StripeRefusalError(f"No such {kind}: '{identity}'", http_status=404, code="resource_missing", param="id")
    doc: Doc = json.loads(text)
    return doc


def below(machine: Machine, parent: str, kind: str) -> list[Doc]:
    """What belongs to an object, oldest first."""
    return _docs(
        machine, "SELECT doc FROM stripe_object WHERE parent = ? AND kind = ? ORDER BY place LIMIT ?", parent, kind
    )


def of_reference(machine: Machine, reference: str | None, kind: str) -> list[Doc]:
    """What carries the shop's reference, or all, oldest first."""
    return _docs(
        machine,
        "SELECT doc FROM stripe_object WHERE (?1 IS NULL OR reference = ?1) AND kind = ?2 ORDER BY place LIMIT ?3",
        *(reference, kind),
    )


def of_kind(machine: Machine, kind: str) -> list[Doc]:
    """All of a kind, newest first."""
    return _docs(machine, "SELECT doc FROM stripe_object WHERE kind = ? ORDER BY place DESC LIMIT ?", kind)


def told(doc: Doc) -> Doc:
    """The object without what is the simulator's own."""
    return {name: value for name, value in doc.items() if not name.startswith("_")}


def expanded(machine: Machine, doc: Any, path: str) -> Any:
    """The object with the ids along a path such as `data.payment_intent` replaced by what they name."""
    first, _, rest = path.partition(".")
    if not isinstance(doc, dict) or first not in doc or path.count(".") >= DEEPEST_EXPANSION:
        raise StripeRefusalError(f"This property cannot be expanded ({path}).", param="expand")
    value = doc[first]
    if isinstance(value, list):
        return doc | {first: [_step(machine, row, rest) for row in value]}
    return doc | {first: _step(machine, value, rest)}


def _step(machine: Machine, value: Any, rest: str) -> Any:
    if isinstance(value, str) and EXPANDABLE.fullmatch(value):
        text = machine.store.value("SELECT doc FROM stripe_object WHERE id = ?", value)
        value = told(json.loads(text)) if text is not None else value
    return expanded(machine, value, rest) if rest and isinstance(value, dict) else value


def _docs(machine: Machine, statement: str, *values: object) -> list[Doc]:
    return [json.loads(row["doc"]) for row in machine.store.all(statement, *values, MOST_ROWS)]
