"""Targets, gradients and temperatures of SAC against the definitions, written out for one agent at a time."""

import gymnasium
import networkx as nx
import pytest
import torch
from torch.nn.functional import one_hot

from dmpo import TrainingError
from dmpo.algorithms.dsac import DSAC, DSACSettings
from dmpo.learner import Setup
from dmpo.updates.sac import Transitions
from tests.dmpo.learners import SPACES, D

B = 6
DIRECTED = nx.DiGraph([(0, 1), (1, 2), (2, 0), (3, 1)])


def make(graph: nx.Graph, actions: str, **settings: object) -> DSAC:
    chosen = DSACSettings(**{"hidden_sizes": [8], "kappa": 1, "init_temperature": 0.3, **settings})
    observations = gymnasium.spaces.Box(-9.0, 9.0, (D,))
    return DSAC(chosen, Setup(graph, observations, SPACES[actions]))


def transitions(graph: nx.Graph, actions: str, seed: int = 0) -> Transitions:
    generator, n = torch.Generator().manual_seed(seed), len(graph)
    states, next_states = torch.randn(2, B, n, D, generator=generator)
    drawn = torch.randint(4, (B, n), generator=generator) if actions == "discrete" else torch.rand(B, n, 2) * 2 - 1
    terminated = (torch.arange(B * n) % 3 == 0).view(B, n)  # agents are told one by one
    return Transitions(states, drawn, torch.randn(B, n, generator=generator), next_states, terminated)


def test_a_discrete_target_is_the_reward_and_the_expected_soft_value(graph: nx.Graph) -> None:
    learner, batch = make(graph, "discrete", gamma=0.9), transitions(graph, "discrete")
    learner.update.observe_rewards(3 * torch.randn(1000, len(graph)))
    twin = torch.Generator().manual_seed(5)
    learner.generator.manual_seed(5)
    found, near = learner.update.targets(batch), learner.critic.neighborhood
    log_probs = learner.policy(batch.next_states)
    others = learner.distribution.sample(log_probs, twin)
    for i in graph:
        value = torch.zeros(B)
        for a in range(4):
            joint = others.clone()
            joint[:, i] = a
            q_values = learner.update.target(batch.next_states, near.gather(one_hot(joint, 4).float())).amin(0)[:, i]
            value += log_probs[:, i, a].exp() * (q_values - 0.3 * log_probs[:, i, a])
        reward = batch.rewards[:, i] * 0.1 / learner.update.reward_normalizer.std[i]
        torch.testing.assert_close(found[:, i], reward + 0.9 * (~batch.terminated[:, i]) * value, rtol=1e-4, atol=1e-5)


def test_a_continuous_target_is_the_reward_and_the_soft_value_of_drawn_actions(graph: nx.Graph) -> None:
    learner, batch = make(graph, "continuous", gamma=0.9), transitions(graph, "continuous")
    twin = torch.Generator().manual_seed(5)
    learner.generator.manual_seed(5)
    found = learner.update.targets(batch)
    actions, log_probs = learner.distribution.draw(learner.policy(batch.next_states), twin)  # type: ignore[attr-defined]
    q_values = learner.update.target(batch.next_states, learner.critic.neighborhood.gather(actions)).amin(0)
    expected = 0.1 * batch.rewards + 0.9 * (~batch.terminated) * (q_values - 0.3 * log_probs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
@pytest.mark.parametrize("directed", [False, True])
def test_a_policy_ascends_the_values_of_its_neighborhood_in_its_own_action(kind: str, directed: bool) -> None:
    case = DIRECTED if directed else nx.path_graph(4)
    learner, batch = make(case, kind), transitions(case, kind)
    twin = torch.Generator().manual_seed(5)
    learner.generator.manual_seed(5)
    loss, _ = learner.update.soft.policy_loss(batch.states, learner.update.temperature)
    near, sac = learner.critic.neighborhood, learner.update
    members = [near.index[i][near.mask[i]].tolist() for i in range(4)]
    parameters = learner.policy(batch.states)
    weight = learner.policy.network.head.weight
    draw = learner.distribution.sample if kind == "discrete" else learner.distribution.draw  # type: ignore[attr-defined]
    drawn = draw(parameters, twin)
    for i in case:
        mutual = [j for j in members[i] if i in members[j]]  # agents whose values i receives
        if kind == "discrete":
            expected = torch.zeros(B)
            for a in range(4):
                joint = drawn.clone()
                joint[:, i] = a
                values = learner.critic(batch.states, near.gather(one_hot(joint, 4).float())).amin(0).detach()
                q_values = values[:, mutual].sum(1) / 4
                expected = expected + parameters[:, i, a].exp() * (0.3 * parameters[:, i, a] - q_values)
            expected = expected.mean()
        else:
            actions, log_probs = drawn
            alone = actions.detach().clone()
            alone[:, i] = actions[:, i]
            values = learner.critic(batch.states, near.gather(alone)).amin(0)
            expected = (0.3 * log_probs[:, i] - values[:, mutual].sum(1) / 4).mean()
        (wanted,) = torch.autograd.grad(expected, weight, retain_graph=True)
        (found,) = torch.autograd.grad(loss[i], weight, retain_graph=True)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
        assert found[[j for j in range(4) if j != i]].eq(0).all()  # nobody else's parameters
    assert sac.critic.twins[0].head.weight.grad is None


@pytest.mark.parametrize(("wanted", "rises"), [(1.3, True), (0.1, False)])
def test_temperatures_rise_where_entropy_is_short_of_its_target(wanted: float, rises: bool) -> None:
    graph = nx.path_graph(3)
    learner = make(graph, "discrete", target_entropy=wanted)
    with torch.no_grad():
        learner.policy.network.head.bias += torch.tensor([2.0, 0.0, 0.0, 0.0])  # entropy of about 0.8
    before = learner.update.temperature
    for seed in range(3):
        learner.update.update(transitions(graph, "discrete", seed), 0.0)
    assert bool(((learner.update.temperature > before) == rises).all())


def test_the_target_entropy_is_annealed_linearly() -> None:
    sac = make(nx.path_graph(2), "discrete", target_entropy=0.5, target_entropy_final=0.1).update
    assert [sac.target_entropy(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.5, 0.3, 0.1])
    assert make(nx.path_graph(2), "continuous").update.target_entropy(0.5) == -2.0


def test_target_networks_move_towards_the_critics_by_tau() -> None:
    graph = nx.path_graph(3)
    learner = make(graph, "discrete", tau=0.25)
    old = [p.clone() for p in learner.update.target.parameters()]
    learner.update.update(transitions(graph, "discrete"), 0.0)
    for before, new, after in zip(old, learner.critic.parameters(), learner.update.target.parameters(), strict=True):
        torch.testing.assert_close(after, before + 0.25 * (new.detach() - before))


def test_a_nan_loss_is_refused_with_its_agent() -> None:
    graph = nx.path_graph(3)
    learner, batch = make(graph, "discrete"), transitions(graph, "discrete")
    batch.rewards[:, 1] = torch.nan
    with pytest.raises(TrainingError, match="value loss of agent 1"):
        learner.update.check(learner.update.update(batch, 0.0))
