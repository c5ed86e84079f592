"""Start states given by a user: all checks that need no road."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphs.spelling import check_names


@dataclass(frozen=True)
class StartField:
    """Array of a start state.

    Attributes:
        size: K, the number of values for one environment.
        names: the possible values, where they are names; empty where they are numbers from 0 up.
    """

    size: int
    names: tuple[str, ...] = ()


def start_rows(
    start: Mapping[str, ArrayLike], fields: Mapping[str, StartField], num_envs: int
) -> dict[str, NDArray[Any]]:
    """A start state with one row (E, K) for each environment.

    Args:
        start: arrays by name, (E, K), or (K,) for the same start everywhere.
        fields: the arrays that the scenario needs, by name.
        num_envs: E.

    Raises:
        ValueError: arrays that are missing or unknown, of the wrong shape, or with impossible values.
    """
    check_names("array of a start state", start, fields)
    missing = [name for name in fields if name not in start]
    if missing:
        raise ValueError(f"the start state lacks {', '.join(missing)}; it needs {', '.join(fields)}")
    return {name: _rows(name, np.asarray(start[name]), field, num_envs) for name, field in fields.items()}


def _rows(name: str, values: NDArray[Any], field: StartField, num_envs: int) -> NDArray[Any]:
    shapes = ((field.size,), (num_envs, field.size))
    if values.shape not in shapes:
        raise ValueError(f"the start state's {name} has shape {values.shape}; {shapes[0]} or {shapes[1]} is needed")
    if field.names:
        check_names(name, map(str, values.ravel()), field.names)
    elif not np.issubdtype(values.dtype, np.number) or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"the start state's {name} must hold finite numbers from 0 up")
    return np.broadcast_to(values, shapes[1])
