"""Evaluation of a policy: one episode of each environment, nothing learned and nothing counted as experience."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dmpo.environment import Array, EvalEnv, Meter
from dmpo.errors import EvaluationError, check_actions
from dmpo.learner import Learner

ATTEMPTS = 3


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation."""

    metrics: dict[str, float]
    episode_returns: Array  # (E, N), over the whole horizon
    trajectory: dict[str, Array]  # of environment 0 and its M entities: each (T+1, M)


@dataclass
class _Record:
    # Of every environment up to the end of its episode only.
    meter: Meter
    returns: Array  # (E, N)
    lengths: Array  # (E,), actions of each agent
    running: Array  # (E,) bool

    def add(self, reward: Array, ended: Array, info: dict[str, Any]) -> None:
        self.returns += np.where(self.running[:, None], reward, 0.0)
        self.lengths += self.running
        self.meter.step(info, self.running)
        self.running = self.running & ~ended


def evaluate(
    env: EvalEnv,
    policy: Learner | Callable[[Array], Array],
    deterministic: bool = True,
    seed: int | None = None,
) -> Evaluation:
    """Run exactly one episode of each environment.

    Args:
        env: the environment; it is reset first.
        policy: a learner, or any function from observations (E, N, D) to actions.
        deterministic: whether a learner takes the likeliest action rather than draw one.
        seed: for the reset.

    Returns:
        Metrics `eval/…` of all episodes: reward (mean per simulated step of the horizon and agent), return (summed over
        the horizon, mean over agents), length (simulated steps), and whatever the environment's meter measures. The
        steps between an early end and the horizon count with the environment's `undriven_reward`: an episode must not
        look better for having ended.

    Raises:
        EvaluationError: an episode goes on past the environment's horizon, or episodes are lost again and again.
        TrainingError: an action is not a finite number.
    """

    def act(observation: Array, first: Array) -> Array:
        return policy.act(observation, deterministic, first) if hasattr(policy, "act") else policy(observation)

    for _ in range(ATTEMPTS):
        record = _play(env, act, seed)
        if record is not None:
            return _evaluation(env, record)
    raise EvaluationError(
        f"Episodes were lost in each of {ATTEMPTS} evaluations in a row: simulations died or did not answer, and the "
        "log says why. On a busy machine give them longer with worker_timeout."
    )


def _play(env: EvalEnv, act: Callable[[Array, Array], Array], seed: int | None) -> _Record | None:
    # One episode of each environment; None where one of them was lost, which says nothing of the policy.
    observation, info = env.reset(seed=seed)
    running = np.ones(env.num_envs, dtype=bool)
    record = _Record(env.meter(), np.zeros((env.num_envs, env.num_agents)), np.zeros(env.num_envs, dtype=int), running)
    record.meter.start(info)
    first = np.ones(env.num_envs, dtype=bool)  # (E,), observations that begin an episode
    while record.running.any():
        if record.lengths.max() * env.action_repeat >= env.horizon:
            raise EvaluationError(f"An episode did not end within the environment's horizon of {env.horizon} steps.")
        actions = act(observation, first)
        check_actions(actions)
        observation, reward, terminated, truncated, info = env.step(actions)
        first = terminated | truncated
        if np.any(record.running & info.get("lost", False)):
            return None
        record.add(reward, first, info)
    return record


def _evaluation(env: EvalEnv, record: _Record) -> Evaluation:
    steps = record.lengths * env.action_repeat  # (E,)
    returns = record.returns + env.undriven_reward * (env.horizon - steps)[:, None]  # (E, N)
    metrics = {
        "reward": float(returns.mean()) / env.horizon,
        "return": float(returns.mean()),
        "length": float(steps.mean()),
    }
    named = {f"eval/{name}": value for name, value in (metrics | record.meter.metrics()).items()}
    return Evaluation(named, returns, record.meter.trajectory())
