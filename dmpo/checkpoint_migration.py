"""Checkpoints of version 1, read as those of version 2: the same tensors under the names of today.

`RENAMED_KEYS` is the whole difference. A state is flattened to paths such as `trainer/learner/models/ready`, in which
`[0]` is an item of a list and `(0)` one of a tuple; what a pattern finds anywhere in a path is replaced.
"""

import os
import re
from typing import Any

from dmpo.checkpoint import load_checkpoint

# Pattern in a path → replacement; None drops the value. Applied in order, each to the result of the one before.
RENAMED_KEYS: tuple[tuple[str, str | None], ...] = (
    (r"^trainer/learner/observations/", "trainer/learner/obs_normalizer/"),
    (r"^trainer/learner/rewards/", "trainer/learner/reward_normalizer/"),
    (r"^trainer/learner/memory/", "trainer/learner/recurrent_state/"),
    (r"^trainer/learner/(critic|policy)/moments\.", r"trainer/learner/\1/normalizer."),
    (r"^trainer/learner/models/memory/", "trainer/learner/models/buffer/"),
    (r"^trainer/learner/models/(state|change|action|reward)s/", r"trainer/learner/models/\1_normalizer/"),
    (r"^trainer/learner/models/last_rewards/", "trainer/learner/models/terminal_reward_normalizer/"),
    (r"(/batches/\[\d+\]/[\[(]0[\])]/)following$", r"\1next_states"),
    (r"(/batches/\[\d+\]/[\[(]0[\])]/)ends$", r"\1terminated"),
    (r"(/batches/\[\d+\]/[\[(]0[\])]/)joined$", r"\1continues"),
)

_ITEM = re.compile(r"\[\d+\]|\(\d+\)")


def load_version_1(path: str | os.PathLike[str]) -> dict[str, Any]:
    """State in a checkpoint of version 1, as version 2 has it.

    Raises:
        dmpo.CheckpointError: it cannot be read, or has another version.
    """
    flat: dict[str, Any] = {}
    for key, value in flatten(load_checkpoint(path, version=1)).items():
        new = renamed(key)
        if new is not None:
            flat[new] = value
    state = unflatten(flat)
    assert isinstance(state, dict)
    return state


def renamed(path: str) -> str | None:
    """The path in version 2 of a value in version 1; None of one that version 2 does without."""
    for pattern, replacement in RENAMED_KEYS:
        if replacement is not None:
            path = re.sub(pattern, replacement, path)
        elif re.search(pattern, path):
            return None
    return path


def flatten(state: Any, path: str = "") -> dict[str, Any]:
    """Nested dicts, lists and tuples as one dict by path; an empty one is a value."""
    if isinstance(state, dict):
        parts = {str(key): value for key, value in state.items()}
    elif isinstance(state, list | tuple):
        mark = "[{}]" if isinstance(state, list) else "({})"
        parts = {mark.format(number): value for number, value in enumerate(state)}
    else:
        parts = {}
    if not parts:
        return {path: state}
    found: dict[str, Any] = {}
    for key, value in parts.items():
        found |= flatten(value, f"{path}/{key}" if path else key)
    return found


def unflatten(flat: dict[str, Any]) -> Any:
    """Nested dicts, lists and tuples from a dict by path: the inverse of `flatten`."""
    if list(flat) == [""]:
        return flat[""]
    parts: dict[str, dict[str, Any]] = {}
    for path, value in flat.items():
        key, _, rest = path.partition("/")
        parts.setdefault(key, {})[rest] = value
    values = {key: unflatten(inner) for key, inner in parts.items()}
    if values and all(map(_ITEM.fullmatch, values)):
        return tuple(values.values()) if next(iter(values)).startswith("(") else list(values.values())
    return values
