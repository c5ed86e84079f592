"""What a policy is worth: one episode of each environment, nothing learned and nothing counted as experience."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dmpo import measures
from dmpo.environment import Array, Playable
from dmpo.errors import EvaluationError, check_actions
from dmpo.learner import Learner

ATTEMPTS = 3


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    metrics: dict[str, float]
    episode_returns: Array  # (E, N)
    trajectory: dict[str, Array]  # of environment 0 and its M vehicles: each (T, M), or (T+1, M) if the start is known


@dataclass
class _Record:
    # What happened so far; everything of an environment up to the end of its episode only.
    returns: Array  # (E, N)
    lengths: Array  # (E,), actions of each agent
    collided: Array  # (E,) bool
    running: Array  # (E,) bool
    driven: Array  # (E,), actions up to a collision
    speeds: list[Array] = field(default_factory=list)  # T of (E,), means over vehicles
    measured: dict[str, list[Array]] = field(default_factory=dict)  # T+1 of (E, M)
    trajectory: dict[str, list[Array]] = field(default_factory=dict)

    def measure(self, state: dict[str, Array]) -> None:
        for name in state.keys() & measures.NAMES:
            self.measured.setdefault(name, []).append(state[name].astype(np.float32))

    def draw(self, state: dict[str, Array]) -> None:
        for name, x in state.items():
            self.trajectory.setdefault(name, []).append(np.array(x[0]))

    def add(self, reward: Array, ended: Array, info: dict[str, Any]) -> None:
        self.returns += np.where(self.running[:, None], reward, 0.0)
        self.lengths += self.running
        self.driven += self.running & ~self.collided
        self.collided |= self.running & info.get("collision", False)
        traffic = _traffic(info)
        self.measure(traffic)
        if "speed" in traffic:
            self.speeds.append(_mean_over_vehicles(traffic["speed"], traffic.get("vehicle")))
        if self.running[0]:
            self.draw(traffic)
        self.running &= ~ended


def evaluate(
    env: Playable,
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
        Metrics `eval/…` of all episodes: reward (mean per simulated step and agent), return (summed over the episode,
        mean over agents), speed and speed_final (of all vehicles after each action; in the whole episode and in its
        last third), collisions (episodes with one), length (simulated steps), and how all vehicles drove, up to a
        collision where there is one, as :mod:`dmpo.measures` has it.

    Raises:
        EvaluationError: an episode goes on past the environment's horizon, or episodes are lost again and again.
        TrainingError: an action is not a finite number.
    """

    def act(observation: Array, first: Array) -> Array:
        return policy.act(observation, deterministic, first) if hasattr(policy, "act") else policy(observation)

    for _ in range(ATTEMPTS):
        record = _play(env, act, seed)
        if record is not None:
            trajectory = {name: np.stack(rows) for name, rows in record.trajectory.items()}
            metrics = _metrics(record, env.action_repeat) | _measures(record, env)
            return Evaluation(metrics, record.returns, trajectory)
    raise EvaluationError(
        f"Episodes were lost in each of {ATTEMPTS} evaluations in a row: simulations died or did not answer, and the "
        "log says why. On a busy machine give them longer with worker_timeout."
    )


def _play(env: Playable, act: Callable[[Array, Array], Array], seed: int | None) -> _Record | None:
    # One episode of each environment; nothing where one of them was lost, which says nothing of the policy.
    observation, info = env.reset(seed=seed)
    record = _start(env.num_envs, env.num_agents)
    record.draw(_traffic(info))
    record.measure(_traffic(info))
    first = np.ones(env.num_envs, dtype=bool)  # (E,), which observations begin an episode
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


def _traffic(info: dict[str, Any]) -> dict[str, Array]:
    # All vehicles, each (E, M), or the agents where nothing is said of others.
    state: dict[str, Array] = info.get("traffic", info.get("state", {}))
    return state


def _start(environments: int, agents: int) -> _Record:
    running = np.ones(environments, dtype=bool)
    lengths, driven = np.zeros((2, environments), dtype=int)
    return _Record(np.zeros((environments, agents)), lengths, ~running, running, driven)


def _measures(record: _Record, env: Playable) -> dict[str, float]:
    states = {name: np.stack(rows) for name, rows in record.measured.items()}
    return measures.measure(states, record.driven, env.step_seconds * env.action_repeat)


def _metrics(record: _Record, action_repeat: int) -> dict[str, float]:
    steps = record.lengths * action_repeat  # (E,)
    metrics = {
        "eval/reward": float((record.returns / steps[:, None]).mean()),
        "eval/return": float(record.returns.mean()),
        "eval/collisions": float(record.collided.sum()),
        "eval/length": float(steps.mean()),
    }
    if record.speeds:
        speeds = np.stack(record.speeds, 1)  # (E, T)
        whole = [_mean_known(row[:length]) for row, length in zip(speeds, record.lengths, strict=True)]
        last = [_mean_known(row[length * 2 // 3 : length]) for row, length in zip(speeds, record.lengths, strict=True)]
        metrics |= {"eval/speed": float(np.mean(whole)), "eval/speed_final": float(np.mean(last))}
    return metrics


def _mean_over_vehicles(x: Array, vehicle: Array | None) -> Array:
    # (E,) of (E, M); where vehicles come and go, of those in the agents' slots, and not a number where none is.
    if vehicle is None:
        return np.asarray(np.mean(x, axis=1))
    return np.array([row[own > 0].mean() if own.any() else np.nan for row, own in zip(x, vehicle, strict=True)])


def _mean_known(x: Array) -> float:
    known = x[~np.isnan(x)]
    return float(known.mean()) if len(known) else 0.0
