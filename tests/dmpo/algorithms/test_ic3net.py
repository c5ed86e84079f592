from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import networkx as nx
import numpy as np
import pytest
import torch

from dmpo import Trainer, evaluate, load_checkpoint, save_checkpoint
from dmpo.algorithms.ic3net import IC3Net, IC3NetSettings
from dmpo.collector import Collector
from dmpo.data.rollout import Rollout
from dmpo.nn.recurrent import RecurrentState
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import setup_of

Kind = Literal["continuous", "discrete"]
KINDS = pytest.mark.parametrize("actions", ["continuous", "discrete"])
T, H = 10, 8


def learner_for(env: PointMasses, graph: nx.Graph | None = None, seed: int = 0, **settings: Any) -> IC3Net:
    quick = {"hidden_size": H, "gamma": 0.95, "rollout_steps": T}
    chosen = IC3NetSettings(**{**quick, **settings})
    return IC3Net(chosen, setup_of(env, graph, seed))


def unroll(learner: IC3Net, batch: Rollout) -> RecurrentState:
    """Recurrent state after each step of the segment that a learner has just collected."""
    assert learner.segment_start is not None
    return learner.update.unroll(batch, learner.segment_start)


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
    assert not batch.over[-1].all()
    return learner, learner.normalized(batch)


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
def test_unrolling_the_segment_decides_as_step_by_step(actions: Kind) -> None:
    learner, batch = collected(actions)
    assert learner.segment_start is not None
    assert learner.segment_start.hidden.abs().sum() > 0  # in the middle of an episode
    assert not learner.segment_start.hidden.requires_grad  # where gradients end
    state = unroll(learner, batch)
    torch.testing.assert_close(learner.policy.decide(state.hidden), batch.old_dist_params)
    torch.testing.assert_close(state.hidden[-1], learner.recurrent_state.hidden)
    torch.testing.assert_close(state.cell[-1], learner.recurrent_state.cell)
    assert torch.equal(state.gate[-1], learner.recurrent_state.gate)


def test_terminal_states_have_no_value_and_time_limits_that_of_the_recurrent_state() -> None:
    learner, batch = collected()
    gamma, state = learner.settings.gamma, unroll(learner, batch)
    targets, values = learner.update.targets(batch, state)
    torch.testing.assert_close(values, learner.policy.values(state.hidden))
    finals = {int(k): x for k, x in zip(batch.final_index, batch.final_observations, strict=True)}
    for e in range(4):
        for t in reversed(range(T)):
            reached = RecurrentState(state.hidden[t, e : e + 1], state.cell[t, e : e + 1], state.gate[t, e : e + 1])
            after = finals.get(t * 4 + e, batch.observations[t + 1, e])
            expected = learner.policy.values(learner.policy(after.unsqueeze(0), reached)[0])[0]
            ended = bool(batch.over[t, e])
            next_return = expected if ended or t == T - 1 else targets[t + 1, e]
            next_return = next_return * (not batch.terminated[t, e, 0])
            torch.testing.assert_close(targets[t, e], batch.rewards[t, e] + gamma * next_return)


@KINDS
def test_the_losses_are_those_of_reinforce_with_a_baseline(actions: Kind) -> None:
    learner, batch = collected(actions, entropy_coef=0.1)
    batch = replace(batch, valid=batch.valid.clone())
    batch.valid[3, 2] = False
    state = unroll(learner, batch)
    targets, values = learner.update.targets(batch, state)
    policy, value, _ = learner.update.losses(batch, state, 0.0)
    steps = [(t, e) for t in range(T) for e in range(4) if (t, e) != (3, 2)]
    gains, errors = [], []
    for i in range(3):  # each agent's own advantages
        returns, baseline = (torch.stack([x[t, e, i] for t, e in steps]) for x in (targets, values))
        advantage = returns - baseline
        advantage = (advantage - advantage.mean()) / advantage.std(correction=0)
        decided = torch.stack([learner.policy.decide(state.hidden)[t, e, i] for t, e in steps]).unsqueeze(1)
        chosen = torch.stack([batch.actions[t, e, i] for t, e in steps]).unsqueeze(1)
        log_prob, entropy = learner.distribution.log_prob(decided, chosen), learner.distribution.entropy(decided)
        gains.append((advantage * log_prob.squeeze(1) + 0.1 * entropy.squeeze(1)).mean())
        errors.append(((returns - baseline) / learner.policy.normalizer.std).square().mean())
    torch.testing.assert_close(policy, -torch.stack(gains).mean())
    torch.testing.assert_close(value, torch.stack(errors).mean(), rtol=1e-4, atol=1e-4)


