"""Soft actor-critic with extended action values, for all agents at once: decentralized SAC.

Q_i learns  y_i = r_i + γ (1 - d) [min Q̄_i(s', a') - α_i log π_i(a'_i|s')],  a' drawn by everybody from its policy;
π_i ascends  (1/n) Σ_{j∈N_i^κ} Q_j + α_i H(π_i)  with respect to its own action, for which j sends its Q_j to i;
α_i is tuned to a target entropy.

Losses are one number per agent and added up, so that no agent's gradient knows another's loss. Rewards are scaled by
the standard deviation of ordinary ones and by 1 - γ, so that values are about one whatever the scenario pays.
"""

import copy
import math
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from pydantic import Field
from torch import Tensor

from dmpo.errors import check_finite, check_parameters
from dmpo.nn.critics import QCritic
from dmpo.nn.distributions import Categorical
from dmpo.nn.layers import per_stack
from dmpo.nn.normalization import RunningNormalizer
from dmpo.nn.optimizer import StackedAdam
from dmpo.nn.policy import Policy
from dmpo.settings import FeedforwardSettings, KappaSettings, WarmUpSettings, scheduled
from dmpo.updates.soft_values import ContinuousActions, DiscreteActions, SoftValues

EPSILON = 1e-8  # of Adam: the neighbors' values of an action are divided by n, and may be small


class SACSettings(WarmUpSettings, KappaSettings, FeedforwardSettings):
    """Settings of soft actor-critic with extended action values, on replayed steps."""

    gamma: float = Field(
        0.99, gt=0, lt=1, description="Discount γ of one action, however many simulated steps it is held."
    )
    lr_temperature: float = Field(3e-3, gt=0, description="Learning rate of the temperatures' logarithms.")
    rollout_steps: int = Field(
        10, ge=1, le=100_000, description="Actions of each agent that each environment contributes to an iteration."
    )
    gradient_steps: int = Field(
        20,
        ge=1,
        le=100_000,
        description="G: gradient steps of the critics per iteration or, with models, per model rollout.",
    )
    policy_delay: int = Field(
        2,
        ge=1,
        le=1_000,
        description="One in so many of these gradient steps also changes the policies and temperatures.",
    )
    batch_size: int = Field(256, ge=1, le=100_000, description="Steps of all agents in a gradient step.")
    buffer_size: int = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description="Capacity of the replay buffer, in actions of each agent summed over environments.",
    )
    tau: float = Field(
        0.005, gt=0, le=1, description="τ: how far the target networks move towards the critics at each step."
    )
    target_entropy: float | None = Field(
        None,
        description="Entropy in nats that each agent's temperature is tuned to at the start of training. null means a "
        "third of the largest one for discrete actions, and minus their dimension for continuous ones.",
    )
    target_entropy_final: float | None = Field(
        None,
        description="Target entropy in nats at the end of training, reached linearly. null keeps the first one.",
    )
    init_temperature: float = Field(
        0.02, gt=0, description="Temperature α at the start of training, in units of one step's scaled reward."
    )


@dataclass(frozen=True)
class Transitions:
    """B steps of all agents, in the units that policies and critics see."""

    states: Tensor  # (B, N, D)
    actions: Tensor  # (B, N, A) or (B, N)
    rewards: Tensor  # (B, N), in the environment's units
    next_states: Tensor  # (B, N, D)
    terminated: Tensor  # (B, N) bool, true ends, of agents that are told of them

    def __getitem__(self, index: Tensor) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def joined(self, other: Self) -> Self:
        """Both batches as one, these first."""
        return type(self)(**{f.name: torch.cat([getattr(x, f.name) for x in (self, other)]) for f in fields(self)})


