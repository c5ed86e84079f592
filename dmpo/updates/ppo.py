"""Proximal policy optimization with extended value functions (DMPO paper, section 4.2), for all agents at once."""

import math
from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from dmpo.data.rollout import Rollout
from dmpo.nn.layers import per_stack
from dmpo.nn.losses import clipped_surrogate_loss
from dmpo.updates.actor_critic import ActorCritic, ActorCriticSettings, Samples

KL_TOLERANCE = 1.5  # the stop is at so many times the target


class PPOSettings(ActorCriticSettings):
    """Settings of proximal policy optimization."""

    clip: float = Field(0.2, gt=0, description="ε of PPO-clip: how far a probability ratio may leave 1.")
    kl_target: float | None = Field(
        0.01,
        gt=0,
        description="An agent stops improving its policy on a batch once the mean KL divergence from the policy that "
        "it began the batch with passes 1.5 times this. null never stops.",
    )
    epochs: int = Field(10, ge=1, le=1_000, description="Passes over the data of an iteration.")
    minibatches: int = Field(
        4, ge=1, le=10_000, description="Gradient steps per epoch, each on an equal share of the data."
    )


class PPO:
    """PPO-clip with an early stop: gradient steps of π_i and V_i on batches of real or model steps.

    Args:
        actor_critic: policies and critics.
        settings: of the algorithm.
        generator: of the minibatches.
    """

    def __init__(self, actor_critic: ActorCritic, settings: PPOSettings, generator: torch.Generator) -> None:
        self.actor_critic, self.settings, self.generator = actor_critic, settings, generator

    def improve(self, batch: Rollout, progress: float, active: Tensor | None = None) -> dict[str, float]:
        """Epochs of gradient steps on a batch; returns metrics.

        Args:
            batch: real or model steps.
            progress: share of training done, in [0, 1); drives what is annealed.
            active: (R,) bool, policies that may take steps, all if left out. With consensus the others move as well,
                towards their neighbors'.
        """
        settings, networks = self.settings, self.actor_critic
        samples, metrics = networks.prepare(batch)  # returns R_i (eq. 5), advantages Â_i (eq. 6), π_i^old
        surrogate = partial(self.surrogate_loss, entropy_coef=settings.entropy_coef_at(progress))
        max_kl = math.inf if settings.kl_target is None else KL_TOLERANCE * settings.kl_target
        start = active = networks.everybody if active is None else active  # (R,)
        steps = torch.zeros_like(active, dtype=torch.float32)

        for _ in range(settings.epochs):
            for minibatch in samples.minibatches(settings.minibatches, self.generator):
                value_loss = networks.value_gradient(minibatch)
                if bool(active.any()):
                    _, kl = networks.policy_gradient(surrogate, minibatch)
                    # Zero at the first minibatch; an agent that went too far keeps the policy it has.
                    active = active & (per_stack(kl, len(active)) <= max_kl)
                networks.step(progress, active)
                steps += active
        networks.end_of_batch()

        measured, ratio = networks.measure(minibatch)
        stopped = float((start & ~active).float().mean())
        taken = {"policy/gradient_steps": float(steps.mean()), "policy/kl_stopped": stopped}
        clipped = float(((ratio - 1).abs() > settings.clip).float().mean())
        return metrics | measured | taken | {"policy/clip_fraction": clipped, "value/loss": float(value_loss.mean())}

    def surrogate_loss(self, samples: Samples, entropy_coef: float) -> tuple[Tensor, Tensor]:
        """L_i^policy (eq. 7) and, where it stops the policies, the divergence from where they began; (N,) each."""
        return clipped_surrogate_loss(
            self.actor_critic.policy,
            samples.states,
            samples.actions,
            old_log_probs=samples.old_log_probs,
            advantages=samples.advantages,
            clip=self.settings.clip,
            entropy_coef=entropy_coef,
            dist_params=None if self.settings.kl_target is None else samples.dist_params,
            weights=samples.weights,
        )
