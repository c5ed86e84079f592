"""Environments as classical controllers drive them: by accelerations, on what a driver sees of the road."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.meter import Meter
from envs.types import Floats
from envs.vector.vector_env import VectorEnv


class Situation(NamedTuple):
    """Situation of drivers, whatever the agents observe; each array (E, N), a view that the next step overwrites.

    Attributes:
        headway: free road to the vehicle in front, in m.
        speed: own speed, in m/s.
        front_speed: speed of the vehicle in front, in m/s.
        seconds: time since the episode began, in s; at 0 a controller forgets the episode before.
    """

    headway: Floats
    speed: Floats
    front_speed: Floats
    seconds: Floats


class DriverSlots(NamedTuple):
    """Slots of drivers that command some vehicles of an environment, those that do not learn, instead of its agents.

    Attributes:
        num_envs: E.
        num_agents: N, drivers in each environment.
        step_seconds: time between two commands, in s.
    """

    num_envs: int
    num_agents: int
    step_seconds: float


class AccelerationEnv:
    """Environment whose actions are accelerations (E, N) in m/s² and whose observations are situations (E, N, 4).

    Every action is one simulated step of 0.1 s: the published controllers decide that often, whatever ``action_repeat``
    the learners have.

    Args:
        env: the environment that is driven.
    """

    action_repeat = 1

    def __init__(self, env: VectorEnv) -> None:
        self._env = env
        self.num_envs, self.num_agents, self.horizon = env.num_envs, env.num_agents, env.horizon
        self.step_seconds, self.undriven_reward = env.step_seconds, env.undriven_reward
        self._clock = np.zeros(env.num_envs, dtype=np.int64)

    def reset(
        self, seed: int | None = None, options: Mapping[str, Mapping[str, ArrayLike]] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin a new episode in every environment; see ``VectorEnv.reset``."""
        _, info = self._env.reset(seed, options)
        self._clock[:] = 0
        return self._situations(info["state"]), info

    def step(
        self, actions: ArrayLike
    ) -> tuple[Floats, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Drive one simulated step; see ``VectorEnv.step_by``."""
        _, reward, terminated, truncated, info = self._env.step_by("accelerations", actions)
        ended = terminated | truncated
        self._clock = np.where(ended, 0, self._clock + 1)
        begun, state = info["first_state"], info["state"]
        now = {name: np.where(ended[:, None], begun[name], rows) for name, rows in state.items()}
        return self._situations(now), reward, terminated, truncated, info

    def meter(self) -> Meter:
        """Meter of one simulated step after the other."""
        return self._env.meter(self.step_seconds)

    def _situations(self, state: Mapping[str, Floats]) -> Floats:
        seconds = np.broadcast_to((self._clock * self._env.step_seconds)[:, None], state["speed"].shape)
        situation = Situation(state["headway"], state["speed"], state["front_speed"], seconds)
        return np.stack(situation, axis=-1)