class SAC:
    """Gradient steps of π_i, Q_i and α_i on replayed or model steps.

    Args:
        policy: the policies of all agents.
        critic: their extended action values.
        settings: of the algorithm.
        generator: of the actions.
    """

    def __init__(self, policy: Policy, critic: QCritic, settings: SACSettings, generator: torch.Generator) -> None:
        self.policy, self.critic, self.settings = policy, critic, settings
        self.target = copy.deepcopy(critic).requires_grad_(False)
        discrete = isinstance(policy.distribution, Categorical)
        kind = DiscreteActions if discrete else ContinuousActions
        self.soft: SoftValues = kind(policy, critic, self.target, generator)
        stacks, device = policy.network.stacks, policy.log_std.device
        start = torch.full((stacks, 1), math.log(settings.init_temperature), device=device)
        self.log_temperature = torch.nn.Parameter(start)  # (R, 1)
        self.reward_normalizer = RunningNormalizer(stacks, ()).to(device)
        self.policy_optimizer = StackedAdam(policy.parameters(), settings.max_grad_norm, EPSILON)
        self.value_optimizer = StackedAdam(critic.parameters(), settings.max_grad_norm, EPSILON)
        self.temperature_optimizer = StackedAdam([self.log_temperature], settings.max_grad_norm, EPSILON)

    def update(self, batch: Transitions, progress: float, with_policy: bool = True) -> dict[str, Tensor]:
        """One gradient step of the critics and, if asked for, of policies and temperatures.

        Returns:
            Metrics, (N,) each.
        """
        settings, stacks, factor = self.settings, self.policy.network.stacks, self.settings.lr_factor(progress)

        # Critics: L_i = Σ over the twins of mean((Q_i(s, a) - y_i)²).
        targets = self.targets(batch)  # (B, N)
        values = self.critic(batch.states, self.soft.neighbor_actions(batch.actions))  # (2, B, N)
        value_loss = (values - targets).square().mean(1).sum(0)  # (N,)
        self.value_optimizer.zero_grad()
        per_stack(value_loss, stacks).sum().backward()  # type: ignore[no-untyped-call]
        self.value_optimizer.step(factor * settings.lr_value)
        metrics = {"value/loss": value_loss.detach()}

        if with_policy:
            # Policies: minus (1/n) Σ_{j∈N_i^κ} Q_j + α_i H(π_i), expected over what everybody would do.
            policy_loss, entropy = self.soft.policy_loss(batch.states, self.temperature)  # (N,) each
            self.policy_optimizer.zero_grad()
            per_stack(policy_loss, stacks).sum().backward()  # type: ignore[no-untyped-call]
            self.policy_optimizer.step(factor * settings.lr_policy)

            # Temperatures: the gradient of α_i (H(π_i) - target) with respect to log α_i.
            surplus = per_stack(entropy - self.target_entropy(progress), stacks).unsqueeze(1)  # (R, 1)
            self.log_temperature.grad = self.log_temperature.detach().exp() * surplus
            self.temperature_optimizer.step(settings.lr_temperature)
            metrics |= {"policy/loss": policy_loss.detach(), "policy/entropy": entropy}

        with torch.no_grad():
            for old, new in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                old.lerp_(new, settings.tau)
        return metrics

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """y_i = r_i + γ (1 - d) [min Q̄_i(s', a') - α_i log π_i(a'_i|s')], (B, N), in the critics' units."""
        rewards = batch.rewards * ((1 - self.settings.gamma) / self.reward_normalizer.std)
        goes_on = (~batch.terminated).to(rewards.dtype)
        return rewards + self.settings.gamma * goes_on * self.soft.values(batch.next_states, self.temperature)

    def observe_rewards(self, rewards: Tensor) -> None:
        """Take in rewards (B, N) of ordinary steps, by which all are scaled."""
        if len(rewards):
            self.reward_normalizer.update(rewards)

    def target_entropy(self, progress: float) -> float:
        """Entropy in nats that temperatures are tuned to once `progress` in [0, 1) of training is done."""
        first = self.settings.target_entropy
        first = self.soft.default_target_entropy if first is None else first
        return scheduled(first, self.settings.target_entropy_final, progress)

    def check(self, losses: dict[str, Tensor]) -> None:
        """Refuse losses, (N,) each, and parameters that are not finite.

        Raises:
            TrainingError: names the agent and the quantity.
        """
        agents = self.policy.neighborhood.num_agents
        for name, loss in losses.items():
            check_finite(name.replace("/", " "), loss.unsqueeze(1), agents)
        check_parameters({"policy parameters": self.policy, "value parameters": self.critic}, agents)

    def parts(self) -> dict[str, Any]:
        """Parts with a state of their own, besides policy and critic."""
        return {
            "target": self.target,
            "reward_normalizer": self.reward_normalizer,
            "temperature": _ParameterState(self.log_temperature),
            "policy_optimizer": self.policy_optimizer,
            "value_optimizer": self.value_optimizer,
            "temperature_optimizer": self.temperature_optimizer,
        }

    @property
    def temperature(self) -> Tensor:
        """α, (R,), in the critics' units."""
        return self.log_temperature.detach().exp().squeeze(1)


class _ParameterState:
    # A lone parameter with the two methods of parts that have a state.

    def __init__(self, parameter: Tensor) -> None:
        self.parameter = parameter

    def state_dict(self) -> dict[str, Tensor]:
        return {"log_temperature": self.parameter.detach()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.parameter.copy_(state["log_temperature"])
