"""Soft actor-critic with extended action values, for all agents at once: decentralized SAC.

Q_i learns  y_i = r_i + γ (1 - d) [min Q̄_i(s', a') - α_i log π_i(a'_i|s')],  a' drawn by everybody from its policy;
π_i ascends  (1/n) Σ_{j∈N_i^κ} Q_j + α_i H(π_i)  with respect to its own action, which j tells it of its Q_j;
α_i is tuned to a target entropy. Over discrete actions the expectation over one's own action is exact.

Losses are one number per agent and added up, so that no agent's gradient knows another's loss. Rewards are scaled by
the standard deviation of ordinary ones and by 1 - γ, so that values are about one whatever the scenario pays.
"""

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmpo.errors import check_finite
from dmpo.nn.action_critics import ActionCritic
from dmpo.nn.distributions import Categorical, SquashedGaussian
from dmpo.nn.normalization import Moments
from dmpo.nn.optimizer import StackedAdam
from dmpo.nn.policy import Policy
from dmpo.settings import SACSettings, scheduled

EPSILON = 1e-8  # of Adam: what neighbors say of one action is divided by n, and may be small


@dataclass(frozen=True)
class Transitions:
    """B steps of all agents, in the units that policies and critics see."""

    states: Tensor  # (B, N, D)
    actions: Tensor  # (B, N, A) or (B, N)
    rewards: Tensor  # (B, N), in the environment's units
    following: Tensor  # (B, N, D)
    ends: Tensor  # (B,) bool, true ends

    def __getitem__(self, index: Tensor) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def joined(self, other: Self) -> Self:
        """These and the others."""
        return type(self)(**{f.name: torch.cat([getattr(x, f.name) for x in (self, other)]) for f in fields(self)})


