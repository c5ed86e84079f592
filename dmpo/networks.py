"""The networks of all agents, stacked and multiplied as one batch.

R is the number of parameter sets: N where every agent has its own, 1 where all share one (agents are then folded into
the batch). Nothing here mixes agents: output i is a function of input i alone.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dmpo.products import quick_products

HIDDEN_GAIN = 2**0.5
_MINUS_ONE = torch.tensor(-1.0)


def _rounded(precision: torch.dtype, *numbers: Tensor) -> list[Tensor]:
    return [x.to(precision) for x in numbers]


def _products(samples: int, *weights: Tensor) -> AbstractContextManager[None]:
    # For products of weights (R, ...) with so many samples (R, B, ...) each.
    return quick_products(samples * sum(weight.numel() for weight in weights))


def _tanh(z: Tensor) -> Tensor:
    # tanh z = 2σ(2z) - 1 in place of 2z: equal to 1e-7 and several times as fast as torch.tanh, which takes longer than
    # the product before it.
    return torch.add(_MINUS_ONE, z.sigmoid_(), alpha=2, out=z)


def _linear(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    # x W + b, evaluated as (Wᵀ xᵀ + bᵀ)ᵀ, which for a few outputs is three to ten times as fast.
    y = torch.baddbmm(bias.transpose(1, 2), weight.transpose(1, 2), x.transpose(1, 2))  # (R, outputs, B)
    return y.transpose(1, 2).float()


class _Perceptron(torch.autograd.Function):
    # tanh layers and a linear one, y_1 = tanh(x W_1 + b_1), ..., y_L = y_(L-1) W_L + b_L, with the gradient of all at
    # once, so that a gradient takes the place of the one above it instead of fresh memory.

    @staticmethod
    def forward(ctx: Any, precision: torch.dtype, x: Tensor, *parameters: Tensor) -> Tensor:
        rounded = _rounded(precision, *parameters)
        layers = list(zip(rounded[::2], rounded[1::2], strict=True))  # (R, inputs, outputs) and (R, 1, outputs) each
        given = [x.to(precision)]  # (R, B, inputs) to each layer
        with _products(x.shape[1], *rounded):
            for weight, bias in layers[:-1]:
                given.append(_tanh(torch.baddbmm(bias, given[-1], weight, beta=2, alpha=2)))
            weight, bias = layers[-1]
            y = _linear(bias, given[-1], weight)
        ctx.dtype = x.dtype
        ctx.save_for_backward(*given, *(weight for weight, _ in layers))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        given, weights = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        with _products(gradient.shape[1], *weights):
            return _Perceptron._gradients(ctx, gradient, given, weights)

    @staticmethod
    def _gradients(
        ctx: Any, gradient: Tensor, given: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        to_bias, gradient = gradient.sum(1, keepdim=True), gradient.to(given[-1].dtype)
        to_weight = torch.bmm(gradient.transpose(1, 2), given[-1]).transpose(1, 2)
        to_parameters = [to_weight.float(), to_bias]
        for y, weight, below in zip(given[:0:-1], weights[:0:-1], given[-2::-1], strict=True):
            gradient = _through(gradient, weight)
            torch.ops.aten.tanh_backward.grad_input(gradient, y, grad_input=gradient)
            to_weight = torch.bmm(below.transpose(1, 2), gradient)
            to_parameters = [to_weight.float(), gradient.sum(1, keepdim=True, dtype=torch.float32), *to_parameters]
        to_x = _through(gradient, weights[0]).to(ctx.dtype) if ctx.needs_input_grad[1] else None
        return None, to_x, *to_parameters


def _through(gradient: Tensor, weight: Tensor) -> Tensor:
    # The gradient (R, B, outputs) with respect to what a layer was given, (R, B, inputs).
    back = weight.transpose(1, 2)
    return gradient * back if back.shape[1] == 1 else torch.bmm(gradient, back)


def _orthogonal(shape: tuple[int, int, int], gain: float, generator: torch.Generator) -> nn.Parameter:
    # (R, rows, columns), drawn for each of R on its own.
    weight = torch.empty(shape)
    for layer in weight:
        nn.init.orthogonal_(layer, gain, generator=generator)
    return nn.Parameter(weight)


class StackedLinear(nn.Module):
    """y_r = x_r W_r + b_r for R layers at once; W orthogonal, drawn for each layer on its own, b zero.

    Args:
        stacks: R.
        inputs: numbers in.
        outputs: numbers out.
        gain: scale of the orthogonal matrices.
        generator: where the matrices are drawn from.

    Shapes:
        (R, B, inputs) -> (R, B, outputs).
    """

    def __init__(self, stacks: int, inputs: int, outputs: int, gain: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = _orthogonal((stacks, inputs, outputs), gain, generator)
        self.bias = nn.Parameter(torch.zeros(stacks, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(R, B, inputs) -> (R, B, outputs)."""
        y: Tensor = _Perceptron.apply(torch.float32, x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return y


class StackedTanh(StackedLinear):
    """y_r = tanh(x_r W_r + b_r), otherwise as `StackedLinear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(R, B, inputs) -> (R, B, outputs)."""
        # As `_tanh`, by what has a gradient.
        return 2 * torch.baddbmm(self.bias, x, self.weight, beta=2, alpha=2).sigmoid_() - 1


class _Columns(torch.autograd.Function):
    # y_1 = max(W_1 x + b_1, 0), ..., the last of them without the max unless asked for, with the gradient of all at
    # once, as in `_Perceptron`, and everything contiguous in both directions.

    @staticmethod
    def forward(ctx: Any, last_relu: bool, x: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]  # (R, outputs, inputs) and (R, outputs, 1) each
        given = [x]  # (R, inputs, B) to each layer
        with _products(x.shape[2], *weights):
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                given.append(torch.baddbmm(bias, weight, given[-1]).relu_())
            y = torch.baddbmm(biases[-1], weights[-1], given[-1])
        if last_relu:
            y.relu_()
        ctx.save_for_backward(*given, *weights, y if last_relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *saved, y = ctx.saved_tensors
        given, weights = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        gradient = gradient.contiguous() if y is None else torch.ops.aten.threshold_backward(gradient, y, 0)
        to_parameters: list[Tensor] = []
        with _products(gradient.shape[2], *weights):
            for below, weight in zip(given[:0:-1], weights[:0:-1], strict=True):
                to_parameters = [*_of_columns(gradient, below), *to_parameters]
                gradient = torch.bmm(weight.transpose(1, 2), gradient)
                torch.ops.aten.threshold_backward.grad_input(gradient, below, 0, grad_input=gradient)
            to_parameters = [*_of_columns(gradient, given[0]), *to_parameters]
            to_x = torch.bmm(weights[0].transpose(1, 2), gradient) if ctx.needs_input_grad[1] else None
        return None, to_x, *to_parameters


def _of_columns(gradient: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    # The gradients of a layer's weight and bias, from that of what it gave, (R, outputs, B).
    return torch.bmm(gradient, given.transpose(1, 2)), gradient.sum(2, keepdim=True)


class ColumnLayer(nn.Module):
    """What a layer of `StackedColumns`, which computes it, has: W (R, outputs, inputs) and b (R, outputs, 1)."""

    def __init__(self, stacks: int, inputs: int, outputs: int, relu: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = _orthogonal((stacks, outputs, inputs), HIDDEN_GAIN if relu else 1.0, generator)
        self.bias = nn.Parameter(torch.zeros(stacks, outputs, 1))
        self.relu = relu


class StackedColumns(nn.Sequential):
    """R perceptrons with layers of a few numbers each, y ← max(W_r y + b_r, 0), the last with or without the max.

    The samples come last, which for narrow layers is several times as fast as having them before the features.

    Args:
        stacks: R.
        widths: numbers in, and out of each layer.
        last_relu: whether negative ones become zero in the last layer as well.
        generator: where the orthogonal matrices are drawn from.

    Shapes:
        (R, widths[0], B) -> (R, widths[-1], B).
    """

    def __init__(self, stacks: int, widths: Sequence[int], last_relu: bool, generator: torch.Generator) -> None:
        relus = [True] * (len(widths) - 2) + [last_relu]
        layers = zip(pairwise(widths), relus, strict=True)
        super().__init__(*(ColumnLayer(stacks, *pair, relu, generator) for pair, relu in layers))

    def forward(self, x: Tensor) -> Tensor:
        """(R, widths[0], B) -> (R, widths[-1], B)."""
        y: Tensor = _Columns.apply(self[-1].relu, x, *self.parameters())  # type: ignore[no-untyped-call]
        return y


def multiplies_bfloat16(device: torch.device | str) -> bool:
    """Whether products of bfloat16 numbers are the hardware's own there."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def round_products(module: nn.Module, precision: torch.dtype) -> bool:
    """Let multilayer perceptrons within multiply numbers of that precision; false where there are none.

    Parameters, their gradients and what comes out stay float32; what lies between the layers has that precision.
    """
    networks = [network for network in module.modules() if isinstance(network, StackedMLP)]
    for network in networks:
        network.precision = precision
    return bool(networks)


class StackedMLP(nn.Module):
    """One multilayer perceptron with tanh per agent, or one for all.

    Args:
        stacks: R, either N or 1.
        inputs: numbers in.
        hidden: width of each hidden layer.
        outputs: numbers out.
        gain: scale of the last layer.
        generator: where the initial weights are drawn from.

    Shapes:
        (B, N, inputs) -> (B, N, outputs).
    """

    def __init__(
        self, stacks: int, inputs: int, hidden: Sequence[int], outputs: int, gain: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        widths = [inputs, *hidden]
        self.stacks = stacks
        layers = [StackedTanh(stacks, *pair, HIDDEN_GAIN, generator) for pair in pairwise(widths)]
        self.hidden = nn.Sequential(*layers)
        self.head = StackedLinear(stacks, widths[-1], outputs, gain, generator)
        self.precision = torch.float32  # of the products; parameters and their gradients are float32 all the same

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, inputs) -> (B, N, outputs)."""
        samples, agents, inputs = x.shape
        shared = self.stacks == 1
        h = x.reshape(1, samples * agents, inputs) if shared else x.transpose(0, 1).contiguous()  # (R, B, inputs)
        y: Tensor = _Perceptron.apply(self.precision, h, *self.parameters())  # type: ignore[no-untyped-call]
        return y.view(samples, agents, y.shape[-1]) if shared else y.transpose(0, 1)
