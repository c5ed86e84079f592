import networkx as nx
import pytest
import torch
from torch import Tensor

import dmpo.updates.consensus
from dmpo.algorithms.on_policy import OnPolicyLearner
from dmpo.errors import TrainingError
from tests.dmpo.conftest import GRAPHS
from tests.dmpo.learners import flat, make_learner, random_batch

DIRECTED = nx.DiGraph([(0, 1), (1, 2), (2, 0), (2, 3), (0, 3), (3, 4), (4, 5)])


@pytest.fixture(params=[*GRAPHS, "directed"])
def graph(request: pytest.FixtureRequest) -> nx.Graph:
    """A graph of six agents."""
    return GRAPHS.get(request.param, DIRECTED)


def scattered(graph: nx.Graph, weight: float) -> OnPolicyLearner:
    """Learner whose agents have unlike parameters."""
    learner, generator = make_learner(graph, consensus=weight), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in (learner.policy, learner.critic):
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
    return learner


def after_exchange(learner: OnPolicyLearner) -> Tensor:
    consensus = learner.update.actor_critic.consensus
    assert consensus is not None
    consensus.step()
    return flat(learner)


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("received_at_once", [1, 10**9])
def test_each_moves_towards_the_mean_of_its_neighborhood(
    graph: nx.Graph, weight: float, received_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All numbers at once, or one by one.
    monkeypatch.setattr(dmpo.updates.consensus, "RECEIVED_AT_ONCE", received_at_once)
    learner = scattered(graph, weight)
    before = flat(learner)
    closed = torch.from_numpy(nx.to_numpy_array(graph, nodelist=range(6)).T).float() + torch.eye(6)  # i receives from j
    mean = closed / closed.sum(1, keepdim=True) @ before
    torch.testing.assert_close(after_exchange(learner), before + weight * (mean - before), atol=1e-5, rtol=1e-5)


def test_parameters_reach_neighbors_only(graph: nx.Graph) -> None:
    here, there = scattered(graph, 0.5), scattered(graph, 0.5)
    with torch.no_grad():
        for parameter in there.policy.parameters():
            parameter[3] = torch.nan
    unlike = (after_exchange(here) != after_exchange(there)).any(1)
    assert unlike.tolist() == [i == 3 or graph.has_edge(3, i) for i in range(6)]


def test_repeated_exchanges_reach_the_mean_of_the_whole_graph() -> None:
    learner = scattered(nx.cycle_graph(7), 1.0)
    mean = flat(learner).mean(0)
    for _ in range(100):
        after_exchange(learner)
    torch.testing.assert_close(flat(learner), mean.expand(7, -1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["dppo", "dmpo", "cppo", "ia2c"])
def test_agents_begin_alike_and_agree_after_each_batch(name: str) -> None:
    batches = 2 if name == "dmpo" else 1
    models = {"inner_iterations": 2, "model_fit_steps": 1, "total_kl": 100.0} if name == "dmpo" else {}
    alone, together = (make_learner(nx.complete_graph(4), name=name, consensus=w, **models) for w in (1e-9, 1.0))
    for learner in (alone, together):
        assert torch.equal(flat(learner), flat(learner)[:1].expand(4, -1))
        before, batch = flat(learner), random_batch(learner)
        learner.fit(batch, 0.0)
        metrics = learner.improve(batch, 0.0)
        assert not torch.equal(flat(learner), before)
        neighbors, numbers, actions = 3, before.shape[1], 6 * 4
        received = batches * neighbors * 4 * numbers / actions
        assert metrics["comm/consensus_bytes_per_agent_step"] == pytest.approx(received)
    spread = [(flat(learner) - flat(learner).mean(0)).abs().max() for learner in (alone, together)]
    assert spread[0] > 1e-4 > 10 * spread[1]


def test_a_nan_is_named_before_the_exchange_spreads_it() -> None:
    learner = make_learner(nx.complete_graph(4), consensus=1.0, epochs=1, minibatches=1)
    learner.update.actor_critic.policy_optimizer.first[2] = torch.nan  # after a step parameters are NaN, losses are not
    with pytest.raises(TrainingError, match="policy parameters of agent 2"):
        learner.improve(random_batch(learner), 0.0)
    assert flat(learner).isfinite().all(1).tolist() == [True, True, False, True]


def test_agents_that_have_stopped_exchange_all_the_same() -> None:
    learner = scattered(nx.complete_graph(4), 1.0)
    learner.update.improve(random_batch(learner), 0.0, active=torch.zeros(4, dtype=torch.bool))
    policies = torch.cat([p.flatten(1) for p in learner.policy.parameters()], 1)
    torch.testing.assert_close(policies, policies[:1].expand(4, -1))


def test_without_consensus_agents_begin_unlike_and_exchange_nothing() -> None:
    learner = make_learner(nx.complete_graph(4))
    assert not torch.equal(flat(learner)[0], flat(learner)[1])
    assert learner.update.actor_critic.consensus is None
    assert "comm/consensus_bytes_per_agent_step" not in learner.improve(random_batch(learner), 0.0)
