"""What environments are told to do: checked before anything is simulated."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray


def checked(given: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Commands (E, N, A) or (E, N) as an array.

    Args:
        given: the commands.
        shape: that they must have.
        name: for messages, in the plural.

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    commands = np.asarray(given)
    if commands.shape != shape:
        letters = "(E, N, A)" if len(shape) == 3 else "(E, N)"
        raise ValueError(f"{name} have shape {commands.shape}; {letters} = {shape} is needed")
    if not np.isfinite(commands).all():
        env, agent = np.argwhere(~np.isfinite(commands))[0][:2]
        raise ValueError(f"the {name[:-1]} of agent {agent} in environment {env} is not a finite number")
    return commands


def checked_actions(
    given: ArrayLike, shape: tuple[int, ...], space: gymnasium.spaces.Box | gymnasium.spaces.Discrete
) -> NDArray[Any]:
    """The same for actions, which may be numbers of what can be chosen.

    Raises:
        ValueError: also for a number that there is not.
    """
    actions = checked(given, shape, "actions")
    if isinstance(space, gymnasium.spaces.Discrete):
        count = int(space.n)
        outside = actions[(actions < 0) | (actions >= count) | (actions % 1 != 0)]
        if outside.size:
            raise ValueError(f"actions must be whole numbers from 0 to {count - 1}; there is a {outside[0]}")
    return actions
