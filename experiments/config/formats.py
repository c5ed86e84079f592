"""Format versions of experiment files: recognizing one of format 1, and rewriting it as format 2.

Format 2 renamed settings and metrics; files of format 1 carry no number. The tables below are the whole difference.
A file is rewritten in place of keys and values, so that comments and layout stay.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from experiments.config import yaml_io
from experiments.errors import ConfigError, shown

FORMAT: Literal[2] = 2

RENAMED_SETTINGS = {
    "algorithm": {
        "neighbour_order": "neighbor_order",
        "entropy_coefficient": "entropy_coef",
        "entropy_coefficient_final": "entropy_coef_final",
        "value_coefficient": "value_coef",
        "model_encoding": "model_encoding_size",
        "model_hidden": "model_hidden_size",
        "model_message": "model_message_size",
        "model_batch": "model_batch_size",
        "loss_steps": "model_loss_steps",
        "fit_steps": "model_fit_steps",
        "warm_up_fit_steps": "model_warm_up_fit_steps",
        "check_every": "model_validation_every",
        "memory_steps": "model_buffer_size",
        "replay_steps": "buffer_size",
        "model_steps": "model_horizon",
        "model_steps_final": "model_horizon_final",
        "model_steps_change": "model_horizon_schedule",
        "model_share_change": "model_share_schedule",
        "target_rate": "tau",
        "batch": "batch_size",
        "reward_weight": "model_reward_coef",
        "held_out": "model_holdout",
        "patience": "model_patience",
        "hidden": "hidden_sizes",  # `hidden_size` where it is one number, as for IC3Net
    },
    "train": {"answer_seconds": "worker_timeout"},
}
RENAMED_VALUES = {"algorithm.model_actions": {"neighbours": "neighbors"}}
REMOVED_SETTINGS = {"algorithm.overlap": "gradient steps are always taken after the steps of an iteration"}
RENAMED_METRICS = {
    "train/reward": "policy/train_reward",
    "train/return": "policy/train_return",
    "train/episodes": "policy/train_episodes",
    "env/restarts": "time/env_restarts",
    "policy/updates": "policy/gradient_steps",
    "model/updates": "model/gradient_steps",
    "policy/stopped": "policy/kl_stopped",
    "comm/gate": "comm/gate_open",
    "model/loss": "model/validation_loss",
}
_INTEGER = re.compile(r"\d+")


@dataclass(frozen=True)
class _Edit:
    """Replacement of the characters from `start` to `end`, and a note where something is lost by it."""

    start: int
    end: int
    text: str
    note: str | None = None


def check_format(text: str, data: yaml_io.Mapping, source: Path) -> None:
    """Refuse an experiment file of another format than this version reads.

    Args:
        text: of the file.
        data: what it holds.
        source: the file.

    Raises:
        ConfigError: it is of format 1, or was written by a newer version.
    """
    number = data.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise ConfigError(f"{shown(str(source), 300)} has format {number}, written by a newer version of dmpo; this "
                          f"one reads format {FORMAT}")  # fmt: skip
    if is_format_1(text, data, source):
        raise ConfigError(f"{shown(str(source), 300)} has format 1, and this version reads format {FORMAT}; rewrite it "
                          f"with: dmpo migrate {shlex.quote(str(_migrated_with(source)))}")  # fmt: skip


def is_format_1(text: str, data: yaml_io.Mapping, source: Path) -> bool:
    """Whether a file says that it has format 1 or, where it says nothing, holds something that format 2 renamed."""
    if "format" in data:
        return bool(data["format"] == 1)
    return any(True for _ in _edits(text, yaml_io.compose(text, str(source))))


def renamed_setting(path: str) -> str | None:
    """How a message tells what became of a setting of format 1, such as `algorithm.hidden`; None of any other."""
    section, _, key = path.partition(".")
    if path in REMOVED_SETTINGS:
        return f"format {FORMAT} has no {path}: {REMOVED_SETTINGS[path]}"
    if key == "hidden" and section == "algorithm":
        return "since format 2 it is hidden_sizes, for ic3net hidden_size"
    name = RENAMED_SETTINGS.get(section, {}).get(key)
    return f"since format 2 it is {section}.{name}" if name else None


def renamed_metric(name: str) -> str:
    """The name of a metric in format 2; `name` may end in the number of an agent, as in `model/loss.3`."""
    stem, dot, number = name.partition(".")
    return RENAMED_METRICS.get(stem, stem) + dot + number


def renamed_override(override: str) -> str:
    """An override such as `algorithm.fit_steps=4` in format 2; `algorithm.overlap` stays, to be refused."""
    path, equals, value = override.partition("=")
    section, dot, key = path.strip().partition(".")
    value = RENAMED_VALUES.get(f"{section}.{key}", {}).get(value.strip(), value)
    return f"{section}{dot}{_new_key(section, key, bool(_INTEGER.fullmatch(value.strip()))) or key}{equals}{value}"


def migrate_text(text: str, source: str) -> tuple[str, list[str]]:
    """The text of an experiment file in format 2, and notes on what is lost.

    Raises:
        ConfigError: it cannot be read, or a setting that no longer exists is all that its part holds.
    """
    root = yaml_io.compose(text, source)
    if not isinstance(root, MappingNode) or not root.value:
        raise ConfigError(f"{source}: holds no settings; an experiment file is needed")
    edits = {edit.start: edit for edit in (*_edits(text, root), _format_edit(root))}  # aliases come more than once
    for edit in sorted(edits.values(), key=lambda edit: edit.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    yaml_io.read_text(text, source)
    return text, [edit.note for edit in edits.values() if edit.note]


def _migrated_with(source: Path) -> Path:
    """The file, or the run or comparison that it belongs to: what `dmpo migrate` is to be given."""
    if source.name != "config.yaml" or not (source.parent / "metrics.jsonl").is_file():
        return source
    comparison = source.parent.parent.parent
    return comparison if (comparison / "comparison.json").is_file() else source.parent


def _format_edit(root: MappingNode) -> _Edit:
    """The edit that writes `format: 2` at the top."""
    for key, value in root.value:
        if key.value == "format":
            return _Edit(value.start_mark.index, value.end_mark.index, str(FORMAT))
    start = root.value[0][0].start_mark.index
    return _Edit(start, start, f"format: {FORMAT}" + (", " if root.flow_style else "\n"))


def _edits(text: str, root: Node | None) -> Iterator[_Edit]:
    """The edits that make format 2 of everything but the number."""
    for key, value in root.value if isinstance(root, MappingNode) else ():
        if key.value in RENAMED_SETTINGS:
            yield from _section_edits(text, key.value, value)
        elif key.value == "compare" and isinstance(value, MappingNode):
            for position, (axis, choices) in enumerate(value.value):
                yield from _axis_edits(text, value, position, axis, choices)
        elif key.value == "evaluate_on" and isinstance(value, MappingNode):
            for _, overrides in value.value:
                yield from _override_edits(text, overrides)


def _section_edits(text: str, section: str, node: Node) -> Iterator[_Edit]:
    """The edits of the settings in one mapping, such as that of `algorithm`."""
    if not isinstance(node, MappingNode):
        return
    for position, (key, value) in enumerate(node.value):
        if key.value == "<<":
            for part in value.value if isinstance(value, SequenceNode) else [value]:
                yield from _section_edits(text, section, part)
        elif f"{section}.{key.value}" in REMOVED_SETTINGS:
            yield _removal(text, node, position, f"{section}.{key.value}")
        else:
            yield from _setting_edits(text, section, key, key.value, [value])


def _axis_edits(text: str, compare: MappingNode, position: int, axis: ScalarNode, choices: Node) -> Iterator[_Edit]:
    """The edits of one axis of `compare:`: a dotted key and a list of values, or of whole parts."""
    section, _, key = axis.value.partition(".")
    values = choices.value if isinstance(choices, SequenceNode) else []
    if axis.value in REMOVED_SETTINGS:
        yield _removal(text, compare, position, axis.value)
    elif key:
        yield from _setting_edits(text, section, axis, key, values)
    elif section in RENAMED_SETTINGS:
        for value in values:
            yield from _section_edits(text, section, value)


def _setting_edits(text: str, section: str, key: ScalarNode, name: str, values: list[Node]) -> Iterator[_Edit]:
    """The edits of one setting: of its key, and of those of its values that are written in another way."""
    integer = any(isinstance(value, ScalarNode) and _INTEGER.fullmatch(value.value) for value in values)
    new = _new_key(section, name, integer)
    if new:
        yield _replaced(text, key, name, new)
    words = RENAMED_VALUES.get(f"{section}.{name}", {})
    for value in values:
        if isinstance(value, ScalarNode) and value.value in words:
            yield _replaced(text, value, value.value, words[value.value])


def _override_edits(text: str, overrides: Node) -> Iterator[_Edit]:
    """The edits of a list of overrides, as `evaluate_on:` has them."""
    for override in overrides.value if isinstance(overrides, SequenceNode) else ():
        if isinstance(override, ScalarNode) and renamed_override(override.value) != override.value:
            yield _replaced(text, override, override.value, renamed_override(override.value))


def _new_key(section: str, key: str, integer: bool) -> str | None:
    if (section, key) == ("algorithm", "hidden") and integer:
        return "hidden_size"
    return RENAMED_SETTINGS.get(section, {}).get(key)


def _replaced(text: str, node: ScalarNode, old: str, new: str) -> _Edit:
    """The edit that puts `new` for the last `old` in a scalar, whose quotes and anchor stay."""
    start, end = node.start_mark.index, node.end_mark.index
    before, _, after = text[start:end].rpartition(old)
    return _Edit(start, end, before + new + after)


def _removal(text: str, mapping: MappingNode, position: int, path: str) -> _Edit:
    """The edit that takes an entry out of a mapping, with the line that it stands on in block style."""
    entries = mapping.value
    key, value = entries[position]
    start, end = key.start_mark.index, value.end_mark.index
    line = text.rfind("\n", 0, start) + 1
    if not mapping.flow_style and not text[line:start].strip() and len(entries) > 1:
        start, end = line, text.find("\n", end) + 1 or len(text)
    elif position + 1 < len(entries):
        end = entries[position + 1][0].start_mark.index
    elif not mapping.flow_style:
        raise ConfigError(f"{path}: {REMOVED_SETTINGS[path]}; take it out by hand, as nothing else is in its part")
    elif position > 0:
        start = entries[position - 1][1].end_mark.index
    given = text[value.start_mark.index : value.end_mark.index].strip()
    note = None if given.lower() == "false" else f"{path}: {given} is left out: {REMOVED_SETTINGS[path]}"
    return _Edit(start, end, "", note)
