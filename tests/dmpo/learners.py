"""Learners and batches for tests."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import networkx as nx
import numpy as np
import torch
from torch import Tensor

import dmpo
from dmpo import Trainer
from dmpo.algorithms.base import FeedforwardLearner
from dmpo.algorithms.on_policy import OnPolicyLearner
from dmpo.data.rollout import Rollout
from dmpo.learner import Setup
from dmpo.nn import layers
from dmpo.nn.losses import policy_gradient_loss, value_loss
from dmpo.settings import LearnerSettings
from dmpo.updates.actor_critic import Samples
from dmpo.updates.ppo import PPO
from tests.dmpo.environment import PointMasses

D = 3
SPACES: dict[str, gymnasium.Space[Any]] = {
    "continuous": gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32),
    "discrete": gymnasium.spaces.Discrete(4),
}


def make_learner(
    graph: nx.Graph, actions: str = "continuous", seed: int = 0, name: str = "dppo", **settings: Any
) -> OnPolicyLearner:
    """Small learner for agents with D numbers each."""
    observations = gymnasium.spaces.Box(-np.inf, np.inf, (D,), np.float32)
    quick = {"hidden_sizes": [8], "kappa": 1, "epochs": 2, "minibatches": 2}
    return dmpo.make_learner(_chosen(name, quick, settings), graph, observations, SPACES[actions], seed)


def learner_for(env: PointMasses, seed: int = 0, name: str = "dppo", **settings: Any) -> OnPolicyLearner:
    """Small learner for an environment."""
    quick = {"hidden_sizes": [16], "kappa": 1, "gamma": 0.95, "gae_lambda": 0.9, "rollout_steps": 10, "epochs": 2}
    chosen = _chosen(name, quick, settings)
    return dmpo.make_learner(chosen, env.graph, env.observation_space, env.action_space, seed)


def setup_of(env: PointMasses, graph: nx.Graph | None = None, seed: int = 0) -> Setup:
    """Everything but its settings that a learner for an environment is built from."""
    return Setup(env.graph if graph is None else graph, env.observation_space, env.action_space, seed)


def random_batch(learner: OnPolicyLearner, steps: int = 6, environments: int = 4, seed: int = 0) -> Rollout:
    """Random states and rewards, with actions of the learner's own; one episode ends in the middle."""
    generator = torch.Generator().manual_seed(seed)
    agents = learner.policy.neighborhood.num_agents
    observations = torch.randn(steps + 1, environments, agents, D, generator=generator)
    first = torch.zeros(environments, dtype=torch.bool)
    parameters = torch.stack([learner.explore(row, first).dist_params for row in observations[:-1]]).clone()
    truncated = torch.zeros(steps, environments, dtype=torch.bool)
    truncated[2, 1] = True
    return Rollout(
        observations=observations,
        actions=learner.distribution.sample(parameters, generator),
        old_dist_params=parameters,
        rewards=torch.randn(steps, environments, agents, generator=generator),
        terminated=torch.zeros(steps, environments, dtype=torch.bool),
        truncated=truncated,
        ended_by=torch.zeros(steps, environments, agents, dtype=torch.bool),
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


def flat(learner: OnPolicyLearner) -> torch.Tensor:
    """All parameters, (R, P)."""
    modules = (learner.policy, learner.critic)
    return torch.cat([p.detach().flatten(1) for module in modules for p in module.parameters()], 1)


class Losses(NamedTuple):
    """Losses of a batch of samples, (N,) each."""

    policy: Tensor
    value: Tensor
    kl: Tensor  # from the policies that collected the samples; zero where the learner does not ask for it


def losses_of(learner: OnPolicyLearner, samples: Samples, entropy_coef: float = 0.0) -> Losses:
    """The losses that a learner's gradient steps descend, differentiable."""
    networks = learner.update.actor_critic
    value = value_loss(networks.critic, samples.states, samples.targets)
    if isinstance(learner.update, PPO):
        policy, kl = learner.update.surrogate_loss(samples, entropy_coef)
        return Losses(policy, value, kl)
    weights = {"advantages": samples.advantages, "entropy_coef": entropy_coef}
    policy = policy_gradient_loss(networks.policy, samples.states, samples.actions, **weights)
    return Losses(policy, value, torch.zeros_like(policy))


def set_precision(learner: FeedforwardLearner, precision: torch.dtype) -> None:
    """Compute a learner's policies and critics in another precision."""
    for name in ("policy", "critic"):
        layers.set_precision(learner.parts()[name], precision)


def _chosen(name: str, quick: dict[str, Any], settings: dict[str, Any]) -> LearnerSettings:
    # Not every algorithm has all the settings that make one quick.
    kind = dmpo.settings_of(name)
    return kind(**{key: value for key, value in quick.items() if key in kind.model_fields} | settings)
