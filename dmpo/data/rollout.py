"""Rollouts: batches of steps, real or from a model, that every learner improves on."""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from graphs import Neighborhood


@dataclass(frozen=True)
class Rollout:
    """T steps of E environments side by side.

    Row t of the observations is the state that step t begins with, and row T the state that the last step led to. Where
    an episode ended, the next row begins another one; the M states in which episodes ended are kept apart. In model
    rollouts agents may end one by one; those that have ended stay where they are.
    """

    observations: Tensor  # (T+1, E, N, D)
    actions: Tensor  # (T, E, N, A) float32 or (T, E, N) int64, in the policy's units, as its distribution draws them
    old_dist_params: Tensor  # (T, E, N, P), parameters of the distributions that the actions were drawn from
    rewards: Tensor  # (T, E, N)
    terminated: Tensor  # (T, E, N) bool, the agent's last step: nothing follows, and nothing is bootstrapped
    truncated: Tensor  # (T, E) bool, the episode was cut off for the agents that have not terminated
    ended_by: Tensor  # (T, E, N) bool, agents whose own state ended the episode
    valid: Tensor  # (T, E, N) bool, False where the agent had ended before, or the step was lost with its simulation
    final_index: Tensor  # (M,) int64, t·E + e
    final_observations: Tensor  # (M, N, D)

    def to(self, device: torch.device | str) -> Self:
        """Copy on another device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def told(self, within: Neighborhood | None) -> Self:
        """The same steps, where agents that are not told of an end take it for a truncation; see `told_of_ends`."""
        if within is None:
            return self
        told = self.terminated & told_of_ends(self.ended_by, within)
        untold = (self.terminated & ~told).any(-1)  # (T, E)
        return replace(self, terminated=told, truncated=self.truncated | untold)

    @property
    def over(self) -> Tensor:
        """(T, E) bool, steps after which another episode begins, or none."""
        return self.terminated.any(-1) | self.truncated

    @property
    def taken(self) -> Tensor:
        """(T, E) bool, steps that any agent takes."""
        return self.valid.any(-1)

    @property
    def starts(self) -> Tensor:
        """(S, N, D), the observations that these steps begin with."""
        return self.observations[:-1][self.taken]


def told_of_ends(ended_by: Tensor, within: Neighborhood | None) -> Tensor:
    """Agents that are told of an end: those near an agent whose own state was one, or all.

    Args:
        ended_by: (..., N) bool, agents whose own state ended the episode; where it was nobody's, all are told.
        within: the neighborhoods N_i^h in which ends are told; None for all agents.

    Returns:
        (..., N) bool.
    """
    if within is None:
        return torch.ones_like(ended_by)
    return (within.reduce(ended_by.float(), "sum") > 0) | ~ended_by.any(-1, keepdim=True)
