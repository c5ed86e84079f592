from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import networkx as nx
import numpy as np
import pytest
import torch

from dmpo import Trainer, evaluate, load_checkpoint, save_checkpoint
from dmpo.algorithms.ic3net import IC3Net
from dmpo.collector import Collector
from dmpo.data.rollout import Rollout
from dmpo.nn.recurrent import Memory
from dmpo.settings import IC3NetSettings
from tests.dmpo.environment import PointMasses

Kind = Literal["continuous", "discrete"]
KINDS = pytest.mark.parametrize("actions", ["continuous", "discrete"])
T, H = 10, 8


def learner_for(env: PointMasses, graph: nx.Graph | None = None, seed: int = 0, **settings: Any) -> IC3Net:
    quick = {"hidden": H, "gamma": 0.95, "rollout_steps": T}
    chosen = IC3NetSettings(**{**quick, **settings})
    return IC3Net(chosen, graph or env.graph, env.observation_space, env.action_space, seed)


def parameters(learner: IC3Net) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.policy.parameters()])


def collected(actions: Kind = "continuous", **settings: Any) -> tuple[IC3Net, Rollout]:
    """A segment that begins and ends within episodes, some of which end in it, one way or the other."""
    env = PointMasses(actions=actions, horizon=7, crash=1.0)
    learner = learner_for(env, normalize_observations=True, **settings)
    collector = Collector(env, learner, seed=0)
    for _ in range(3):
        learner.improve(collector.collect()[0], 0.0)
    batch, _ = collector.collect()
    assert batch.truncated.any()
    assert batch.terminated.any()
    assert not (batch.truncated[-1] | batch.terminated[-1]).all()
    return learner, learner._normalized(batch)


@pytest.mark.parametrize(("actions", "normalize"), [("continuous", True), ("discrete", False)])
def test_it_learns(actions: Kind, normalize: bool) -> None:
    env, test = (PointMasses(num_envs=16, actions=actions, horizon=30) for _ in range(2))
    learner = learner_for(env, hidden_size=16, lr=1e-2, lr_decay=True, normalize_observations=normalize)
    before = evaluate(test, learner, seed=1).metrics["eval/reward"]
    for _ in Trainer(env, learner, 16 * T * 100, seed=0).iterations():
        pass
    after = evaluate(test, learner, seed=1).metrics["eval/reward"]
    assert before < -1
    assert after > 0.4 * before  # rewards are negative


@KINDS
def test_unrolled_over_the_segment_it_decides_as_it_did_step_by_step(actions: Kind) -> None:
    learner, batch = collected(actions)
    assert learner.began_with is not None
    assert learner.began_with.hidden.abs().sum() > 0  # in the middle of an episode
    assert not learner.began_with.hidden.requires_grad  # where gradients end
    memory = learner.unroll(batch)
    torch.testing.assert_close(learner.policy.decide(memory.hidden), batch.behavior)
    torch.testing.assert_close(memory.hidden[-1], learner.memory.hidden)
    torch.testing.assert_close(memory.cell[-1], learner.memory.cell)
    assert torch.equal(memory.gate[-1], learner.memory.gate)


def test_a_true_end_pays_nothing_more_and_a_time_limit_what_agents_expect_with_what_they_remember() -> None:
    learner, batch = collected()
    gamma, memory = learner.settings.gamma, learner.unroll(batch)
    targets, values = learner._targets(batch, memory)
    torch.testing.assert_close(values, learner.policy.values(memory.hidden))
    finals = {int(k): x for k, x in zip(batch.final_index, batch.final_observations, strict=True)}
    for e in range(4):
        for t in reversed(range(T)):
            remembered = Memory(memory.hidden[t, e : e + 1], memory.cell[t, e : e + 1], memory.gate[t, e : e + 1])
            after = finals.get(t * 4 + e, batch.observations[t + 1, e])
            expected = learner.policy.values(learner.policy(after.unsqueeze(0), remembered)[0])[0]
            ended = bool(batch.truncated[t, e] or batch.terminated[t, e])
            follows = expected if ended or t == T - 1 else targets[t + 1, e]
            follows = follows * (not batch.terminated[t, e])
            torch.testing.assert_close(targets[t, e], batch.rewards[t, e] + gamma * follows)


