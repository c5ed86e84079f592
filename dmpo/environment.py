"""What the learners need of an environment: the vectorized interface, and nothing of what happens on the road."""

from typing import Any, Protocol

import networkx as nx
import numpy as np

Array = np.ndarray[Any, Any]


class Playable(Protocol):
    """E environments side by side with N agents each, as evaluation needs them; episodes restart in their last step."""

    num_envs: int
    num_agents: int
    action_repeat: int
    horizon: int
    step_seconds: float  # of a simulated step

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Observations (E, N, D) and information."""

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Observations (E, N, D), rewards (E, N), terminated and truncated (E,), information."""


class Environment(Playable, Protocol):
    """The same as learning needs them: with the graph, and to be left, in a step as well, and gone on with."""

    graph: nx.Graph

    def step_async(self, actions: Array) -> None:
        """Begin a step."""

    def step_wait(self) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """What came of it, as `step`."""

    def get_state(self) -> dict[str, Array]:
        """Everything that an exact continuation needs."""

    def set_state(self, state: dict[str, Array]) -> Array:
        """Go on from there; gives the observations."""
