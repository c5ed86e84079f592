"""Variants that `dmpo compare` compares: one for each file, or for each combination of the values in its `compare:`.

With `compare: {algorithm.kappa: [1, 2], graph.name: [cycle, complete]}` there are four, kappa=1-cycle and so on. With
`evaluate_on: {alone: [graph.name=empty]}` beside it, each trained policy is evaluated there as well.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dmpo
import envs
import graphs
from experiments.config import loading, yaml_io
from experiments.config.messages import value_at
from experiments.config.schema import AXES, COMPARING, Experiment, Train
from experiments.errors import ConfigError, refusal, shown, suggestion
from experiments.runs.evaluation import evaluation_experiment, make_learner

MAX_VARIANTS = 1_000
_MAX_LABEL = 60
_FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.=+\-]*"
_LISTED = 3
_KINDS = {"scenario": envs.names, "graph": graphs.names, "algorithm": dmpo.names}

EvaluateOn = dict[str, list[str]]


@dataclass(frozen=True)
class Variant:
    """Experiment that is trained with several seeds.

    Attributes:
        label: unique within its scenario.
        stem: unique among all, safe as the name of a folder: the label, with the scenario where that varies.
        experiment: with the first of its seeds.
        evaluate_on: overrides with which the trained policies are evaluated as well, by their label.
    """

    label: str
    stem: str
    experiment: Experiment
    evaluate_on: EvaluateOn

    def seeded(self, number: int) -> Experiment:
        """The experiment with the seed that comes so many after its first."""
        train = self.experiment.train
        return self.experiment.model_copy(update={"train": train.model_copy(update={"seed": train.seed + number})})


@dataclass(frozen=True)
class _Draft:
    """A variant before it is checked."""

    file: str
    source: str
    label: str
    stem: str
    data: yaml_io.Mapping
    evaluate_on: EvaluateOn


def load(files: Sequence[str], overrides: Sequence[str]) -> tuple[list[Variant], list[str]]:
    """The variants in files and presets, in order, all with the same overrides; and notes on what those made void.

    Raises:
        ConfigError: anything that cannot be run, with the variant's label and the key's path; one line a problem.
    """
    given = [keys for keys, _ in yaml_io.parse_overrides(overrides)]
    problems: list[str] = []
    drafts: list[_Draft] = []
    notes: dict[str, None] = {}
    for file in files:
        try:
            for draft, found_notes in _drafts(file, given):
                drafts.append(draft)
                notes.update(dict.fromkeys(found_notes))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    variants: list[Variant] = []
    refused: dict[str, list[str]] = {}
    for draft in _with_unique_labels(drafts):
        try:
            loaded = loading.check(draft.data, overrides)
            variants.append(_checked(draft, loaded.experiment))
            notes.update(dict.fromkeys(loaded.notes))
        except ConfigError as error:
            for problem in error.problems:
                refused.setdefault(problem, []).append(draft.stem)
    if refused:
        raise ConfigError([f"{_listed(stems)}: {problem}" for problem, stems in refused.items()])
    _check_different(variants)
    return variants, list(notes)


def _checked(draft: _Draft, experiment: Experiment) -> Variant:
    """The variant, once everything about it can be run."""
    make_learner(experiment, experiment.scenario)
    problems = []
    for label, overrides in draft.evaluate_on.items():
        try:
            evaluation_experiment(experiment, overrides)
        except ConfigError as error:
            problems += [f"evaluate_on.{label}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    # Runs share the cores: each has one, and its SUMO mostly works while it waits.
    train = Train.model_validate(experiment.train.model_dump() | {"threads": experiment.train.threads or 1})
    return Variant(draft.label, draft.stem, experiment.model_copy(update={"train": train}), draft.evaluate_on)


def _drafts(file: str, given: Sequence[list[str]]) -> Iterator[tuple[_Draft, list[str]]]:
    """Each combination of the values in a file, with notes on what they made void."""
    path = loading.find(file)
    data = loading.read_file(path)
    axes, evaluate_on = (data.pop(part, {}) for part in COMPARING)
    problems = [*_wrong_axes(axes, given), *_wrong_labels(evaluate_on)]
    if problems:
        raise ConfigError([f"{file}: {problem}" for problem in problems])
    source = _safe(path.stem) or "file"
    for combination in itertools.product(*(_choices(key, values, list(axes)) for key, values in axes.items())):
        parts_last = sorted(combination, key=lambda choice: choice.key.count("."))
        varied, notes = loading.apply_overrides(data, [(choice.key.split("."), choice.value) for choice in parts_last])
        label = "-".join(choice.label for choice in combination if choice.label) or _without_scenario(source, varied)
        stem = "-".join(choice.stem for choice in combination if choice.stem) or source
        if axes:
            varied["name"] = re.sub(r"[^A-Za-z0-9_.\-]", "_", f"{data.get('name', source)}-{stem}")[:100]
        yield _Draft(file, source, _short(label), _short(stem), varied, evaluate_on), notes


def _without_scenario(source: str, data: yaml_io.Mapping) -> str:
    """A file's name as a label, which is one within a scenario: `dppo_ring` in the ring is `dppo`, as in any other."""
    scenario = value_at(data, ["scenario", "name"])
    return re.sub(rf"_{re.escape(str(scenario))}(?=_|$)", "", source)


