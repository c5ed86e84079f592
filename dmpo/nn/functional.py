"""Perceptrons of all agents, stacked and multiplied as one batch, with the gradient of all layers at once.

R is the number of parameter sets: N where every agent has its own, 1 where all share one (agents are then folded into
the batch). Nothing here mixes agents but `heard_perceptron`, by what a neighborhood lets each of them hear.

Each is computed by the kernels where there are some for it, and otherwise by PyTorch.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmpo.nn import kernels
from dmpo.nn.matmul import quick_products
from graphs import Neighborhood

_MINUS_ONE = torch.tensor(-1.0)


def perceptron(x: Tensor, parameters: Sequence[Tensor], precision: torch.dtype = torch.float32) -> Tensor:
    """tanh layers and a linear one, y_1 = tanh(x W_1 + b_1), ..., y_L = y_(L-1) W_L + b_L.

    Args:
        x: (R, B, inputs), float32.
        parameters: W_1 (R, inputs, outputs), b_1 (R, 1, outputs), ...
        precision: of the products, and of what lies between the layers.

    Returns:
        (R, B, outputs), float32.
    """
    y: Tensor
    if kernels.suit(x, parameters, precision):
        rounded, keep = precision == torch.bfloat16, torch.is_grad_enabled()
        y = _OfKernels.apply(rounded, keep, None, x.contiguous(), *parameters)  # type: ignore[no-untyped-call]
    else:
        y = _Perceptron.apply(precision, x, *parameters)  # type: ignore[no-untyped-call]
    return y


def heard_perceptron(
    states: Tensor,
    neighborhood: Neighborhood,
    parameters: Sequence[Tensor],
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """`perceptron` of what each agent hears of its neighborhood, its own state first, padding zero.

    Args:
        states: (B, N, D).
        neighborhood: who hears whom, K of them at most.
        parameters: as there, with K·D inputs.
        precision: as there.

    Returns:
        (B, N, outputs).
    """
    stacks, agents = len(parameters[0]), states.shape[1]
    y: Tensor
    fixed = not (states.requires_grad and torch.is_grad_enabled())
    if fixed and kernels.suit(states, parameters, precision):
        rounded, keep = precision == torch.bfloat16, torch.is_grad_enabled()
        heard = neighborhood.sources
        y = _OfKernels.apply(rounded, keep, heard, states.contiguous(), *parameters)  # type: ignore[no-untyped-call]
    else:
        x = neighborhood.gather(states).flatten(-2)  # (B, N, K, D) -> (B, N, K·D)
        x = x.reshape(1, -1, x.shape[-1]) if stacks == 1 else x.transpose(0, 1).contiguous()  # (R, B, K·D)
        y = perceptron(x, parameters, precision)
    return y.view(-1, agents, y.shape[-1]) if stacks == 1 else y.transpose(0, 1)


def columns(x: Tensor, parameters: Sequence[Tensor], last_relu: bool) -> Tensor:
    """Layers of a few numbers each, y_1 = max(W_1 x + b_1, 0), ..., the last of them with or without the max.

    The samples come last, which for narrow layers is several times as fast as having them before the features.

    Args:
        x: (R, inputs, B).
        parameters: W_1 (R, outputs, inputs), b_1 (R, outputs, 1), ...
        last_relu: whether negative numbers become zero after the last layer as well.

    Returns:
        (R, outputs, B).
    """
    y: Tensor
    if kernels.suit(x, parameters):
        keep = torch.is_grad_enabled()
        y = _ColumnsOfKernels.apply(last_relu, keep, x.contiguous(), *parameters)  # type: ignore[no-untyped-call]
    else:
        y = _Columns.apply(last_relu, x, *parameters)  # type: ignore[no-untyped-call]
    return y


class _OfKernels(torch.autograd.Function):
    # `perceptron` and `heard_perceptron`, where x is then the states and has no gradient.

    @staticmethod
    def forward(ctx: Any, rounded: bool, keep: bool, heard: Tensor | None, x: Tensor, *parameters: Tensor) -> Tensor:
        y, kept = kernels.Perceptron(x, parameters, rounded, heard).forward(keep)
        if keep:
            ctx.rounded, ctx.heard, ctx.parameters = rounded, heard, len(parameters)
            ctx.save_for_backward(x, *parameters, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        parameters, kept = saved[: ctx.parameters], saved[ctx.parameters :]
        to_x = torch.empty_like(x) if ctx.needs_input_grad[3] else None
        call = kernels.Perceptron(x, parameters, ctx.rounded, ctx.heard)
        return None, None, None, to_x, *call.backward(kept, gradient.contiguous(), to_x)


class _ColumnsOfKernels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, last_relu: bool, keep: bool, x: Tensor, *parameters: Tensor) -> Tensor:
        y, kept = kernels.Columns(x, parameters, last_relu).forward(keep)
        if keep:
            ctx.last_relu, ctx.parameters = last_relu, len(parameters)
            ctx.save_for_backward(x, y if last_relu else None, *parameters, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, y, *saved = ctx.saved_tensors
        parameters, kept = saved[: ctx.parameters], saved[ctx.parameters :]
        to_x = torch.empty_like(x) if ctx.needs_input_grad[2] else None
        call = kernels.Columns(x, parameters, ctx.last_relu)
        return None, None, to_x, *call.backward(kept, y, gradient.contiguous(), to_x)


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
