"""Algorithms by name. A new one is one file, its settings, and one line in the table."""

from importlib import import_module
from typing import Any, Literal, Protocol

import gymnasium
import networkx as nx
import torch
from pydantic import BaseModel

from dmpo.learner import Learner
from dmpo.settings import (
    CPPOSettings,
    DMPOSACSettings,
    DMPOSettings,
    DPPOSettings,
    DSACSettings,
    IA2CSettings,
    IC3NetSettings,
)
from graphs.checks import suggestion


class LearnerType(Protocol):
    """How a learner is built."""

    def __call__(
        self,
        settings: Any,
        graph: nx.Graph,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        seed: int,
        device: torch.device | str,
        precision: torch.dtype,
    ) -> Learner:
        """Settings, who talks to whom, the spaces of one agent, and where the random numbers begin."""


# Settings, and the class that is imported when it is needed: torch-geometric takes as long to load as torch itself.
_ALGORITHMS: dict[str, tuple[type[BaseModel], str, str]] = {
    "cppo": (CPPOSettings, "dmpo.algorithms.cppo", "CPPO"),
    "dmpo": (DMPOSettings, "dmpo.algorithms.dmpo", "DMPO"),
    "dmpo_sac": (DMPOSACSettings, "dmpo.algorithms.dmpo_sac", "DMPOSAC"),
    "dppo": (DPPOSettings, "dmpo.algorithms.dppo", "DPPO"),
    "dsac": (DSACSettings, "dmpo.algorithms.dsac", "DSAC"),
    "ia2c": (IA2CSettings, "dmpo.algorithms.ia2c", "IA2C"),
    "ic3net": (IC3NetSettings, "dmpo.algorithms.ic3net", "IC3Net"),
}


def names() -> list[str]:
    """All algorithms."""
    return list(_ALGORITHMS)


def settings(name: str) -> type[BaseModel]:
    """The settings of an algorithm, a pydantic model with a default for each."""
    return _entry(name)[0]


def make_learner(
    settings: BaseModel,
    graph: nx.Graph,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Learner:
    """The learner that `settings.name` asks for.

    Args:
        settings: of the type that `dmpo.settings(name)` gives.
        graph: who talks to whom, a networkx graph on 0..N-1.
        observation_space: of one agent, a Box (D,).
        action_space: of one agent, a Box (A,) with finite bounds or Discrete.
        seed: of the initial parameters and of exploration.
        device: where the networks live.
        precision: of the products in policies and values; parameters are float32 all the same.

    Raises:
        ValueError: an unknown algorithm, a space that no learner can handle, or a precision that this one cannot.
    """
    _, module, name = _entry(getattr(settings, "name", None))
    learner: LearnerType = getattr(import_module(module), name)
    return learner(settings, graph, observation_space, action_space, seed, device, getattr(torch, precision))


def _entry(name: str | None) -> tuple[type[BaseModel], str, str]:
    if name not in _ALGORITHMS:
        raise ValueError(f"algorithm={name!r} is not known. {suggestion(str(name), _ALGORITHMS)}")
    return _ALGORITHMS[name]
