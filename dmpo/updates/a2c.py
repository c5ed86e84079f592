"""Advantage actor-critic (Mnih et al. 2016, algorithm S3), for all agents at once."""

import torch
from torch import Tensor

from dmpo.data.rollout import Rollout
from dmpo.nn.losses import policy_gradient_loss
from dmpo.updates.actor_critic import ActorCritic, ActorCriticSettings, Samples


class A2C:
    """One gradient step of π_i and V_i on the steps that these policies have just taken.

    Args:
        actor_critic: policies and critics.
        settings: of the algorithm.
    """

    def __init__(self, actor_critic: ActorCritic, settings: ActorCriticSettings) -> None:
        self.actor_critic, self.settings = actor_critic, settings

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """One gradient step on a batch; `progress` in [0, 1) drives what is annealed; returns metrics."""
        networks, entropy_coef = self.actor_critic, self.settings.entropy_coef_at(progress)
        samples, metrics = networks.prepare(batch)  # returns R_i, advantages Â_i

        def loss(part: Samples) -> tuple[Tensor, Tensor]:
            advantages = part.advantages
            found = policy_gradient_loss(
                networks.policy, part.states, part.actions, advantages=advantages, entropy_coef=entropy_coef
            )
            return found, torch.zeros_like(found)

        value_loss = networks.value_gradient(samples)
        networks.policy_gradient(loss, samples, fusible=False)
        networks.step(progress, networks.everybody)
        networks.end_of_batch()

        measured, _ = networks.measure(samples)
        return metrics | measured | {"policy/gradient_steps": 1.0, "value/loss": float(value_loss.mean())}
