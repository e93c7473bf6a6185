"""Bodies and queries as Stripe takes them: `line_items[0][price_data][currency]=ugx`."""

import re
from typing import Any
from urllib.parse import parse_qsl

from kiti.simulator.stripe.objects import StripeRefusalError

Form = dict[str, Any]

PART = re.compile(r"[^\[\]]+")
DEEPEST = 8


def decode(text: str) -> Form:
    """Nested dictionaries; the numbers of a list are keys. Values are text."""
    form: Form = {}
    for place, (name, value) in enumerate(parse_qsl(text, keep_blank_values=True, max_num_fields=1000)):
        parts = PART.findall(name.replace("[]", f"[{place}]"))
        if not parts or len(parts) > DEEPEST:
            raise StripeRefusalError(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
        inner = form
        for part in parts[:-1]:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise StripeRefusalError(f"Invalid parameter: {name}", param=name)
        inner[parts[-1]] = value
    return form


def rows(form: Form, name: str) -> list[Any]:
    """A list, in the order of its numbers."""
    found = form.get(name, {})
    if not isinstance(found, dict):
        raise StripeRefusalError("Invalid array", param=name)
    return [found[key] for key in sorted(found, key=lambda key: int(key) if key.isdecimal() else 0)]


def part(form: Form, name: str) -> Form:
    """A hash, empty where there is none."""
    found = form.get(name, {})
    if not isinstance(found, dict):
        raise StripeRefusalError("Invalid object", param=name)
    return found


def text(form: Form, name: str, *, default: str | None = None) -> str:
    """A text; refuses its absence without a default."""
    found = form.get(name, default)
    if not isinstance(found, str):
        raise StripeRefusalError(f"Missing required param: {name}.", code="parameter_missing", param=name)
    return found


def number(form: Form, name: str, *, default: int | None = None) -> int:
    """A whole number; likewise."""
    found = form.get(name, default)
    if found is None:
        raise StripeRefusalError(f"Missing required param: {name}.", code="parameter_missing", param=name)
    try:
        return int(found)
    except (TypeError, ValueError):
        raise StripeRefusalError("Invalid integer", code="parameter_invalid_integer", param=name) from None
