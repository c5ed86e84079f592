"""What policies and values learn from samples, per agent: losses that come with gradients where kernels have them.

A perceptron's outputs, a loss of them and the way back through the layers are then one pass, tile by tile, and nothing
that lies between the layers leaves the cache. Elsewhere, as on a GPU, for shared parameters, or where a gradient of the
states is asked for, PyTorch keeps what it needs and goes back on its own.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmpo.nn import kernels
from dmpo.nn.distributions import Categorical, Distribution, Gaussian
from dmpo.nn.kernels.learn import CATEGORICAL, GAUSSIAN, Lesson, learn
from dmpo.nn.layers import StackedMLP
from graphs import Neighborhood


def clipped_surrogate(log_probs: Tensor, old_log_probs: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(ρ Â, g(ε, Â)), ρ = π_i(a_i|s_(N_i)) / π_i^old(a_i|s_(N_i)), g = clamp(ρ, 1-ε, 1+ε) Â (eq. 7); any shape."""
    ratio = torch.exp(log_probs - old_log_probs)
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def kind_of(distribution: Distribution) -> int | None:
    """Which kind of lesson the clipped surrogate is for such actions, if there is one."""
    return {Gaussian: GAUSSIAN, Categorical: CATEGORICAL}.get(type(distribution))


def suits(network: StackedMLP, states: Tensor) -> bool:
    """Whether `lesson_loss` can be used with such a network and states (B, N, D)."""
    return (
        network.stacks == states.shape[1]
        and torch.is_grad_enabled()
        and not states.requires_grad
        and kernels.suit(states, list(network.parameters()), network.precision)
    )


def lesson_loss(
    network: StackedMLP, states: Tensor, neighborhood: Neighborhood, lesson: Lesson
) -> tuple[Tensor, Tensor]:
    """A lesson's loss, with gradients of a network's parameters and the lesson's `log_std`, and a divergence without.

    Args:
        network: with parameters of their own for all agents.
        states: (B, N, D).
        neighborhood: whose states they are given, own first.
        lesson: with B samples.

    Returns:
        Means over the samples, (N,) each.

    Raises:
        ValueError: the lesson does not fit.
    """
    rounded = network.precision == torch.bfloat16
    parameters = list(network.parameters())
    found: tuple[Tensor, Tensor] = _LessonLoss.apply(  # type: ignore[no-untyped-call]
        rounded, lesson, neighborhood.sources, states.contiguous(), lesson.log_std, *parameters
    )
    return found


class _LessonLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rounded: bool,
        lesson: Lesson,
        heard: Tensor,
        states: Tensor,
        log_std: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        found = learn(states, heard, parameters, rounded, lesson)
        ctx.save_for_backward(None if log_std is None else found.to_log_std, *found.to_parameters)
        ctx.mark_non_differentiable(found.divergence)
        return found.loss, found.divergence

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        # (N,), and what an agent's loss has to do with that agent's parameters alone.
        to_log_std, *to_parameters = ctx.saved_tensors
        if to_log_std is not None:
            to_log_std = to_loss.view(-1, 1) * to_log_std
        return None, None, None, None, to_log_std, *(to_loss.view(-1, 1, 1) * x for x in to_parameters)
