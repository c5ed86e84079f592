"""A batch of steps, real or from a model: what every learner improves on."""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rollout:
    """T steps of E environments side by side.

    An observation array holds what each step began with and, as row T, what the last one led to. Where an episode ended
    the next row begins another; the states in which episodes ended are kept apart, M of them.
    """

    observations: Tensor  # (T+1, E, N, D)
    actions: Tensor  # (T, E, N, A) float32 or (T, E, N) int64, in the policy's units, as its distribution draws them
    behavior: Tensor  # (T, E, N, P), parameters of the distributions the actions were drawn from
    rewards: Tensor  # (T, E, N)
    terminated: Tensor  # (T, E) bool
    truncated: Tensor  # (T, E) bool
    valid: Tensor  # (T, E) bool, False where a step is padding or was lost with its simulation
    final_index: Tensor  # (M,) int64, t·E + e
    final_observations: Tensor  # (M, N, D)

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
