import networkx as nx
import pytest
import torch

from dmpo.nn.critics import Critic

D = 3


def make_critic(graph: nx.Graph, kappa: int | None = 1, shared: bool = False) -> Critic:
    return Critic(graph, kappa, D, [16], 1 if shared else len(graph), torch.Generator().manual_seed(0))


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
def test_new_moments_of_the_returns_leave_the_values_as_they_are(shared: bool) -> None:
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


def test_each_agent_normalises_by_its_own_returns() -> None:
    critic = make_critic(nx.cycle_graph(3))
    scales = torch.tensor([1.0, 100.0, 10_000.0])
    critic.observe(torch.randn(1000, 3) * scales)
    torch.testing.assert_close(critic.moments.std, scales, rtol=0.1, atol=0)
