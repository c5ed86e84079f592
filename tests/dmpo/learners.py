"""Learners and batches for tests."""

from collections.abc import Callable
from typing import Any

import gymnasium
import networkx as nx
import numpy as np
import torch
from pydantic import BaseModel

import dmpo
from dmpo import Trainer
from dmpo.algorithms.on_policy import OnPolicy
from dmpo.data.rollout import Rollout
from tests.dmpo.environment import PointMasses

D = 3
SPACES: dict[str, gymnasium.Space[Any]] = {
    "continuous": gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32),
    "discrete": gymnasium.spaces.Discrete(4),
}


def make_learner(
    graph: nx.Graph, actions: str = "continuous", seed: int = 0, name: str = "dppo", **settings: Any
) -> OnPolicy:
    """A small learner for agents with D numbers each."""
    observations = gymnasium.spaces.Box(-np.inf, np.inf, (D,), np.float32)
    quick = {"hidden_sizes": [8], "kappa": 1, "epochs": 2, "minibatches": 2}
    return dmpo.make_learner(_chosen(name, quick, settings), graph, observations, SPACES[actions], seed)


def learner_for(env: PointMasses, seed: int = 0, name: str = "dppo", **settings: Any) -> OnPolicy:
    """A small learner for an environment."""
    quick = {"hidden_sizes": [16], "kappa": 1, "gamma": 0.95, "gae_lambda": 0.9, "rollout_steps": 10, "epochs": 2}
    chosen = _chosen(name, quick, settings)
    return dmpo.make_learner(chosen, env.graph, env.observation_space, env.action_space, seed)


def random_batch(learner: OnPolicy, steps: int = 6, environments: int = 4, seed: int = 0) -> Rollout:
    """Random states and rewards, with actions of the learner's own; one episode ends in the middle."""
    generator = torch.Generator().manual_seed(seed)
    agents = learner.policy.neighborhood.num_agents
    observations = torch.randn(steps + 1, environments, agents, D, generator=generator)
    first = torch.zeros(environments, dtype=torch.bool)
    parameters = torch.stack([learner.explore(row, first).behavior for row in observations[:-1]]).clone()
    truncated = torch.zeros(steps, environments, dtype=torch.bool)
    truncated[2, 1] = True
    return Rollout(
        observations=observations,
        actions=learner.distribution.sample(parameters, generator),
        behavior=parameters,
        rewards=torch.randn(steps, environments, agents, generator=generator),
        terminated=torch.zeros(steps, environments, dtype=torch.bool),
        truncated=truncated,
        valid=torch.ones(steps, environments, dtype=torch.bool),
        final_index=torch.tensor([2 * environments + 1]),
        final_observations=torch.randn(1, agents, D, generator=generator),
    )


def whole_and_restored(trainer: Callable[[], Trainer]) -> tuple[Trainer, Trainer]:
    """Two at their end: one that went on, and one that took over a third one's state after three iterations."""
    whole, first, second = trainer(), trainer(), trainer()
    for _ in whole.iterations():
        if whole.iteration == 3:
            whole.state_dict()
    for _ in first.iterations():
        if first.iteration == 3:
            break
    second.load_state_dict(first.state_dict())
    for _ in second.iterations():
        pass
    return whole, second


def flat(learner: OnPolicy) -> torch.Tensor:
    """All parameters, (R, P)."""
    modules = (learner.policy, learner.critic)
    return torch.cat([p.detach().flatten(1) for module in modules for p in module.parameters()], 1)


def _chosen(name: str, quick: dict[str, Any], settings: dict[str, Any]) -> BaseModel:
    # Not every algorithm has all the settings that make one quick.
    kind = dmpo.settings(name)
    return kind(**{key: value for key, value in quick.items() if key in kind.model_fields} | settings)