def _wrong_axes(axes: Any, given: Sequence[list[str]]) -> list[str]:
    """Problems of a `compare:` part, and of the paths of overrides beside it."""
    if not isinstance(axes, dict):
        return [refusal("compare", axes, "a mapping of dotted keys to lists, such as algorithm.kappa: [1, 2]")]
    problems = []
    for key, values in axes.items():
        path = f"compare.{key}"
        if not isinstance(values, list) or not values:
            allowed = f"a list of values, such as {key}: [1, 2]; a deeper key is written with dots"
            problems.append(refusal(path, values, allowed))
            continue
        problems += [f"{path}: {shown(v)} is there twice" for k, v in enumerate(values) if v in values[:k]]
        if key == "train.seed":
            problems.append(f"{path}: seeds are not compared but repeated; how many says --seeds")
        if key in AXES:
            problems += [
                _unknown_section(path, key, v) for v in values if isinstance(v, str) and v not in _section_names(key)
            ]
        problems += [f"{'.'.join(keys)}: is what {path} varies; leave it out of the command line"
                     for keys in given if keys == key.split(".")[: len(keys)]]  # fmt: skip
    count = math.prod(len(values) for values in axes.values() if isinstance(values, list))
    if count > MAX_VARIANTS:
        problems.append(f"compare: {count:,} combinations are too many; allowed: at most {MAX_VARIANTS:,}")
    return problems


def _wrong_labels(evaluate_on: Any) -> list[str]:
    """Problems in the form of an `evaluate_on:` part."""
    allowed = "a mapping of labels to lists of overrides, such as alone: [graph.name=empty]"
    if not isinstance(evaluate_on, dict):
        return [refusal("evaluate_on", evaluate_on, allowed)]
    problems = []
    for label, overrides in evaluate_on.items():
        if len(label) > _MAX_LABEL or not re.fullmatch(_FILE_NAME, label):
            words = f"a label of at most {_MAX_LABEL} letters, digits and . _ = + -, as it names a file"
            problems.append(refusal("evaluate_on", label, words))
        elif not isinstance(overrides, list) or not overrides or not all(isinstance(o, str) for o in overrides):
            problems.append(refusal(f"evaluate_on.{label}", overrides, "a list such as [graph.name=empty]"))
    return problems


@dataclass(frozen=True)
class _Choice:
    """One of the values on an axis, and what it adds to the label and to the folder's name."""

    key: str
    value: Any
    label: str
    stem: str


def _choices(key: str, values: list[Any], keys: list[str]) -> list[_Choice]:
    """The values of an axis, named by as little as tells them apart: `dmpo`, `kappa=1`, `dmpo-kappa=1`."""
    axis, _, rest = key.partition(".")
    last = key.rpartition(".")[2]
    word = key if sum(other.rpartition(".")[2] == last for other in keys) > 1 else last
    sections = [_section(key, value) for value in values]
    names = [_name(key, value) for value in values]
    found = []
    for value, section, name in zip(values, sections, names, strict=True):
        alike = [other for other, its in zip(sections, names, strict=True) if its == name]
        details = _details(section, alike) if key in AXES else []
        said = name or f"{word}={_word(value)}"
        # Labels are unique within a scenario, so that one label may stand for the same thing in several.
        among = [] if axis == "scenario" and rest in ("", "name") and name else [said]
        found.append(_Choice(key, section, _safe("-".join([*among, *details])), _safe("-".join([said, *details]))))
    return found


