"""MLPs, losses and optimizer steps of all agents at once: the one door to the kernels.

Each function decides for itself whether a C++ kernel (`dmpo.nn.kernels`) or PyTorch computes it; both give the same but
for rounding. R is the number of parameter sets: N where every agent has its own, 1 where all share one, in which case
agents are folded into the batch. Nothing here mixes agents but through a `Neighborhood`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dmpo.nn import torch_functions
from dmpo.nn.distributions import ActionDistribution, Categorical, Gaussian
from dmpo.nn.kernels.adam import adam_step
from dmpo.nn.kernels.calls import kernel_supports
from dmpo.nn.kernels.fused import CATEGORICAL, GAUSSIAN, SQUARES, FusedLoss, LossInputs
from dmpo.nn.kernels.mlp import FeatureMajorMLPFunction, MLPFunction
from dmpo.nn.kernels.models import model_gradients
from graphs import Neighborhood

_LOSS_KINDS: Mapping[type, int] = {Gaussian: GAUSSIAN, Categorical: CATEGORICAL}


def mlp(x: Tensor, parameters: Sequence[Tensor], precision: torch.dtype = torch.float32) -> Tensor:
    """MLPs with tanh between the layers: y_1 = tanh(x W_1 + b_1), ..., y_L = y_(L-1) W_L + b_L.

    Args:
        x: (R, B, inputs), float32.
        parameters: W_1 (R, inputs, outputs), b_1 (R, 1, outputs), ...
        precision: of the matrix products and of the hidden outputs.

    Returns:
        (R, B, outputs), float32.
    """
    y: Tensor
    if kernel_supports(x, parameters, precision):
        bfloat16, keep = precision == torch.bfloat16, torch.is_grad_enabled()
        y = MLPFunction.apply(bfloat16, keep, None, x.contiguous(), *parameters)  # type: ignore[no-untyped-call]
    else:
        y = torch_functions.MLPFunction.apply(precision, x, *parameters)  # type: ignore[no-untyped-call]
    return y


def neighborhood_mlp(
    states: Tensor,
    neighborhood: Neighborhood,
    parameters: Sequence[Tensor],
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """`mlp` of the states that each agent receives from its neighborhood, its own first, padding zero.

    Args:
        states: (B, N, D).
        neighborhood: N_i, of at most K agents.
        parameters: as of `mlp`, with K·D inputs.
        precision: as of `mlp`.

    Returns:
        (B, N, outputs).
    """
    stacks, agents = len(parameters[0]), states.shape[1]
    y: Tensor
    fixed = not (states.requires_grad and torch.is_grad_enabled())
    if fixed and kernel_supports(states, parameters, precision):
        bfloat16, keep, sources = precision == torch.bfloat16, torch.is_grad_enabled(), neighborhood.sources
        y = MLPFunction.apply(bfloat16, keep, sources, states.contiguous(), *parameters)  # type: ignore[no-untyped-call]
    else:
        x = neighborhood.gather(states).flatten(-2)  # (B, N, K, D) -> (B, N, K·D)
        x = x.reshape(1, -1, x.shape[-1]) if stacks == 1 else x.transpose(0, 1).contiguous()  # (R, B, K·D)
        y = mlp(x, parameters, precision)
    return y.view(-1, agents, y.shape[-1]) if stacks == 1 else y.transpose(0, 1)


def feature_major_mlp(x: Tensor, parameters: Sequence[Tensor], last_relu: bool) -> Tensor:
    """MLPs of narrow layers, y_1 = max(W_1 x + b_1, 0), ..., the last with or without the max.

    The samples come last, which is several times as fast for narrow layers as samples before features.

    Args:
        x: (R, inputs, B).
        parameters: W_1 (R, outputs, inputs), b_1 (R, outputs, 1), ...
        last_relu: whether max(·, 0) is applied after the last layer as well.

    Returns:
        (R, outputs, B).
    """
    y: Tensor
    if kernel_supports(x, parameters):
        keep = torch.is_grad_enabled()
        y = FeatureMajorMLPFunction.apply(last_relu, keep, x.contiguous(), *parameters)  # type: ignore[no-untyped-call]
    else:
        y = torch_functions.FeatureMajorMLPFunction.apply(last_relu, x, *parameters)  # type: ignore[no-untyped-call]
    return y


def clipped_surrogate(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """min(ρ Â, g(ε, Â)), ρ = π_i(a_i|s_(N_i)) / π_i^old(a_i|s_(N_i)), g = clamp(ρ, 1-ε, 1+ε) Â (eq. 7); any shape."""
    ratio = torch.exp(log_probs - old_log_probs)
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def can_fuse_loss(states: Tensor, parameters: Sequence[Tensor], precision: torch.dtype) -> bool:
    """Whether a kernel can compute a loss and its gradient in one pass, for MLPs that each agent has for itself.

    Args:
        states: (B, N, D).
        parameters: as of `neighborhood_mlp`.
        precision: as there.
    """
    own = len(parameters[0]) == states.shape[1]
    differentiable = torch.is_grad_enabled() and not states.requires_grad
    return own and differentiable and kernel_supports(states, parameters, precision)


def can_fuse_surrogate(distribution: ActionDistribution) -> bool:
    """Whether there is a kernel for the clipped surrogate with such actions."""
    return type(distribution) in _LOSS_KINDS


class MLPInputs(NamedTuple):
    """Arguments of `neighborhood_mlp`."""

    states: Tensor
    neighborhood: Neighborhood
    parameters: Sequence[Tensor]
    precision: torch.dtype


class SurrogateInputs(NamedTuple):
    """Arguments of `dmpo.nn.losses.clipped_surrogate_loss` besides the network's."""

    distribution: ActionDistribution
    log_std: Tensor
    actions: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    old_dist_params: Tensor | None
    clip: float
    entropy_coef: float


