"""Losses of policies and critics, one number per agent, that come with their gradients.

Where there is a kernel, an MLP's outputs, their loss and the way back through the layers are one pass, tile by tile,
and nothing between the layers leaves the cache. Elsewhere, as on a GPU, for shared parameters, or where a gradient of
the states is needed, PyTorch keeps what it needs and goes back on its own.
"""

from typing import cast

import torch
from torch import Tensor

from dmpo.nn import functional
from dmpo.nn.critics import ValueCritic
from dmpo.nn.distributions import Distribution
from dmpo.nn.policy import Policy


def clipped_surrogate_loss(
    policy: Policy,
    states: Tensor,
    actions: Tensor,
    *,
    old_log_probs: Tensor,
    advantages: Tensor,
    clip: float,
    entropy_coef: float,
    dist_params: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """L_i^policy = -mean(min(ρ Â, g(ε, Â))) - c H(π_i) (DMPO paper, eq. 7), and a divergence KL(π_i° ‖ π_i), (N,) each.

    Args:
        policy: the policies of all agents.
        states: (B, N, D).
        actions: (B, N, A) or (B, N).
        old_log_probs: (B, N), of the policies that collected the actions.
        advantages: (B, N).
        clip: ε.
        entropy_coef: c.
        dist_params: (B, N, P), of the policies π° that the divergence is measured from, if it is wanted; it has no
            gradient.
        weights: (B, N) of mean one, of samples that count differently.
    """
    distribution = cast(Distribution, policy.distribution)
    if weights is None and _fuses(policy, states):
        rest = old_log_probs, advantages, dist_params, clip, entropy_coef
        surrogate = functional.SurrogateInputs(distribution, policy.log_std, actions, *rest)
        return functional.fused_surrogate(_inputs(policy, states), surrogate)
    found = policy(states)  # (B, N, P)
    log_probs = distribution.log_prob(found, actions)
    loss = -functional.clipped_surrogate(log_probs, old_log_probs, advantages, clip)  # (B, N)
    if entropy_coef:
        loss = loss - entropy_coef * distribution.entropy(found)
    loss = _mean(loss, weights)
    if dist_params is None:
        return loss, torch.zeros_like(loss)
    return loss, _mean(distribution.kl(dist_params, found.detach()), weights)


def policy_gradient_loss(
    policy: Policy, states: Tensor, actions: Tensor, *, advantages: Tensor, entropy_coef: float
) -> Tensor:
    """-mean(log π_i(a_i | s_(N_i^1)) Â_i) - c H(π_i) (Mnih et al. 2016, algorithm S3), (N,).

    Args:
        policy: the policies of all agents.
        states: (B, N, D).
        actions: (B, N, A) or (B, N).
        advantages: (B, N).
        entropy_coef: c.
    """
    distribution, dist_params = cast(Distribution, policy.distribution), policy(states)  # (B, N, P)
    loss = -(distribution.log_prob(dist_params, actions) * advantages)  # (B, N)
    if entropy_coef:
        loss = loss - entropy_coef * distribution.entropy(dist_params)
    return loss.mean(0)


def value_loss(critic: ValueCritic, states: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """L_i^value = mean((V_i - R_i)²), in units of the returns' standard deviation, (N,).

    Args:
        critic: the critics of all agents.
        states: (B, N, D).
        targets: (B, N), normalized returns.
        weights: (B, N) of mean one, of samples that count differently.
    """
    inputs = _inputs(critic, states)
    if weights is None and functional.can_fuse_loss(states, inputs.parameters, inputs.precision):
        return functional.fused_squares(inputs, targets)
    return _mean((critic.normalized(states) - targets).square(), weights)


def needs_chunks(policy: Policy, states: Tensor) -> bool:
    """Whether PyTorch keeps the hidden outputs of all samples for the gradient, so that large batches need cutting."""
    return not _fuses(policy, states)


def _fuses(policy: Policy, states: Tensor) -> bool:
    inputs = _inputs(policy, states)
    return functional.can_fuse_surrogate(policy.distribution) and functional.can_fuse_loss(
        states, inputs.parameters, inputs.precision
    )


def _mean(x: Tensor, weights: Tensor | None) -> Tensor:
    # (B, N) -> (N,)
    return (x if weights is None else x * weights).mean(0)


def _inputs(module: Policy | ValueCritic, states: Tensor) -> functional.MLPInputs:
    network = module.network
    return functional.MLPInputs(states, module.neighborhood, list(network.parameters()), network.precision)
