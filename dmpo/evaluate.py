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
    episode_returns: Array  # (E, N), up to the horizon, as `eval/return`
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
        Metrics `eval/…` of all episodes: return (summed over the simulated steps up to the horizon, mean over agents;
        each that an early end left undriven pays the environment's `undriven_reward`), reward (return over horizon),
        length (simulated steps up to the end), and whatever the environment's meter measures.

    Raises:
        EvaluationError: an episode goes on past the environment's horizon, or episodes are lost again and again.
        TrainingError: an action is not a finite number.
    """

    def act(observation: Array, first: Array) -> Array:
        return policy.act(observation, deterministic, first) if hasattr(policy, "act") else policy(observation)

    for _ in range(ATTEMPTS):
        record = _play(env, act, seed)
        if record is not None:
            returns = record.returns + _undriven(record, env)
            return Evaluation(_metrics(record, returns, env), returns, record.meter.trajectory())
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


def _undriven(record: _Record, env: EvalEnv) -> Array:
    # (E, 1), what each agent earns after an early end: an average over the steps driven would forgive an early crash.
    missing = env.horizon - record.lengths * env.action_repeat  # (E,)
    undriven: Array = env.undriven_reward * np.maximum(missing, 0)[:, None]
    return undriven


def _metrics(record: _Record, returns: Array, env: EvalEnv) -> dict[str, float]:
    metrics = {
        "reward": float((returns / env.horizon).mean()),
        "return": float(returns.mean()),
        "length": float((record.lengths * env.action_repeat).mean()),
    }
    return {f"eval/{name}": value for name, value in (metrics | record.meter.metrics()).items()}
