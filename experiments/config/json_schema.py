"""JSON Schema in words: which keys there are, and which values are allowed at each."""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

Subschema = dict[str, Any]
Key = str | int


class Schema:
    """JSON Schema that can be followed along the keys of the data that it describes."""

    def __init__(self, document: Subschema) -> None:
        self._document = document

    def subschema(self, path: Sequence[Key], data: Any) -> Subschema | None:
        """Subschema of the value at `path`; in `data`, the whole document, a `name` selects among alternatives."""
        node: Subschema | None = self._document
        for key in path:
            node = self._child(node or {}, key, data)
            data = _get(data, key)
        return node

    def keys(self, path: Sequence[Key], data: Any) -> list[str]:
        """Keys that are allowed in the mapping at `path`."""
        node = self.subschema(path, data) or {}
        for key in path:
            data = _get(data, key)
        found = list(self._choose(node, data).get("properties", {}))
        return sorted(found, key=lambda name: name != "name")  # what everything else depends on first

    def names(self, path: Sequence[Key]) -> list[str]:
        """Allowed values of the key `name` in the mapping at `path`; none if `name` selects nothing there."""
        options = self.alternatives(self.subschema(path, None) or {})
        return [name for option in options if (name := _const(option)) is not None]

    def allowed(self, node: Subschema) -> str:
        """Allowed values in words, such as `a whole number of at least 0`."""
        options = self.alternatives(node)
        names = [name for option in options if (name := _const(option)) is not None]
        null = " or null" if any(option.get("type") == "null" for option in options) else ""
        if names:
            return f"a mapping {{name: …}} with one of the names {', '.join(names)}{null}"
        if len(options) > 1:
            texts = dict.fromkeys(self.allowed(option) for option in options if option.get("type") != "null")
            return " or ".join(texts) + null
        (node,) = options
        if "const" in node or "enum" in node:
            return " or ".join(_word(value) for value in node.get("enum", [node.get("const")]))
        return self._allowed_type(node)

    @cached_property
    def paths(self) -> list[tuple[str, ...]]:
        """Every path that some document may have."""
        return list(dict.fromkeys(path for path, _ in self.walk()))

    def walk(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Every path with a JSON pointer to its schema; a path comes again for each kind that has it."""
        yield from self._walk(self._document, "#", ())

    def _allowed_type(self, node: Subschema) -> str:
        match node.get("type"):
            case "integer":
                return f"a whole number{_bounds(node)}"
            case "number":
                return f"a number{_bounds(node)}"
            case "boolean":
                return "true or false"
            case "string":
                pattern = f" of the form {node['pattern']}" if "pattern" in node else ""
                return f"text{pattern}" + (f" of at most {node['maxLength']} characters" if "maxLength" in node else "")
            case "array" if "prefixItems" in node:
                return f"a list [{', '.join(self.allowed(item) for item in node['prefixItems'])}]"
            case "array":
                least = f", at least {node['minItems']}" if node.get("minItems") else ""
                most = f", at most {node['maxItems']} of them" if "maxItems" in node else ""
                return f"a list, each {self.allowed(node.get('items', {}))}{least}{most}"
            case "object":
                keys = list(node.get("properties", {}))
                return f"a mapping with keys among {', '.join(keys)}" if keys else "a mapping of keys"
            case "null":
                return "null"
        return "any value"

    def alternatives(self, node: Subschema) -> list[Subschema]:
        """Alternatives of a union, nested ones flattened; any other subschema is its only alternative."""
        node = self._resolve(node)
        alternatives = node.get("anyOf") or node.get("oneOf")
        return [node] if not alternatives else [leaf for option in alternatives for leaf in self.alternatives(option)]

    def _choose(self, node: Subschema, data: Any) -> Subschema:
        """Alternative that the `name` in `data` selects, or else the only one that is a mapping."""
        mappings = [option for option in self.alternatives(node) if option.get("type") == "object"]
        named = [option for option in mappings if _const(option) is not None and _const(option) == _get(data, "name")]
        return named[0] if named else mappings[0] if len(mappings) == 1 else {}

    def _child(self, node: Subschema, key: Key, data: Any) -> Subschema | None:
        if isinstance(key, str):
            child: Subschema | None = self._choose(node, data).get("properties", {}).get(key)
            return child
        for option in self.alternatives(node):
            if option.get("type") == "array":
                fixed = option.get("prefixItems", [])
                item: Subschema | None = fixed[key] if key < len(fixed) else option.get("items")
                return item
        return None

    def _resolve(self, node: Subschema) -> Subschema:
        while "$ref" in node:
            node = self._document["$defs"][node["$ref"].removeprefix("#/$defs/")]
        return node

    def _walk(self, node: Subschema, pointer: str, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
        if "$ref" in node:
            node, pointer = self._resolve(node), node["$ref"]
        for alternatives in ("anyOf", "oneOf"):
            for number, option in enumerate(node.get(alternatives, [])):
                yield from self._walk(option, f"{pointer}/{alternatives}/{number}", path)
        for key, child in node.get("properties", {}).items():
            here = f"{pointer}/properties/{key}"
            yield (*path, key), here
            yield from self._walk(child, here, (*path, key))


def _get(data: Any, key: Key) -> Any:
    if isinstance(data, dict):
        return data.get(key)
    return data[key] if isinstance(data, list) and isinstance(key, int) and key < len(data) else None


def _const(node: Subschema) -> str | None:
    name = node.get("properties", {}).get("name", {})
    value: str | None = name.get("const")
    return value


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _bounds(node: Subschema) -> str:
    low, above = node.get("minimum"), node.get("exclusiveMinimum")
    if node.get("type") == "integer" and low is None and above is not None:
        low, above = above + 1, None
    high, below = node.get("maximum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low:,} to {high:,}{_multiple(node)}"
    parts = [f"of at least {low:,}"] if low is not None else []
    parts += [f"above {above:,}"] if above is not None else []
    parts += [f"of at most {high:,}"] if high is not None else []
    parts += [f"below {below:,}"] if below is not None else []
    return (" " if parts else "") + " and ".join(parts) + _multiple(node)


def _multiple(node: Subschema) -> str:
    return f", a multiple of {node['multipleOf']:,}" if "multipleOf" in node else ""
