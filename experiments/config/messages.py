"""Error messages for pydantic's validation errors: path, value, what is allowed and the nearest spelling."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from experiments.config.formats import renamed_setting
from experiments.config.json_schema import Key, Schema
from experiments.config.schema import AXES, json_schema
from experiments.errors import refusal, shown, suggestion
from graphs.spelling import nearest

MISSING = object()
REGISTERED = ("scenario", "graph", "algorithm", "controller")  # axes that users add to without touching this package
HINT = "one registered in a module of yours needs the option --import MODULE before the command"


def validation_messages(error: ValidationError, data: dict[str, Any], schema: Schema | None = None) -> list[str]:
    """Error messages, one for each key that pydantic refuses; `schema` is that of an experiment if left out."""
    schema, lines = schema or Schema(json_schema()), dict[tuple[Key, ...], str]()
    for problem in error.errors(include_url=False):
        kind = problem["type"]
        path = _path(problem["loc"], data, missing=kind in ("missing", "extra_forbidden"))
        if kind in ("union_tag_not_found", "union_tag_invalid"):
            path = (*path, "name")
        if any(path[: len(seen)] == seen for seen in lines):
            continue  # one alternative of a union refuses a part, another the whole
        lines = {seen: line for seen, line in lines.items() if seen[: len(path)] != path or kind == "extra_forbidden"}
        lines[path] = _line(kind, problem["msg"], path, data, schema)
    return list(lines.values())


def _line(kind: str, message: str, path: tuple[Key, ...], data: dict[str, Any], schema: Schema) -> str:
    dotted, value, last = ".".join(map(str, path)), value_at(data, path), str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        renamed = renamed_setting(dotted)
        if renamed:
            return f"{dotted}: unknown key (given {shown(value)}); {renamed}"
        return f"{dotted}: unknown key (given {shown(value)}); {_right_key(path, data, schema)}"
    kinds = schema.names(path[:-1]) if last == "name" else []
    if kinds:
        if value is MISSING:
            return f"{dotted}: missing; {suggestion('', kinds)}"
        line = f"{dotted}: {shown(value)} is unknown; {suggestion(str(value), kinds)}"
        return f"{line}; {HINT}" if path[0] in REGISTERED else line
    if kind in ("value_error", "assertion_error"):
        if isinstance(value, str):
            message = message.replace(value, shown(value)[1:-1])  # however long it is
        line = with_path(dotted, message.partition(", ")[2], schema.keys(path, data), value)
        # A name among others that anybody may register, such as that of an observation.
        named = isinstance(value, str) and "enum" in (schema.subschema(path, data) or {})
        return f"{line}; {HINT}" if named else line
    node = schema.subschema(path, data)
    allowed = schema.allowed(node) if node else message.replace("Input should be ", "")
    return f"{dotted}: missing; allowed: {allowed}" if value is MISSING else refusal(dotted, value, allowed)


def with_path(path: str, message: str, keys: Sequence[str], value: Any = None) -> str:
    """Message of another package's check, behind the path of the key that it begins with, or else behind `path`."""
    first = re.match(r"\w+", message)
    if first and first[0] in keys:
        return f"{path}.{first[0]}: {message}"
    if isinstance(value, (dict, list)) or value is None or shown(value) in message:
        return f"{path}: {message}"
    return f"{path}: {shown(value)} is not possible: {message}"


def _right_key(path: tuple[Key, ...], data: dict[str, Any], schema: Schema) -> str:
    """Hint at the nearest key in the same mapping or, where none is near, at the same key elsewhere."""
    known, last = schema.keys(path[:-1], data), str(path[-1])
    elsewhere = [place for place in schema.paths if place[-1] == last and len(place) > 1 and place != path]
    if elsewhere and last != "name" and not nearest(last, known):
        likeliest = min(elsewhere, key=lambda place: (last not in schema.keys(place[:-1], data), place[0] in AXES))
        return f"did you mean {'.'.join(likeliest)}? allowed here: {', '.join(known)}"
    return suggestion(last, known)


def _path(loc: tuple[Key, ...], data: Any, missing: bool) -> tuple[Key, ...]:
    """Keys in pydantic's location, which also names the alternatives of unions that it tried."""
    path: list[Key] = []
    for place, part in enumerate(loc):
        if _has(data, part):
            data = data[part]
            path.append(part)
        elif missing and place == len(loc) - 1:
            path.append(part)
    return tuple(path)


def value_at(data: Any, path: Sequence[Key]) -> Any:
    """Value at a path, `MISSING` where there is none."""
    for key in path:
        if not _has(data, key):
            return MISSING
        data = data[key]
    return data


def _has(data: Any, key: Key) -> bool:
    if isinstance(data, dict):
        return key in data
    return isinstance(data, list) and isinstance(key, int) and key < len(data)
