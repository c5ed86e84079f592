"""MLPs by kernels are those by PyTorch, at every level that this processor has."""

from collections.abc import Sequence
from itertools import pairwise

import networkx as nx
import pytest
import torch
from torch import Tensor

from dmpo.nn.functional import feature_major_mlp, mlp, neighborhood_mlp
from dmpo.nn.kernels import calls
from graphs import Neighborhood

pytestmark = pytest.mark.skipif(calls.level() == calls.NONE, reason="no kernels were built, or not for this processor")
LEVELS = range(calls.AVX2, calls.level() + 1)
# Wider and narrower than a vector, no multiples of one, no hidden layer, many.
WIDTHS = [(15, 64, 64, 3), (5, 8, 1), (40, 70, 33, 17), (3, 2), (1, 16, 24, 16, 9, 5)]
SAMPLES = [1, 7, 96, 300]  # fewer than pass at once, and more
BFLOAT16_TOLERANCE = 0.02  # bfloat16 numbers are rounded by 2⁻⁹ at most


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters_of(stacks: int, widths: Sequence[int], transposed: bool = False) -> list[Tensor]:
    random, parameters = seeded(1), []
    for inputs, outputs in pairwise(widths):
        weight = torch.randn(stacks, inputs, outputs, generator=random) / inputs**0.5
        bias = 0.1 * torch.randn(stacks, 1, outputs, generator=random)
        parameters += [x.transpose(1, 2).contiguous() if transposed else x for x in (weight, bias)]
    return [parameter.requires_grad_() for parameter in parameters]


def with_gradients(function: object, x: Tensor, parameters: Sequence[Tensor], *rest: object) -> list[Tensor]:
    """Outputs of a function and the gradients of its inputs, those of the outputs being random."""
    assert callable(function)
    y = function(x, parameters, *rest)
    wanted = [x, *parameters] if x.requires_grad else list(parameters)
    return [y, *torch.autograd.grad(y, wanted, torch.randn(y.shape, generator=seeded(2)))]


def alike(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("stacks", [1, 3])
@pytest.mark.parametrize("level", LEVELS)
def test_mlps_by_kernels_are_those_by_pytorch(level: int, stacks: int, widths: Sequence[int], samples: int) -> None:
    x = torch.randn(stacks, samples, widths[0], generator=seeded(), requires_grad=True)
    parameters = parameters_of(stacks, widths)
    for precision, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, BFLOAT16_TOLERANCE)):
        with calls.limited(level):
            if not calls.kernel_supports(x, parameters, precision):
                assert precision == torch.bfloat16 and level < calls.AVX512_BF16
                continue
            found = with_gradients(mlp, x, parameters, precision)
            with torch.no_grad():
                assert torch.equal(mlp(x, parameters, precision), found[0])
        with calls.limited(calls.NONE):
            alike(found, with_gradients(mlp, x, parameters), tolerance)


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("last_relu", [False, True])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("level", LEVELS)
def test_feature_major_mlps_by_kernels_are_those_by_pytorch(
    level: int, widths: Sequence[int], last_relu: bool, samples: int
) -> None:
    x = torch.randn(3, widths[0], samples, generator=seeded(), requires_grad=True)
    parameters = parameters_of(3, widths, transposed=True)
    found = []
    for most in (level, calls.NONE):
        with calls.limited(most):
            found.append(with_gradients(feature_major_mlp, x, parameters, last_relu))
    alike(*found, 1e-5)


@pytest.mark.parametrize("stacks", [1, 5])
@pytest.mark.parametrize("graph", [nx.path_graph(5), nx.empty_graph(5), nx.DiGraph([(0, 1), (1, 2), (3, 1), (3, 4)])])
def test_neighborhood_mlp_is_the_mlp_of_gathered_states(graph: nx.Graph, stacks: int) -> None:
    features, near = 3, Neighborhood(graph, hops=2)
    states = torch.randn(40, 5, features, generator=seeded())
    states[:, 1, 0] = torch.nan  # reaches the neighbors, and nobody else
    parameters = parameters_of(stacks, (near.size * features, 8, 2))
    received = near.gather(states).flatten(-2)  # (B, N, K·D)
    x = received.reshape(1, -1, received.shape[-1]) if stacks == 1 else received.transpose(0, 1).contiguous()
    for precision in (torch.float32, torch.bfloat16):
        found = neighborhood_mlp(states, near, parameters, precision)
        expected = mlp(x, parameters, precision)
        expected = expected.view(40, 5, 2) if stacks == 1 else expected.transpose(0, 1)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        assert found.isnan().any((0, 2)).tolist() == [
            1 in row[kept] for row, kept in zip(near.index, near.mask, strict=True)
        ]


