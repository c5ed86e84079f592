import numpy as np
import pytest
import torch

from dmpo import Trainer, TrainingError
from dmpo.collector import Collector
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import learner_for

T = 10


def replayed(env: PointMasses, actions: torch.Tensor) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Observations, rewards and final observations of the same actions, copied at each step."""
    observations, rewards, finals = [env.reset(seed=0)[0].copy()], [], []
    for row in actions:
        command = np.clip(2 * row.numpy(), -2, 2)
        observation, reward, terminated, truncated, info = env.step(command)
        observations.append(observation.copy())
        rewards.append(reward.copy())
        finals.append(info["final_obs"][terminated | truncated].copy())
    return observations, rewards, finals


def test_a_rollout_records_observations_rewards_and_ends() -> None:
    env = PointMasses(horizon=4)
    batch, _ = Collector(env, learner_for(env), seed=0).collect()
    observations, rewards, finals = replayed(PointMasses(horizon=4), batch.actions)
    np.testing.assert_array_equal(batch.observations, observations)
    np.testing.assert_array_equal(batch.rewards, rewards)
    np.testing.assert_array_equal(batch.final_observations, np.concatenate(finals))
    assert batch.valid.all()


def test_final_observations_are_kept_only_where_an_episode_ended() -> None:
    env = PointMasses(horizon=4)
    batch, metrics = Collector(env, learner_for(env), seed=0).collect()
    ended = batch.over.flatten().nonzero().squeeze(1)
    assert torch.equal(batch.final_index, ended)
    assert ended.tolist() == [12, 13, 14, 15, 28, 29, 30, 31]
    assert metrics["policy/train_episodes"] == 8
    # What follows in the rollout is another episode.
    assert not torch.equal(batch.observations[4], batch.final_observations[:4])


def test_a_rollout_records_whose_own_state_ended_an_episode() -> None:
    env = PointMasses(crash=1.1)
    batch, _ = Collector(env, learner_for(env), seed=0).collect()
    assert batch.terminated.any() and not batch.terminated.all()
    assert torch.equal(batch.ended_by.any(-1), batch.terminated.any(-1))
    ended = batch.terminated.any(-1).flatten()  # (T·E,)
    last = batch.final_observations[ended[batch.final_index]]  # (M, N, D)
    assert torch.equal(batch.ended_by.flatten(0, 1)[ended], last[..., 0].abs() > 1.1)


def test_in_an_environment_that_does_not_say_so_no_agent_ended_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses(crash=1.1)
    step = env.step

    def silent(actions: np.ndarray) -> tuple:
        *others, info = step(actions)
        return *others, {name: rows for name, rows in info.items() if name != "ended_by"}

    monkeypatch.setattr(env, "step", silent)
    batch, _ = Collector(env, learner_for(env), seed=0).collect()
    assert batch.terminated.any() and not batch.ended_by.any()


def test_the_next_rollout_continues_the_last_one() -> None:
    env = PointMasses(horizon=1000)
    collector = Collector(env, learner_for(env), seed=0)
    last = collector.collect()[0].observations[-1].clone()
    batch, metrics = collector.collect()
    assert torch.equal(batch.observations[0], last)
    assert len(batch.final_index) == 0
    assert "policy/train_return" not in metrics


def test_distributions_are_those_the_actions_were_drawn_from() -> None:
    env = PointMasses()
    learner = learner_for(env)
    batch, _ = Collector(env, learner, seed=0).collect()
    torch.testing.assert_close(
        batch.old_dist_params, learner.policy(batch.observations[:-1].flatten(0, 1)).view(T, 4, 3, 2)
    )


def test_the_learner_receives_where_episodes_begin_also_after_a_restore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = PointMasses(horizon=5, crash=1.1)
    learner = learner_for(env)
    explore, received = learner.explore, []
    monkeypatch.setattr(learner, "explore", lambda obs, first: received.append(first.clone()) or explore(obs, first))
    ended, collector = [torch.ones(4, dtype=torch.bool)], Collector(env, learner, seed=0)
    for _ in range(3):
        batch, _ = collector.collect()
        ended += batch.over
        state, collector = collector.state_dict(), Collector(env, learner, seed=0)
        collector.load_state_dict(state)
    assert torch.equal(torch.stack(received), torch.stack(ended[:-1]))
    assert batch.terminated.any()
    assert batch.truncated.any()
    assert ended[T].any()  # one ends where the first segment does


def test_returns_are_summed_over_whole_episodes_and_rewards_are_per_simulated_step() -> None:
    env = PointMasses(horizon=16, action_repeat=2)  # episodes of 8 steps, one of which ends in the first 10
    collector = Collector(env, learner_for(env), seed=0)
    batch, metrics = collector.collect()
    rewards = batch.rewards.clone()
    assert metrics["policy/train_return"] == pytest.approx(float(rewards[:8].sum(0).mean()), rel=1e-5)
    assert metrics["policy/train_reward"] == pytest.approx(float(rewards.mean()) / 2, rel=1e-5)
    batch, metrics = collector.collect()
    across = rewards[8:].sum(0) + batch.rewards[:6].sum(0)
    assert metrics["policy/train_return"] == pytest.approx(float(across.mean()), rel=1e-5)


def test_a_reward_that_is_not_finite_is_noticed_and_its_agent_named(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses()
    step = env.step

    def broken(actions: np.ndarray) -> tuple:
        observation, reward, *others = step(actions)
        reward[2, 1] = np.nan
        return observation, reward, *others

    monkeypatch.setattr(env, "step", broken)
    with pytest.raises(TrainingError, match="reward of agent 1"):
        Collector(env, learner_for(env), seed=0).collect()


def test_a_step_lost_with_its_simulation_is_padding_and_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = PointMasses(horizon=1000)
    step = env.step

    def losing(actions: np.ndarray) -> tuple:
        *others, info = step(actions)
        return *others, {**info, "lost": np.array([False, True, False, False])} if env.clock[0] == 3 else info

    monkeypatch.setattr(env, "step", losing)
    (metrics,) = Trainer(env, learner_for(env), 1, seed=0).iterations()
    assert metrics["env_steps"] == T * 4 - 1
    batch, metrics = Collector(env, learner_for(env), seed=0).collect()
    assert batch.taken.logical_not().nonzero().tolist() == [[2, 1]]
    driven = np.delete(batch.rewards.numpy().reshape(-1, 3), 2 * 4 + 1, axis=0)
    assert metrics["policy/train_reward"] == pytest.approx(driven.mean(), rel=1e-5)


def test_an_episode_lost_with_its_simulation_has_no_return(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses(horizon=8)
    step = env.step

    def losing(actions: np.ndarray) -> tuple:
        *others, info = step(actions)
        lost = np.array([False, True, False, False]) & others[3]
        return *others, info | {"lost": lost}

    monkeypatch.setattr(env, "step", losing)
    batch, metrics = Collector(env, learner_for(env), seed=0).collect()
    whole = batch.rewards[:8, [0, 2, 3]].sum(0)
    assert metrics["policy/train_episodes"] == 3
    assert metrics["policy/train_return"] == pytest.approx(float(whole.mean()), rel=1e-5)


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_a_policy_that_is_not_finite_is_noticed_and_its_agent_named(actions: str) -> None:
    env = PointMasses(actions=actions)  # type: ignore[arg-type]
    learner = learner_for(env)
    learner.policy.network.head.bias.data[2] = torch.nan
    with pytest.raises(TrainingError, match=r"(action|policy) of agent 2 became NaN"):
        Collector(env, learner, seed=0).collect()
