"""Policies of all kinds know the graph that their parameters were learned on."""

import gymnasium
import networkx as nx
import pytest
import torch

import dmpo
from dmpo.nn.local_policy import LocalPolicy, check_same_sources
from tests.dmpo.learners import SPACES, D


@pytest.fixture(params=["own", "shared", "recurrent"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make_policy(kind: str, graph: nx.Graph) -> LocalPolicy:
    name = "ic3net" if kind == "recurrent" else "dppo"
    settings = {} if kind == "recurrent" else {"share_parameters": kind == "shared"}
    observations = gymnasium.spaces.Box(-1.0, 1.0, (D,))
    return dmpo.make_learner(dmpo.settings_of(name)(**settings), graph, observations, SPACES["continuous"]).policy


OTHERS = [
    (nx.relabel_nodes(nx.cycle_graph(4), {1: 2, 2: 1}), r"agent 0 received from \[2, 3\], and here it .* \[1, 3\]"),
    (nx.path_graph(4), r"agent 0 received from \[1\], and here it receives from \[1, 3\]"),
    (nx.empty_graph(4), r"agent 0 received from nobody, and here it receives from \[1, 3\]"),
    (nx.star_graph(3), r"agent 0 received from \[1, 2, 3\], and here it receives from \[1, 3\]"),
    (nx.cycle_graph(5), "of policies of 5 agents, and here are 4"),
]


@pytest.mark.parametrize(("other", "message"), OTHERS)
def test_the_state_of_policies_that_knew_other_neighbors_is_refused(other: nx.Graph, message: str) -> None:
    policy, there = make_policy("own", nx.cycle_graph(4)), make_policy("own", other)
    with pytest.raises(RuntimeError, match=message):
        policy.load_state_dict(there.state_dict())
    with pytest.raises(RuntimeError, match=message):
        check_same_sources(there.sources, policy.sources)
    check_same_sources(policy.sources.clone(), policy.sources)


@pytest.mark.parametrize("kind", ["shared", "recurrent"])
def test_a_state_of_one_network_for_all_fits_any_graph(kind: str) -> None:
    policy, other = (make_policy(kind, nx.cycle_graph(n)) for n in (4, 9))
    policy.load_state_dict(other.state_dict())
    assert torch.equal(policy.sources, policy.neighborhood.sources)
    assert all(torch.equal(*pair) for pair in zip(policy.parameters(), other.parameters(), strict=True))


def test_the_state_is_that_of_training_whatever_graph_it_acts_on_later(kind: str) -> None:
    policy, twin = (make_policy(kind, nx.cycle_graph(4)) for _ in range(2))
    policy.communicate_on(nx.path_graph(4))
    assert policy.neighborhood.messages == 6
    assert policy.sources.tolist() == [[0, 1, 3], [1, 0, 2], [2, 1, 3], [3, 0, 2]]
    twin.load_state_dict(policy.state_dict())
    assert torch.equal(twin.sources, policy.sources)


def test_a_state_from_before_neighbors_were_kept_is_one_of_this_graph(kind: str) -> None:
    policy = make_policy(kind, nx.cycle_graph(4))
    old = {name: torch.zeros_like(x) for name, x in policy.state_dict().items() if name != "sources"}
    policy.load_state_dict(old)
    assert all(not parameter.any() for parameter in policy.parameters())
    assert policy.sources.tolist() == policy.neighborhood.sources.tolist()
