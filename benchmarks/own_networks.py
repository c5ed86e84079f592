"""One agent's networks as PyTorch's own modules, copied from stacked ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from dmpo.nn.layers import FeatureMajorLayer, FeatureMajorMLP, StackedMLP
from graphs import Neighborhood


def members(neighborhood: Neighborhood, agent: int) -> list[int]:
    """Agents in one's neighborhood, itself first, without padding."""
    return neighborhood.index[agent][neighborhood.mask[agent]].tolist()


def own_mlp(network: StackedMLP, stack: int, inputs: int | None = None) -> nn.Sequential:
    """One agent's copy of a stacked network; of the first `inputs` numbers only, where the rest is padding."""
    layers: list[nn.Module] = []
    for layer in [*network.hidden, network.head]:
        weight = layer.weight.detach()[stack].T if layers else layer.weight.detach()[stack, :inputs].T
        layers += [_linear(weight, layer.bias.detach()[stack, 0]), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def own_feature_major_mlp(layers: FeatureMajorMLP, stack: int) -> nn.Sequential:
    """One agent's or edge's copy of stacked layers whose samples come last; here they come first, (B, inputs)."""
    parts: list[nn.Module] = []
    for layer in cast(Iterable[FeatureMajorLayer], layers):
        parts.append(_linear(layer.weight.detach()[stack], layer.bias.detach()[stack, :, 0]))
        parts += [nn.ReLU()] if layer.relu else []
    return nn.Sequential(*parts)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    linear.weight.data, linear.bias.data = weight.clone(memory_format=torch.contiguous_format), bias.clone()
    return linear