def _name(key: str, value: Any) -> str:
    """Name of a scenario, graph or algorithm given as a value; empty for a plain value."""
    if key in AXES and isinstance(value, dict):
        value = value.get("name")
    return value if isinstance(value, str) and key in (*AXES, *(f"{axis}.name" for axis in AXES)) else ""


def _details(section: Any, alike: list[Any]) -> list[str]:
    """Settings in which a section differs from others of the same name, as `key=value`."""
    if not isinstance(section, dict):
        return []
    keys = dict.fromkeys(key for other in alike for key in other)
    varying = [key for key in keys if any(other.get(key) != alike[0].get(key) for other in alike)]
    return [f"{key}={_word(section[key])}" for key in varying if key in section]


def _section(key: str, value: Any) -> Any:
    """The value or, where it is the name of a section, that section with its defaults or as in the preset."""
    if key not in AXES or not isinstance(value, str):
        return value
    if value in _KINDS[key]():
        return {"name": value}
    return loading.read_file(loading.presets()[value])[key]


def _section_names(axis: str) -> list[str]:
    """Names that stand for a whole section of the configuration."""
    return [*_KINDS[axis](), *(loading.presets() if axis == "algorithm" else [])]


def _unknown_section(path: str, axis: str, name: str) -> str:
    what = "give a mapping {name: …} or a name" + (", also a preset's" if axis == "algorithm" else "")
    return f"{path}: {shown(name)} is unknown; {what}; {suggestion(name, _section_names(axis))}"


def _with_unique_labels(drafts: Sequence[_Draft]) -> list[_Draft]:
    """The drafts with unique labels: those of a file that repeat an earlier file's begin with the file's name."""
    found: list[_Draft] = []
    for file, group in itertools.groupby(drafts, key=lambda draft: draft.file):
        mine, taken = list(group), {name for draft in found for name in _unique_names(draft)}
        if taken & {name for draft in mine for name in _unique_names(draft)}:
            mine = [_prefixed(draft) for draft in mine]
        for draft in mine:
            if taken & _unique_names(draft):
                raise ConfigError(f"{file}: its runs would be called {draft.stem}, as others are: is it given twice? "
                                  "A file is called by its name without the folder: rename one")  # fmt: skip
            taken |= _unique_names(draft)
            found.append(draft)
    return found


def _prefixed(draft: _Draft) -> _Draft:
    return replace(draft, label=_short(f"{draft.source}-{draft.label}"), stem=_short(f"{draft.source}-{draft.stem}"))


def _unique_names(draft: _Draft) -> set[tuple[str, ...]]:
    """Names that no other draft may have: the folder's, and the label within the scenario."""
    return {("folder", draft.stem.casefold()), ("label", str(value_at(draft.data, ["scenario", "name"])), draft.label)}


def _check_different(variants: Sequence[Variant]) -> None:
    """Refuse what would be the same runs under two labels."""
    seen: dict[str, str] = {}
    for variant in variants:
        data = variant.experiment.model_dump_json(exclude={"name"})
        if data in seen:
            raise ConfigError(f"{seen[data]}, {variant.stem}: are the same experiment; leave one out, or see whether "
                              "an override sets what the files differ in")  # fmt: skip
        seen[data] = variant.stem


def _listed(stems: Sequence[str]) -> str:
    rest = len(stems) - _LISTED
    return ", ".join(stems[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":")).strip("[]")


def _safe(text: str) -> str:
    """The text as part of a file name on any system."""
    return re.sub(r"[^A-Za-z0-9_.=+\-]+", "_", text).strip("_.")


def _short(label: str) -> str:
    """The label, its end replaced by a digest where it is too long."""
    if len(label) <= _MAX_LABEL:
        return label
    return f"{label[: _MAX_LABEL - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
