"""`/docs`: every operation with its parameters, its body, its answers and a form to try it."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from litestar import Request, Response, get

from kiti.web.page.render import page

Json = Mapping[str, Any]
VERBS = ("get", "post", "put", "patch", "delete")
UNIONS = ("oneOf", "anyOf", "allOf")
DEEPEST = 6


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the address or of the query."""

    name: str
    place: str
    kind: str
    is_required: bool


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A verb at a path."""

    id: str
    verb: str
    path: str
    summary: str
    description: str
    parameters: list[Parameter]
    body: str
    answers: list[tuple[str, str, str]]


@get("/docs", sync_to_thread=False)
def reference(request: Request[Any, Any, Any]) -> Response[str]:
    """The reference on one page."""
    document = request.app.openapi_schema.to_schema()
    areas: dict[str, list[Operation]] = {}
    for tag, operation in _operations(document):
        areas.setdefault(tag, []).append(operation)
    return page(request, "reference/reference.html", areas=areas, info=document["info"])


def _operations(document: Json) -> Iterator[tuple[str, Operation]]:
    schemas = document.get("components", {}).get("schemas", {})
    for path, item in document["paths"].items():
        for verb in VERBS:
            if verb in item:
                found = item[verb]
                yield (found.get("tags") or ["Other"])[0], _operation(verb, path, found, schemas)


def _operation(verb: str, path: str, found: Json, schemas: Json) -> Operation:
    body = found.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return Operation(
        id=found.get("operationId", f"{verb}{path}"),
        verb=verb.upper(),
        path=path,
        summary=found.get("summary", ""),
        description=found.get("description", ""),
        parameters=[
            Parameter(
                name=one["name"],
                place=one["in"],
                kind=_kind(one.get("schema", {}), schemas),
                is_required=one.get("required", False),
            )
            for one in found.get("parameters", [])
        ],
        body="" if body is None else _example(body, schemas),
        answers=[_answer(status, answer, schemas) for status, answer in found.get("responses", {}).items()],
    )


def _answer(status: str, answer: Json, schemas: Json) -> tuple[str, str, str]:
    """Status, what it means, an example of the body."""
    content: Json = next(iter(answer.get("content", {}).values()), {})
    return status, answer.get("description", ""), _example(content["schema"], schemas) if "schema" in content else ""


def _kind(schema: Json, schemas: Json) -> str:
    value = _value(schema, schemas, DEEPEST)
    return f"{value}" if isinstance(value, str) else type(value).__name__


def _example(schema: Json, schemas: Json) -> str:
    return msgspec.json.format(msgspec.json.encode(_value(schema, schemas, DEEPEST)), indent=2).decode()


def _value(schema: Json, schemas: Json, depth: int) -> Any:
    """A value that fits the schema, with types for names: {"tripId": "uuid"}."""
    if depth == 0:
        return "…"
    if "$ref" in schema:
        schema = schemas.get(schema["$ref"].rpartition("/")[2], {})
    union = next((schema[name] for name in UNIONS if name in schema), None)
    if union is not None:
        return _value(next((one for one in union if one.get("type") != "null"), {}), schemas, depth - 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    if kind == "object":
        return {name: _value(inner, schemas, depth - 1) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_value(schema.get("items", {}), schemas, depth - 1)]
    if "enum" in schema:
        return "|".join(str(one) for one in schema["enum"])
    return schema.get("format") or kind or "any"


ROUTES = [reference]
