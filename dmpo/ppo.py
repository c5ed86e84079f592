"""Proximal policy optimisation with extended value functions (DMPO paper, section 4.2), for all agents at once.

Every loss is one number per agent and they are added up, so that no agent's gradient knows another's loss; clipping,
steps and the stop are each agent's own. Nothing is scaled by hand: advantages are standardised and values learn
standardised returns, both per agent.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self, cast

import torch
from torch import Tensor

from dmpo.configuration import PPOSettings
from dmpo.critic import Critic
from dmpo.distributions import Distribution
from dmpo.errors import check_finite
from dmpo.optimizer import StackedAdam
from dmpo.policy import Policy
from dmpo.returns import advantages, next_values, reduced, returns, standardized
from dmpo.rollout import Rollout

CHUNK = 16_384  # states of agents that pass a network at once: what lies between the layers then stays in cache
MEASURED = 4_096  # samples on which the divergence is measured after the last step
KL_TOLERANCE = 1.5  # the stop is at so many times the target


@dataclass(frozen=True)
class Samples:
    """What a gradient step needs of B pairs of time and environment."""

    states: Tensor  # (B, N, D)
    actions: Tensor  # (B, N, A) or (B, N)
    behaviour: Tensor  # (B, N, P)
    log_probs: Tensor  # (B, N), of the policy that collected the data
    advantages: Tensor  # (B, N), standardised
    targets: Tensor  # (B, N), returns in the critic's units

    def __getitem__(self, index: Tensor) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True)
class Losses:
    """Means over a minibatch, one of each per agent."""

    policy: Tensor  # (N,)
    value: Tensor  # (N,)
    kl: Tensor  # (N,), from the policy that collected the data


def clipped_surrogate(log_probs: Tensor, old_log_probs: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(ρ Â, g(ε, Â)), ρ = π_i(a_i|s_(N_i)) / π_i^old(a_i|s_(N_i)), g = clamp(ρ, 1-ε, 1+ε) Â (eq. 7); any shape."""
    ratio = torch.exp(log_probs - old_log_probs)
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


