from dataclasses import replace
from typing import Literal

import networkx as nx
import pytest
import torch
from pydantic import ValidationError

from dmpo import Trainer, evaluate, settings_of
from dmpo.updates.returns import advantages, next_values, standardized
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import flat, learner_for, make_learner, random_batch

Kind = Literal["continuous", "discrete"]

CONNECTED = {
    "path": nx.path_graph(6),
    "cycle": nx.cycle_graph(6),
    "star": nx.star_graph(5),
    "directed cycle": nx.cycle_graph(6, create_using=nx.DiGraph),
}
DIRECTED = nx.DiGraph([(0, 1), (1, 2), (3, 2), (4, 3)])
DIRECTED.add_node(5)


@pytest.mark.parametrize("name", CONNECTED)
@pytest.mark.parametrize(("actions", "shared"), [("continuous", False), ("discrete", False), ("continuous", True)])
def test_the_team_objective_is_dppo_with_kappa_of_the_diameter(name: str, actions: str, shared: bool) -> None:
    graph = CONNECTED[name]
    common = {"share_parameters": shared, "normalize_observations": True, "entropy_coef": 0.01}
    central = make_learner(graph, actions, name="cppo", **common)
    wide = nx.diameter(graph)
    whole, narrower = (make_learner(graph, actions, kappa=kappa, **common) for kappa in (wide, wide - 1))
    found = [learner.improve(random_batch(learner), 0.3) for learner in (central, whole, narrower)]
    assert found[0] == found[1]
    assert torch.equal(flat(central), flat(whole))
    assert found[2] != found[0]


def test_values_see_everybody_and_policies_their_neighbors(graph: nx.Graph) -> None:
    for here in (graph, DIRECTED):
        learner = make_learner(here, name="cppo")
        states = torch.randn(4, 6, 3, requires_grad=True)
        for i in here:
            (of_value,) = torch.autograd.grad(learner.critic(states)[:, i].sum(), states)
            (of_policy,) = torch.autograd.grad(learner.policy(states)[:, i].sum(), states)
            near = {i, *(here.predecessors(i) if here.is_directed() else here.neighbors(i))}
            assert of_value.abs().sum((0, 2)).nonzero().flatten().tolist() == list(range(6))
            assert set(of_policy.abs().sum((0, 2)).nonzero().flatten().tolist()) == near


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("objective", ["team", "selfish"])
def test_advantages_are_of_the_mean_reward_or_of_the_own_one(graph: nx.Graph, objective: str, shared: bool) -> None:
    learner = make_learner(graph, name="cppo", objective=objective, share_parameters=shared, gamma=0.9, gae_lambda=0.7)
    batch = random_batch(learner)
    with torch.no_grad():
        values = learner.critic(batch.observations.flatten(0, 1)).view(7, 4, 6)
        next_v = next_values(values, batch.final_index, learner.critic(batch.final_observations))
    parts = batch.rewards, values[:-1], next_v
    if objective == "team":
        parts = tuple(x.mean(-1, keepdim=True).expand(6, 4, 6) for x in parts)
    ends = batch.terminated, batch.truncated, batch.valid
    expected = standardized(advantages(*parts, *ends, 0.9, 0.7).flatten(0, 1))
    torch.testing.assert_close(learner.update.actor_critic.prepare(batch)[0].advantages, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("objective", "moved"), [("team", [0, 1, 2, 3, 4, 5]), ("selfish", [4, 5])])
def test_rewards_of_others_matter_to_the_team_objective_only(graph: nx.Graph, objective: str, moved: list[int]) -> None:
    first, second = (make_learner(graph, name="cppo", objective=objective, lr_policy=0.1) for _ in range(2))
    batch = random_batch(first)
    other = replace(batch, rewards=batch.rewards.clone())
    other.rewards[..., 4:] *= -3
    for learner, data in ((first, batch), (second, other)):
        learner.generator.manual_seed(0)
        learner.improve(data, 0.0)
    pairs = zip(first.policy.parameters(), second.policy.parameters(), strict=True)
    differ = torch.stack([(a != b).flatten(1).any(1) for a, b in pairs])
    assert differ.any(0).nonzero().flatten().tolist() == moved


@pytest.mark.parametrize(("objective", "training"), [("team", 5 * (3 + 2) * 4), ("selfish", 5 * 3 * 4)])
def test_communication_is_counted_also_where_the_graph_has_no_edge(objective: str, training: int) -> None:
    # In training everybody's three numbers are received, of four bytes each, and for the team values and rewards.
    for graph, acting in ((nx.empty_graph(6), 0), (nx.cycle_graph(6), 2 * 3 * 4)):
        learner = make_learner(graph, name="cppo", objective=objective)
        metrics = learner.improve(random_batch(learner), 0.0)
        assert metrics["comm/bytes_per_agent_step"] == acting
        assert metrics["comm/training_bytes_per_agent_step"] == training


@pytest.mark.parametrize(("actions", "objective"), [("continuous", "team"), ("discrete", "selfish")])
def test_it_learns(actions: Kind, objective: str) -> None:
    env, test = (PointMasses(num_envs=16, actions=actions, horizon=30) for _ in range(2))
    rates = {"lr_policy": 5e-3, "lr_value": 5e-3, "kl_target": 0.03}
    learner = learner_for(env, name="cppo", objective=objective, rollout_steps=30, epochs=8, **rates)
    before = evaluate(test, learner, seed=1).metrics["eval/reward"]
    for _ in Trainer(env, learner, 30 * 16 * 20, seed=0).iterations():
        pass
    assert evaluate(test, learner, seed=1).metrics["eval/reward"] > 0.3 * before  # rewards are negative


@pytest.mark.parametrize("objective", ["team", "selfish"])
def test_a_restored_run_continues_to_the_last_bit(objective: str) -> None:
    def trainer(seed: int) -> Trainer:
        env = PointMasses(horizon=7)
        learner = learner_for(env, seed, "cppo", objective=objective, normalize_observations=True)
        return Trainer(env, learner, 4 * 10 * 6, seed=0)

    whole, resumed = trainer(1), trainer(2)
    for _ in whole.iterations():
        if whole.iteration == 3:
            resumed.load_state_dict(whole.state_dict())
    for _ in resumed.iterations():
        pass
    assert torch.equal(flat(whole.learner), flat(resumed.learner))
    networks = [run.learner.update.actor_critic for run in (whole, resumed)]
    assert torch.equal(*(each.policy_optimizer.second for each in networks))


def test_kappa_is_no_setting_of_cppo() -> None:
    with pytest.raises(ValidationError, match="kappa"):
        settings_of("cppo").model_validate({"kappa": 3})
    assert all(field.description for field in settings_of("cppo").model_fields.values())