@pytest.mark.parametrize("level", LEVELS)
def test_tanh_is_exact_everywhere(level: int) -> None:
    x = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([1e-30, -1e30])]).view(1, -1, 1)
    one, zero = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    with calls.limited(level):
        exact = mlp(x, [one, zero, one, zero])
        assert (exact - x.double().tanh()).abs().max() < 5e-7
        assert mlp(torch.full_like(x, torch.nan), [one, zero, one, zero]).isnan().all()
        if calls.kernel_supports(x, precision=torch.bfloat16):
            x = x.bfloat16().float()
            rough = mlp(x, [one, zero, one, zero], torch.bfloat16)
            assert ((rough - x.tanh()).abs() <= 2**-8 * x.tanh().abs()).all()  # and is rounded by 2⁻⁹


@pytest.mark.parametrize("level", LEVELS)
def test_a_nan_stays_one_in_feature_major_mlps(level: int) -> None:
    x = torch.tensor([1.0, torch.nan, -1.0]).view(1, 1, 3)
    with calls.limited(level):
        y = feature_major_mlp(x, [torch.ones(1, 1, 1), torch.zeros(1, 1, 1)], True)
    assert y.isnan().tolist() == [[[False, True, False]]] and y[0, 0, 2] == 0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    before, widths = torch.get_num_threads(), (15, 64, 64, 3)
    try:
        for stacks in (1, 4):
            x = torch.randn(stacks, 3_000, widths[0], generator=seeded(), requires_grad=True)
            parameters = parameters_of(stacks, widths)
            torch.set_num_threads(1)
            alone = with_gradients(mlp, x, parameters)
            torch.set_num_threads(threads)
            together = with_gradients(mlp, x, parameters)
            alike(together, alone, 1e-5)
            assert all(map(torch.equal, together, with_gradients(mlp, x, parameters)))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("features", [1, 4, 5, 8, 9])
@pytest.mark.parametrize("stacks", [1, 5])
@pytest.mark.parametrize("level", LEVELS)
def test_neighborhood_mlp_by_kernels_is_that_by_pytorch(level: int, stacks: int, features: int) -> None:
    # In several tiles each, the last of them in part, some neighbors of few missing.
    near = Neighborhood(nx.DiGraph([(0, 1), (1, 2), (3, 1), (2, 4)]), hops=1)
    states, parameters = torch.randn(211, 5, features, generator=seeded()), parameters_of(stacks, (3 * features, 20, 2))
    with calls.limited(level):
        found = with_gradients(lambda x, ps: neighborhood_mlp(x, near, ps), states, parameters)
    with calls.limited(calls.NONE):
        expected = with_gradients(lambda x, ps: neighborhood_mlp(x, near, ps), states, parameters)
    assert near.size == 3 and (near.sources < 0).any()
    alike(found, expected, 1e-5)


def test_tensors_that_do_not_fit_are_refused_before_they_are_read() -> None:
    parameters, near = parameters_of(5, (6, 4, 2)), Neighborhood(nx.path_graph(5), hops=1)
    transposed = [p.transpose(1, 2).contiguous() for p in parameters]
    for shape in ((5, 7, 5), (4, 7, 6)):
        with pytest.raises(ValueError, match=r"x.shape=\(\d, 7, \d\) is not possible"):
            mlp(torch.zeros(shape), parameters)
        with pytest.raises(ValueError, match="is not possible"):
            feature_major_mlp(torch.zeros(shape).transpose(1, 2), transposed, False)
    for states, stacks, inputs in (((7, 5, 3), 5, 6), ((7, 4, 2), 5, 6), ((7, 5, 2), 5, 7), ((7, 5, 2), 6, 6)):
        with pytest.raises(ValueError, match="is not possible"):
            neighborhood_mlp(torch.zeros(states), near, parameters_of(stacks, (inputs, 4, 2)))
