"""Safe YAML and `a.b=c` overrides: no code, no duplicate keys, no alias bombs, finite numbers.

Scalars are those of YAML 1.2, where 1e-3 is a number and `no` is text; `4e5` is also good for a whole number.
"""

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from experiments.errors import ConfigError, refusal, shown

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000  # aliases counted as if they were written out
MAX_INTEGER = 2**63 - 1

Mapping = dict[str, Any]

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_SPECIAL = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")


def file_text(path: Path) -> str:
    """Text of a YAML file.

    Raises:
        ConfigError: not a readable text file of reasonable size.
    """
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
            raise ConfigError(f"{shown(str(path), 300)} {what}; a YAML file is needed")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{shown(str(path), 300)} cannot be read: {reason}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: more than {MAX_BYTES // 1024} KiB; an experiment file is a page or two")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8 text") from error


def read_text(text: str, source: str) -> Mapping:
    """Mapping in a YAML text; `source` names it in messages.

    Raises:
        ConfigError: a syntax error, with line and column; no mapping at the top level; duplicate keys, keys that are
            not text, values that YAML can say but an experiment cannot use; a bomb.
    """
    data = _load(text, source)
    if not isinstance(data, dict):
        what = "nothing" if data is None else shown(data)
        raise ConfigError(f"{source}: a mapping with keys such as scenario: and algorithm: is needed, not {what}")
    _check_finite(data)
    return data


def parse_overrides(overrides: Iterable[str]) -> list[tuple[list[str], Any]]:
    """`["algorithm.kappa=1"]` to `[(["algorithm", "kappa"], 1)]`, the values read as YAML.

    Raises:
        ConfigError: not of the form key.path=value.
    """
    parsed, problems = [], []
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            problems.append(f"{shown(override)}: an override is written key.path=value, for instance train.seed=3")
            continue
        try:
            value = _load(text, f"value of {path}")
            _check_finite(value, path)
            parsed.append((keys, value))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return parsed


def dump(data: Mapping) -> str:
    """YAML text that `read_text` reads back as the same mapping."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100)


def compose(text: str, source: str) -> Node | None:
    """Node tree of a YAML text, with positions; `source` names it in messages.

    Raises:
        ConfigError: a syntax error, or another fault as for `read_text`.
    """
    node: Node | None = _parse(text, source, _Loader.get_single_node)
    return node


def _load(text: str, source: str) -> Any:
    return _parse(text, source, _Loader.get_single_data)


def _parse(text: str, source: str, parse: Callable[["_Loader"], Any]) -> Any:
    try:
        loader = _Loader(text)
        try:
            return parse(loader)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        details = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{source}:{where} {details}") from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise ConfigError(f"{source}: line {line}, column {column}: characters that YAML does not allow") from error


def _check_finite(data: Any, path: str = "") -> None:
    problems: list[str] = []

    def walk(value: Any, where: str) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(refusal(where, value, "a finite number"))
        elif isinstance(value, dict):
            for key, part in value.items():
                walk(part, f"{where}.{key}" if where else key)
        elif isinstance(value, list):
            for part in value:
                walk(part, where)

    walk(data, path)
    if problems:
        raise ConfigError(problems)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema with bounds on depth and size. Merge keys (`<<`) are known, other tags are not."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0
        self._sizes: dict[Node, int] = {}  # of complete nodes, aliases counted as written out

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            return self._compose_alias(parent, index)
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._nodes
        self._depth += 1
        self._nodes += 1
        self._check(event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None:
            self._sizes[node] = self._nodes - before
        return node

    def _compose_alias(self, parent: Node | None, index: int) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if node is None or node not in self._sizes:
            raise yaml.composer.ComposerError(None, None, f"*{event.anchor} contains itself", event.start_mark)
        self._nodes += self._sizes[node]
        self._check(event)
        return node

    def _check(self, event: Any) -> None:
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_DEPTH} levels deep", event.start_mark)
        if getattr(event, "tag", None) not in (None, "!"):
            problem = f"the tag {shown(event.tag)} is not known here: write plain values"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        if self._nodes > MAX_NODES:
            problem = f"more than {MAX_NODES:,} values, aliases written out"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode) or key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                given = shown(key.value) if isinstance(key, ScalarNode) else "a list or mapping"
                raise yaml.composer.ComposerError(None, None, f"{given} is not a key: keys are text", key.start_mark)
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} is here twice", key.start_mark)
            seen.add(key.value)
        return node

    def construct_text(self, node: ScalarNode) -> str:
        text = str(self.construct_scalar(node))
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _constructor_error("half a character (a lone surrogate)", node) from None
        return text

    def construct_integer(self, node: ScalarNode) -> int:
        digits = self.construct_scalar(node).replace("_", "")
        if len(digits) > 20 or abs(int(digits)) > MAX_INTEGER:
            raise _constructor_error(f"{shown(digits)} is too large a number", node)
        return int(digits)

    def construct_number(self, node: ScalarNode) -> int | float:
        text = self.construct_scalar(node).replace("_", "")
        if text.lower().lstrip("+-") in (".inf", ".nan"):
            return float(text.lower().replace(".", "", 1))
        number = float(text)
        whole = "e" in text.lower() and number.is_integer() and abs(number) < 2**53  # 4e5 steps are a whole number
        return int(number) if whole else number

    def construct_list(self, node: SequenceNode) -> list[Any]:
        return [self.construct_object(part, deep=True) for part in node.value]

    def construct_keys(self, node: MappingNode) -> Mapping:
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def refuse(self, node: Node) -> None:
        raise _constructor_error(f"{shown(node.value)} is not possible here", node)


def _constructor_error(problem: str, node: Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Dumper of YAML that `_Loader` reads back: text that looks like a number is quoted, aliases are written out."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_list(self, data: Any) -> SequenceNode:
        return self.represent_sequence(f"{_TAG}seq", data, flow_style=not any(isinstance(x, list | dict) for x in data))


_digits = list("-+.0123456789")
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(f"{_TAG}int", _INTEGER, _digits[:2] + _digits[3:])
    _class.add_implicit_resolver(f"{_TAG}float", _FLOAT, _digits)
    _class.add_implicit_resolver(f"{_TAG}float", _SPECIAL, _digits)
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"<<$"), ["<"])
_Dumper.add_representer(list, _Dumper.represent_list)
_Loader.add_constructor(f"{_TAG}str", _Loader.construct_text)
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_integer)
_Loader.add_constructor(f"{_TAG}float", _Loader.construct_number)
_Loader.add_constructor(f"{_TAG}bool", lambda loader, node: node.value.lower() == "true")
_Loader.add_constructor(f"{_TAG}null", lambda loader, node: None)
_Loader.add_constructor(f"{_TAG}seq", _Loader.construct_list)
_Loader.add_constructor(f"{_TAG}map", _Loader.construct_keys)
_Loader.add_constructor(None, _Loader.refuse)
