"""Interface of an environment as the learners know it; nothing of what happens in it."""

from typing import Any, Protocol

import networkx as nx
import numpy as np

Array = np.ndarray[Any, Any]


class Meter(Protocol):
    """Measures of one episode of each environment besides rewards, taken step by step."""

    def start(self, info: dict[str, Any]) -> None:
        """Take in the information of a reset."""

    def step(self, info: dict[str, Any], running: Array) -> None:
        """Take in the information of a step; `running` (E,) bool says which episodes had not ended before it."""

    def metrics(self) -> dict[str, float]:
        """Measures by name, without the prefix `eval/`."""

    def trajectory(self) -> dict[str, Array]:
        """Episode of environment 0, (T+1, M) each."""


class EvalEnv(Protocol):
    """E environments side by side with N agents each, as evaluation needs them; episodes restart in their last step.

    An episode has `horizon` simulated steps unless it ends early; for each step that it then lacks, evaluation counts
    `undriven_reward` for every agent.
    """

    num_envs: int
    num_agents: int
    action_repeat: int
    horizon: int
    undriven_reward: float

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Observations (E, N, D) and information."""

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Observations (E, N, D), rewards (E, N), terminated and truncated (E,), information.

        The information has `final_obs` (E, N, D), valid where an episode ended. It may have `ended_by` (E, N) bool,
        agents whose own state ended the episode, without which nobody's did; and `lost` (E,) bool, where an episode was
        cut off because its simulation failed.
        """

    def meter(self) -> Meter:
        """Meter of what the scenario measures in an evaluation."""


class Environment(EvalEnv, Protocol):
    """The same as training needs it: with the graph, and with a state to continue from."""

    graph: nx.Graph

    def get_state(self) -> dict[str, Array]:
        """Everything that an exact continuation needs."""

    def set_state(self, state: dict[str, Array]) -> Array:
        """Continue from `get_state`; returns the observations."""
