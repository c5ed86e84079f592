"""Meters: what an evaluation measures of episodes besides rewards, as each kind of scenario wants it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from envs.types import Array, Bools


class Meter(Protocol):
    """Measures of one episode of each environment, taken step by step."""

    def start(self, info: dict[str, Any]) -> None:
        """Take in the ``info`` of a reset."""

    def step(self, info: dict[str, Any], running: Bools) -> None:
        """Take in the ``info`` of a step; ``running`` (E,) says which episodes had not ended before it."""

    def metrics(self) -> dict[str, float]:
        """Measures by name, without the prefix ``eval/``."""

    def trajectory(self) -> dict[str, Array]:
        """Episode of environment 0: the state of all entities by name, (T+1, M) each."""


class StateMeter:
    """Meter that measures nothing and keeps the first environment's trajectory.

    Args:
        entities: key of ``info`` that has the state of all entities.
    """

    def __init__(self, entities: str) -> None:
        self.entities = entities
        self._trajectory: dict[str, list[Array]] = {}

    def start(self, info: dict[str, Any]) -> None:
        """See :class:`Meter`."""
        self._keep(info)

    def step(self, info: dict[str, Any], running: Bools) -> None:
        """See :class:`Meter`."""
        if running[0]:
            self._keep(info)

    def metrics(self) -> dict[str, float]:
        """See :class:`Meter`."""
        return {}

    def trajectory(self) -> dict[str, Array]:
        """See :class:`Meter`."""
        return {name: np.stack(rows) for name, rows in self._trajectory.items()}

    def _keep(self, info: dict[str, Any]) -> None:
        for name, rows in info.get(self.entities, {}).items():
            self._trajectory.setdefault(name, []).append(np.array(rows[0]))
