"""What the kernels compute is what PyTorch computes, at every level that this processor has."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor

from dmpo.data.replay_buffer import Windows
from dmpo.models.trainer import ModelLearner
from dmpo.nn import kernels
from dmpo.nn.functional import columns, heard_perceptron, perceptron
from graphs import Neighborhood
from tests.dmpo.learners import D, make_learner, random_batch

pytestmark = pytest.mark.skipif(
    kernels.level() == kernels.NONE, reason="no kernels were built, or not for this processor"
)
LEVELS = range(kernels.AVX2, kernels.level() + 1)
# Wider and narrower than a vector, no multiples of one, no hidden layer, many.
WIDTHS = [(15, 64, 64, 3), (5, 8, 1), (40, 70, 33, 17), (3, 2), (1, 16, 24, 16, 9, 5)]
SAMPLES = [1, 7, 96, 300]  # fewer than pass at once, and more
ROUGH = 0.02  # of bfloat16 numbers, which are rounded by 2⁻⁹ at most


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
    """What it gives, and the gradients of all that it is given, the outputs' being as different as can be."""
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
def test_perceptrons_and_their_gradients(level: int, stacks: int, widths: Sequence[int], samples: int) -> None:
    x = torch.randn(stacks, samples, widths[0], generator=seeded(), requires_grad=True)
    parameters = parameters_of(stacks, widths)
    for precision, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, ROUGH)):
        with kernels.limited(level):
            if not kernels.suit(x, parameters, precision):
                assert precision == torch.bfloat16 and level < kernels.AVX512_BF16
                continue
            found = with_gradients(perceptron, x, parameters, precision)
            with torch.no_grad():
                assert torch.equal(perceptron(x, parameters, precision), found[0])
        with kernels.limited(kernels.NONE):
            alike(found, with_gradients(perceptron, x, parameters), tolerance)


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("last_relu", [False, True])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("level", LEVELS)
def test_columns_and_their_gradients(level: int, widths: Sequence[int], last_relu: bool, samples: int) -> None:
    x = torch.randn(3, widths[0], samples, generator=seeded(), requires_grad=True)
    parameters = parameters_of(3, widths, transposed=True)
    found = []
    for most in (level, kernels.NONE):
        with kernels.limited(most):
            found.append(with_gradients(columns, x, parameters, last_relu))
    alike(*found, 1e-5)


@pytest.mark.parametrize("stacks", [1, 5])
@pytest.mark.parametrize("graph", [nx.path_graph(5), nx.empty_graph(5), nx.DiGraph([(0, 1), (1, 2), (3, 1), (3, 4)])])
def test_what_is_heard_is_what_a_neighborhood_gathers(graph: nx.Graph, stacks: int) -> None:
    features, near = 3, Neighborhood(graph, hops=2)
    states = torch.randn(40, 5, features, generator=seeded())
    states[:, 1, 0] = torch.nan  # which goes where it is heard, and nowhere else
    parameters = parameters_of(stacks, (near.size * features, 8, 2))
    received = near.gather(states).flatten(-2)  # (B, N, K·D)
    x = received.reshape(1, -1, received.shape[-1]) if stacks == 1 else received.transpose(0, 1).contiguous()
    for precision in (torch.float32, torch.bfloat16):
        found = heard_perceptron(states, near, parameters, precision)
        expected = perceptron(x, parameters, precision)
        expected = expected.view(40, 5, 2) if stacks == 1 else expected.transpose(0, 1)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        assert found.isnan().any((0, 2)).tolist() == [
            1 in row[kept] for row, kept in zip(near.index, near.mask, strict=True)
        ]


@pytest.mark.parametrize("level", LEVELS)
def test_tanh_is_right_wherever_it_is_asked_for(level: int) -> None:
    x = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([1e-30, -1e30])]).view(1, -1, 1)
    one, zero = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    with kernels.limited(level):
        exact = perceptron(x, [one, zero, one, zero])
        assert (exact - x.double().tanh()).abs().max() < 5e-7
        assert perceptron(torch.full_like(x, torch.nan), [one, zero, one, zero]).isnan().all()
        if kernels.suit(x, precision=torch.bfloat16):
            x = x.bfloat16().float()
            rough = perceptron(x, [one, zero, one, zero], torch.bfloat16)
            assert ((rough - x.tanh()).abs() <= 2**-8 * x.tanh().abs()).all()  # and is rounded by 2⁻⁹


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_no_number_stays_none_in_columns(level: int) -> None:
    x = torch.tensor([1.0, torch.nan, -1.0]).view(1, 1, 3)
    with kernels.limited(level):
        y = columns(x, [torch.ones(1, 1, 1), torch.zeros(1, 1, 1)], True)
    assert y.isnan().tolist() == [[[False, True, False]]] and y[0, 0, 2] == 0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    before, widths = torch.get_num_threads(), (15, 64, 64, 3)
    try:
        for stacks in (1, 4):
            x = torch.randn(stacks, 3_000, widths[0], generator=seeded(), requires_grad=True)
            parameters = parameters_of(stacks, widths)
            torch.set_num_threads(1)
            alone = with_gradients(perceptron, x, parameters)
            torch.set_num_threads(threads)
            together = with_gradients(perceptron, x, parameters)
            alike(together, alone, 1e-5)
            assert all(map(torch.equal, together, with_gradients(perceptron, x, parameters)))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("features", [1, 4, 5, 8, 9])
