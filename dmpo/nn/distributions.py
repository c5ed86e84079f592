"""Distributions over one agent's actions, described by P numbers per agent and state.

All have the same methods, elementwise over agents: parameters are (..., N, P), actions (..., N, A) or (..., N), and
log-probabilities, entropies and divergences (..., N).
"""

import math
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from torch import Tensor

LOG_STD_BOUNDS = -5.0, 2.0  # of a log standard deviation that depends on the state


class ActionDistribution(Protocol):
    """Interface of a distribution that a policy acts with."""

    actions: int  # A, or the number of actions to choose from
    outputs: int  # P', outputs of the network
    scales: int  # learned parameters that do not depend on the state: A log standard deviations, or none

    def init_outputs(self, mean: float, log_std: float) -> Tensor:
        """(P',), outputs of the untrained network."""

    def dist_params(self, outputs: Tensor, log_std: Tensor) -> Tensor:
        """Parameters (..., N, P) from a network's outputs (..., N, P') and the learned `scales` (N or 1, A)."""

    def sample(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Drawn actions."""

    def mode(self, parameters: Tensor) -> Tensor:
        """The likeliest actions."""

    def env_actions(self, actions: Tensor) -> np.ndarray[Any, Any]:
        """Actions in the environment's units."""


class Distribution(ActionDistribution, Protocol):
    """Interface of a distribution that PPO, A2C and IC3Net learn with."""

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """Log-probability, (..., N)."""

    def entropy(self, parameters: Tensor) -> Tensor:
        """Entropy, (..., N)."""

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """KL(old ‖ new), (..., N), exact."""


class Gaussian:
    """Independent Gaussians in units where ±1 are the bounds of the box.

    Actions are scaled to the environment's units, and clipped, only on their way to it: log-probabilities are those of
    the draw.
    P = 2A: the means, then the log standard deviations.

    Args:
        space: a `Box` (A,) with finite bounds.
        device: where actions are scaled.
    """

    def __init__(self, space: gymnasium.spaces.Box, device: torch.device | str = "cpu") -> None:
        low, high = (torch.as_tensor(bound, dtype=torch.float32, device=device) for bound in (space.low, space.high))
        if low.dim() != 1 or not bool(torch.isfinite(high - low).all()):
            raise ValueError(f"action_space={space} is not possible: a Box (A,) with finite bounds is needed.")
        self.low, self.high = low, high
        self.middle, self.half = (low + high) / 2, (high - low) / 2
        self.actions = self.outputs = self.scales = len(low)

    def init_outputs(self, mean: float, log_std: float) -> Tensor:
        """The mean of each action, (A,)."""
        return torch.full((self.outputs,), mean)

    def dist_params(self, outputs: Tensor, log_std: Tensor) -> Tensor:
        """(..., N, A) and (N, A) or (1, A) -> (..., N, 2A)."""
        return torch.cat([outputs, log_std.expand_as(outputs)], -1)

    def sample(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Drawn from N(mean, std²), (..., N, A)."""
        mean, log_std = parameters.chunk(2, -1)
        noise = torch.empty_like(mean, memory_format=torch.contiguous_format).normal_(generator=generator)
        return torch.addcmul(mean, log_std.exp(), noise)

    def mode(self, parameters: Tensor) -> Tensor:
        """The mean, (..., N, A)."""
        return parameters.chunk(2, -1)[0]

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """Summed over the A dimensions, (..., N)."""
        mean, log_std = parameters.chunk(2, -1)
        distance = (actions - mean) * torch.exp(-log_std)
        return (-0.5 * distance.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Summed over the A dimensions, (..., N)."""
        log_std = parameters.chunk(2, -1)[1]
        return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """log(σ'/σ) + (σ² + (μ - μ')²) / 2σ'² - 1/2, summed over the A dimensions, (..., N)."""
        (mean, log_std), (new_mean, new_log_std) = old.chunk(2, -1), new.chunk(2, -1)
        squares = torch.exp(2 * log_std) + (mean - new_mean).square()
        return (new_log_std - log_std + 0.5 * squares * torch.exp(-2 * new_log_std) - 0.5).sum(-1)

    def env_actions(self, actions: Tensor) -> np.ndarray[Any, Any]:
        """Scaled and clipped to the box, (..., N, A) float32."""
        scaled = torch.addcmul(self.middle, self.half, actions)
        clipped: np.ndarray[Any, Any] = torch.clamp(scaled, self.low, self.high).contiguous().cpu().numpy()
        return clipped


class SquashedGaussian:
    """tanh of a Gaussian whose standard deviation depends on the state as well (Haarnoja et al. 2018, appendix C).

    Actions are in units in which the bounds of the box are ±1, which they never pass. P = 2A: mean and log standard
    deviation before the tanh.

    Args:
        space: a `Box` (A,) with finite bounds.
        device: where actions are scaled.
    """

    scales = 0

    def __init__(self, space: gymnasium.spaces.Box, device: torch.device | str = "cpu") -> None:
        self.inner = Gaussian(space, device)
        self.actions, self.outputs = self.inner.actions, 2 * self.inner.actions

    def init_outputs(self, mean: float, log_std: float) -> Tensor:
        """The mean, and the log standard deviation, before the tanh, (2A,)."""
        return torch.tensor([mean, log_std]).repeat_interleave(self.actions)

    def dist_params(self, outputs: Tensor, log_std: Tensor) -> Tensor:
        """(..., N, 2A), the log standard deviations bounded."""
        mean, scale = outputs.chunk(2, -1)
        return torch.cat([mean, scale.clamp(*LOG_STD_BOUNDS)], -1)

    def sample(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Drawn actions, (..., N, A)."""
        return self.inner.sample(parameters, generator).tanh()

    def draw(self, parameters: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Actions (..., N, A), differentiable with respect to the parameters, and log-probabilities (..., N)."""
        before = self.inner.sample(parameters, generator)
        # log(1 - tanh²x) = 2 (log 2 - x - log(1 + e^(-2x))), which does not lose its digits where tanh is near ±1.
        slope = 2 * (math.log(2) - before - torch.nn.functional.softplus(-2 * before))
        return before.tanh(), self.inner.log_prob(parameters, before) - slope.sum(-1)

    def mode(self, parameters: Tensor) -> Tensor:
        """tanh of the mean, (..., N, A)."""
        return self.inner.mode(parameters).tanh()

    def env_actions(self, actions: Tensor) -> np.ndarray[Any, Any]:
        """Scaled to the box, (..., N, A) float32."""
        return self.inner.env_actions(actions)


class Categorical:
    """One of P actions; the parameters are their log-probabilities.

    Args:
        space: a `Discrete` of P actions.
    """

    scales = 0

    def __init__(self, space: gymnasium.spaces.Discrete) -> None:
        self.actions = self.outputs = int(space.n)
        self.first = int(space.start)

    def init_outputs(self, mean: float, log_std: float) -> Tensor:
        """All equally likely, (P,)."""
        if mean:
            raise ValueError(f"init_mean={mean} is not possible: the actions are discrete, allowed: 0.")
        return torch.zeros(self.outputs)

    def dist_params(self, outputs: Tensor, log_std: Tensor) -> Tensor:
        """Logits (..., N, P) -> log-probabilities."""
        # Over the first dimension it is twenty times as fast as over a short last one.
        return outputs.movedim(-1, 0).log_softmax(0).movedim(0, -1)

    def sample(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Inverse transform sampling: a uniform number against the cumulative probabilities, (..., N) int64."""
        like = parameters[..., 0]
        drawn = torch.empty_like(like, memory_format=torch.contiguous_format).uniform_(generator=generator)
        # The last cumulative probability is 1 but for rounding. With the actions first it is fastest.
        cumulative = parameters[..., :-1].movedim(-1, 0).exp().cumsum(0)  # (P-1, ..., N)
        return (drawn >= cumulative).sum(0)

    def mode(self, parameters: Tensor) -> Tensor:
        """The likeliest action, (..., N) int64."""
        return parameters.argmax(-1)

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """(..., N)."""
        return parameters.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """-Σ p log p, (..., N)."""
        return -(parameters.exp() * parameters).sum(-1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Σ p (log p - log p'), (..., N)."""
        return (old.exp() * (old - new)).sum(-1)

    def env_actions(self, actions: Tensor) -> np.ndarray[Any, Any]:
        """(..., N) int64, counted from the first of the space."""
        chosen: np.ndarray[Any, Any] = (actions + self.first).cpu().numpy()
        return chosen


def make_distribution(space: gymnasium.Space[Any], device: torch.device | str = "cpu") -> Distribution:
    """Gaussian for a Box, categorical for a Discrete action space.

    Raises:
        ValueError: any other space.
    """
    if isinstance(space, gymnasium.spaces.Box):
        return Gaussian(space, device)
    if isinstance(space, gymnasium.spaces.Discrete):
        return Categorical(space)
    raise ValueError(f"action_space={space} is not possible: an agent's actions are a Box (A,) or Discrete.")