class PPO:
    """Improves π_i and V_i on batches of real or model steps.

    Args:
        policy: the policies of all agents.
        critic: their extended value functions.
        settings: of the algorithm.
        generator: where minibatches are drawn from.
    """

    def __init__(self, policy: Policy, critic: Critic, settings: PPOSettings, generator: torch.Generator) -> None:
        self.policy, self.critic, self.settings, self.generator = policy, critic, settings, generator
        self.distribution = cast(Distribution, policy.distribution)
        self.policy_optimizer = StackedAdam(policy.parameters(), settings.max_grad_norm)
        self.value_optimizer = StackedAdam(critic.parameters(), settings.max_grad_norm)

    def improve(self, batch: Rollout, progress: float, active: Tensor | None = None) -> dict[str, float]:
        """Epochs of gradient steps on a batch.

        Args:
            batch: of real or imagined steps.
            progress: in [0, 1), drives what is annealed.
            active: (R,) bool, whose policies may change; all if left out.
        """
        settings = self.settings
        samples, valid, metrics = self.prepare(batch)
        bonus = self.entropy_coefficient(progress)
        rate = 1 - progress if settings.lr_decay else 1.0
        if active is None:
            active = torch.ones(self.policy.network.stacks, dtype=torch.bool, device=valid.device)  # (R,)
        steps = torch.zeros_like(active, dtype=torch.float32)
        for _ in range(settings.epochs):
            for index in self._minibatches(valid):
                losses = self._gradients(samples, index, bonus, bool(active.any()))
                # The divergence is zero at the first minibatch; an agent that went too far keeps the policy it has.
                if settings.kl_target is not None:
                    active = active & (self._per_stack(losses.kl) <= KL_TOLERANCE * settings.kl_target)
                self.policy_optimizer.step(rate * settings.lr_policy, active)
                self.value_optimizer.step(rate * settings.lr_value, torch.ones_like(active))
                steps += active
            self._check(losses)
        metrics["policy/updates"] = float(steps.mean())
        metrics["policy/stopped"] = 1 - float(active.float().mean())
        metrics["value/loss"] = float(losses.value.mean())
        return metrics | self._measure(samples[index[:MEASURED]])

    @torch.no_grad()
    def divergence(self, batch: Rollout) -> Tensor:
        """Mean KL divergence (R,) of the policies from those that collected a batch, on part of its states."""
        states, behaviour = batch.observations[:-1][batch.valid], batch.behaviour[batch.valid]  # (S, N, ...)
        part = slice(None, None, max(1, len(states) // MEASURED))
        return self._per_stack(self.distribution.kl(behaviour[part], self.policy(states[part])).mean(0))

    @torch.no_grad()
    def prepare(self, batch: Rollout) -> tuple[Samples, Tensor, dict[str, float]]:
        """Everything that is computed once per batch: values, returns, advantages, old log-probabilities.

        Returns:
            Samples of all T·E steps; the numbers of those that are not padding, (S,); metrics of the values.
        """
        settings, (steps, environments, agents) = self.settings, batch.rewards.shape
        ends = batch.terminated.unsqueeze(-1), batch.truncated.unsqueeze(-1)  # (T, E, 1)
        values = self._values(batch.observations.flatten(0, 1)).view(steps + 1, environments, agents)
        following = next_values(values, batch.final_index, self._values(batch.final_observations))  # (T, E, N)
        values = values[:-1]
        # Each agent's own return, eq. 5.
        targets = returns(batch.rewards, values, following, *ends, settings.gamma, settings.return_lambda)
        # Values, and rewards as well, reduced over N_i^κ, eq. 6, and the advantages on them.
        over = self.critic.neighborhood
        rewards, local, local_following = (reduced(over, x) for x in (batch.rewards, values, following))
        advantage = advantages(rewards, local, local_following, *ends, settings.gamma, settings.gae_lambda)

        valid = batch.valid.flatten().nonzero().squeeze(1)  # (S,)
        targets, values, advantage = (x.reshape(-1, agents) for x in (targets, values, advantage))  # (T·E, N)
        metrics = _value_metrics(values[valid], targets[valid])
        self.critic.observe(targets[valid])
        advantage = advantage.index_copy(0, valid, standardized(advantage[valid]))
        actions, behaviour = batch.actions.flatten(0, 1), batch.behaviour.flatten(0, 1)
        samples = Samples(
            states=batch.observations[:-1].flatten(0, 1),  # (T·E, N, D)
            actions=actions,
            behaviour=behaviour,
            log_probs=self.distribution.log_prob(behaviour, actions),
            advantages=advantage,
            targets=self.critic.moments.normalize(targets),
        )
        return samples, valid, metrics

    def losses(self, samples: Samples, bonus: float, with_policy: bool = True) -> Losses:
        """L_i^policy (minus eq. 7, minus the entropy bonus), L_i^value and the divergence: means over samples."""
        error = self.critic.normalized(samples.states) - samples.targets
        value = error.square().mean(0)
        if not with_policy:
            return Losses(torch.zeros_like(value), value, torch.full_like(value, torch.inf))
        distribution = self.distribution
        parameters = self.policy(samples.states)  # (B, N, P)
        log_probs = distribution.log_prob(parameters, samples.actions)
        policy = -clipped_surrogate(log_probs, samples.log_probs, samples.advantages, self.settings.clip)
        if bonus:
            policy = policy - bonus * distribution.entropy(parameters)
        with torch.no_grad():
            kl = distribution.kl(samples.behaviour, parameters).mean(0)
        return Losses(policy.mean(0), value, kl)

    def entropy_coefficient(self, progress: float) -> float:
        """Linear from the first weight of the entropy bonus to the last."""
        first, last = self.settings.entropy_coefficient, self.settings.entropy_coefficient_final
        return first if last is None else first + progress * (last - first)

    def _gradients(self, samples: Samples, index: Tensor, bonus: float, with_policy: bool) -> Losses:
        # The gradient of a minibatch, added up over chunks.
        self.policy_optimizer.zero_grad()
        self.value_optimizer.zero_grad()
        parts = []
        for piece in torch.split(index, self._chunk):
            part, share = self.losses(samples[piece], bonus, with_policy), len(piece) / len(index)
            self._per_stack((part.policy + part.value) * share).sum().backward()  # type: ignore[no-untyped-call]
            parts.append((part.policy.detach() * share, part.value.detach() * share, part.kl * share))
        return Losses(*(torch.stack(numbers).sum(0) for numbers in zip(*parts, strict=True)))

    def _minibatches(self, valid: Tensor) -> Iterator[Tensor]:
        # Over time and environment jointly.
        order = torch.randperm(len(valid), generator=self.generator, device=valid.device)
        yield from valid[order].tensor_split(min(self.settings.minibatches, len(valid)))

    def _values(self, states: Tensor) -> Tensor:
        return torch.cat([self.critic(part) for part in torch.split(states, self._chunk)])

    def _per_stack(self, x: Tensor) -> Tensor:
        # (N,) -> (R,): shared parameters learn from the mean over agents.
        return x if len(x) == self.policy.network.stacks else x.mean(0, keepdim=True)

    @property
    def _chunk(self) -> int:
        return max(1, CHUNK // self.policy.neighborhood.num_agents)

    @torch.no_grad()
    def _measure(self, samples: Samples) -> dict[str, float]:
        distribution = self.distribution
        parameters = self.policy(samples.states)
        kl = distribution.kl(samples.behaviour, parameters).mean(0)  # (N,)
        ratio = torch.exp(distribution.log_prob(parameters, samples.actions) - samples.log_probs)
        return {
            "policy/kl": float(kl.mean()),
            "policy/kl_max": float(kl.max()),
            "policy/entropy": float(distribution.entropy(parameters).mean()),
            "policy/clip_fraction": float(((ratio - 1).abs() > self.settings.clip).float().mean()),
        }

    def _check(self, losses: Losses) -> None:
        agents = self.policy.neighborhood.num_agents
        check_finite("policy loss", losses.policy.unsqueeze(1), agents)
        check_finite("value loss", losses.value.unsqueeze(1), agents)
        for module, name in ((self.policy, "policy parameters"), (self.critic, "value parameters")):
            for parameter in module.parameters():
                check_finite(name, parameter, agents)


def _value_metrics(values: Tensor, targets: Tensor) -> dict[str, float]:
    # (S, N); of the values that the data were judged by, before they learn from them.
    unexplained = (targets - values).var(0, correction=0) / targets.var(0, correction=0).clamp(min=1e-12)
    return {"value/explained_variance": float(1 - unexplained.mean()), "value/mean": float(values.mean())}
