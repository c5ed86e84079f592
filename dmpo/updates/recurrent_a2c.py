"""Advantage actor-critic through time for recurrent policies with gates (Singh et al. 2018, section 3.2).

One step up the gradient of  Σ_t (R_i^t - V_i^t) (log π(a_i^t) + log π(g_i^t)) - c · (R_i^t - V_i^t)²  through T steps,
R_i the return of agent i alone.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from dmpo.data.rollout import Rollout
from dmpo.errors import check_finite, check_parameters
from dmpo.nn.optimizer import StackedAdam
from dmpo.nn.recurrent import RecurrentPolicy, RecurrentState
from dmpo.settings import EntropySettings, LearnerSettings
from dmpo.updates.returns import advantages, lambda_returns, next_values, standardized, value_metrics


class RecurrentA2CSettings(EntropySettings, LearnerSettings):
    """Settings of advantage actor-critic through time."""

    lr: float = Field(1e-3, gt=0, description="Learning rate of the one network.")
    value_coef: float = Field(0.5, gt=0, description="Weight of the value loss beside the policy loss.")


class RecurrentA2C:
    """One gradient step of a recurrent policy and its values on the segment that it has just collected.

    Args:
        policy: with values and gates, one set of parameters for all agents.
        settings: of the algorithm.
    """

    def __init__(self, policy: RecurrentPolicy, settings: RecurrentA2CSettings) -> None:
        self.policy, self.settings = policy, settings
        self.optimizer = StackedAdam(policy.parameters(), settings.max_grad_norm)

    def improve(self, batch: Rollout, start: RecurrentState, progress: float) -> dict[str, float]:
        """One gradient step.

        Args:
            batch: the segment, T steps.
            start: recurrent state that it began with, through which no gradient flows.
            progress: share of training done, in [0, 1).

        Returns:
            Metrics.

        Raises:
            TrainingError: a loss or parameter became NaN or infinite.
        """
        settings, agents = self.settings, self.policy.neighborhood.num_agents
        policy_loss, value_loss, metrics = self.losses(batch, self.unroll(batch, start), progress)
        self.optimizer.zero_grad()
        (policy_loss + settings.value_coef * value_loss).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(settings.lr_factor(progress) * settings.lr)
        for name, x in (("policy loss", policy_loss), ("value loss", value_loss)):
            check_finite(name, x.view(1, 1), agents)
        check_parameters({"policy parameters": self.policy}, agents)
        return metrics | {"value/loss": value_loss.item(), "policy/gradient_steps": 1.0}

    def unroll(self, batch: Rollout, start: RecurrentState) -> RecurrentState:
        """Recurrent state after each step of the segment, (T, E, N, ...), differentiable."""
        ended = batch.over  # (T, E)
        # The state that the segment starts with was reset already, where it had to be.
        first = torch.cat([torch.zeros_like(ended[:1]), ended[:-1]])
        gates = self.policy.distribution.split(batch.actions)[1]
        return self.policy.unroll(batch.observations[:-1], first, gates, start)

    def losses(self, batch: Rollout, state: RecurrentState, progress: float) -> tuple[Tensor, Tensor, dict[str, float]]:
        """L^policy, with the entropy bonus, and L^value, means over steps and agents; and metrics."""
        policy, valid = self.policy, batch.taken
        targets, values = (x[valid] for x in self.targets(batch, state))  # (S, N)
        policy.normalizer.observe(targets, policy.value_head)
        hidden = state.hidden[valid]  # (S, N, H)
        dist_params = policy.decide(hidden)
        log_probs = policy.distribution.log_prob(dist_params, batch.actions[valid])
        entropy = policy.distribution.entropy(dist_params).mean()
        gain = (standardized(targets - values) * log_probs).mean() + self.settings.entropy_coef_at(progress) * entropy
        error = policy.normalized_values(hidden) - policy.normalizer.normalize(targets)
        return -gain, error.square().mean(), {"policy/entropy": entropy.item(), **value_metrics(values, targets)}

    @torch.no_grad()
    def targets(self, batch: Rollout, state: RecurrentState) -> tuple[Tensor, Tensor]:
        """Returns of the agents' own rewards, and V, (T, E, N) each.

        The state that follows the last step of an episode or of the segment is valued with the recurrent state that was
        reached there.
        """
        steps, environments = batch.truncated.shape
        last = torch.arange((steps - 1) * environments, steps * environments, device=batch.rewards.device)
        states = torch.cat([batch.final_observations, batch.observations[-1]])  # (M+E, N, D)
        hidden, _ = self.policy(states, state.flatten()[torch.cat([batch.final_index, last])])
        final, beyond = self.policy.values(hidden).tensor_split([len(batch.final_index)])
        values = self.policy.values(state.hidden)
        next_v = next_values(torch.cat([values, beyond.unsqueeze(0)]), batch.final_index, final)
        ends = batch.terminated, batch.truncated, batch.valid
        advantage = advantages(batch.rewards, values, next_v, *ends, self.settings.gamma, 1.0)
        return lambda_returns(values, advantage), values

    def parts(self) -> dict[str, Any]:
        """Parts with a state of their own, besides the policy."""
        return {"optimizer": self.optimizer}