def test_gates_learn_from_the_return_as_actions_do() -> None:
    learner, batch = collected()
    before = learner.policy.head.weight.detach().clone()
    learner.improve(batch, 0.0)
    change = (learner.policy.head.weight - before)[0]  # (H, P')
    assert (change.abs().sum(0) > 0).all()


def test_an_episode_after_another_begins_from_the_initial_state() -> None:
    env = PointMasses(horizon=6)
    learner, (observation, _) = learner_for(env), env.reset(seed=0)
    learner.act(np.random.default_rng(0).normal(size=observation.shape))
    continued = learner.act(observation, True, np.array([True, False, True, False]))
    fresh = learner_for(env).act(observation, True)
    np.testing.assert_allclose(continued[[0, 2]], fresh[[0, 2]], rtol=1e-6)
    assert not np.allclose(continued[[1, 3]], fresh[[1, 3]], rtol=1e-4)
    # Where all begin, the recurrent state plays no part.
    np.testing.assert_array_equal(learner.act(observation, True), fresh)


def test_after_a_lost_step_agents_begin_from_the_initial_state(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses(horizon=1000)
    learner, step = learner_for(env), env.step

    def losing(actions: np.ndarray) -> tuple:
        observation, reward, terminated, truncated, info = step(actions)
        lost = np.array([False, env.clock[0] == 3, False, False])
        return observation, reward, terminated, truncated | lost, {**info, "lost": lost}

    monkeypatch.setattr(env, "step", losing)
    batch, _ = Collector(env, learner, seed=0).collect()
    assert batch.taken.logical_not().nonzero().tolist() == [[2, 1]]
    hidden, _ = learner.policy(batch.observations[3], learner.policy.initial_state(4))
    fresh = learner.policy.decide(hidden)
    torch.testing.assert_close(batch.old_dist_params[3, 1], fresh[1])
    assert not torch.allclose(batch.old_dist_params[3, 0], fresh[0], atol=1e-6)
    torch.testing.assert_close(learner.policy.decide(unroll(learner, batch).hidden), batch.old_dist_params)


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
def test_a_run_resumed_within_episodes_ends_as_an_uninterrupted_one(actions: Kind, tmp_path: Path) -> None:
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
        assert torch.equal(*(getattr(run.learner.recurrent_state, name) for run in (whole, second)))  # type: ignore[attr-defined]


def test_messages_are_counted_where_gates_are_open() -> None:
    for bias, share in ((30.0, 1.0), (-30.0, 0.0)):
        env = PointMasses(num_agents=4)
        graph = nx.star_graph(3)  # six messages a step if all gates are open
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
def test_any_graph_is_possible(graph: nx.Graph, actions: Kind) -> None:
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


def test_a_state_of_another_learner_is_refused() -> None:
    env = PointMasses()
    state = learner_for(env).state_dict()
    for other in (learner_for(env, hidden_size=9), learner_for(PointMasses(num_agents=4))):
        with pytest.raises(ValueError, match="Load it with the settings"):
            other.load_state_dict(state)


def test_an_initial_mean_of_discrete_actions_is_refused() -> None:
    with pytest.raises(ValueError, match="init_mean=0.1 is not possible: the actions are discrete"):
        learner_for(PointMasses(actions="discrete"), init_mean=0.1)
