"""The structs of a report go in, the JSON Schemas of what `tcpwhy COMMAND --json` prints come out.

`python -m tcpwhy.report.schema` prints that of `diagnose`, with `clients`, `filter` or `path` behind it theirs; docs/schema/ has them all.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import types
import typing
from typing import Any

import msgspec

from tcpwhy.causes import ALL_IDS
from tcpwhy.diagnosis.finding import Report
from tcpwhy.filters import FilterAnswer
from tcpwhy.path import Fate
from tcpwhy.report.clients import ClientsReport
from tcpwhy.report.walk import WalkReport

TIME = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$"
"""ISO 8601 in UTC, as many digits as the capture has."""

ADDRESS = r"^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\]):\d{1,5}$"
"""`1.2.3.4:80` or `[2001:db8::1]:80`."""

REAL_CLIENT = ADDRESS.removesuffix("$") + r"$|^[0-9a-f:.]+$"
"""An address with its port, or alone."""

_PATTERNS = {
    "time": TIME, "aligned_time": TIME, "first": TIME, "last": TIME, "client": ADDRESS, "server": ADDRESS, "real_client": REAL_CLIENT,
}  # fmt: skip
_NATURAL = ("packets", "connections", "failed", "explained", "unexplained", "connection_count")
_FROM_ONE = ("frame", "line")


def report_schema(kind: type[msgspec.Struct] = Report, title: str = "tcpwhy/1") -> dict[str, Any]:
    """JSON Schema 2020-12 of a report; each struct's and field's docstring is its description."""
    definitions: dict[str, Any] = {}
    root = _struct(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """The text of docs/schema/tcpwhy-1.json, a line feed at the end."""
    return _text(report_schema())


def walk_schema_text() -> str:
    """The text of docs/schema/tcpwhy-path-1.json."""
    return _text(report_schema(WalkReport, "tcpwhy-path/1"))


def filter_schema_text() -> str:
    """The text of docs/schema/tcpwhy-filter-1.json."""
    return _text(report_schema(FilterAnswer, "tcpwhy-filter/1"))


def clients_schema_text() -> str:
    """The text of docs/schema/tcpwhy-clients-1.json."""
    return _text(report_schema(ClientsReport, "tcpwhy-clients/1"))


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _struct(kind: type[msgspec.Struct], definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    descriptions = _field_descriptions(kind)
    omits = kind.__struct_config__.omit_defaults
    properties = {}
    required = []
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        if omits and field.default is None:
            hint = typing.Union[tuple(kind for kind in typing.get_args(hint) if kind is not type(None))]  # noqa: UP007 - computed
        schema = _field(field.name, hint, definitions)
        if field.name in descriptions:
            schema["description"] = descriptions[field.name]
        properties[field.encode_name] = schema
        if field.required or not omits:
            required.append(field.encode_name)
    return {
        "type": "object",
        "description": inspect.getdoc(kind) or "",
        "properties": properties,
        "required": required,
    }


def _field(name: str, hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _type(hint, definitions)
    whole = schema.get("type")
    if name in _PATTERNS and (whole == "string" or whole == ["string", "null"]):
        schema["pattern"] = _PATTERNS[name]
    elif name == "cause":
        schema["enum"] = list(ALL_IDS)
    elif name == "fate":
        schema["enum"] = [fate.value for fate in Fate]
    elif whole == "integer" and name in (*_NATURAL, *_FROM_ONE):
        schema["minimum"] = int(name in _FROM_ONE)
    elif name == "between":
        schema.update(minItems=2, maxItems=2)
    return schema


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    simple = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    if hint in simple:
        return {"type": simple[hint]}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1], definitions)}
    if origin is tuple:
        return {"type": "array", "items": _type(arguments[0], definitions)}
    if origin in (typing.Union, types.UnionType):
        kinds = [_type(argument, definitions) for argument in arguments]
        if all(list(kind) == ["type"] for kind in kinds):
            return {"type": [kind["type"] for kind in kinds]}
        return {"anyOf": kinds}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # before its fields, which may name it again
            definitions[hint.__name__] = _struct(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    raise TypeError(f"a report has a field of the type {hint}, which the schema has no words for")


def _field_descriptions(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The string behind each field of the class, as in its source."""
    found: dict[str, str] = {}
    body = ast.parse(inspect.getsource(kind)).body[0]
    if not isinstance(body, ast.ClassDef):
        return found
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[statement.target.id] = after.value.value
    return found


if __name__ == "__main__":
    texts = {"clients": clients_schema_text, "path": walk_schema_text, "filter": filter_schema_text}
    sys.stdout.write(texts.get("".join(sys.argv[1:]), schema_text)())
