"""Agents that learn from what they have just done: what DPPO, CPPO and IA2C share."""

from abc import abstractmethod
from typing import Any

import networkx as nx

from dmpo.algorithms.base import Agents
from dmpo.data.rollout import Rollout
from dmpo.nn.critics import Critic
from dmpo.settings import ActorCriticSettings
from dmpo.updates.actor_critic import ActorCritic


class OnPolicy(Agents):
    """N agents with policies π_i(a_i | s_(N_i^1)) and value functions of states; subclasses say what values see.

    Args: see `Agents`.
    """

    settings: ActorCriticSettings
    critic: Critic

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Gradient steps on the real steps."""
        batch = batch.to(self.device)
        metrics = self._learning.improve(self._normalized(batch), progress)
        self._see(batch.observations[:-1][batch.valid])
        return metrics | self._communication(batch)

    @property
    @abstractmethod
    def _learning(self) -> ActorCritic:
        """Who takes the gradient steps."""

    def _build_critic(self, graph: nx.Graph, kappa: int | None) -> Critic:
        shape = (self.features, self.settings.hidden_sizes, self.stacks)
        critic = Critic(graph, kappa, *shape, self.initial, self.settings.neighbor_order).to(self.device)
        critic.neighborhood = critic.neighborhood.to(self.device)
        return critic

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | {"critic": self.critic, **self._learning.parts()}

    def _communication(self, batch: Rollout) -> dict[str, float]:
        # Acting needs neighbors' states; training those a critic sees, and values and rewards to reduce (eq. 6). Real
        # and imagined steps cost the same; what models hear of each other while fitted and rolled is not in it.
        near, far, over = self.policy.neighborhood, self.critic.neighborhood, self._learning.over
        width = batch.observations.shape[-1]
        metrics = {
            "comm/bytes_per_agent_step": near.bytes_per_agent(width),
            "comm/training_bytes_per_agent_step": far.bytes_per_agent(width) + over.bytes_per_agent(2),
        }
        if consensus := self._learning.consensus:
            metrics["comm/consensus_bytes_per_agent_step"] = consensus.received() / int(batch.valid.sum())
        return metrics
