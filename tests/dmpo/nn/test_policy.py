import gymnasium
import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor

import graphs
from dmpo.nn.distributions import make_distribution
from dmpo.nn.policy import Policy

D, A = 3, 2
SPACES = {
    "continuous": gymnasium.spaces.Box(-1.0, 1.0, (A,), np.float32),
    "discrete": gymnasium.spaces.Discrete(4),
}


def make_policy(
    graph: nx.Graph,
    actions: str = "continuous",
    shared: bool = False,
    init_mean: float = 0.0,
    order: graphs.Order = "number",
) -> Policy:
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
        order=order,
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


def randomized(policy: Policy) -> Policy:
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    return policy


def muted(states: Tensor, trained: nx.Graph, here: nx.Graph, agent: int) -> Tensor:
    """States (B, N, D) with zeros for those that an agent received from in training and does not receive from here."""
    received, receives = ({j for j in graph if graph.has_edge(j, agent)} for graph in (trained, here))
    return states.index_fill(1, torch.tensor(sorted(received - receives - {agent}), dtype=torch.int64), 0.0)


ONE_WAY = nx.DiGraph([(0, 1), (2, 1), (4, 3), (5, 0)])
SUBGRAPHS = [
    ("complete", nx.cycle_graph(6)),
    ("complete", nx.star_graph(5)),
    ("complete", nx.empty_graph(6)),
    ("complete", nx.complete_graph(6)),
    ("complete", nx.compose(nx.empty_graph(6, nx.DiGraph), ONE_WAY)),
    ("k_nearest", nx.cycle_graph(6)),
    ("cycle", nx.path_graph(6)),
]


@pytest.mark.parametrize("order", ["number", "cyclic"])
@pytest.mark.parametrize(("trained", "here"), SUBGRAPHS)
def test_on_another_graph_each_message_meets_the_weights_learned_for_its_pair(
    trained: str, here: nx.Graph, order: graphs.Order
) -> None:
    graph = graphs.make(trained, n=6)
    policy, whole = (randomized(make_policy(graph, order=order)) for _ in range(2))
    policy.communicate_on(here)
    states = torch.randn(7, 6, D, generator=torch.Generator().manual_seed(0))
    for agent in range(6):
        expected = whole(muted(states, graph, here, agent))[:, agent]
        assert torch.equal(policy(states)[:, agent], expected)  # to the last bit
    policy.communicate_on(graph)
    assert torch.equal(policy(states), whole(states))


def test_a_neighbor_without_weights_is_refused() -> None:
    policy = make_policy(nx.cycle_graph(6))
    with pytest.raises(ValueError, match=r"agent 0 receives from agent 2, and has places only for agents 1, 5;.*train"):
        policy.communicate_on(nx.complete_graph(6))
    with pytest.raises(ValueError, match="agent 2 receives from agent 0, and has places only"):
        policy.communicate_on(nx.DiGraph([(j, i) for i in range(6) for j in {(i + 1) % 6, 0}]))
    with pytest.raises(ValueError, match="here are 5 agents, and 6 have a policy of their own.*share_parameters"):
        policy.communicate_on(nx.cycle_graph(5))


def test_a_shared_policy_finds_neighbors_at_their_ranks_among_any_number_of_agents() -> None:
    policy = randomized(make_policy(nx.complete_graph(4), shared=True, order="cyclic"))
    policy.communicate_on(nx.cycle_graph(9))
    states = torch.randn(7, 9, D)
    for agent in range(9):
        ranks = [states[:, agent], states[:, (agent + 1) % 9], states[:, (agent - 1) % 9], torch.zeros(7, D)]
        expected = policy.network(torch.cat(ranks, -1).unsqueeze(1))[:, 0]  # (B, K·D) -> (B, 1, K·D)
        torch.testing.assert_close(policy(states)[:, agent, :A], expected)
    with pytest.raises(ValueError, match="agent 0 receives from 4 others here, and the network has weights for 3"):
        policy.communicate_on(nx.complete_graph(5))
