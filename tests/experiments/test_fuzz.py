"""Presets with one fault at one key, drawn from the schema: each is refused with the path of that key."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from experiments.config import loading, yaml_io
from experiments.config.json_schema import Schema
from experiments.config.schema import json_schema
from experiments.errors import ConfigError
from tests.faults import environment

Command = Callable[..., Any]
Place = tuple[str, ...]
INPUTS = 500
SCHEMA = Schema(json_schema())
# One value of each type that JSON knows; a number that is not whole among them.
VALUES: dict[str, Any] = {
    "string": "some words",
    "integer": 7,
    "number": 0.123,
    "boolean": True,
    "array": [[{}]],
    "object": {"x": 1},
    "null": None,
}
KEYS = set(json_schema()["properties"])
PRESETS = {name: loading.read_file(path) for name, path in loading.presets().items()}


def put(data: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """A copy with a value at a place, where it may be that nothing was."""
    copy = here = json.loads(json.dumps(data))
    for key in place[:-1]:
        here = here.setdefault(key, {})
    here[place[-1]] = value
    return dict(copy)


def places(data: dict[str, Any]) -> list[Place]:
    """Every key that this experiment may have; those of a graph only where it has one."""
    own = [place for place in SCHEMA.paths if len(place) == 1 or place[0] in data or place[0] not in ("graph",)]
    return [place for place in own if SCHEMA.subschema(place, data) is not None]


def types(place: Place, data: dict[str, Any]) -> set[str]:
    """JSON types that a value at a place may have."""
    return {option.get("type", type_of(option)) for option in SCHEMA.alternatives(SCHEMA.subschema(place, data) or {})}


def type_of(option: dict[str, Any]) -> str:
    found = option.get("const", option.get("enum", [None])[0])
    return next(name for name, value in VALUES.items() if type(value) is type(found))


def wrong_types(place: Place, data: dict[str, Any]) -> Iterator[Any]:
    allowed = types(place, data)
    allowed |= {"integer"} if "number" in allowed else set()
    yield from (value for name, value in VALUES.items() if name not in allowed)


def out_of_range(place: Place, data: dict[str, Any]) -> Iterator[Any]:
    options = [o for o in SCHEMA.alternatives(SCHEMA.subschema(place, data) or {}) if o.get("type") != "null"]
    if len(options) != 1:
        return
    (node,) = options
    step = 1 if node.get("type") == "integer" else 1e-3
    yield from (node[key] for key in ("exclusiveMinimum", "exclusiveMaximum") if key in node)
    yield from (node[key] - step for key in ("minimum",) if key in node)
    yield from (node[key] + max(step, 1e-3 * abs(node[key])) // step * step for key in ("maximum",) if key in node)
    if "enum" in node or "const" in node or "pattern" in node:
        longest, form = node.get("maxLength", 5000), node.get("pattern", "$^")
        words = ("nonsense!", "", "\u202e", "x" * 5000)
        yield from (word for word in words if len(word) > longest or not re.search(form, word))
    if node.get("type") == "array" and "items" in node:
        yield from ([value] for value in wrong_types((*place, 0), data))  # type: ignore[arg-type]


def not_finite(place: Place, data: dict[str, Any]) -> Iterator[Any]:
    yield from (float(word) for word in ("nan", "inf", "-inf"))


def misspelt(place: Place, data: dict[str, Any]) -> Iterator[Place]:
    word = place[-1]
    known = SCHEMA.keys(place[:-1], data)
    for key in (word[1:] + word[0], word + "s", word.upper(), word.replace("_", "-"), "", word + ".x", "<<x", "0"):
        if key not in known:
            yield (*place[:-1], key)


def faulty(count: int, seed: int) -> list[tuple[str, Place, dict[str, Any]]]:
    """Inputs with one fault each: the preset that it was, the place of the fault, and what is in the file."""
    random, found = Random(seed), []
    while len(found) < count:
        name = random.choice(list(PRESETS))
        data = PRESETS[name]
        place = random.choice(places(data))
        kind = random.choice([wrong_types, out_of_range, not_finite, misspelt])
        choice = list(kind(place, data))
        if not choice:
            continue
        fault = random.choice(choice)
        if kind is misspelt:
            found.append((name, fault, put(data, fault, 1)))
        else:
            found.append((name, place, put(data, place, fault)))
    return found


FAULTY = faulty(INPUTS, seed=0)


def test_a_fault_at_any_key_ends_in_its_path_and_status_2(dmpo: Command, folder: Path) -> None:
    for name, place, data in FAULTY:
        (folder / "bad.yaml").write_text(yaml_io.dump(data), encoding="utf-8")
        result = dmpo("train", "bad.yaml", "--output", "run")
        path = ".".join(place)
        given = f"{name}: {path} = {loading.value_at(data, place)!r:.100}\n{result.err[:2000]}"
        assert result.status == 2, given
        assert result.out == "", given
        lines = result.err.splitlines()
        assert any(line.startswith((f"error: {path}: ", f"error: {path}.")) for line in lines), given
        assert all(line.startswith("error: ") and len(line) < 1500 for line in lines), given
        assert "Traceback" not in result.err
    assert sorted(path.name for path in folder.iterdir()) == ["bad.yaml"]


def test_faults_are_of_all_kinds_at_all_levels() -> None:
    assert len({(name, place) for name, place, _ in FAULTY}) > INPUTS / 2
    assert {name for name, *_ in FAULTY} == set(PRESETS)
    assert {place[0] for _, place, _ in FAULTY} >= {
        "scenario",
        "graph",
        "algorithm",
        "train",
        "evaluate",
        "log",
        "name",
    }


@pytest.mark.parametrize("number", [0, 200])
def test_the_command_says_the_same_in_a_process_of_its_own(dmpo: Command, folder: Path, number: int) -> None:
    (folder / "bad.yaml").write_text(yaml_io.dump(FAULTY[number][2]), encoding="utf-8")
    command = [sys.executable, "-m", "experiments", "train", "bad.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == dmpo("train", "bad.yaml").err


def test_a_key_that_is_there_twice_is_named_with_its_line() -> None:
    for name, data in PRESETS.items():
        lines = yaml_io.dump(data).splitlines()
        for number, line in enumerate(lines):
            key = line.strip().partition(":")[0]
            if not key.isidentifier() or (number + 1 < len(lines) and lines[number + 1].startswith(line[:1] + " ")):
                continue
            # A block's own line again would begin another block: only lines that stand for themselves.
            twice = "\n".join([*lines[: number + 1], line, *lines[number + 1 :]])
            with pytest.raises(ConfigError, match=rf"line {number + 2}, column \d+: the key '{key}' is here twice"):
                yaml_io.read_text(twice, f"{name}.yaml")


def test_a_value_at_its_bound_is_loaded_or_refused_together_with_another() -> None:
    loaded = refused = 0
    for data in PRESETS.values():
        for place in places(data):
            node = SCHEMA.subschema(place, data) or {}
            if "minimum" not in node or place[0] == "scenario":
                continue
            try:
                experiment = loading.check(put(data, place, node["minimum"])).experiment
            except ConfigError as error:
                refused += 1
                assert all(
                    line.partition(":")[0].split(".")[0] in json_schema()["properties"] for line in error.problems
                )
            else:
                loaded += 1
                assert loading.value_at(experiment.model_dump(), place) == node["minimum"]
    assert loaded > 5 * refused
