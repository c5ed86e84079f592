"""Policies and critics with their optimizers, and the samples they learn from: the ground that PPO and A2C stand on.

Every loss is one number per agent and they are added up, so that no agent's gradient knows another's loss; clipping of
gradients and steps are each agent's own. Nothing is scaled by hand: advantages are standardized and critics learn
standardized returns, both per agent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from dmpo.data.rollout import Rollout
from dmpo.errors import check_finite, check_parameters
from dmpo.nn.critics import ValueCritic
from dmpo.nn.distributions import Distribution
from dmpo.nn.layers import per_stack
from dmpo.nn.losses import needs_chunks, value_loss
from dmpo.nn.optimizer import StackedAdam
from dmpo.nn.policy import Policy
from dmpo.settings import EntropySettings, FeedforwardSettings
from dmpo.updates.consensus import Consensus
from dmpo.updates.returns import (
    advantages,
    lambda_returns,
    next_values,
    reduce_over_neighborhood,
    standardized,
    value_metrics,
)
from graphs import Neighborhood

# Where PyTorch keeps what it needs for the gradient, so many states of agents pass at once (fewer take longer to start,
# more need more memory), but at least so many samples, as gradients are as large as all parameters.
CHUNK_STATES, CHUNK_MIN_SAMPLES = 131_072, 256
GPU_CHUNK_STATES = 2_097_152  # where only the start takes long; two layers of 64 then keep half a gigabyte
MEASURED_SAMPLES = 4_096  # or up to twice as many, on which the divergence is measured after the last step


class ActorCriticSettings(EntropySettings, FeedforwardSettings):
    """Settings of policies that ascend advantages and critics that learn returns."""

    gae_lambda: float = Field(0.5, ge=0, le=1, description="λ of the advantages.")
    return_lambda: float = Field(
        1.0, ge=0, le=1, description="λ of the critics' targets. 1 gives the returns of eq. 5 of the DMPO paper."
    )
    consensus: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How far each agent moves the parameters of its policy and critic, after the gradient steps on a "
        "batch, towards the mean of its neighbors' and its own. All agents then begin alike. 0 means no exchange.",
    )

    @model_validator(mode="after")
    def _check_consensus(self) -> Self:
        if self.consensus and self.share_parameters:
            raise ValueError(
                f"consensus = {self.consensus:g} has nothing to average where share_parameters = true gives all agents "
                "one network; leave one of them out"
            )
        return self


@dataclass(frozen=True)
class Samples:
    """B pairs of time and environment, with all that a gradient step needs of them."""

    states: Tensor  # (B, N, D)
    actions: Tensor  # (B, N, A) or (B, N)
    dist_params: Tensor  # (B, N, P), of the policies as the gradient steps begin, from which divergences are measured
    old_log_probs: Tensor  # (B, N), of the policies that collected the data
    advantages: Tensor  # (B, N), standardized
    targets: Tensor  # (B, N), returns in the critic's units
    weights: Tensor | None  # (B, N), of mean one, 0 where the agent had ended; none where all take part in all

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, which: Tensor | slice) -> Self:
        return self._each(lambda x: x[which] if isinstance(which, slice) else x.index_select(0, which))

    def minibatches(self, count: int, generator: torch.Generator) -> Iterator[Self]:
        """Equal shares of the samples, drawn over time and environment jointly; one share stays in order."""
        if count == 1:
            yield self
            return
        order = torch.randperm(len(self), generator=generator, device=self.states.device)
        for index in order.tensor_split(min(count, len(self))):
            yield self[index]

    def split(self, size: int) -> Iterator[Self]:
        """Pieces of about so many samples, at most half as many again, equal to within one; nothing is copied."""
        pieces = max(1, round(len(self) / size))
        for piece in range(pieces):
            yield self[len(self) * piece // pieces : len(self) * (piece + 1) // pieces]

    def contiguous(self) -> Self:
        """Copy with each sample's numbers side by side, which is several times as fast to draw from."""
        return self._each(Tensor.contiguous)

    def _each(self, of: Callable[[Tensor], Tensor]) -> Self:
        parts = (getattr(self, f.name) for f in fields(self))
        return type(self)(*(None if x is None else of(x) for x in parts))  # type: ignore[arg-type]  # only weights are


