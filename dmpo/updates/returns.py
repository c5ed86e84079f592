"""Returns and advantages: pure functions on (T, E, N).

An episode may end anywhere in a segment: `terminated` means that nothing follows, so nothing is bootstrapped;
`truncated` (a time limit) that it would have gone on, so the value of its last state is. Neither lets anything of the
next episode reach the one before. A step that is not valid, lost with its simulation, neither pays nor is learned
from: the step before it is the last one of its segment.
"""

import torch
from torch import Tensor

from dmpo.nn.normalization import mean_variance
from graphs import Neighborhood


def next_values(values: Tensor, final_index: Tensor, final_values: Tensor) -> Tensor:
    """V(s^{t+1}), where the state that follows the last of an episode is that episode's, not the next one's.

    Args:
        values: (T+1, E, N), of the observed states, those that begin a new episode included.
        final_index: (M,), t·E + e of the steps at which an episode ended.
        final_values: (M, N), of the states in which it ended.

    Returns:
        (T, E, N).
    """
    next_v = values[1:].clone(memory_format=torch.contiguous_format)
    next_v.view(-1, values.shape[-1])[final_index] = final_values
    return next_v


def reduce_over_neighborhood(neighborhood: Neighborhood, x: Tensor) -> Tensor:
    """x̃_i = (1/n) Σ_{j∈N_i^κ} x_j (eq. 6), x (..., N)."""
    return neighborhood.reduce(x, "sum") / neighborhood.num_agents


def advantages(
    rewards: Tensor,
    values: Tensor,
    next_v: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    valid: Tensor,
    gamma: float,
    lambda_: float,
) -> Tensor:
    """Generalized advantage estimation (Schulman et al. 2015).

    δ_t = r_t + γ (1 - terminated_t) V(s^{t+1}) - V(s^t);  A_t = δ_t + γλ (1 - ended_t) A_{t+1};  A_t = 0 where step t
    is not valid.

    Args:
        rewards: (T, E, N).
        values: (T, E, N), V(s^t).
        next_v: (T, E, N), V(s^{t+1}), from `next_values`.
        terminated: (T, E, N) bool.
        truncated: (T, E) bool.
        valid: (T, E, N) bool.
        gamma: discount γ.
        lambda_: λ.

    Returns:
        (T, E, N).
    """
    result = rewards + gamma * next_v.masked_fill(terminated, 0.0) - values
    result.masked_fill_(~valid, 0.0)
    kept = gamma * lambda_ * (valid & ~(terminated | truncated.unsqueeze(-1))).to(rewards.dtype)
    for t in range(len(rewards) - 2, -1, -1):
        result[t].addcmul_(kept[t], result[t + 1])
    return result


def lambda_returns(values: Tensor, advantage: Tensor) -> Tensor:
    """λ-returns R^t = A_t + V(s^t), the targets of the values, from `advantages` of the same values; any shape.

    For λ = 1 they are eq. 5 of the DMPO paper, R^t = Σ_{l=0}^{T-t-1} γ^l r^{t+l} + γ^{T-t} V(s^T), up to the end of the
    episode where that comes first.
    """
    return advantage + values


def standardized(x: Tensor, weights: Tensor | None = None) -> Tensor:
    """Per agent mean 0 and standard deviation 1 over all samples together, x (S, N); weights as of `mean_variance`."""
    mean, variance = mean_variance(x, weights)
    return (x - mean) / (variance.sqrt() + 1e-8)


def value_metrics(values: Tensor, targets: Tensor, weights: Tensor | None = None) -> dict[str, float]:
    """Metrics of the values (S, N) of a batch before they learn from its returns (S, N); weights (S, N) or none."""
    unexplained = mean_variance(targets - values, weights)[1] / mean_variance(targets, weights)[1].clamp(min=1e-12)
    mean = mean_variance(values, weights)[0].mean()
    return {"value/explained_variance": float(1 - unexplained.mean()), "value/mean": float(mean)}
