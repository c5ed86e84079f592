"""Running normalization by mean and standard deviation, per agent."""

import torch
from torch import Tensor, nn

from dmpo.nn.layers import StackedLinear

SMALLEST_STD = 1e-4


def mean_variance(x: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and variance of samples x (B, R, ...), weighted by weights (B, R) of mean one if there are any."""
    if weights is None:
        return x.mean(0), x.var(0, correction=0)
    weights = weights.view(*weights.shape, *[1] * (x.dim() - 2))
    mean = (weights * x).mean(0)
    return mean, (weights * (x - mean).square()).mean(0)


class RunningNormalizer(nn.Module):
    """Mean and variance of each agent's samples, updated batch by batch from that agent's numbers alone.

    A sample of the latest batch weighs one, and all earlier ones `memory` times what they weighed: w = m·w + B. Mean
    and variance are the weighted ones (Chan's update). A memory of 1 forgets nothing.

    Args:
        stacks: R, the number of agents, or 1 for statistics shared by all.
        features: shape of one agent's sample, () or (D,).
        memory: factor of the earlier samples' weight at each update, in [0, 1].
    """

    mean: Tensor  # (R, *features)
    variance: Tensor  # (R, *features), one before the first update
    weight: Tensor  # ()

    def __init__(self, stacks: int, features: tuple[int, ...], memory: float = 1.0) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("mean", torch.zeros(stacks, *features))
        self.register_buffer("variance", torch.ones(stacks, *features))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))

    @property
    def std(self) -> Tensor:
        """(R, *features), never zero."""
        return self.variance.sqrt().clamp(min=SMALLEST_STD)

    def normalize(self, x: Tensor) -> Tensor:
        """(x - mean) / std, x (..., N, *features)."""
        return (x - self.mean) / self.std

    def denormalize(self, x: Tensor) -> Tensor:
        """Mean + std · x, x (..., N, *features)."""
        return self.mean + self.std * x

    @torch.no_grad()
    def update(self, x: Tensor, weights: Tensor | None = None) -> None:
        """Take in a batch x (B, N, *features); weights as of `mean_variance`, (B, N)."""
        x = x.reshape(-1, *self.mean.shape)  # (B, N, ...), or (B·N, 1, ...) where all agents share
        if weights is not None:
            weights = weights.reshape(-1, len(self.mean))
        past, new = self.memory * float(self.weight), len(x)
        share = new / (past + new)
        mean, spread = mean_variance(x, weights)
        difference = mean - self.mean
        self.variance.copy_(self.variance * (1 - share) + spread * share + difference.square() * (share * (1 - share)))
        self.mean.add_(difference * share)
        self.weight.fill_(past + new)


class ReturnNormalizer(RunningNormalizer):
    """Normalizer of the returns that critics learn; the critic's last layer moves with it.

    V = mean + std · layer(·) stays what it is when mean and std move (PopArt, van Hasselt et al. 2016).

    Args:
        stacks: R, the number of agents, or 1 for statistics shared by all.
        memory: factor of the earlier returns' weight at each batch, in [0, 1].
    """

    def __init__(self, stacks: int, memory: float) -> None:
        super().__init__(stacks, (), memory)
        self.variance.zero_()  # before the first returns nothing is known of their size, and V is about zero

    @torch.no_grad()
    def observe(self, returns: Tensor, head: StackedLinear, weights: Tensor | None = None) -> None:
        """Take in the returns (B, N) of a batch; V stays what it is, but before the first there is nothing to keep.

        Weights are as of `update`.
        """
        first = float(self.weight) == 0
        mean, std = self.mean.clone(), self.std
        self.update(returns, weights)
        if first:
            return
        scale = (std / self.std)[:, None, None]  # (R, 1, 1)
        shift = ((mean - self.mean) / self.std)[:, None, None]
        head.weight.mul_(scale)
        head.bias.mul_(scale).add_(shift)
