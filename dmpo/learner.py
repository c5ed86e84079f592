"""What a learner is to the trunk: the parts of collect → fit → improve that it replaces."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from dmpo.data.rollout import Rollout


class Exploration(NamedTuple):
    """What all agents do next while data are collected."""

    commands: np.ndarray[Any, Any]  # (E, N, A) float32 or (E, N) int64, in the environment's units
    actions: Tensor  # the same in the policy's units
    behavior: Tensor  # (E, N, P), parameters of the distributions they were drawn from


class Learner(Protocol):
    """N agents that learn. Its state holds everything that a continuation needs, random generators included."""

    @property
    def collect_steps(self) -> int:
        """T, the steps of each environment to collect for the next iteration."""

    def explore(self, observations: Tensor, first: Tensor) -> Exploration:
        """Draw actions for (E, N, D) from the generator that training owns.

        Called for every step of training in turn; `first` (E,) bool says which of these observations begin an episode,
        before which nobody remembers anything.
        """

    def meanwhile(self, step: int, progress: float) -> None:
        """Learn while the environment takes step `step` of `collect_steps`, if that does not need what comes of it."""

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Fit the model, if there is one, with the real steps just collected; gives metrics.

        Args:
            batch: the real steps.
            progress: in [0, 1), the share of training behind us.
        """

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Improve the policy; `progress` in [0, 1) is the share of training behind us; gives metrics."""

    def act(
        self,
        observations: np.ndarray[Any, Any] | Tensor,
        deterministic: bool = False,
        first: np.ndarray[Any, Any] | None = None,
    ) -> np.ndarray[Any, Any]:
        """Actions in the environment's units for (E, N, D); never disturbs the course of training.

        As for `explore`, `first` (E,) bool says which observations begin an episode; the others go on from the last
        call. Where it is left out all begin one.
        """

    def seed_acting(self, seed: int) -> None:
        """From here on `act` draws the same actions for the same seed."""

    def state_dict(self) -> dict[str, Any]:
        """Plain dict of tensors, numbers, strings and lists."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
