"""The networks of all agents, stacked and multiplied as one batch.

R is the number of parameter sets: N where every agent has its own, 1 where all share one (agents are then folded into
the batch). Nothing here mixes agents but `StackedMLP.hear`, by what a neighborhood lets each hear.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dmpo.nn.functional import columns, heard_perceptron, perceptron
from graphs import Neighborhood

HIDDEN_GAIN = 2**0.5


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
        return perceptron(x, [self.weight, self.bias])


class StackedTanh(StackedLinear):
    """y_r = tanh(x_r W_r + b_r), otherwise as `StackedLinear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(R, B, inputs) -> (R, B, outputs)."""
        # tanh z = 2σ(2z) - 1: equal to 1e-7 and several times as fast as torch.tanh.
        return 2 * torch.baddbmm(self.bias, x, self.weight, beta=2, alpha=2).sigmoid_() - 1


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
        return stacked(x, self)


def stacked(x: Tensor, *networks: StackedColumns) -> Tensor:
    """Networks one after the other as the one that they are, each but the last with a max in its last layer."""
    return columns(x, parameters_of(networks), bool(networks[-1][-1].relu))


def parameters_of(networks: Iterable[StackedColumns]) -> list[Tensor]:
    """W and b of all their layers, as `columns` takes them."""
    layers: list[ColumnLayer] = [layer for network in networks for layer in network]  # type: ignore[misc]
    return [parameter for layer in layers for parameter in (layer.weight, layer.bias)]


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
        y = perceptron(h, list(self.parameters()), self.precision)
        return y.view(samples, agents, y.shape[-1]) if shared else y.transpose(0, 1)

    def hear(self, states: Tensor, neighborhood: Neighborhood) -> Tensor:
        """The same of what each agent hears, see `heard_perceptron`: (B, N, D) -> (B, N, outputs)."""
        return heard_perceptron(states, neighborhood, list(self.parameters()), self.precision)