@KINDS
def test_the_losses_are_those_of_reinforce_with_a_baseline(actions: Kind) -> None:
    learner, batch = collected(actions, entropy_coef=0.1)
    batch = replace(batch, valid=batch.valid.clone())
    batch.valid[3, 2] = False
    memory = learner.unroll(batch)
    targets, values = learner._targets(batch, memory)
    policy, value, _ = learner.losses(batch, memory, 0.0)
    steps = [(t, e) for t in range(T) for e in range(4) if (t, e) != (3, 2)]
    gains, errors = [], []
    for i in range(3):  # each agent's own advantages
        returns, baseline = (torch.stack([x[t, e, i] for t, e in steps]) for x in (targets, values))
        advantage = returns - baseline
        advantage = (advantage - advantage.mean()) / advantage.std(correction=0)
        decided = torch.stack([learner.policy.decide(memory.hidden)[t, e, i] for t, e in steps]).unsqueeze(1)
        chosen = torch.stack([batch.actions[t, e, i] for t, e in steps]).unsqueeze(1)
        log_prob, entropy = learner.distribution.log_prob(decided, chosen), learner.distribution.entropy(decided)
        gains.append((advantage * log_prob.squeeze(1) + 0.1 * entropy.squeeze(1)).mean())
        errors.append(((returns - baseline) / learner.policy.moments.std).square().mean())
    torch.testing.assert_close(policy, -torch.stack(gains).mean())
    torch.testing.assert_close(value, torch.stack(errors).mean(), rtol=1e-4, atol=1e-4)


def test_gates_learn_from_the_return_as_actions_do() -> None:
    learner, batch = collected()
    before = learner.policy.head.weight.detach().clone()
    learner.improve(batch, 0.0)
    change = (learner.policy.head.weight - before)[0]  # (H, P')
    assert (change.abs().sum(0) > 0).all()


def test_an_episode_after_another_is_the_same_as_from_cold() -> None:
    env = PointMasses(horizon=6)
    learner, (observation, _) = learner_for(env), env.reset(seed=0)
    learner.act(np.random.default_rng(0).normal(size=observation.shape))
    remembering = learner.act(observation, True, np.array([True, False, True, False]))
    cold = learner_for(env).act(observation, True)
    np.testing.assert_allclose(remembering[[0, 2]], cold[[0, 2]], rtol=1e-6)
    assert not np.allclose(remembering[[1, 3]], cold[[1, 3]], rtol=1e-4)
    # It is the same again: what is remembered plays no part where all begin.
    np.testing.assert_array_equal(learner.act(observation, True), cold)


def test_whoever_was_cut_off_with_a_simulation_begins_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses(horizon=1000)
    learner, step = learner_for(env), env.step

    def losing(actions: np.ndarray) -> tuple:
        observation, reward, terminated, truncated, info = step(actions)
        lost = np.array([False, env.clock[0] == 3, False, False])
        return observation, reward, terminated, truncated | lost, {**info, "lost": lost}

    monkeypatch.setattr(env, "step", losing)
    batch, _ = Collector(env, learner, seed=0).collect()
    assert batch.valid.logical_not().nonzero().tolist() == [[2, 1]]
    hidden, _ = learner.policy(batch.observations[3], learner.policy.cold(4))
    cold = learner.policy.decide(hidden)
    torch.testing.assert_close(batch.behavior[3, 1], cold[1])
    assert not torch.allclose(batch.behavior[3, 0], cold[0], atol=1e-6)
    torch.testing.assert_close(learner.policy.decide(learner.unroll(batch).hidden), batch.behavior)