class SAC(ABC):
    """Improves π_i and Q_i on replayed or imagined steps; what depends on the kind of actions is for subclasses.

    Args:
        policy: the policies of all agents.
        critic: their extended action values.
        settings: of the algorithm.
        generator: where actions are drawn from.
    """

    target_entropy: float  # where the settings say none

    def __init__(self, policy: Policy, critic: ActionCritic, settings: SACSettings, generator: torch.Generator) -> None:
        self.policy, self.critic, self.settings, self.generator = policy, critic, settings, generator
        self.target = copy.deepcopy(critic).requires_grad_(False)
        stacks, device = policy.network.stacks, policy.log_std.device
        start = torch.full((stacks, 1), math.log(settings.init_temperature), device=device)
        self.log_temperature = torch.nn.Parameter(start)  # (R, 1)
        self.rewards = Moments(stacks, ()).to(device)
        self.policy_optimizer = StackedAdam(policy.parameters(), settings.max_grad_norm, EPSILON)
        self.value_optimizer = StackedAdam(critic.parameters(), settings.max_grad_norm, EPSILON)
        self.temperature_optimizer = StackedAdam([self.log_temperature], settings.max_grad_norm, EPSILON)

    def update(self, batch: Transitions, progress: float, with_policy: bool = True) -> dict[str, Tensor]:
        """One gradient step of critics and, if asked for, of policies and temperatures.

        Returns:
            Metrics, one number per agent each.
        """
        metrics = {"value/loss": self._improve_critics(batch, progress)}
        if with_policy:
            loss, entropy = self._improve_policies(batch.states, progress)
            metrics |= {"policy/loss": loss, "policy/entropy": entropy}
        with torch.no_grad():
            for old, new in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                old.lerp_(new, self.settings.tau)
        return metrics

    def observe(self, rewards: Tensor) -> None:
        """Take in rewards (B, N) of ordinary steps, by which all are scaled."""
        if len(rewards):
            self.rewards.update(rewards)

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """y_i (B, N), in the critics' units."""
        rewards = batch.rewards * ((1 - self.settings.gamma) / self.rewards.std)
        goes_on = (~batch.ends).unsqueeze(1).to(rewards.dtype)  # (B, 1)
        return rewards + self.settings.gamma * goes_on * self.soft_values(batch.following)

    @abstractmethod
    def received(self, actions: Tensor) -> Tensor:
        """What critics are told of actions (B, N, A) or (B, N), (B, N, K, A)."""

    @abstractmethod
    def soft_values(self, states: Tensor) -> Tensor:
        """min Q̄_i - α_i log π_i at states (B, N, D), expected over what everybody would do there; (B, N)."""

    @abstractmethod
    def policy_loss(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Minus what π_i ascends, and the entropy of π_i, means over states (B, N, D); (N,) each."""

    def entropy_wanted(self, progress: float) -> float:
        """Linear from the first target entropy to the last."""
        first = self.settings.target_entropy
        first = self.target_entropy if first is None else first
        return scheduled(first, self.settings.target_entropy_final, progress)

    def check(self, losses: dict[str, Tensor]) -> None:
        """Refuse numbers that are not finite: losses, one number per agent each, and parameters.

        Raises:
            TrainingError: names the agent and the quantity.
        """
        agents = self.policy.neighborhood.num_agents
        for name, loss in losses.items():
            check_finite(name.replace("/", " "), loss.unsqueeze(1), agents)
        for name, module in (("policy parameters", self.policy), ("value parameters", self.critic)):
            for parameter in module.parameters():
                check_finite(name, parameter, agents)

    def parts(self) -> dict[str, Any]:
        """What has to be saved, beside policy and critic."""
        return {
            "target": self.target,
            "rewards": self.rewards,
            "temperature": _Saved(self.log_temperature),
            "policy_optimizer": self.policy_optimizer,
            "value_optimizer": self.value_optimizer,
            "temperature_optimizer": self.temperature_optimizer,
        }

    @property
    def temperature(self) -> Tensor:
        """α, (R,), in the critics' units."""
        return self.log_temperature.detach().exp().squeeze(1)

    def _improve_critics(self, batch: Transitions, progress: float) -> Tensor:
        targets = self.targets(batch)  # (B, N)
        values = self.critic(batch.states, self.received(batch.actions))  # (2, B, N)
        loss = (values - targets).square().mean(1).sum(0)  # (N,)
        self.value_optimizer.zero_grad()
        self._per_stack(loss).sum().backward()  # type: ignore[no-untyped-call]
        self.value_optimizer.step(self.settings.rate(progress) * self.settings.lr_value, self._everybody)
        detached: Tensor = loss.detach()
        return detached

    def _improve_policies(self, states: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        loss, entropy = self.policy_loss(states)  # (N,) each
        self.policy_optimizer.zero_grad()
        self._per_stack(loss).sum().backward()  # type: ignore[no-untyped-call]
        self.policy_optimizer.step(self.settings.rate(progress) * self.settings.lr_policy, self._everybody)
        # The gradient of α (H - wanted) with respect to log α.
        surplus = self._per_stack(entropy - self.entropy_wanted(progress)).unsqueeze(1)  # (R, 1)
        self.log_temperature.grad = self.log_temperature.detach().exp() * surplus
        self.temperature_optimizer.step(self.settings.lr_temperature, self._everybody)
        return loss.detach(), entropy

    @property
    def _everybody(self) -> Tensor:
        return torch.ones_like(self.log_temperature, dtype=torch.bool).squeeze(1)  # (R,)

    def _told(self, worth: Tensor) -> Tensor:
        # What all of N_i^κ say of i, (B, N, K, ·) -> (1/n) Σ_j, (B, N, ·)
        near = self.critic.neighborhood
        return near.exchange(worth).sum(-2) / near.num_agents

    def _per_stack(self, x: Tensor) -> Tensor:
        # (N,) -> (R,): shared parameters learn from the mean over agents.
        return x if len(x) == self.policy.network.stacks else x.mean(0, keepdim=True)


class DiscreteSAC(SAC):
    """Where each agent chooses one of A actions."""

    def __init__(self, policy: Policy, critic: ActionCritic, settings: SACSettings, generator: torch.Generator) -> None:
        super().__init__(policy, critic, settings, generator)
        self.distribution = cast(Categorical, policy.distribution)
        self.target_entropy = math.log(self.distribution.outputs) / 3

    def received(self, actions: Tensor) -> Tensor:
        """(B, N) -> (B, N, K, A), one for the action chosen."""
        return self.critic.neighborhood.gather(one_hot(actions, self.distribution.outputs).float())

    def soft_values(self, states: Tensor) -> Tensor:
        """Σ_a π_i(a) [min Q̄_i(a, the others' a') - α_i log π_i(a)], (B, N)."""
        log_probs = self.policy(states)  # (B, N, A)
        others = self.received(self.distribution.sample(log_probs, self.generator))
        worth = self.target.own_options(states, others) - self.temperature.unsqueeze(1) * log_probs
        values: Tensor = (log_probs.exp() * worth).sum(-1)
        return values

    def policy_loss(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_a π_i(a) [α_i log π_i(a) - (1/n) Σ_j Q_j(a, the others' a)]."""
        log_probs = self.policy(states)  # (B, N, A)
        with torch.no_grad():
            others = self.received(self.distribution.sample(log_probs, self.generator))
            worth = self._told(self.critic.options(states, others))  # (B, N, A)
        cost = self.temperature.unsqueeze(1) * log_probs - worth
        loss = (log_probs.exp() * cost).sum(-1).mean(0)
        return loss, self.distribution.entropy(log_probs.detach()).mean(0)


class ContinuousSAC(SAC):
    """Where actions are boxes of A numbers."""

    def __init__(self, policy: Policy, critic: ActionCritic, settings: SACSettings, generator: torch.Generator) -> None:
        super().__init__(policy, critic, settings, generator)
        self.distribution = cast(SquashedGaussian, policy.distribution)
        self.target_entropy = -float(critic.actions)

    def received(self, actions: Tensor) -> Tensor:
        """(B, N, A) -> (B, N, K, A)."""
        return self.critic.neighborhood.gather(actions)

    def soft_values(self, states: Tensor) -> Tensor:
        """Min Q̄_i(a') - α_i log π_i(a'_i), (B, N)."""
        actions, log_probs = self.distribution.draw(self.policy(states), self.generator)
        values: Tensor = self.target(states, self.received(actions)).amin(0)  # (B, N)
        return values - self.temperature * log_probs

    def policy_loss(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """α_i log π_i(a_i) - a_i · (1/n) Σ_j ∂Q_j/∂a_i, whose gradient is that of α_i log π_i - (1/n) Σ_j Q_j."""
        actions, log_probs = self.distribution.draw(self.policy(states), self.generator)  # (B, N, A), (B, N)
        received = self.received(actions.detach()).requires_grad_()
        values = self.critic(states, received).amin(0)  # (B, N)
        slope = self._told(torch.autograd.grad(values.sum(), received)[0])  # (B, N, A)
        loss = (self.temperature * log_probs - (actions * slope).sum(-1)).mean(0)
        return loss, -log_probs.detach().mean(0)


class _Saved:
    # A lone parameter with the two methods of what is saved.

    def __init__(self, parameter: Tensor) -> None:
        self.parameter = parameter

    def state_dict(self) -> dict[str, Tensor]:
        return {"log_temperature": self.parameter.detach()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.parameter.copy_(state["log_temperature"])