class ActorCritic:
    """Policies π_i and critics V_i of all agents, their optimizers and, where it is asked for, their consensus.

    Args:
        policy: the policies of all agents.
        critic: their value functions.
        reward_neighborhood: N_i, whose rewards and values an agent's advantages take into account.
        settings: of the algorithm.
    """

    def __init__(
        self, policy: Policy, critic: ValueCritic, reward_neighborhood: Neighborhood, settings: ActorCriticSettings
    ) -> None:
        self.policy, self.critic, self.settings = policy, critic, settings
        self.reward_neighborhood = reward_neighborhood
        agree = settings.consensus > 0
        self.consensus = Consensus((policy, critic), policy.neighborhood, settings.consensus) if agree else None
        self.distribution = cast(Distribution, policy.distribution)
        self.policy_optimizer = StackedAdam(policy.parameters(), settings.max_grad_norm)
        self.value_optimizer = StackedAdam(critic.parameters(), settings.max_grad_norm)
        self.num_agents = policy.neighborhood.num_agents

    def parts(self) -> dict[str, Any]:
        """Parts with a state of their own, besides policy and critic."""
        return {"policy_optimizer": self.policy_optimizer, "value_optimizer": self.value_optimizer}

    @torch.no_grad()
    def prepare(self, batch: Rollout) -> tuple[Samples, dict[str, float]]:
        """Everything that is computed once per batch: values, returns, advantages, old log-probabilities.

        The critic takes in the statistics of the returns on the way; its values stay what they are.

        Returns:
            Samples of all steps that are not padding; metrics of the values.
        """
        settings, (steps, environments, agents) = self.settings, batch.rewards.shape
        ends = batch.terminated, batch.truncated, batch.valid
        values = self._values(batch.observations.flatten(0, 1)).view(steps + 1, environments, agents)
        next_v = next_values(values, batch.final_index, self._values(batch.final_observations))  # (T, E, N)
        values = values[:-1]
        # Each agent's own return, eq. 5.
        own_advantage = advantages(batch.rewards, values, next_v, *ends, settings.gamma, settings.return_lambda)
        targets = lambda_returns(values, own_advantage)
        # Rewards and values reduced over N_i, eq. 6, and the advantages on them. One that has ended adds nothing more.
        over = ~batch.valid
        rewards, local, local_next = (
            reduce_over_neighborhood(self.reward_neighborhood, x.masked_fill(nothing, 0.0))
            for x, nothing in ((batch.rewards, over), (values, over), (next_v, over | batch.terminated))
        )
        advantage = advantages(rewards, local, local_next, *ends, settings.gamma, settings.gae_lambda)

        taken = batch.taken.flatten().nonzero().squeeze(1)  # (S,), of the T·E
        targets, values, advantage = (x.reshape(-1, agents)[taken] for x in (targets, values, advantage))  # (S, N)
        weights = _weights(batch.valid.flatten(0, 1)[taken])
        metrics = value_metrics(values, targets, weights)
        self.critic.observe(targets, weights)
        states, actions = (x.flatten(0, 1)[taken] for x in (batch.observations[:-1], batch.actions))
        samples = Samples(
            states=states.contiguous(),
            actions=actions,
            dist_params=torch.cat([self.policy(part) for part in torch.split(states, self._chunk)]),
            old_log_probs=self.distribution.log_prob(batch.old_dist_params.flatten(0, 1)[taken], actions),
            advantages=standardized(advantage, weights),
            targets=self.critic.normalizer.normalize(targets),
            weights=weights,
        )
        return samples.contiguous(), metrics

    def value_gradient(self, minibatch: Samples) -> Tensor:
        """Put the gradient of the critics' loss in place, and return the loss, (N,)."""
        self.value_optimizer.zero_grad()

        def loss(samples: Samples) -> tuple[Tensor, Tensor]:
            loss = value_loss(self.critic, samples.states, samples.targets, samples.weights)
            return loss, loss.detach()

        found, _ = self._accumulate(loss, minibatch)
        check_finite("value loss", found.unsqueeze(1), self.num_agents)
        return found

    def policy_gradient(
        self, loss: Callable[[Samples], tuple[Tensor, Tensor]], minibatch: Samples, fusible: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Put the gradient of the policies' loss in place.

        Args:
            loss: from samples to the loss, differentiable, and the KL divergence from the policies as the gradient
                steps began, (N,) each.
            minibatch: B samples.
            fusible: whether there is a kernel for the loss; without one large batches are cut.

        Returns:
            Loss and divergence on the whole minibatch, (N,) each.
        """
        self.policy_optimizer.zero_grad()
        found, kl = self._accumulate(loss, minibatch, fusible)
        check_finite("policy loss", found.unsqueeze(1), self.num_agents)
        return found, kl

    def step(self, progress: float, active: Tensor) -> None:
        """One step along the gradients, of all critics but of active policies only, (R,) bool."""
        factor = self.settings.lr_factor(progress)
        if bool(active.any()):
            self.policy_optimizer.step(factor * self.settings.lr_policy, active)
        self.value_optimizer.step(factor * self.settings.lr_value)

    def end_of_batch(self) -> None:
        """Check all parameters and then, where it is asked for, exchange them with the neighbors.

        Raises:
            TrainingError: a parameter is NaN or infinite; names the agent.
        """
        check_parameters({"policy parameters": self.policy, "value parameters": self.critic}, self.num_agents)
        if self.consensus:
            self.consensus.step()

    @torch.no_grad()
    def measure(self, samples: Samples) -> tuple[dict[str, float], Tensor]:
        """Metrics of the policies after the last step, on part of the samples.

        Returns:
            Metrics; ratios ρ (S, N) of new to old probabilities of the actions.
        """
        samples = samples[:: max(1, len(samples) // MEASURED_SAMPLES)]
        dist_params = self.policy(samples.states)  # (S, N, P)
        kl = self.distribution.kl(samples.dist_params, dist_params).mean(0)  # (N,)
        metrics = {
            "policy/kl": float(kl.mean()),
            "policy/kl_max": float(kl.max()),
            "policy/entropy": float(self.distribution.entropy(dist_params).mean()),
        }
        return metrics, torch.exp(self.distribution.log_prob(dist_params, samples.actions) - samples.old_log_probs)

    @torch.no_grad()
    def kl_from(self, batch: Rollout) -> Tensor:
        """Mean KL divergence (R,) of the policies from those that collected a batch, on part of its states."""
        states, old = batch.starts, batch.old_dist_params[batch.taken]  # (S, N, ...)
        part = slice(None, None, max(1, len(states) // MEASURED_SAMPLES))
        kl = self.distribution.kl(old[part], self.policy(states[part])).mean(0)  # (N,)
        return per_stack(kl, self.policy.network.stacks)

    @property
    def everybody(self) -> Tensor:
        """(R,) bool, all True."""
        return torch.ones(self.policy.network.stacks, dtype=torch.bool, device=self.policy.log_std.device)

    def _accumulate(
        self, loss: Callable[[Samples], tuple[Tensor, Tensor]], minibatch: Samples, fusible: bool = True
    ) -> tuple[Tensor, Tensor]:
        # Gradients, and both results of the loss, added up over chunks.
        whole = fusible and minibatch.weights is None and not needs_chunks(self.policy, minibatch.states)
        size = len(minibatch) if whole else self._chunk
        sums = []
        for piece in minibatch.split(size):
            found, beside = loss(piece)
            share = len(piece) / len(minibatch)
            per_stack(found * share, self.policy.network.stacks).sum().backward()  # type: ignore[no-untyped-call]
            sums.append((found.detach() * share, beside * share))
        total, total_beside = (torch.stack(parts).sum(0) for parts in zip(*sums, strict=True))
        return total, total_beside

    def _values(self, states: Tensor) -> Tensor:
        return torch.cat([self.critic(part) for part in torch.split(states, self._chunk)])

    @property
    def _chunk(self) -> int:
        states = CHUNK_STATES if self.policy.log_std.device.type == "cpu" else GPU_CHUNK_STATES
        return max(CHUNK_MIN_SAMPLES, states // self.num_agents)


def _weights(valid: Tensor) -> Tensor | None:
    # (S, N) bool -> the same as weights of mean one per agent, or none where they would all be one.
    if bool(valid.all()):
        return None
    weights = valid.float()
    return weights / weights.mean(0)
