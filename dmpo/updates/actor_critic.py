"""Policies that ascend advantages and values that learn returns, for all agents at once: what PPO and A2C share.

Every loss is one number per agent and they are added up, so that no agent's gradient knows another's loss; clipping of
gradients and steps are each agent's own. Nothing is scaled by hand: advantages are standardized and values learn
standardized returns, both per agent.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import torch
from torch import Tensor

from dmpo.data.rollout import Rollout
from dmpo.errors import check_finite
from dmpo.nn.critics import Critic
from dmpo.nn.distributions import Distribution
from dmpo.nn.kernels.learn import SQUARES, Lesson
from dmpo.nn.losses import lesson_loss, suits
from dmpo.nn.optimizer import StackedAdam
from dmpo.nn.policy import Policy
from dmpo.settings import ActorCriticSettings
from dmpo.updates.consensus import Consensus
from dmpo.updates.returns import advantages, next_values, reduced, returns, standardized, value_metrics
from graphs import Neighborhood

# About so many pass at once: states of agents (fewer take longer to start, more need more memory), and at least so many
# samples, however many agents there are, as gradients are as large as all parameters.
CHUNK, LEAST = 131_072, 256
GPU_CHUNK = 2_097_152  # where that takes long only to be started; between two layers of 64 these are half a gigabyte
MEASURED = 4_096  # samples, or up to twice as many, on which the divergence is measured after the last step


@dataclass(frozen=True)
class Samples:
    """What a gradient step needs of B pairs of time and environment."""

    states: Tensor  # (B, N, D)
    actions: Tensor  # (B, N, A) or (B, N)
    behavior: Tensor  # (B, N, P)
    log_probs: Tensor  # (B, N), of the policy that collected the data
    advantages: Tensor  # (B, N), standardized
    targets: Tensor  # (B, N), returns in the critic's units

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, which: Tensor | slice) -> Self:
        def of(x: Tensor) -> Tensor:
            return x[which] if isinstance(which, slice) else x.index_select(0, which)

        return type(self)(**{f.name: of(getattr(self, f.name)) for f in fields(self)})

    def split(self, size: int) -> Iterator[Self]:
        """Pieces of about so many samples, at most half as many again, equal to within one; nothing copied."""
        pieces = max(1, round(len(self) / size))
        for piece in range(pieces):
            yield self[len(self) * piece // pieces : len(self) * (piece + 1) // pieces]

    def contiguous(self) -> Self:
        """With each sample's numbers side by side, which is several times as fast to draw from."""
        return type(self)(**{f.name: getattr(self, f.name).contiguous() for f in fields(self)})


@dataclass(frozen=True)
class Losses:
    """Means over a minibatch, one of each per agent."""

    policy: Tensor  # (N,), zero where values learn alone
    value: Tensor  # (N,)
    kl: Tensor  # (N,), from the policy that collected the data; infinite where values learn alone, zero if not watched


