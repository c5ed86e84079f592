"""Controllers to compare a learner with: functions from observations (E, N, D) to actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.registry import scenario

Controller = Callable[[NDArray[np.float32]], NDArray[Any]]


def controllers(name: str) -> dict[str, Controller]:
    """The controllers of a scenario by name: every agent does the same all the time.

    Raises:
        ValueError: there is no scenario of that name.
    """
    return {label: _constant(action) for label, action in scenario(name).constant_actions.items()}


def _constant(action: float | int) -> Controller:
    def act(observations: NDArray[np.float32]) -> NDArray[Any]:
        agents = observations.shape[:2]
        # A discrete action is a number for each agent, an acceleration a vector of one component.
        return np.full(agents if isinstance(action, int) else (*agents, 1), action)

    return act