@pytest.mark.parametrize("stacks", [1, 5])
@pytest.mark.parametrize("level", LEVELS)
def test_what_is_heard_is_what_is_put_together(level: int, stacks: int, features: int) -> None:
    # In several tiles each, the last of them in part, some neighbors of few missing.
    near = Neighborhood(nx.DiGraph([(0, 1), (1, 2), (3, 1), (2, 4)]), hops=1)
    states, parameters = torch.randn(211, 5, features, generator=seeded()), parameters_of(stacks, (3 * features, 20, 2))
    with kernels.limited(level):
        found = with_gradients(lambda x, ps: heard_perceptron(x, near, ps), states, parameters)
    with kernels.limited(kernels.NONE):
        expected = with_gradients(lambda x, ps: heard_perceptron(x, near, ps), states, parameters)
    assert near.size == 3 and (near.sources < 0).any()
    alike(found, expected, 1e-5)


def gradients_of(models: ModelLearner, windows: Windows, level: int) -> list[Tensor]:
    models.model.zero_grad()
    with kernels.limited(level):
        models._gradients(windows, 0.5)
        models._gradients(windows, 0.25)  # which are added
    return [parameter.grad for parameter in models.model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("samples", [1, 37, 700])
@pytest.mark.parametrize("hears", ["own", "neighbors"])
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
@pytest.mark.parametrize("level", LEVELS)
def test_the_gradient_of_the_models_losses(level: int, actions: str, hears: str, samples: int) -> None:
    graph = nx.DiGraph([(0, 1), (1, 2), (3, 1)])
    graph.add_node(4)
    learner: Any = make_learner(graph, actions, name="dmpo", model_actions=hears, model_fit_steps=2, model_batch_size=8)
    learner.fit(random_batch(learner), 0.0)
    models, random, steps = learner.practice.models, seeded(), 3
    batch = learner.practice.models.memory.windows(1, held_out=False).everything()
    drawn = torch.randint(batch.states.shape[1], (steps, samples), generator=random)
    windows = Windows(
        states=batch.states[:, drawn[0]] * 2,
        actions=batch.actions[0][:, drawn].transpose(0, 1),
        rewards=torch.randn(steps, 5, samples, generator=random),
        following=torch.randn(steps, 5, samples, D, generator=random),
        ends=torch.rand(steps, samples, generator=random) < 0.2,
    )
    windows.states[:, ::5] *= 1e4  # as far from all others as makes no difference to a model
    expected, before = gradients_of(models, windows, kernels.NONE), torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            alike(gradients_of(models, windows, level), expected, 1e-4)
    finally:
        torch.set_num_threads(before)


def test_what_does_not_fit_is_refused_before_anything_is_read() -> None:
    parameters, near = parameters_of(5, (6, 4, 2)), Neighborhood(nx.path_graph(5), hops=1)
    for shape in ((5, 7, 5), (4, 7, 6)):
        with pytest.raises(ValueError, match=r"x.shape=\(\d, 7, \d\) is not possible"):
            perceptron(torch.zeros(shape), parameters)
        with pytest.raises(ValueError, match="is not possible"):
            columns(torch.zeros(shape).transpose(1, 2), [p.transpose(1, 2).contiguous() for p in parameters], False)
    for states, stacks, inputs in (((7, 5, 3), 5, 6), ((7, 4, 2), 5, 6), ((7, 5, 2), 5, 7), ((7, 5, 2), 6, 6)):
        with pytest.raises(ValueError, match="is not possible"):
            heard_perceptron(torch.zeros(states), near, parameters_of(stacks, (inputs, 4, 2)))


def test_numbers_that_kernels_do_not_know_are_left_to_pytorch() -> None:
    x, parameters = torch.randn(1, 4, 3), parameters_of(1, (3, 4, 2))
    assert kernels.suit(x, parameters)
    assert not kernels.suit(x.double(), parameters)
    assert not kernels.suit(x, [parameter.double() for parameter in parameters])
    assert not kernels.suit(x, parameters, torch.float16)
    assert not kernels.suit(x.to("meta"), parameters)
    assert not kernels.suit(x, parameters_of(1, [3] * 11))
    assert not kernels.suit(x, [parameter.transpose(1, 2) for parameter in parameters])
    with kernels.limited(kernels.NONE):
        assert not kernels.suit(x, parameters)
        torch.testing.assert_close(
            perceptron(x, parameters), perceptron(x.double(), [p.double() for p in parameters]).float()
        )
    assert not kernels.suit(x, parameters, torch.bfloat16) or kernels.level() == kernels.AVX512_BF16
