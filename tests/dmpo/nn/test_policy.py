import gymnasium
import networkx as nx
import numpy as np
import pytest
import torch

from dmpo.nn.distributions import make_distribution
from dmpo.nn.policy import Policy

D, A = 3, 2
SPACES = {
    "continuous": gymnasium.spaces.Box(-1.0, 1.0, (A,), np.float32),
    "discrete": gymnasium.spaces.Discrete(4),
}


def make_policy(graph: nx.Graph, actions: str = "continuous", shared: bool = False, init_mean: float = 0.0) -> Policy:
    stacks = 1 if shared else len(graph)
    distribution = make_distribution(SPACES[actions])
    return Policy(
        graph,
        D,
        distribution,
        hidden_sizes=[16],
        init_outputs=distribution.init_outputs(init_mean, -0.5),
        init_log_std=-0.5,
        stacks=stacks,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("actions", SPACES)
@pytest.mark.parametrize("shared", [False, True])
def test_a_policy_depends_on_direct_neighbors_and_on_nobody_else(graph: nx.Graph, actions: str, shared: bool) -> None:
    policy = make_policy(graph, actions, shared)
    states = torch.randn(4, len(graph), D, requires_grad=True)
    parameters = policy(states)[..., : policy.distribution.outputs]  # without the log standard deviations
    weights = torch.randn(parameters[:, 0].shape)
    for i in graph:
        (to_states,) = torch.autograd.grad((parameters[:, i] * weights).sum(), states, retain_graph=True)
        reached = set(to_states.abs().sum((0, 2)).nonzero().flatten().tolist())
        assert reached == {i, *graph.neighbors(i)}


def test_the_own_state_comes_first_and_padding_is_zero() -> None:
    policy, states = make_policy(nx.path_graph(3)), torch.arange(1.0, 10).view(1, 3, D)
    received = torch.tensor([[1, 2, 3, 4, 5, 6, 0, 0, 0], [4, 5, 6, 1, 2, 3, 7, 8, 9], [7, 8, 9, 4, 5, 6, 0, 0, 0]])
    means = policy.network(received.float().unsqueeze(0))
    assert torch.equal(policy(states)[..., :A], means)
    assert not torch.allclose(policy(states.flip(1))[..., :A], means)


def test_noise_does_not_depend_on_the_state_and_begins_as_set() -> None:
    policy = make_policy(nx.path_graph(3))
    parameters = policy(torch.randn(5, 3, D))
    assert parameters.shape == (5, 3, 2 * A)
    assert bool((parameters[..., A:] == -0.5).all())


@pytest.mark.parametrize("actions", SPACES)
def test_the_untrained_policy_hardly_depends_on_the_state(actions: str) -> None:
    policy = make_policy(nx.cycle_graph(5), actions)
    parameters = policy(torch.randn(50, 5, D))[..., : policy.distribution.outputs]
    assert parameters.std().item() < 0.05


def test_the_untrained_policy_acts_about_the_initial_mean() -> None:
    policy = make_policy(nx.cycle_graph(5), init_mean=0.3)
    mean = policy.distribution.mode(policy(torch.randn(50, 5, D)))
    assert (mean - 0.3).abs().max().item() < 0.1


def test_agents_have_their_own_parameters_unless_shared() -> None:
    states = torch.randn(1, 1, D).expand(2, 5, D)
    own, shared = (make_policy(nx.cycle_graph(5), shared=shared)(states) for shared in (False, True))
    assert not torch.allclose(own[:, 0], own[:, 1], atol=1e-6)
    torch.testing.assert_close(shared[:, 0], shared[:, 1])
