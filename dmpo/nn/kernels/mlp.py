"""Kernels for multilayer perceptrons, forward and backward, as functions of PyTorch's autograd.

`dmpo.nn.functional` defines what they compute.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmpo.nn.kernels.calls import Call, check_shape

ROW_MULTIPLE = 16  # rows of kept hidden outputs are padded to a multiple of so many numbers


def feature_major_widths(parameters: Sequence[Tensor]) -> list[int]:
    """Widths of the inputs and of each layer, from W_1 (R, outputs, inputs), b_1, ..."""
    return [parameters[0].shape[2], *(weight.shape[1] for weight in parameters[::2])]


class MLPKernel:
    """Kernel for MLPs with tanh between the layers.

    Args:
        x: inputs (R, B, D); with `sources`, the states (S, N, D / K) that the inputs are gathered from.
        parameters: W_1 (R, D, outputs), b_1 (R, 1, outputs), ..., all contiguous, as x is.
        bfloat16: whether to multiply, and keep between the layers, bfloat16 numbers.
        sources: (N, K) int64, contiguous: the agents whose states each agent receives, -1 for zeros. B is then S or,
            with one set of parameters for all, S·N, the agents of each state side by side.

    Raises:
        ValueError: `x` does not fit the parameters.
    """

    def __init__(self, x: Tensor, parameters: Sequence[Tensor], bfloat16: bool, sources: Tensor | None = None) -> None:
        stacks, wanted, _ = parameters[0].shape
        samples, inputs = x.shape[1:]
        if sources is None:
            check_shape(x, (stacks, wanted), (0, 2))
        else:
            agents, places = sources.shape
            if stacks not in (1, agents) or wanted % places:
                raise ValueError(
                    f"sources.shape={tuple(sources.shape)} is not possible with weights {tuple(parameters[0].shape)}."
                )
            check_shape(x, (agents, wanted // places), (1, 2))
            samples, inputs = len(x) * (agents if stacks == 1 else 1), places * inputs
        self.samples, self.bfloat16, self.name = samples, bfloat16, "bfloat16" if bfloat16 else "mlp"
        self.call = Call(x, parameters, samples, [inputs, *(weight.shape[2] for weight in parameters[::2])])
        if sources is not None:
            self.call.set(sources=sources)
            self.call.work.agents, self.call.work.places = sources.shape

    def forward(self, keep: bool) -> tuple[Tensor, list[Tensor]]:
        """Outputs (R, B, outputs) and, if a gradient is wanted, the hidden outputs that it needs."""
        stacks, widths, dtype = self.call.stacks, self.call.widths, torch.bfloat16 if self.bfloat16 else torch.float32
        rows = [-(-width // ROW_MULTIPLE) * ROW_MULTIPLE for width in widths[1:-1]] if keep else []
        kept = [torch.empty(stacks, self.samples, row, dtype=dtype) for row in rows]
        y = torch.empty(stacks, self.samples, widths[-1])
        self.call.set(y=y)
        self.call.run(f"{self.name}_forward", kept)
        return y, kept

    def backward(self, kept: Sequence[Tensor], gradient: Tensor, to_x: Tensor | None) -> list[Tensor]:
        """Gradients of the parameters from that of the outputs; that of x is written to `to_x`, if given."""
        self.call.set(gradient=gradient)
        return self.call.gradients(f"{self.name}_backward", kept, to_x)


class FeatureMajorMLPKernel:
    """Kernel for MLPs with max(·, 0) between the layers and the samples last.

    Args:
        x: inputs (R, D, B).
        parameters: W_1 (R, outputs, D), b_1 (R, outputs, 1), ..., all contiguous, as x is.
        last_relu: whether max(·, 0) is applied after the last layer as well.

    Raises:
        ValueError: `x` does not fit the parameters.
    """

    def __init__(self, x: Tensor, parameters: Sequence[Tensor], last_relu: bool) -> None:
        check_shape(x, (len(parameters[0]), parameters[0].shape[2]), (0, 1))
        self.samples = x.shape[2]
        self.call = Call(x, parameters, self.samples, feature_major_widths(parameters))
        self.call.work.last_relu = last_relu

    def forward(self, keep: bool) -> tuple[Tensor, list[Tensor]]:
        """Outputs (R, outputs, B) and, if a gradient is wanted, the hidden outputs that it needs."""
        *hidden, y = (torch.empty(self.call.stacks, width, self.samples) for width in self.call.widths[1:])
        kept = hidden if keep else []
        self.call.set(y=y)
        self.call.run("feature_major_forward", kept)
        return y, kept

    def backward(self, kept: Sequence[Tensor], y: Tensor | None, gradient: Tensor, to_x: Tensor | None) -> list[Tensor]:
        """As `MLPKernel.backward`; y is needed with `last_relu`."""
        self.call.set(y=y, gradient=gradient)
        return self.call.gradients("feature_major_backward", kept, to_x)


class MLPFunction(torch.autograd.Function):
    """`MLPKernel` as a differentiable function; with `sources`, x is the states and gets no gradient."""

    @staticmethod
    def forward(ctx: Any, bfloat16: bool, keep: bool, sources: Tensor | None, x: Tensor, *parameters: Tensor) -> Tensor:
        """See `MLPKernel`; with `keep` a gradient will be asked for."""
        y, kept = MLPKernel(x, parameters, bfloat16, sources).forward(keep)
        if keep:
            ctx.bfloat16, ctx.sources, ctx.parameters = bfloat16, sources, len(parameters)
            ctx.save_for_backward(x, *parameters, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of the parameters."""
        x, *saved = ctx.saved_tensors
        parameters, kept = saved[: ctx.parameters], saved[ctx.parameters :]
        to_x = torch.empty_like(x) if ctx.needs_input_grad[3] else None
        kernel = MLPKernel(x, parameters, ctx.bfloat16, ctx.sources)
        return None, None, None, to_x, *kernel.backward(kept, gradient.contiguous(), to_x)


class FeatureMajorMLPFunction(torch.autograd.Function):
    """`FeatureMajorMLPKernel` as a differentiable function."""

    @staticmethod
    def forward(ctx: Any, last_relu: bool, keep: bool, x: Tensor, *parameters: Tensor) -> Tensor:
        """See `FeatureMajorMLPKernel`; with `keep` a gradient will be asked for."""
        y, kept = FeatureMajorMLPKernel(x, parameters, last_relu).forward(keep)
        if keep:
            ctx.last_relu, ctx.parameters = last_relu, len(parameters)
            ctx.save_for_backward(x, y if last_relu else None, *parameters, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of the parameters."""
        x, y, *saved = ctx.saved_tensors
        parameters, kept = saved[: ctx.parameters], saved[ctx.parameters :]
        to_x = torch.empty_like(x) if ctx.needs_input_grad[2] else None
        kernel = FeatureMajorMLPKernel(x, parameters, ctx.last_relu)
        return None, None, to_x, *kernel.backward(kept, y, gradient.contiguous(), to_x)
