"""The scenarios on SUMO, many at a time.

    with envs.make("ring", num_envs=16, seed=0) as env:
        obs, info = env.reset()
        obs, reward, terminated, truncated, info = env.step(actions)

Importing this package starts nothing and loads no SUMO.
"""

from __future__ import annotations

from typing import Any

from envs.controllers import controllers
from envs.registry import names, parameters, register, scenario
from envs.simulation import SimulationError
from envs.spelling import check_names
from envs.vector import VectorEnv

__all__ = ["SimulationError", "VectorEnv", "controllers", "make", "names", "parameters", "register"]


def make(name: str, num_envs: int = 16, workers: int = 1, seed: int = 0, **scenario_parameters: Any) -> VectorEnv:
    """Environments of a scenario; see :class:`VectorEnv`.

    Raises:
        ValueError: an unknown scenario, or parameters that it refuses (pydantic's ``ValidationError`` is one).
        SimulationError: SUMO did not start.
    """
    model = parameters(name)
    check_names(f"parameter of {name}", scenario_parameters, model.model_fields)
    return VectorEnv(scenario(name), model(**scenario_parameters), num_envs, workers, seed)
