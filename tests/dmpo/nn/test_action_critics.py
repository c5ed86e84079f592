import networkx as nx
import pytest
import torch
from torch.nn.functional import one_hot

from dmpo.nn.action_critics import ActionCritic

D, A, B = 3, 4, 5


def make_critic(graph: nx.Graph, kappa: int = 1, shared: bool = False) -> ActionCritic:
    return ActionCritic(graph, kappa, D, A, [16], 1 if shared else len(graph), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kappa", [0, 1, 2])
@pytest.mark.parametrize("shared", [False, True])
def test_values_depend_on_states_and_actions_of_the_neighborhood_only(
    graph: nx.Graph, kappa: int, shared: bool
) -> None:
    critic = make_critic(graph, kappa, shared)
    states = torch.randn(B, len(graph), D, requires_grad=True)
    actions = torch.randn(B, len(graph), A, requires_grad=True)
    values = critic(states, critic.neighborhood.gather(actions))
    assert values.shape == (2, B, len(graph))
    for i in graph:
        near = set(nx.single_source_shortest_path_length(graph, i, cutoff=kappa))
        for gradient in torch.autograd.grad(values[:, :, i].sum(), (states, actions), retain_graph=True):
            assert set(gradient.abs().sum((0, 2)).nonzero().flatten().tolist()) == near


def test_what_might_be_done_instead_is_valued_as_if_it_were_done(graph: nx.Graph) -> None:
    critic, near = make_critic(graph), make_critic(graph).neighborhood
    states, actions = torch.randn(B, len(graph), D), torch.randint(A, (B, len(graph)))
    received = near.gather(one_hot(actions, A).float())
    options, own = critic.options(states, received), critic.own_options(states, received)
    assert options.shape == (B, len(graph), near.size, A)
    torch.testing.assert_close(own, options[:, :, 0])
    for i in graph:
        for a in range(A):
            instead = actions.clone()
            instead[:, i] = a  # agent i does a, everybody else what they do
            values = critic(states, near.gather(one_hot(instead, A).float())).amin(0)  # (B, N)
            for j in (i, *graph.neighbors(i)):
                place = near.index[j][near.mask[j]].tolist().index(i)
                torch.testing.assert_close(options[:, j, place, a], values[:, j])


def test_twins_differ() -> None:
    critic = make_critic(nx.path_graph(3))
    first, second = critic(torch.randn(B, 3, D), torch.randn(B, 3, 3, A))
    assert not torch.allclose(first, second)
