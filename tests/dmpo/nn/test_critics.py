import networkx as nx
import pytest
import torch
from torch.nn.functional import one_hot

from dmpo.nn.critics import QCritic, ValueCritic

D, A, B = 3, 4, 5


def make_critic(graph: nx.Graph, kappa: int | None = 1, shared: bool = False) -> ValueCritic:
    return ValueCritic(graph, kappa, D, [16], 1 if shared else len(graph), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kappa", [0, 1, 2, None])
@pytest.mark.parametrize("shared", [False, True])
def test_a_value_depends_on_the_kappa_hop_neighborhood_only(graph: nx.Graph, kappa: int | None, shared: bool) -> None:
    states = torch.randn(4, len(graph), D, requires_grad=True)
    values = make_critic(graph, kappa, shared)(states)
    assert values.shape == (4, len(graph))
    for i in graph:
        (to_states,) = torch.autograd.grad(values[:, i].sum(), states, retain_graph=True)
        reached = set(to_states.abs().sum((0, 2)).nonzero().flatten().tolist())
        near = nx.single_source_shortest_path_length(graph, i, cutoff=kappa)
        assert reached == set(graph if kappa is None else near)


@pytest.mark.parametrize("shared", [False, True])
def test_new_statistics_of_the_returns_leave_values_unchanged(shared: bool) -> None:
    critic, states = make_critic(nx.cycle_graph(5), shared=shared), torch.randn(20, 5, D)
    critic.observe(torch.randn(100, 5) * 30 - 1000)
    before = critic(states)
    critic.observe(torch.randn(100, 5) * 400 + 50)
    torch.testing.assert_close(critic(states), before, atol=0.01, rtol=1e-3)


def test_after_the_first_returns_values_are_of_their_size() -> None:
    critic, states = make_critic(nx.cycle_graph(5)), torch.randn(200, 5, D)
    critic.observe(torch.randn(100, 5) * 30 - 50_000)
    values = critic(states).detach()
    assert float((values.mean() + 50_000).abs()) < 100
    assert 1 < float(values.std()) < 100


def test_each_agent_normalizes_by_its_own_returns() -> None:
    critic = make_critic(nx.cycle_graph(3))
    scales = torch.tensor([1.0, 100.0, 10_000.0])
    critic.observe(torch.randn(1000, 3) * scales)
    torch.testing.assert_close(critic.normalizer.std, scales, rtol=0.1, atol=0)


def make_q_critic(graph: nx.Graph, kappa: int = 1, shared: bool = False) -> QCritic:
    return QCritic(graph, kappa, D, A, [16], 1 if shared else len(graph), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kappa", [0, 1, 2])
@pytest.mark.parametrize("shared", [False, True])
def test_q_values_depend_on_states_and_actions_of_the_neighborhood_only(
    graph: nx.Graph, kappa: int, shared: bool
) -> None:
    critic = make_q_critic(graph, kappa, shared)
    states = torch.randn(B, len(graph), D, requires_grad=True)
    actions = torch.randn(B, len(graph), A, requires_grad=True)
    values = critic(states, critic.neighborhood.gather(actions))
    assert values.shape == (2, B, len(graph))
    for i in graph:
        near = set(nx.single_source_shortest_path_length(graph, i, cutoff=kappa))
        for gradient in torch.autograd.grad(values[:, :, i].sum(), (states, actions), retain_graph=True):
            assert set(gradient.abs().sum((0, 2)).nonzero().flatten().tolist()) == near


def test_counterfactual_q_values_are_those_of_the_exchanged_action(graph: nx.Graph) -> None:
    critic, near = make_q_critic(graph), make_q_critic(graph).neighborhood
    states, actions = torch.randn(B, len(graph), D), torch.randint(A, (B, len(graph)))
    received = near.gather(one_hot(actions, A).float())
    counterfactual, own = critic.counterfactual_q(states, received), critic.own_counterfactual_q(states, received)
    assert counterfactual.shape == (B, len(graph), near.size, A)
    torch.testing.assert_close(own, counterfactual[:, :, 0])
    for i in graph:
        for a in range(A):
            instead = actions.clone()
            instead[:, i] = a  # agent i takes action a, all others theirs
            values = critic(states, near.gather(one_hot(instead, A).float())).amin(0)  # (B, N)
            for j in (i, *graph.neighbors(i)):
                place = near.index[j][near.mask[j]].tolist().index(i)
                torch.testing.assert_close(counterfactual[:, j, place, a], values[:, j])


def test_twins_of_a_q_critic_differ() -> None:
    critic = make_q_critic(nx.path_graph(3))
    first, second = critic(torch.randn(B, 3, D), torch.randn(B, 3, 3, A))
    assert not torch.allclose(first, second)
