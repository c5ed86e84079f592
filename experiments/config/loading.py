"""Loading of experiments: from a YAML file and overrides to a checked experiment.

Nothing is created or written before all checks have passed: those of each key, then those between the axes.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments.config import checks, formats, yaml_io
from experiments.config.messages import validation_messages, value_at
from experiments.config.schema import AXES, COMPARING, Experiment, experiment_model
from experiments.errors import ConfigError, shown
from graphs.spelling import nearest

_PRESETS = resources.files("experiments") / "presets"


@dataclass(frozen=True)
class Loaded:
    """Checked experiment, with notes on settings that an override removed."""

    experiment: Experiment
    notes: list[str]


def load(source: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """The experiment in a YAML file or preset, with `a.b=c` overrides applied.

    Raises:
        ConfigError: anything in it that cannot be run, with one line a problem.
    """
    return check(read_file(find(source)), overrides)


def read_file(path: Path) -> yaml_io.Mapping:
    """The mapping in an experiment file of the present format.

    Raises:
        ConfigError: it cannot be read, or is of another format.
    """
    text = yaml_io.file_text(path)
    data = yaml_io.read_text(text, str(path))
    formats.check_format(text, data, path)
    return data


def check(data: yaml_io.Mapping, overrides: Sequence[str] = ()) -> Loaded:
    """Checked experiment from the mapping that a file holds, as by `load`."""
    for part in COMPARING:
        if part in data:
            raise ConfigError(f"{part}: is a part that dmpo compare FILE reads, which trains every combination; for a "
                              "single experiment leave it out and give values with key=value")  # fmt: skip
    data, notes = apply_overrides(data, yaml_io.parse_overrides(overrides))
    data = {"format": formats.FORMAT, "name": _default_name(data), **data}
    try:
        experiment = experiment_model().model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise ConfigError(validation_messages(error, data)) from None
    checks.check(experiment)
    return Loaded(experiment, notes)


def find(source: str | Path) -> Path:
    """Path of the file of that name or, where there is none, of the preset.

    Raises:
        ConfigError: neither; the message names the nearest.
    """
    path, what = Path(source), ""
    try:
        if path.is_file():
            return path
        what = " is a folder and" if path.is_dir() else ""
    except OSError as error:  # for instance a name that is too long
        what = f" cannot be looked up ({error.strerror}) and"
    available = presets()
    if str(source) in available:
        return available[str(source)]
    near = nearest(path.stem, list(available))
    question = f"did you mean the preset {near}? " if near else ""
    raise ConfigError(f"FILE: {shown(str(source), 300)}{what} is neither a file nor a preset; {question}"
                      f"presets: {', '.join(available)}")  # fmt: skip


def presets() -> dict[str, Path]:
    """The experiments that come with the package, by name."""
    files = (Path(str(entry)) for entry in _PRESETS.iterdir())
    return {file.stem: file for file in sorted(files) if file.suffix == ".yaml"}


def dump(experiment: Experiment) -> str:
    """The experiment as YAML, resolved and complete: loading it gives the same experiment."""
    data = experiment.model_dump(mode="json")
    for axis in AXES:
        if data[axis] is not None:
            data[axis] = {"name": data[axis].pop("name"), **data[axis]}
    return yaml_io.dump(data)


def check_unchanged(before: Experiment, after: Experiment, free: Sequence[str], why: str) -> None:
    """Refuse another experiment than the one that a run was begun with.

    Args:
        before: what the run was begun with.
        after: what is asked for now.
        free: the keys that may differ, with all parts.
        why: no others may.

    Raises:
        ConfigError: naming the keys that differ.
    """
    old, new = flatten(before.model_dump(mode="json")), flatten(after.model_dump(mode="json"))
    differing = [key for key in {**old, **new} if old.get(key) != new.get(key) and not f"{key}.".startswith(
        tuple(f"{part}." for part in free))]  # fmt: skip
    if differing:
        raise ConfigError([f"{key}: {shown(new.get(key))} is not possible: the run has {shown(old.get(key))}, {why}; "
                           f"allowed to change: {', '.join(free)}" for key in differing])  # fmt: skip


def apply_overrides(
    data: yaml_io.Mapping, overrides: Sequence[tuple[list[str], Any]]
) -> tuple[yaml_io.Mapping, list[str]]:
    """The mapping with each value put at its path, and notes on what was left out.

    Another name on an axis starts from that one's defaults: the parameters of the old one mean nothing to it.

    Raises:
        ConfigError: a path that leads through a value that is no mapping.
    """
    data, notes = json.loads(json.dumps(data)), []
    for keys, value in overrides:
        axis = data.get(keys[0])
        if keys[0] in AXES and keys[1:] == ["name"] and isinstance(axis, dict) and axis.get("name") != value:
            dropped = [f"{keys[0]}.{key}" for key in axis if key != "name"]
            evaluate = data.get("evaluate")
            if keys[0] == "scenario" and isinstance(evaluate, dict) and evaluate.pop("scenario", None):
                dropped.append("evaluate.scenario")
            data[keys[0]] = {"name": value}
            if dropped:
                notes.append(f"{keys[0]}.name={value}: left out {', '.join(dropped)}, made for {axis.get('name')}")
    problems = [problem for keys, value in overrides if (problem := _put(data, keys, value))]
    if problems:
        raise ConfigError(problems)
    return data, notes


def _put(data: yaml_io.Mapping, keys: list[str], value: Any) -> str | None:
    here = data
    for depth, key in enumerate(keys[:-1], start=1):
        if here.get(key) is None:
            here[key] = {}
        here = here[key]
        if not isinstance(here, dict):
            path = ".".join(keys[:depth])
            return f"{'.'.join(keys)}: {path} is {shown(here)}, which has no parts; override {path} itself"
    here[keys[-1]] = value
    return None


def _default_name(data: yaml_io.Mapping) -> str:
    words = [value_at(data, [axis, "name"]) for axis in ("algorithm", "scenario")]
    known = [word for word in words if isinstance(word, str) and re.fullmatch(r"\w{1,40}", word)]
    return "_".join(known) or "experiment"


def flatten(data: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping by dotted keys; an empty mapping is a value."""
    if not isinstance(data, dict) or not data:
        return {path: data}
    parts = (flatten(value, f"{path}.{key}" if path else key) for key, value in data.items())
    return {key: value for part in parts for key, value in part.items()}