def fused_squares(network: MLPInputs, targets: Tensor) -> Tensor:
    """Mean over samples of (y - targets)², y = `neighborhood_mlp(*network)`, by a kernel; see `can_fuse_loss`.

    Args:
        network: with B samples.
        targets: (B, N).

    Returns:
        (N,).
    """
    return _fused(network, LossInputs(SQUARES, targets))[0]


def fused_surrogate(network: MLPInputs, surrogate: SurrogateInputs) -> tuple[Tensor, Tensor]:
    """`dmpo.nn.losses.clipped_surrogate_loss` by a kernel; see `can_fuse_loss` and `can_fuse_surrogate`.

    Returns:
        Loss and KL divergence, (N,) each; the divergence is zero without `old_dist_params`.
    """
    kind = _LOSS_KINDS[type(surrogate.distribution)]
    inputs = LossInputs(
        kind,
        targets=surrogate.old_log_probs,
        advantages=surrogate.advantages,
        actions=surrogate.actions,
        old_dist_params=surrogate.old_dist_params,
        log_std=surrogate.log_std if kind == GAUSSIAN else None,
        clip=surrogate.clip,
        entropy_coef=surrogate.entropy_coef,
    )
    return _fused(network, inputs)


def _fused(network: MLPInputs, inputs: LossInputs) -> tuple[Tensor, Tensor]:
    states, neighborhood, parameters, precision = network
    found: tuple[Tensor, Tensor] = FusedLoss.apply(  # type: ignore[no-untyped-call]
        precision == torch.bfloat16, inputs, neighborhood.sources, states.contiguous(), inputs.log_std, *parameters
    )
    return found


def can_fuse_model_gradients(networks: Mapping[str, tuple[Sequence[Tensor], bool]], states: Tensor) -> bool:
    """Whether there is a kernel for the gradient of localized models with these networks."""
    return all(kernel_supports(states, parameters) for parameters, _ in networks.values())


def fused_model_gradients(
    networks: Mapping[str, tuple[Sequence[Tensor], bool]], tensors: Mapping[str, Tensor], **settings: float
) -> tuple[dict[str, list[Tensor]], Tensor]:
    """Gradients of the localized models' loss by a kernel; see `dmpo.nn.kernels.models.model_gradients`."""
    return model_gradients(networks, tensors, **settings)


def adam(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: tuple[Tensor, Tensor, Tensor],
    active: Tensor,
    *,
    rate: float,
    max_norm: float,
    epsilon: float,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
) -> None:
    """One step of Adam (Kingma & Ba 2015) for the active ones of R parameter sets, in place.

    Each set's gradient is clipped to its own norm, and a set that is not active keeps parameters, moments and count of
    steps untouched, which Adam with a gradient of zero would not.

    Args:
        parameters: (R, ...) each.
        gradients: (R, numbers) each.
        state: first and second moments (R, P), and steps taken (R, 1).
        active: (R,) bool.
        rate: learning rate.
        max_norm: largest norm of one set's gradient.
        epsilon: smallest root of the second moment that is divided by, roughly.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
    """
    settings = {"max_norm": max_norm, "rate": rate, "epsilon": epsilon, "beta_1": beta_1, "beta_2": beta_2}
    if kernel_supports(state[0], parameters):
        rows = [gradient if gradient.stride(1) == 1 else gradient.contiguous() for gradient in gradients]
        adam_step(parameters, rows, state, active.contiguous(), **settings)
    else:
        torch_functions.adam_step(parameters, gradients, state, active, **settings)
