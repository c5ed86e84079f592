"""DPPO: decentralised PPO with extended value functions, which is DMPO without a model."""

from typing import Any

import networkx as nx

from dmpo.agents import Agents
from dmpo.configuration import PPOSettings
from dmpo.critic import Critic
from dmpo.ppo import PPO
from dmpo.rollout import Rollout


class DPPO(Agents):
    """N agents, each with its own policy π_i(a_i | s_(N_i^1)) and extended value function V_i(s_(N_i^κ)).

    Args: see `Agents`.
    """

    settings: PPOSettings

    def _build(self, graph: nx.Graph, seed: int) -> None:
        settings, shape = self.settings, (self.features, self.settings.hidden, self.stacks)
        self.critic = Critic(graph, settings.kappa, *shape, self.initial).to(self.device)
        self.critic.neighborhood = self.critic.neighborhood.to(self.device)
        self.ppo = PPO(self.policy, self.critic, settings, self.generator)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """PPO on the real steps."""
        batch = batch.to(self.device)
        metrics = self.ppo.improve(self._normalized(batch), progress)
        self._see(batch.observations[:-1][batch.valid])
        return metrics | self._communication(batch.observations.shape[-1])

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | {
            "critic": self.critic,
            "policy_optimizer": self.ppo.policy_optimizer,
            "value_optimizer": self.ppo.value_optimizer,
        }

    def _communication(self, width: int) -> dict[str, float]:
        # Acting needs neighbours' states; training those of κ hops, and their values and rewards (eq. 6).
        near, far = self.policy.neighborhood, self.critic.neighborhood
        return {
            "comm/bytes_per_agent_step": near.bytes_per_agent(width),
            "comm/training_bytes_per_agent_step": far.bytes_per_agent(width + 2),
        }