def trainer(actions: Kind, seed: int = 0) -> Trainer:
    env = PointMasses(actions=actions, horizon=7)
    return Trainer(env, learner_for(env, seed=seed, normalize_observations=True), 4 * T * 6, seed=5)


@KINDS
def test_evaluation_leaves_training_as_it_is(actions: Kind) -> None:
    disturbed, other = trainer(actions), trainer(actions)
    for _ in disturbed.iterations():
        for deterministic in (True, False):
            evaluate(PointMasses(num_envs=3, actions=actions), disturbed.learner, deterministic, seed=1)
    for _ in other.iterations():
        pass
    assert torch.equal(parameters(disturbed.learner), parameters(other.learner))  # type: ignore[arg-type]


@KINDS
def test_a_run_resumed_within_episodes_ends_as_one_left_alone(actions: Kind, tmp_path: Path) -> None:
    whole, first, second = trainer(actions), trainer(actions), trainer(actions, seed=9)
    for _ in first.iterations():
        if first.iteration == 3:
            break
    save_checkpoint(tmp_path / "checkpoint", first.state_dict())
    assert (first.env.clock > 0).all()  # type: ignore[attr-defined]
    second.load_state_dict(load_checkpoint(tmp_path / "checkpoint"))
    for run in (whole, second):
        for _ in run.iterations():
            pass
    assert torch.equal(parameters(whole.learner), parameters(second.learner))  # type: ignore[arg-type]
    for name in ("hidden", "cell", "gate"):
        assert torch.equal(*(getattr(run.learner.memory, name) for run in (whole, second)))  # type: ignore[attr-defined]


def test_what_is_sent_is_counted_where_gates_are_open() -> None:
    for bias, share in ((30.0, 1.0), (-30.0, 0.0)):
        env = PointMasses(num_agents=4)
        graph = nx.star_graph(3)  # six messages a step if all speak
        learner = learner_for(env, graph)
        learner.policy.head.bias.data[..., -1] = bias
        metrics = learner.improve(Collector(env, learner, seed=0).collect()[0], 0.0)
        assert metrics["comm/gate_open"] == share
        assert metrics["comm/bytes_per_agent_step"] == share * 6 / 4 * H * 4
        assert metrics["comm/bytes_per_agent_step"] == share * learner.policy.neighborhood.bytes_per_agent(H)


@KINDS
@pytest.mark.parametrize(
    "graph", [nx.empty_graph(3), nx.DiGraph([(0, 1), (1, 2)]), nx.complete_graph(3)], ids=["empty", "directed", "all"]
)
def test_any_graph_will_do(graph: nx.Graph, actions: Kind) -> None:
    env = PointMasses(actions=actions)
    learner = learner_for(env, graph)
    (metrics,) = Trainer(env, learner, 1, seed=0).iterations()
    assert all(np.isfinite(value) for value in metrics.values())
    commands = learner.act(env.reset(seed=0)[0])
    assert all(env.action_space.contains(command) for row in commands for command in row)


def test_one_network_serves_any_number_of_agents() -> None:
    few, many = (PointMasses(num_agents=n) for n in (3, 5))
    small, large = learner_for(few), learner_for(many)
    large.policy.load_state_dict(small.policy.state_dict())
    assert evaluate(many, large, seed=0).episode_returns.shape == (4, 5)


def test_a_state_from_elsewhere_is_refused() -> None:
    env = PointMasses()
    state = learner_for(env).state_dict()
    for other in (learner_for(env, hidden_size=9), learner_for(PointMasses(num_agents=4))):
        with pytest.raises(ValueError, match="Load it with the settings"):
            other.load_state_dict(state)


def test_a_first_mean_of_discrete_actions_is_refused() -> None:
    with pytest.raises(ValueError, match="init_mean=0.1 is not possible: the actions are discrete"):
        learner_for(PointMasses(actions="discrete"), init_mean=0.1)
