"""The networks of all agents, stacked and multiplied as one batch.

R is the number of parameter sets: N where every agent has its own, 1 where all share one (agents are then folded into
the batch). Agents are mixed by `StackedMLP.forward_neighborhood` only, and there through a `Neighborhood`.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dmpo.nn.functional import feature_major_mlp, mlp, neighborhood_mlp
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
        inputs: width of the input.
        outputs: width of the output.
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
        return mlp(x, [self.weight, self.bias])


class StackedTanh(StackedLinear):
    """y_r = tanh(x_r W_r + b_r), otherwise as `StackedLinear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(R, B, inputs) -> (R, B, outputs)."""
        # tanh z = 2σ(2z) - 1: equal to 1e-7 and several times as fast as torch.tanh.
        return 2 * torch.baddbmm(self.bias, x, self.weight, beta=2, alpha=2).sigmoid_() - 1


class FeatureMajorLayer(nn.Module):
    """Parameters of a layer of `FeatureMajorMLP`: W (R, outputs, inputs), orthogonal, and b (R, outputs, 1), zero."""

    def __init__(self, stacks: int, inputs: int, outputs: int, relu: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = _orthogonal((stacks, outputs, inputs), HIDDEN_GAIN if relu else 1.0, generator)
        self.bias = nn.Parameter(torch.zeros(stacks, outputs, 1))
        self.relu = relu


class FeatureMajorMLP(nn.Sequential):
    """R MLPs of narrow layers, y ← max(W_r y + b_r, 0), the last with or without the max; samples come last.

    See `dmpo.nn.functional.feature_major_mlp`.

    Args:
        stacks: R.
        widths: of the inputs and of each layer.
        last_relu: whether max(·, 0) is applied after the last layer as well.
        generator: where the orthogonal matrices are drawn from.

    Shapes:
        (R, widths[0], B) -> (R, widths[-1], B).
    """

    def __init__(self, stacks: int, widths: Sequence[int], last_relu: bool, generator: torch.Generator) -> None:
        relus = [True] * (len(widths) - 2) + [last_relu]
        layers = zip(pairwise(widths), relus, strict=True)
        super().__init__(*(FeatureMajorLayer(stacks, *pair, relu, generator) for pair, relu in layers))

    def forward(self, x: Tensor) -> Tensor:
        """(R, widths[0], B) -> (R, widths[-1], B)."""
        return chain(x, self)


def chain(x: Tensor, *networks: FeatureMajorMLP) -> Tensor:
    """Networks one after the other, computed as one; each but the last must end in a max."""
    return feature_major_mlp(x, parameters_of(networks), bool(networks[-1][-1].relu))


def parameters_of(networks: Iterable[FeatureMajorMLP]) -> list[Tensor]:
    """W and b of all layers, as `feature_major_mlp` takes them."""
    layers: list[FeatureMajorLayer] = [layer for network in networks for layer in network]  # type: ignore[misc]
    return [parameter for layer in layers for parameter in (layer.weight, layer.bias)]


def per_stack(x: Tensor, stacks: int) -> Tensor:
    """One number per agent, (N,), as one per parameter set, (R,): shared parameters learn from the mean over agents."""
    return x if len(x) == stacks else x.mean(0, keepdim=True)


def supports_bfloat16(device: torch.device | str) -> bool:
    """Whether the hardware of a device multiplies bfloat16 numbers itself."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def set_precision(module: nn.Module, precision: torch.dtype) -> bool:
    """Set the precision of the matrix products in all MLPs within a module; False where there are none.

    Parameters, their gradients and the outputs stay float32; hidden outputs have that precision.
    """
    networks = [network for network in module.modules() if isinstance(network, StackedMLP)]
    for network in networks:
        network.precision = precision
    return bool(networks)


class StackedMLP(nn.Module):
    """One MLP with tanh per agent, or one for all.

    Args:
        stacks: R, either N or 1.
        inputs: width of the input.
        hidden: width of each hidden layer.
        outputs: width of the output.
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
        y = mlp(h, list(self.parameters()), self.precision)
        return y.view(samples, agents, y.shape[-1]) if shared else y.transpose(0, 1)

    def forward_neighborhood(self, states: Tensor, neighborhood: Neighborhood) -> Tensor:
        """Outputs for the states that each agent receives, see `neighborhood_mlp`: (B, N, D) -> (B, N, outputs)."""
        return neighborhood_mlp(states, neighborhood, list(self.parameters()), self.precision)
