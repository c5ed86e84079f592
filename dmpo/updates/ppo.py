"""Proximal policy optimization with extended value functions (DMPO paper, section 4.2), for all agents at once.

Clipping, steps and the stop are each agent's own, as everything in `ActorCritic` is but for an exchange with the
neighbors after them, where one is asked for (`dmpo.updates.consensus`).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from dmpo.data.rollout import Rollout
from dmpo.nn.kernels.learn import GAUSSIAN, Lesson
from dmpo.nn.losses import clipped_surrogate, kind_of, suits
from dmpo.settings import PPOSettings
from dmpo.updates.actor_critic import MEASURED, ActorCritic, Samples

KL_TOLERANCE = 1.5  # the stop is at so many times the target


class PPO(ActorCritic):
    """Improves π_i and V_i on batches of real or model steps.

    Args: see `ActorCritic`.
    """

    settings: PPOSettings

    def improve(self, batch: Rollout, progress: float, active: Tensor | None = None) -> dict[str, float]:
        """Epochs of gradient steps on a batch.

        Args:
            batch: of real or imagined steps.
            progress: in [0, 1), drives what is annealed.
            active: (R,) bool, whose policies may take steps; all if left out. With `consensus` those of the others
                move too, towards their neighbors'.
        """
        settings = self.settings
        samples, metrics = self.prepare(batch)
        bonus = settings.entropy_weight(progress)
        active = self._everybody if active is None else active  # (R,)
        steps = torch.zeros_like(active, dtype=torch.float32)
        for _ in range(settings.epochs):
            for part in self._minibatches(samples):
                losses = self._gradients(part, bonus, bool(active.any()))
                self._check_losses(losses)  # before a divergence that is no number passes for one that is too large
                # The divergence is zero at the first minibatch; an agent that went too far keeps the policy it has.
                if settings.kl_target is not None:
                    active = active & (self._per_stack(losses.kl) <= KL_TOLERANCE * settings.kl_target)
                self._step(progress, active)
                steps += active
        self._check_parameters()
        self._agree()
        metrics["policy/gradient_steps"] = float(steps.mean())
        metrics["policy/kl_stopped"] = 1 - float(active.float().mean())
        metrics["value/loss"] = float(losses.value.mean())
        return metrics | self._measure(part)

    def objective(self, log_probs: Tensor, samples: Samples) -> Tensor:
        """Eq. 7."""
        return clipped_surrogate(log_probs, samples.log_probs, samples.advantages, self.settings.clip)

    def _policy_lesson(self, samples: Samples, bonus: float) -> Lesson | None:
        kind = kind_of(self.distribution)
        if kind is None or not suits(self.policy.network, samples.states):
            return None
        return Lesson(
            kind,
            targets=samples.log_probs,
            advantages=samples.advantages,
            actions=samples.actions,
            behavior=samples.behavior if self._watched else None,
            log_std=self.policy.log_std if kind == GAUSSIAN else None,
            clip=self.settings.clip,
            bonus=bonus,
        )

    @torch.no_grad()
    def divergence(self, batch: Rollout) -> Tensor:
        """Mean KL divergence (R,) of the policies from those that collected a batch, on part of its states."""
        states, behavior = batch.observations[:-1][batch.valid], batch.behavior[batch.valid]  # (S, N, ...)
        part = slice(None, None, max(1, len(states) // MEASURED))
        return self._per_stack(self.distribution.kl(behavior[part], self.policy(states[part])).mean(0))

    def _minibatches(self, samples: Samples) -> Iterator[Samples]:
        # Over time and environment jointly. The gradient of all samples at once does not ask for their order.
        if self.settings.minibatches == 1:
            yield samples
        else:
            order = torch.randperm(len(samples), generator=self.generator, device=samples.states.device)
            for index in order.tensor_split(min(self.settings.minibatches, len(samples))):
                yield samples[index]

    @property
    def _watched(self) -> bool:
        return self.settings.kl_target is not None

    def _measured(self, samples: Samples, parameters: Tensor) -> dict[str, float]:
        ratio = torch.exp(self.distribution.log_prob(parameters, samples.actions) - samples.log_probs)
        clipped = ((ratio - 1).abs() > self.settings.clip).float().mean()
        return super()._measured(samples, parameters) | {"policy/clip_fraction": float(clipped)}
