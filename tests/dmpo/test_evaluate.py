import numpy as np
import pytest

from dmpo import EvaluationError, TrainingError, evaluate
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import learner_for


def push(observation: np.ndarray) -> np.ndarray:
    """Accelerates everybody away."""
    return np.full((*observation.shape[:2], 1), 2.0, np.float32)


def rest(observation: np.ndarray) -> np.ndarray:
    """Does nothing."""
    return np.zeros((*observation.shape[:2], 1), np.float32)


class Counted(PointMasses):
    """Keeps what happened."""

    def __init__(self, **parameters: object) -> None:
        super().__init__(**parameters)  # type: ignore[arg-type]
        self.rewards: list[np.ndarray] = []
        self.ended: list[np.ndarray] = []

    def step(self, actions: np.ndarray) -> tuple:
        result = super().step(actions)
        self.rewards.append(result[1].copy())
        self.ended.append(result[2] | result[3])
        return result


def test_exactly_one_episode_of_each_environment_counts() -> None:
    env = Counted(num_envs=6, crash=1.5, horizon=25)
    found = evaluate(env, push, seed=0)
    lengths = np.argmax(env.ended, 0) + 1  # (E,), up to the first end of each
    assert len(set(lengths)) > 1
    assert len(env.ended) == max(lengths)
    expected = np.stack([sum(env.rewards[t][e] for t in range(lengths[e])) for e in range(6)])
    np.testing.assert_allclose(found.episode_returns, expected, rtol=1e-5)
    assert found.metrics["eval/return"] == pytest.approx(expected.mean(), rel=1e-5)
    assert found.metrics["eval/reward"] == pytest.approx(expected.mean() / 25, rel=1e-5)
    assert found.metrics["eval/length"] == pytest.approx(lengths.mean())


@pytest.mark.parametrize("action_repeat", [1, 5])
def test_an_early_end_pays_for_the_steps_up_to_the_horizon_that_it_saves(action_repeat: int) -> None:
    env = PointMasses(num_envs=6, crash=1.5, horizon=25, action_repeat=action_repeat)
    free = evaluate(env, push, seed=0)
    env.undriven_reward = -7.0
    found = evaluate(env, push, seed=0)
    undriven = 25 - found.metrics["eval/length"]
    assert undriven > 2
    assert found.metrics["eval/return"] == pytest.approx(free.metrics["eval/return"] - 7 * undriven)
    assert found.metrics["eval/return"] == pytest.approx(found.episode_returns.mean())
    for result in (free, found):
        assert result.metrics["eval/reward"] == pytest.approx(result.metrics["eval/return"] / 25)


def test_what_has_crashed_stands_up_to_the_horizon() -> None:
    soon, late = (evaluate(PointMasses(crash=1.5, horizon=h), push, seed=0).metrics for h in (30, 60))
    assert late["eval/length"] == soon["eval/length"] < 20
    assert late["eval/speed"] == pytest.approx(soon["eval/speed"] / 2)
    assert soon["eval/speed_final"] == late["eval/speed_final"] == 0.0


def test_collisions_count_episodes() -> None:
    assert evaluate(PointMasses(num_envs=6, crash=1.5, horizon=25), push).metrics["eval/collisions"] == 6
    assert evaluate(PointMasses(num_envs=6, horizon=25), push).metrics["eval/collisions"] == 0


def test_speeds_are_means_over_the_episode_and_over_its_last_third() -> None:
    found = evaluate(PointMasses(num_envs=3, horizon=30), push, seed=0)
    start = found.trajectory["speed"][0]
    speeds = [np.mean(0.2 * np.arange(1, 31)[ts]) for ts in (slice(None), slice(20, None))]
    offset = found.metrics["eval/speed"] - speeds[0]
    assert found.metrics["eval/speed_final"] - speeds[1] == pytest.approx(offset)
    assert abs(offset) <= 1
    assert start.shape == (3,)


def test_rewards_are_per_simulated_step() -> None:
    found = evaluate(PointMasses(horizon=20, action_repeat=4), rest, seed=0)
    assert found.metrics["eval/length"] == 20
    assert found.metrics["eval/reward"] == pytest.approx(found.metrics["eval/return"] / 20)


def test_the_trajectory_is_that_of_the_first_environment_from_the_start_to_its_end() -> None:
    env = PointMasses(num_envs=6, crash=1.5, horizon=25)
    found = evaluate(env, push, seed=0)
    positions = found.trajectory["position"]
    assert np.abs(positions[:-1]).max() <= 1.5 < np.abs(positions[-1]).max()
    np.testing.assert_allclose(np.diff(positions, axis=0), 0.1 * found.trajectory["speed"][1:], atol=1e-12)


def test_a_learner_acts_deterministically_unless_asked_otherwise() -> None:
    env = PointMasses()
    learner = learner_for(env)
    returns = [evaluate(env, learner, deterministic=d, seed=0).metrics["eval/return"] for d in (True, True, False)]
    assert returns[0] == returns[1]
    assert returns[0] != returns[2]


def test_a_learner_is_told_where_episodes_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Counted(num_envs=6, crash=1.5, horizon=25)
    learner, told = learner_for(env), []
    act = learner.act
    monkeypatch.setattr(learner, "act", lambda obs, d, first: told.append(first.copy()) or act(obs, d, first))
    for _ in range(2):
        evaluate(env, learner, deterministic=False, seed=0)
        np.testing.assert_array_equal(told, [np.ones(6, dtype=bool), *env.ended[:-1]])
        assert np.any(told[1:])
        told.clear()
        env.ended.clear()


def test_an_episode_without_end_is_noticed() -> None:
    env = PointMasses(horizon=20)
    env.horizon = 10
    env.clock -= 1000
    env._begin = lambda which: None  # type: ignore[method-assign]
    with pytest.raises(EvaluationError, match="did not end"):
        evaluate(env, rest)


class Losing(PointMasses):
    """Loses an episode in the first so many evaluations."""

    def __init__(self, times: int) -> None:
        super().__init__(horizon=10)
        self.times = times

    def step(self, actions: np.ndarray) -> tuple:
        *others, info = super().step(actions)
        lose = self.times > 0 and self.clock[0] == 5
        self.times -= lose
        return *others, {**info, "lost": np.arange(self.num_envs) == (2 if lose else -1)}


def test_an_evaluation_that_loses_an_episode_is_made_again() -> None:
    once, never = (evaluate(Losing(times), rest, seed=0) for times in (1, 0))
    assert once.metrics == never.metrics
    with pytest.raises(EvaluationError, match="lost in each of 3 evaluations"):
        evaluate(Losing(3), rest, seed=0)


def test_an_action_that_is_not_finite_is_refused_and_its_agent_named() -> None:
    def broken(observations: np.ndarray) -> np.ndarray:
        actions = rest(observations)
        actions[2, 1] = np.inf
        return actions

    with pytest.raises(TrainingError, match="action of agent 1"):
        evaluate(PointMasses(), broken, seed=0)
