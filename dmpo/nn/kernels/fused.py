"""Losses of MLPs and their gradients in one pass forward and backward through the layers, tile by tile.

`dmpo.nn.functional` defines each loss and computes the same with PyTorch; `losses.h` has it in C++.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmpo.nn.kernels.mlp import MLPKernel

SQUARES, GAUSSIAN, CATEGORICAL = range(3)  # as in shapes.h


@dataclass(frozen=True)
class LossInputs:
    """Inputs of a loss of N agents' MLPs on S samples; all contiguous, all but discrete actions float32.

    Args:
        kind: `SQUARES` is the mean of (y - targets)² of one output y. The others are minus the clipped surrogate (DMPO
            paper, eq. 7) and the entropy bonus, of outputs that are the means of a `GAUSSIAN` whose standard deviations
            do not depend on the state, or the logits of a `CATEGORICAL` distribution.
        targets: (S, N), or the old log-probabilities of the actions.
        advantages: (S, N).
        actions: (S, N, A), or (S, N) int64 from 0 on, less than the number of logits.
        old_dist_params: (S, N, P), parameters of the old distributions, if a KL divergence from them is wanted.
        log_std: (N, A).
        clip: ε.
        entropy_coef: weight of the entropy bonus.
    """

    kind: int
    targets: Tensor
    advantages: Tensor | None = None
    actions: Tensor | None = None
    old_dist_params: Tensor | None = None
    log_std: Tensor | None = None
    clip: float = 0.0
    entropy_coef: float = 0.0

    def check(self, samples: int, agents: int, outputs: int) -> None:
        """Refuse tensors that the kernel would read beyond their ends.

        Raises:
            ValueError: a tensor has another shape.
        """
        one, gaussian = (samples, agents), self.kind == GAUSSIAN
        wanted: dict[str, tuple[int, ...]] = {"targets": one}
        if self.kind != SQUARES:
            wanted |= {"advantages": one, "actions": (*one, outputs) if gaussian else one}
        elif outputs != 1:
            raise ValueError(f"outputs={outputs} is not possible: squares are of one output.")
        if gaussian:
            wanted["log_std"] = agents, outputs
        if self.old_dist_params is not None:
            wanted["old_dist_params"] = *one, (1 + gaussian) * outputs
        for name, shape in wanted.items():
            tensor = getattr(self, name)
            dtype = torch.int64 if name == "actions" and not gaussian else torch.float32
            if not _fits(tensor, shape, dtype):
                found = "None" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
                raise ValueError(f"{name}={found} is not possible: {dtype} {shape} is needed, contiguous, on the CPU.")


def _fits(x: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    return x is not None and x.shape == shape and x.dtype == dtype and x.is_contiguous() and x.device.type == "cpu"


class _LossInputs(ctypes.Structure):
    # As in shapes.h.
    _tensors = ("targets", "advantages", "actions", "old_dist_params", "log_std")
    _fields_ = (
        ("kind", ctypes.c_int64),
        ("clip", ctypes.c_float),
        ("entropy_coef", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in (*_tensors, "result")),
    )


@dataclass(frozen=True)
class LossAndGradients:
    """Means over the samples, and the gradients of the loss."""

    loss: Tensor  # (N,)
    kl: Tensor  # (N,), zero where it was not asked for
    to_log_std: Tensor  # (N, A), or (N, 0)
    to_parameters: list[Tensor]


def fused_loss(
    states: Tensor, sources: Tensor, parameters: Sequence[Tensor], bfloat16: bool, inputs: LossInputs
) -> LossAndGradients:
    """Losses of the MLPs' outputs, given their agents' neighborhoods, and the gradients.

    Args: as of `MLPKernel`, but that each of the N agents has its own parameters.

    Raises:
        ValueError: states, parameters or inputs do not fit.
    """
    mlp = MLPKernel(states, parameters, bfloat16, sources)
    call, samples = mlp.call, mlp.samples
    if call.stacks != len(sources):
        raise ValueError(
            f"{call.stacks} sets of parameters are not possible: each of {len(sources)} agents needs its own."
        )
    outputs = call.widths[-1]
    inputs.check(samples, call.stacks, outputs)
    width = 2 + (outputs if inputs.kind == GAUSSIAN else 0)
    result = torch.empty(call.stacks, call.splits, width, dtype=torch.float64)
    scalars = {"kind": inputs.kind, "clip": inputs.clip, "entropy_coef": inputs.entropy_coef}
    structure = _LossInputs(**scalars, result=result.data_ptr())
    for name in _LossInputs._tensors:
        tensor = getattr(inputs, name)
        setattr(structure, name, None if tensor is None else tensor.data_ptr())
    to_parameters = call.gradients(f"{mlp.name}_fused_loss", [], None, ctypes.byref(structure))
    sums = result.sum(1).float()  # (N, 2 + A)
    return LossAndGradients(sums[:, 0] / samples, sums[:, 1] / samples, sums[:, 2:], to_parameters)


class FusedLoss(torch.autograd.Function):
    """Losses and divergences (N,) with the gradients that `fused_loss` computed beside them."""

    @staticmethod
    def forward(
        ctx: Any,
        bfloat16: bool,
        inputs: LossInputs,
        sources: Tensor,
        states: Tensor,
        log_std: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See `fused_loss`; `log_std` stands in `inputs` too, and here so that it gets its gradient."""
        found = fused_loss(states, sources, parameters, bfloat16, inputs)
        ctx.save_for_backward(None if log_std is None else found.to_log_std, *found.to_parameters)
        ctx.mark_non_differentiable(found.kl)
        return found.loss, found.kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of `log_std` and of the parameters: an agent's loss depends on its own only."""
        to_log_std, *to_parameters = ctx.saved_tensors
        if to_log_std is not None:
            to_log_std = to_loss.view(-1, 1) * to_log_std
        return None, None, None, None, to_log_std, *(to_loss.view(-1, 1, 1) * x for x in to_parameters)
