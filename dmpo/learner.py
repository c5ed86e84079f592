"""The interface of a learner: the parts of collect → fit → improve that an algorithm supplies."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import gymnasium
import networkx as nx
import numpy as np
import torch
from torch import Tensor

from dmpo.data.rollout import Rollout


@dataclass(frozen=True)
class Setup:
    """Everything but its settings that a learner is built from.

    Args:
        graph: who talks to whom, on 0..N-1.
        observation_space: of one agent, a Box (D,).
        action_space: of one agent, a Box (A,) with finite bounds or Discrete.
        seed: of the initial parameters and of exploration.
        device: where the networks live.
        precision: of the matrix products in policies and critics; parameters are float32 all the same.
    """

    graph: nx.Graph
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    seed: int = 0
    device: torch.device | str = "cpu"
    precision: torch.dtype = torch.float32


class Exploration(NamedTuple):
    """Actions of all agents while data are collected."""

    env_actions: np.ndarray[Any, Any]  # (E, N, A) float32 or (E, N) int64, in the environment's units
    actions: Tensor  # the same in the policy's units
    dist_params: Tensor  # (E, N, P), parameters of the distributions they were drawn from


class Learner(Protocol):
    """N agents that learn. The state holds everything that a continuation needs, random generators included."""

    @property
    def collect_steps(self) -> int:
        """T, the actions of each agent in each environment that the next iteration needs."""

    def explore(self, observations: Tensor, first: Tensor) -> Exploration:
        """Draw actions for (E, N, D) from the generator of training.

        It is called for every step of training in turn. `first` (E,) bool marks the observations that begin an episode,
        before which recurrent policies forget.
        """

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Fit the model, if there is one, with the real steps just collected.

        Args:
            batch: real steps.
            progress: share of training done, in [0, 1).

        Returns:
            Metrics.
        """

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Improve policies and critics; arguments and result as of `fit`."""

    def act(
        self,
        observations: np.ndarray[Any, Any] | Tensor,
        deterministic: bool = False,
        first: np.ndarray[Any, Any] | None = None,
    ) -> np.ndarray[Any, Any]:
        """Actions in the environment's units for (E, N, D); never disturbs the course of training.

        As for `explore`, `first` (E,) bool marks the observations that begin an episode; the others continue from the
        last call. Left out, all begin one.
        """

    def seed_acting(self, seed: int) -> None:
        """Make `act` draw the same actions for the same seed from here on."""

    def communicate_on(self, graph: nx.Graph) -> None:
        """Act on messages over another graph from here on, perhaps of another number of agents, and learn no more.

        Raises:
            ValueError: the policies cannot act there; the message names the first agent of which this is true.
        """

    def state_dict(self) -> dict[str, Any]:
        """Plain dict of tensors, numbers, strings and lists; actions depend on its `policy` and `obs_normalizer`."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
