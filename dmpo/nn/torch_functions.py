"""MLPs of all agents, with the gradients of all layers in one function of autograd, and Adam, in plain PyTorch.

`dmpo.nn.functional` defines what they compute, and uses them where there is no kernel.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmpo.nn.matmul import fast_matmul

_MINUS_ONE = torch.tensor(-1.0)


def _rounded(precision: torch.dtype, *numbers: Tensor) -> list[Tensor]:
    return [x.to(precision) for x in numbers]


def _matmul(samples: int, *weights: Tensor) -> AbstractContextManager[None]:
    # Context for products of weights (R, ...) with so many samples (R, B, ...) each.
    return fast_matmul(samples * sum(weight.numel() for weight in weights))


def _tanh(z: Tensor) -> Tensor:
    # tanh z = 2σ(2z) - 1 in place of 2z: equal to 1e-7 and several times as fast as torch.tanh, which takes longer than
    # the product before it.
    return torch.add(_MINUS_ONE, z.sigmoid_(), alpha=2, out=z)


def _linear(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    # x W + b, evaluated as (Wᵀ xᵀ + bᵀ)ᵀ, which for a few outputs is three to ten times as fast.
    y = torch.baddbmm(bias.transpose(1, 2), weight.transpose(1, 2), x.transpose(1, 2))  # (R, outputs, B)
    return y.transpose(1, 2).float()


class MLPFunction(torch.autograd.Function):
    """MLPs with tanh between the layers: y_1 = tanh(x W_1 + b_1), ..., y_L = y_(L-1) W_L + b_L.

    The gradient of a layer overwrites that of the layer above it instead of taking fresh memory.
    """

    @staticmethod
    def forward(ctx: Any, precision: torch.dtype, x: Tensor, *parameters: Tensor) -> Tensor:
        """(R, B, inputs) -> (R, B, outputs), float32, multiplied in `precision`."""
        rounded = _rounded(precision, *parameters)
        layers = list(zip(rounded[::2], rounded[1::2], strict=True))  # (R, inputs, outputs) and (R, 1, outputs) each
        inputs = [x.to(precision)]  # (R, B, inputs) of each layer
        with _matmul(x.shape[1], *rounded):
            for weight, bias in layers[:-1]:
                inputs.append(_tanh(torch.baddbmm(bias, inputs[-1], weight, beta=2, alpha=2)))
            weight, bias = layers[-1]
            y = _linear(bias, inputs[-1], weight)
        ctx.dtype = x.dtype
        ctx.save_for_backward(*inputs, *(weight for weight, _ in layers))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of the parameters."""
        saved = ctx.saved_tensors
        inputs, weights = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        with _matmul(gradient.shape[1], *weights):
            return MLPFunction._gradients(ctx, gradient, inputs, weights)

    @staticmethod
    def _gradients(
        ctx: Any, gradient: Tensor, inputs: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        to_bias, gradient = gradient.sum(1, keepdim=True), gradient.to(inputs[-1].dtype)
        to_weight = torch.bmm(gradient.transpose(1, 2), inputs[-1]).transpose(1, 2)
        to_parameters = [to_weight.float(), to_bias]
        for y, weight, below in zip(inputs[:0:-1], weights[:0:-1], inputs[-2::-1], strict=True):
            gradient = _through(gradient, weight)
            torch.ops.aten.tanh_backward.grad_input(gradient, y, grad_input=gradient)
            to_weight = torch.bmm(below.transpose(1, 2), gradient)
            to_parameters = [to_weight.float(), gradient.sum(1, keepdim=True, dtype=torch.float32), *to_parameters]
        to_x = _through(gradient, weights[0]).to(ctx.dtype) if ctx.needs_input_grad[1] else None
        return None, to_x, *to_parameters


def _through(gradient: Tensor, weight: Tensor) -> Tensor:
    # From the gradient (R, B, outputs) of a layer's outputs to that of its inputs, (R, B, inputs).
    back = weight.transpose(1, 2)
    return gradient * back if back.shape[1] == 1 else torch.bmm(gradient, back)


class FeatureMajorMLPFunction(torch.autograd.Function):
    """MLPs with max(·, 0) between the layers and the samples last: y_1 = max(W_1 x + b_1, 0), ...

    All tensors are contiguous in both directions, and gradients overwrite each other as in `MLPFunction`.
    """

    @staticmethod
    def forward(ctx: Any, last_relu: bool, x: Tensor, *parameters: Tensor) -> Tensor:
        """(R, inputs, B) -> (R, outputs, B); `last_relu` adds max(·, 0) after the last layer."""
        weights, biases = parameters[::2], parameters[1::2]  # (R, outputs, inputs) and (R, outputs, 1) each
        inputs = [x]  # (R, inputs, B) of each layer
        with _matmul(x.shape[2], *weights):
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                inputs.append(torch.baddbmm(bias, weight, inputs[-1]).relu_())
            y = torch.baddbmm(biases[-1], weights[-1], inputs[-1])
        if last_relu:
            y.relu_()
        ctx.save_for_backward(*inputs, *weights, y if last_relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of the parameters."""
        *saved, y = ctx.saved_tensors
        inputs, weights = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        gradient = gradient.contiguous() if y is None else torch.ops.aten.threshold_backward(gradient, y, 0)
        to_parameters: list[Tensor] = []
        with _matmul(gradient.shape[2], *weights):
            for below, weight in zip(inputs[:0:-1], weights[:0:-1], strict=True):
                to_parameters = [*_layer_gradients(gradient, below), *to_parameters]
                gradient = torch.bmm(weight.transpose(1, 2), gradient)
                torch.ops.aten.threshold_backward.grad_input(gradient, below, 0, grad_input=gradient)
            to_parameters = [*_layer_gradients(gradient, inputs[0]), *to_parameters]
            to_x = torch.bmm(weights[0].transpose(1, 2), gradient) if ctx.needs_input_grad[1] else None
        return None, to_x, *to_parameters


def _layer_gradients(gradient: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    # Gradients of a layer's weight and bias from that of its outputs, (R, outputs, B).
    return torch.bmm(gradient, inputs.transpose(1, 2)), gradient.sum(2, keepdim=True)


def adam_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: tuple[Tensor, Tensor, Tensor],
    active: Tensor,
    **settings: float,
) -> None:
    """One step of Adam, in place, with the keyword arguments of `dmpo.nn.functional.adam`."""
    beta_1, beta_2, max_norm = settings["beta_1"], settings["beta_2"], settings["max_norm"]
    first, second, steps = state
    gradient = torch.cat(list(gradients), 1)  # (R, P)
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    gradient *= max_norm / norm.clamp(min=max_norm)
    on = active.to(gradient.dtype).unsqueeze(1)  # (R, 1)
    steps += on
    first.lerp_(gradient, on * (1 - beta_1))
    second.lerp_(gradient.square_(), on * (1 - beta_2))
    taken = steps.clamp(min=1)
    scale = on * settings["rate"] / (1 - beta_1**taken)
    root = (second / (1 - beta_2**taken)).sqrt_().add_(settings["epsilon"])
    change = first.div(root).mul_(scale)  # (R, P)
    pieces = torch.split(change, [p[0].numel() for p in parameters], 1)
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.sub_(piece.view_as(parameter))
