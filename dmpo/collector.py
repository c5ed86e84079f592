"""Collection of real steps into tensors that are allocated once."""

from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch

from dmpo.data.rollout import Rollout
from dmpo.environment import Array, Environment
from dmpo.errors import check_actions, check_finite
from dmpo.learner import Exploration, Learner


class Collector:
    """Collector of the steps that a learner's exploring policy takes in an environment.

    Args:
        env: the environment.
        learner: that acts.
        seed: of the environment's first episodes.
    """

    def __init__(self, env: Environment, learner: Learner, seed: int) -> None:
        self.env, self.learner, self.seed = env, learner, seed
        self._storage: Rollout | None = None
        self._observation: Array = np.empty(0, dtype=np.float32)  # (E, N, D) once begun, of the next step
        self._first = np.ones(env.num_envs, dtype=bool)  # (E,), whether that begins an episode
        self._return = np.zeros((env.num_envs, env.num_agents))  # (E, N), of the running episodes so far

    def collect(self) -> tuple[Rollout, dict[str, float]]:
        """T steps of each environment, and metrics. The next call writes into the same tensors."""
        if not self._observation.size:
            self._observation = np.array(self.env.reset(seed=self.seed)[0], dtype=np.float32)
        ends: list[tuple[Array, Array, Array]] = []
        act_seconds = env_seconds = 0.0
        for t in range(self.learner.collect_steps):
            start = perf_counter()
            exploration = self.learner.explore(torch.from_numpy(self._observation), torch.from_numpy(self._first))
            storage = self._store(t, exploration)
            check_actions(exploration.env_actions)
            decided = perf_counter()
            ends += self._step(storage, t, exploration.env_actions)
            act_seconds += decided - start
            env_seconds += perf_counter() - decided
        storage.observations[-1].copy_(torch.from_numpy(self._observation))
        seen = {"reward": storage.rewards, "observation": storage.observations, "policy": storage.old_dist_params}
        for name, x in seen.items():
            check_finite(name, x.movedim(2, 0), self.env.num_agents)
        metrics = {"time/act_seconds": act_seconds, "time/env_seconds": env_seconds}
        return _with_ends(storage, ends), metrics | self._reward_metrics(storage, ends)

    def state_dict(self) -> dict[str, Any]:
        """State of the running episodes, without the environment itself."""
        parts = {"observation": self._observation, "first": self._first, "return": self._return}
        return {name: torch.tensor(array) for name, array in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        expected, found = self._return.shape, tuple(state["return"].shape)
        if found != expected:
            remedy = "Use as many environments and agents as the run that it comes from."
            raise ValueError(f"That state has (E, N) = {found}, the environment {expected}. {remedy}")
        self._observation = state["observation"].numpy().copy()
        self._first, self._return = state["first"].numpy().copy(), state["return"].numpy().copy()

    def _store(self, t: int, exploration: Exploration) -> Rollout:
        # Observations and decisions of step t.
        steps = self.learner.collect_steps
        if self._storage is None or len(self._storage.rewards) != steps:
            self._storage = _empty(steps, self._observation, exploration)
        self._storage.observations[t].copy_(torch.from_numpy(self._observation))
        self._storage.actions[t].copy_(exploration.actions)
        self._storage.old_dist_params[t].copy_(exploration.dist_params)
        return self._storage

    def _step(self, storage: Rollout, t: int, actions: Array) -> list[tuple[Array, Array, Array]]:
        # Outcome of step t; of episodes that end, t·E + e, last observations and returns, NaN of one that was lost.
        observation, reward, terminated, truncated, info = self.env.step(actions)
        # The environment's arrays are views that its next step overwrites.
        np.copyto(self._observation, observation)
        np.copyto(storage.rewards.numpy()[t], reward)
        storage.terminated.numpy()[t] = terminated[:, np.newaxis]  # all agents end together
        np.copyto(storage.truncated.numpy()[t], truncated)
        storage.ended_by.numpy()[t] = info.get("ended_by", False)
        storage.valid.numpy()[t] = ~np.broadcast_to(info.get("lost", False), terminated.shape)[:, np.newaxis]
        self._return += reward
        np.logical_or(terminated, truncated, out=self._first)
        ended = np.flatnonzero(self._first)
        if not len(ended):
            return []
        returns = np.where(storage.valid.numpy()[t, ended], self._return[ended], np.nan)
        result = [(t * len(reward) + ended, info["final_obs"][ended].astype(np.float32), returns)]
        self._return[ended] = 0
        return result

    def _reward_metrics(self, storage: Rollout, ends: list[tuple[Array, Array, Array]]) -> dict[str, float]:
        # Per simulated step and agent; and, of the episodes that ended, summed over them. Lost steps count nowhere.
        metrics = {}
        if storage.valid.any():
            metrics["policy/train_reward"] = float(storage.rewards[storage.valid].mean()) / self.env.action_repeat
        returns = np.concatenate([of_ended for _, _, of_ended in ends] or [self._return[:0]])
        finished = returns[~np.isnan(returns[:, 0])]
        if len(finished):
            metrics["policy/train_return"] = float(finished.mean())
        return metrics | {"policy/train_episodes": float(len(finished))}


def _empty(steps: int, observation: Array, exploration: Exploration) -> Rollout:
    environments, agents, features = observation.shape
    actions, dist_params = exploration.actions, exploration.dist_params
    return Rollout(
        observations=torch.empty(steps + 1, environments, agents, features),
        actions=torch.empty(steps, *actions.shape, dtype=actions.dtype),
        old_dist_params=torch.empty(steps, *dist_params.shape),
        rewards=torch.empty(steps, environments, agents),
        terminated=torch.empty(steps, environments, agents, dtype=torch.bool),
        truncated=torch.empty(steps, environments, dtype=torch.bool),
        ended_by=torch.empty(steps, environments, agents, dtype=torch.bool),
        valid=torch.empty(steps, environments, agents, dtype=torch.bool),
        final_index=torch.empty(0, dtype=torch.int64),
        final_observations=torch.empty(0, agents, features),
    )


def _with_ends(storage: Rollout, ends: list[tuple[Array, Array, Array]]) -> Rollout:
    if not ends:
        return storage
    index, final, _ = (np.concatenate(arrays) for arrays in zip(*ends, strict=True))
    return replace(storage, final_index=torch.from_numpy(index), final_observations=torch.from_numpy(final))