class ActorCritic(ABC):
    """Gradients of π_i and V_i from batches of steps; what a policy ascends, and in how many steps, is for subclasses.

    Args:
        policy: the policies of all agents.
        critic: their value functions; what these see is theirs to know.
        over: N_i, whose rewards and values an agent's advantages take into account.
        settings: of the algorithm.
        generator: where random numbers are drawn from.
    """

    settings: ActorCriticSettings

    def __init__(
        self,
        policy: Policy,
        critic: Critic,
        over: Neighborhood,
        settings: ActorCriticSettings,
        generator: torch.Generator,
    ) -> None:
        self.policy, self.critic, self.over, self.settings, self.generator = policy, critic, over, settings, generator
        agree = settings.consensus > 0
        self.consensus = Consensus((policy, critic), policy.neighborhood, settings.consensus) if agree else None
        self.distribution = cast(Distribution, policy.distribution)
        self.policy_optimizer = StackedAdam(policy.parameters(), settings.max_grad_norm)
        self.value_optimizer = StackedAdam(critic.parameters(), settings.max_grad_norm)

    def parts(self) -> dict[str, Any]:
        """What has to be saved, beside policy and critic."""
        return {"policy_optimizer": self.policy_optimizer, "value_optimizer": self.value_optimizer}

    @abstractmethod
    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Improve on a batch; `progress` in [0, 1) drives what is annealed; gives metrics."""

    @abstractmethod
    def objective(self, log_probs: Tensor, samples: Samples) -> Tensor:
        """What the policies ascend, (B, N), given the log-probabilities (B, N) that they have of the actions now."""

    @torch.no_grad()
    def prepare(self, batch: Rollout) -> tuple[Samples, dict[str, float]]:
        """Everything that is computed once per batch: values, returns, advantages, old log-probabilities.

        Returns:
            Samples of all steps that are not padding; metrics of the values.
        """
        settings, (steps, environments, agents) = self.settings, batch.rewards.shape
        ends = batch.terminated.unsqueeze(-1), batch.truncated.unsqueeze(-1)  # (T, E, 1)
        values = self._values(batch.observations.flatten(0, 1)).view(steps + 1, environments, agents)
        following = next_values(values, batch.final_index, self._values(batch.final_observations))  # (T, E, N)
        values = values[:-1]
        # Each agent's own return, eq. 5.
        targets = returns(batch.rewards, values, following, *ends, settings.gamma, settings.return_lambda)
        # Values, and rewards as well, reduced over N_i, eq. 6, and the advantages on them.
        rewards, local, local_following = (reduced(self.over, x) for x in (batch.rewards, values, following))
        advantage = advantages(rewards, local, local_following, *ends, settings.gamma, settings.gae_lambda)

        valid = batch.valid.flatten().nonzero().squeeze(1)  # (S,)
        targets, values, advantage = (x.reshape(-1, agents) for x in (targets, values, advantage))  # (T·E, N)
        metrics = value_metrics(values[valid], targets[valid])
        self.critic.observe(targets[valid])
        advantage = advantage.index_copy(0, valid, standardized(advantage[valid]))
        actions, behavior = batch.actions.flatten(0, 1), batch.behavior.flatten(0, 1)
        samples = Samples(  # B = T·E
            states=batch.observations[:-1].flatten(0, 1),  # (T·E, N, D)
            actions=actions,
            behavior=behavior,
            log_probs=self.distribution.log_prob(behavior, actions),
            advantages=advantage,
            targets=self.critic.moments.normalize(targets),
        )
        samples = samples.contiguous()
        return samples if len(valid) == len(samples) else samples[valid], metrics

    def losses(self, samples: Samples, bonus: float) -> Losses:
        """L_i^policy (minus objective and entropy bonus), L_i^value and the divergence: means over samples."""
        policy, divergence = self._policy_loss(samples, bonus)
        return Losses(policy, self._value_loss(samples), divergence)

    def _policy_loss(self, samples: Samples, bonus: float) -> tuple[Tensor, Tensor]:
        # And the divergence, (N,) each.
        policy, distribution, states = self.policy, self.distribution, samples.states
        if lesson := self._policy_lesson(samples, bonus):
            return lesson_loss(policy.network, states, policy.neighborhood, lesson)
        parameters = policy(states)  # (B, N, P)
        loss = -self.objective(distribution.log_prob(parameters, samples.actions), samples)
        if bonus:
            loss = loss - bonus * distribution.entropy(parameters)
        loss = loss.mean(0)
        return loss, self._divergence(samples, parameters) if self._watched else torch.zeros_like(loss)

    def _policy_lesson(self, samples: Samples, bonus: float) -> Lesson | None:
        # The same for the kernels, where they can.
        return None

    @torch.no_grad()
    def _divergence(self, samples: Samples, parameters: Tensor) -> Tensor:
        # (B, N, P) -> (N,)
        return self.distribution.kl(samples.behavior, parameters).mean(0)

    def _value_loss(self, samples: Samples) -> Tensor:
        # (N,)
        critic, states = self.critic, samples.states
        if lesson := self._value_lesson(samples):
            return lesson_loss(critic.network, states, critic.neighborhood, lesson)[0]
        return (critic.normalized(states) - samples.targets).square().mean(0)

    def _value_lesson(self, samples: Samples) -> Lesson | None:
        return Lesson(SQUARES, samples.targets) if suits(self.critic.network, samples.states) else None

    def _values_alone(self, samples: Samples) -> Losses:
        # Once no policy is active any more: there is nothing to compute of them.
        value = self._value_loss(samples)
        return Losses(torch.zeros_like(value), value, torch.full_like(value, torch.inf))

    def _gradients(self, samples: Samples, bonus: float, with_policy: bool = True) -> Losses:
        # The gradient of a minibatch, added up over chunks.
        self.policy_optimizer.zero_grad()
        self.value_optimizer.zero_grad()
        parts = []
        for piece in self._pieces(samples, with_policy):
            part = self.losses(piece, bonus) if with_policy else self._values_alone(piece)
            share = len(piece) / len(samples)
            self._per_stack((part.policy + part.value) * share).sum().backward()  # type: ignore[no-untyped-call]
            parts.append((part.policy.detach() * share, part.value.detach() * share, part.kl * share))
        return Losses(*(torch.stack(numbers).sum(0) for numbers in zip(*parts, strict=True)))

    def _pieces(self, samples: Samples, with_policy: bool) -> Iterator[Samples]:
        # The kernels keep nothing between the layers, and need none.
        kept = self._value_lesson(samples) is None or (with_policy and self._policy_lesson(samples, 0.0) is None)
        return samples.split(self._chunk if kept else len(samples))

    def _step(self, progress: float, active: Tensor) -> None:
        # One step along the gradients, of all values but of active policies only, (R,) bool.
        rate = self.settings.rate(progress)
        if bool(active.any()):
            self.policy_optimizer.step(rate * self.settings.lr_policy, active)
        self.value_optimizer.step(rate * self.settings.lr_value, torch.ones_like(active))

    def _values(self, states: Tensor) -> Tensor:
        return torch.cat([self.critic(part) for part in torch.split(states, self._chunk)])

    def _per_stack(self, x: Tensor) -> Tensor:
        # (N,) -> (R,): shared parameters learn from the mean over agents.
        return x if len(x) == self.policy.network.stacks else x.mean(0, keepdim=True)

    @property
    def _watched(self) -> bool:
        # Whether the divergence is asked for at every gradient step.
        return False

    @property
    def _everybody(self) -> Tensor:
        return torch.ones(self.policy.network.stacks, dtype=torch.bool, device=self.policy.log_std.device)  # (R,)

    @property
    def _chunk(self) -> int:
        states = CHUNK if self.policy.log_std.device.type == "cpu" else GPU_CHUNK
        return max(LEAST, states // self.policy.neighborhood.num_agents)

    @torch.no_grad()
    def _measure(self, samples: Samples) -> dict[str, float]:
        samples = samples[:: max(1, len(samples) // MEASURED)]
        return self._measured(samples, self.policy(samples.states))

    def _measured(self, samples: Samples, parameters: Tensor) -> dict[str, float]:
        # parameters (B, N, P), of the policies after the last step
        kl = self._divergence(samples, parameters)  # (N,)
        return {
            "policy/kl": float(kl.mean()),
            "policy/kl_max": float(kl.max()),
            "policy/entropy": float(self.distribution.entropy(parameters).mean()),
        }

    def _check_losses(self, losses: Losses) -> None:
        agents = self.policy.neighborhood.num_agents
        # Values first: one that is no number leaves its neighbors' policies without advantages.
        check_finite("value loss", losses.value.unsqueeze(1), agents)
        check_finite("policy loss", losses.policy.unsqueeze(1), agents)

    def _agree(self) -> None:
        # After the gradient steps on a batch, and after the check: neighbors would take over what is no number.
        if self.consensus:
            self.consensus.step()

    def _check_parameters(self) -> None:
        agents = self.policy.neighborhood.num_agents
        for module, name in ((self.policy, "policy parameters"), (self.critic, "value parameters")):
            for parameter in module.parameters():
                check_finite(name, parameter, agents)
