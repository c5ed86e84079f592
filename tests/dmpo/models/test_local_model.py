from itertools import pairwise

import networkx as nx
import pytest
import torch

from benchmarks.reference import LoopedModel
from dmpo.models.local_model import EMBEDDING_SIZE, LocalModel

D, B = 5, 7
WIDTHS = {"encoding": 8, "hidden": 16, "message": 12}


def make_model(
    graph: nx.Graph, actions: int = 4, discrete: bool = True, features: int = D, neighbor_actions: bool = False
) -> LocalModel:
    generator = torch.Generator().manual_seed(0)
    kinds = {"actions": actions, "discrete": discrete, "neighbor_actions": neighbor_actions, "own_gradient": False}
    model = LocalModel(graph, features, **kinds, **WIDTHS, generator=generator)
    for parameter in model.parameters():  # biases as well, which begin with zero
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


def inputs(graph: nx.Graph, discrete: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    n = len(graph)
    return torch.randn(n, B, D), torch.randint(4, (n, B)) if discrete else torch.rand(n, B, 2) * 2 - 1


DIRECTED = nx.DiGraph([(0, 1), (1, 2), (3, 1)])
DIRECTED.add_node(4)


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("neighbor_actions", [True, False])
def test_all_agents_at_once_compute_what_a_loop_over_agents_and_edges_does(
    graph: nx.Graph, discrete: bool, neighbor_actions: bool
) -> None:
    for case in (graph, DIRECTED):
        model = make_model(case, 4 if discrete else 2, discrete, neighbor_actions=neighbor_actions)
        states, actions = inputs(case, discrete)
        found = model(states, actions)
        edges = list(zip(*model.edges.tolist(), strict=True))  # (j, i), from j to i
        neighbors = case.predecessors if case.is_directed() else case.neighbors
        assert sorted(edges) == sorted([(j, i) for i in case for j in neighbors(i)] + [(i, i) for i in case])
        for i, outputs in enumerate(LoopedModel(model)(list(states), list(actions))):
            torch.testing.assert_close(found.change[i], outputs[:, :D], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.reward[i], outputs[:, D], rtol=1e-4, atol=1e-5)


def test_a_model_depends_on_its_neighborhood_and_on_nobody_else(graph: nx.Graph) -> None:
    model = make_model(graph)
    states, actions = inputs(graph)
    states.requires_grad_()
    found = model(states, actions)
    for i in graph:
        loss = found.change[i].square().sum() + found.reward[i].sum()
        (to_states,) = torch.autograd.grad(loss, states, retain_graph=True)
        assert set(to_states.abs().sum((1, 2)).nonzero().flatten().tolist()) == {i, *graph.neighbors(i)}


@pytest.mark.parametrize("neighbor_actions", [True, False])
def test_actions_of_others_count_only_where_messages_carry_them(neighbor_actions: bool) -> None:
    graph = nx.path_graph(4)
    model = make_model(graph, neighbor_actions=neighbor_actions)
    states, actions = inputs(graph)
    other = actions.clone()
    other[0] = (other[0] + 1) % 4
    moved = {0, 1} if neighbor_actions else {0}
    for before, after in zip(model(states, actions), model(states, other), strict=True):
        assert {i for i in graph if not torch.equal(before[i], after[i])} == moved


def parameters_of_one(widths: list[int]) -> int:
    return sum(a * b + b for a, b in pairwise(widths))


@pytest.mark.parametrize(("features", "actions", "discrete", "per_agent"), [(5, 4, True, 807), (2, 1, False, 692)])
def test_sizes_are_the_published_ones(features: int, actions: int, discrete: bool, per_agent: int) -> None:
    # Per agent 807 in the platoon and 692 on the loops, per edge 748; but for the end, which has a network of its own
    # here (see `LocalModel`) instead of one output of the heads.
    model = make_model(nx.path_graph(3), actions, discrete, features)
    of_agents, of_edges = model.parameter_groups()
    end = parameters_of_one([features, 16, 1])
    assert sum(p[0].numel() for p in model.end.parameters()) == end
    assert sum(p[0].numel() for p in of_agents) - end == per_agent - parameters_of_one([8, 1])
    assert sum(p[0].numel() for p in of_edges) == 748 == parameters_of_one([16, 16, 16, 12])
    assert {len(p) for p in of_agents} == {3} and {len(p) for p in of_edges} == {7}
    assert EMBEDDING_SIZE == 4
