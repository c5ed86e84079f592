"""Expectations of soft actor-critic over actions: exact for discrete ones, by one sample for continuous ones.

Through them an agent learns of others' actions and of what others' critics expect of its own: both pass through the
critic's neighborhood.
"""

import math
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmpo.nn.critics import QCritic
from dmpo.nn.distributions import Categorical, SquashedGaussian
from dmpo.nn.policy import Policy


class SoftValues(Protocol):
    """Soft values and policy losses for one kind of actions; temperatures α are (R,)."""

    default_target_entropy: float  # in nats, where the settings say none

    def neighbor_actions(self, actions: Tensor) -> Tensor:
        """Actions (B, N, A) or (B, N) as each agent's critic receives them, (B, N, K, A)."""

    def values(self, states: Tensor, temperature: Tensor) -> Tensor:
        """E[min Q̄_i - α_i log π_i] at states (B, N, D), all agents acting by their policies there; (B, N)."""

    def policy_loss(self, states: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """-E[(1/n) Σ_{j∈N_i^κ} Q_j - α_i log π_i] and the entropy of π_i, means over states (B, N, D); (N,) each."""


class DiscreteActions:
    """Each agent chooses one of A actions; the expectation over its own action is exact.

    Args:
        policy: the policies of all agents.
        critic: their action values.
        target: the slowly moving copy of the critic.
        generator: of the others' actions.
    """

    def __init__(self, policy: Policy, critic: QCritic, target: QCritic, generator: torch.Generator) -> None:
        self.policy, self.critic, self.target, self.generator = policy, critic, target, generator
        self.distribution = cast(Categorical, policy.distribution)
        self.default_target_entropy = math.log(self.distribution.outputs) / 3

    def neighbor_actions(self, actions: Tensor) -> Tensor:
        """(B, N) -> (B, N, K, A), one-hot."""
        return self.critic.neighborhood.gather(one_hot(actions, self.distribution.outputs).float())

    def values(self, states: Tensor, temperature: Tensor) -> Tensor:
        """Σ_a π_i(a) [min Q̄_i(a, the others' a') - α_i log π_i(a)], (B, N)."""
        log_probs = self.policy(states)  # (B, N, A)
        others = self.neighbor_actions(self.distribution.sample(log_probs, self.generator))
        q_values = self.target.own_counterfactual_q(states, others) - temperature.unsqueeze(1) * log_probs
        values: Tensor = (log_probs.exp() * q_values).sum(-1)
        return values

    def policy_loss(self, states: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_a π_i(a) [α_i log π_i(a) - (1/n) Σ_j Q_j(a, the others' a)]."""
        log_probs = self.policy(states)  # (B, N, A)
        with torch.no_grad():
            others = self.neighbor_actions(self.distribution.sample(log_probs, self.generator))
            q_values = sent_back(self.critic, self.critic.counterfactual_q(states, others))  # (B, N, A)
        cost = temperature.unsqueeze(1) * log_probs - q_values
        loss = (log_probs.exp() * cost).sum(-1).mean(0)
        return loss, self.distribution.entropy(log_probs.detach()).mean(0)


class ContinuousActions:
    """Actions are boxes of A numbers, drawn with a gradient (the reparameterization trick).

    Args: as of `DiscreteActions`.
    """

    def __init__(self, policy: Policy, critic: QCritic, target: QCritic, generator: torch.Generator) -> None:
        self.policy, self.critic, self.target, self.generator = policy, critic, target, generator
        self.distribution = cast(SquashedGaussian, policy.distribution)
        self.default_target_entropy = -float(critic.actions)

    def neighbor_actions(self, actions: Tensor) -> Tensor:
        """(B, N, A) -> (B, N, K, A)."""
        return self.critic.neighborhood.gather(actions)

    def values(self, states: Tensor, temperature: Tensor) -> Tensor:
        """Min Q̄_i(a') - α_i log π_i(a'_i), (B, N)."""
        actions, log_probs = self.distribution.draw(self.policy(states), self.generator)
        values: Tensor = self.target(states, self.neighbor_actions(actions)).amin(0)  # (B, N)
        return values - temperature * log_probs

    def policy_loss(self, states: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """α_i log π_i(a_i) - a_i · (1/n) Σ_j ∂Q_j/∂a_i, whose gradient is that of α_i log π_i - (1/n) Σ_j Q_j."""
        actions, log_probs = self.distribution.draw(self.policy(states), self.generator)  # (B, N, A), (B, N)
        received = self.neighbor_actions(actions.detach()).requires_grad_()
        values = self.critic(states, received).amin(0)  # (B, N)
        slope = sent_back(self.critic, torch.autograd.grad(values.sum(), received)[0])  # (B, N, A)
        loss = (temperature * log_probs - (actions * slope).sum(-1)).mean(0)
        return loss, -log_probs.detach().mean(0)


def sent_back(critic: QCritic, x: Tensor) -> Tensor:
    """(1/n) Σ_{j∈N_i^κ} x_(j,i): agents send each neighbor their values of its actions, (B, N, K, ·) -> (B, N, ·)."""
    neighborhood = critic.neighborhood
    return neighborhood.exchange(x).sum(-2) / neighborhood.num_agents
