"""Environments: scenarios on SUMO, many of them side by side.

    with envs.make("ring", num_envs=16, seed=0) as env:
        obs, info = env.reset()
        obs, reward, terminated, truncated, info = env.step(actions)

Importing this package starts nothing and loads no SUMO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envs import controllers
from envs import traffic as traffic
from envs.registry import names, parameters, register, scenario
from envs.scenario import ScenarioParameters, Spec
from envs.sumo.simulation import Vehicles
from envs.types import SimulationError
from envs.vector.vector_env import WORKER_TIMEOUT, VectorEnv
from graphs.spelling import check_names

if TYPE_CHECKING:
    from envs.vector.pettingzoo_env import PettingZooEnv

__all__ = [
    "WORKER_TIMEOUT",
    "ScenarioParameters",
    "SimulationError",
    "Spec",
    "VectorEnv",
    "Vehicles",
    "bounds",
    "controllers",
    "make",
    "names",
    "parameters",
    "register",
    "spec",
    "to_pettingzoo",
]


def make(
    name: str,
    num_envs: int = 16,
    workers: int = 1,
    seed: int = 0,
    worker_timeout: float = WORKER_TIMEOUT,
    *,
    window: bool = False,
    watch: str | None = None,
    **scenario_parameters: Any,
) -> VectorEnv:
    """Environments of a scenario; see :class:`VectorEnv`.

    Raises:
        ValueError: an unknown scenario, or parameters that it refuses (pydantic's ``ValidationError`` is one).
        SimulationError: SUMO did not start.
    """
    checked = _parameters(name, scenario_parameters)
    return VectorEnv(scenario(name), checked, num_envs, workers, seed, worker_timeout, window=window, watch=watch)


def spec(of: str | ScenarioParameters, **scenario_parameters: Any) -> Spec:
    """Agents, graph and spaces of a scenario; nothing is started.

    Args:
        of: the scenario's name, or its parameters: an instance of the model ``envs.parameters(name)``.
        scenario_parameters: the scenario's parameters, where ``of`` is its name.

    Raises:
        ValueError: an unknown scenario, or parameters that it refuses.
    """
    checked = _parameters(of, scenario_parameters) if isinstance(of, str) else of
    return scenario(checked.name).spec(checked)


def to_pettingzoo(name: str, **scenario_parameters: Any) -> PettingZooEnv:
    """One environment of a scenario as a PettingZoo ``ParallelEnv``.

    Raises:
        ValueError: an unknown scenario, or parameters that it refuses.
        SimulationError: SUMO did not start.
    """
    from envs.vector.pettingzoo_env import PettingZooEnv

    return PettingZooEnv(name, VectorEnv(scenario(name), _parameters(name, scenario_parameters), num_envs=1))


def bounds(of: ScenarioParameters) -> dict[str, float]:
    """Upper bounds for any policy in a scenario, by name: rewards per simulated step and agent.

    They are means over the reference starts, and empty where no bound is known.
    """
    return dict(scenario(of.name).bounds(of))


def _parameters(name: str, given: dict[str, Any]) -> ScenarioParameters:
    model = parameters(name)
    check_names(f"parameter of {name}", given, model.model_fields)
    return model(**given)
