"""Rollouts: batches of steps, real or from a model, that every learner improves on."""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rollout:
    """T steps of E environments side by side.

    Row t of the observations is the state that step t begins with, and row T the state that the last step led to. Where
    an episode ended, the next row begins another one; the M states in which episodes ended are kept apart.
    """

    observations: Tensor  # (T+1, E, N, D)
    actions: Tensor  # (T, E, N, A) float32 or (T, E, N) int64, in the policy's units, as its distribution draws them
    old_dist_params: Tensor  # (T, E, N, P), parameters of the distributions that the actions were drawn from
    rewards: Tensor  # (T, E, N)
    terminated: Tensor  # (T, E) bool
    truncated: Tensor  # (T, E) bool
    ended_by: Tensor  # (T, E, N) bool, agents whose own state ended the episode
    valid: Tensor  # (T, E) bool, False where a step is padding or was lost with its simulation
    final_index: Tensor  # (M,) int64, t·E + e
    final_observations: Tensor  # (M, N, D)

    def to(self, device: torch.device | str) -> Self:
        """Copy on another device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
