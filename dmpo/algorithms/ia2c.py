"""IA2C: independent advantage actor-critic on one's own and one's neighbors' states.

Every agent runs the advantage actor-critic of Mnih et al. 2016 (algorithm S3) for itself, on what its neighbors tell
of their states and for its own reward alone, as in the networked control of Chu et al. 2020. With each T steps and

    R_i^t = Σ_{l=0}^{T-t-1} γ^l r_i^{t+l} + γ^{T-t} V_i(s^T),    Â_i^t = R_i^t - V_i(s^t),

one gradient step of π_i ascends log π_i(a_i^t | s_(N_i^1)^t) Â_i^t + β H(π_i), one of V_i descends (R_i^t - V_i)². With
λ below 1 advantages mix those of fewer steps (GAE). Here Â_i is standardized and steps are Adam's, as in PPO.
"""

import networkx as nx
from torch import Tensor

from dmpo.algorithms.on_policy import OnPolicy
from dmpo.data.rollout import Rollout
from dmpo.settings import IA2CSettings
from dmpo.updates.actor_critic import ActorCritic, Samples
from graphs import Neighborhood


class A2C(ActorCritic):
    """Improves π_i and V_i by one gradient step on the steps that these policies have just taken.

    Args: see `ActorCritic`.
    """

    settings: IA2CSettings

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """One gradient step on a batch; `progress` in [0, 1) drives what is annealed."""
        samples, metrics = self.prepare(batch)
        losses = self._gradients(samples, self.settings.entropy_weight(progress))
        self._step(progress, self._everybody)
        self._check_losses(losses)
        self._check_parameters()
        self._agree()
        metrics |= {"policy/gradient_steps": 1.0, "value/loss": float(losses.value.mean())}
        return metrics | self._measure(samples)

    def objective(self, log_probs: Tensor, samples: Samples) -> Tensor:
        """Log π_i(a_i | s_(N_i^1)) Â_i."""
        return log_probs * samples.advantages


class IA2C(OnPolicy):
    """N agents, each with its own policy π_i(a_i | s_(N_i^1)) and value function V_i(s_(N_i^1)) of its own reward.

    Args: see `Agents`.
    """

    settings: IA2CSettings

    def _build(self, graph: nx.Graph, seed: int) -> None:
        self.critic = self._build_critic(graph, kappa=1)
        alone = Neighborhood(graph, hops=0).to(self.device)
        self.a2c = A2C(self.policy, self.critic, alone, self.settings, self.generator)

    @property
    def _learning(self) -> A2C:
        return self.a2c
