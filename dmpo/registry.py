"""Table of the algorithms. A new one is a class with its settings, in a file of its own."""

from typing import Any, Literal, Protocol

import gymnasium
import networkx as nx
import torch

from dmpo.learner import Learner, Setup
from dmpo.settings import LearnerSettings
from graphs.registration import Registry


class LearnerType(Protocol):
    """Class of learners that can be registered."""

    Settings: type[LearnerSettings]

    def __call__(self, settings: Any, setup: Setup) -> Learner:
        """A learner with these settings."""


_algorithms: Registry[Any] = Registry("algorithm", LearnerSettings, "Settings")

#: Class decorator: `@dmpo.register("mine")` makes a learner known for `algorithm: {name: mine}`. The class takes
#: `(settings, setup)` and has an attribute `Settings`, a subclass of `LearnerSettings` whose field `name` is
#: `Literal["mine"] = "mine"`. A name that is taken, or settings that do not say it, raise a ValueError.
register = _algorithms.register


def names() -> list[str]:
    """Names of all algorithms, in alphabetical order."""
    return _algorithms.names()


def settings_of(name: str) -> type[LearnerSettings]:
    """Pydantic model of an algorithm's settings, with a default for each.

    Raises:
        ValueError: no algorithm has this name.
    """
    model: type[LearnerSettings] = _algorithms.get(name).Settings
    return model


def make_learner(
    settings: LearnerSettings,
    graph: nx.Graph,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Learner:
    """The learner that `settings.name` asks for.

    Args:
        settings: an instance of `settings_of(name)`.
        graph: who talks to whom.
        observation_space: of one agent.
        action_space: of one agent.
        seed: of the initial parameters and of exploration.
        device: where the networks live.
        precision: of the matrix products in policies and critics.

    Raises:
        ValueError: an unknown algorithm, a space that no learner can handle, or a precision that this one cannot use.
    """
    kind: LearnerType = _algorithms.get(settings.name)
    return kind(settings, Setup(graph, observation_space, action_space, seed, device, getattr(torch, precision)))
