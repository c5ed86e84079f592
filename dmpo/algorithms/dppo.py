"""DPPO: decentralized PPO with extended value functions, which is DMPO without a model."""

from typing import cast

import networkx as nx

from dmpo.algorithms.on_policy import OnPolicy
from dmpo.settings import ExtendedSettings, PPOSettings
from dmpo.updates.ppo import PPO


class DPPO(OnPolicy):
    """N agents, each with its own policy π_i(a_i | s_(N_i^1)) and extended value function V_i(s_(N_i^κ)).

    Args: see `Agents`.
    """

    settings: PPOSettings

    def _build(self, graph: nx.Graph, seed: int) -> None:
        self.critic = self._build_critic(graph, cast(ExtendedSettings, self.settings).kappa)
        # Advantages are reduced over those whom the critic sees.
        self.ppo = PPO(self.policy, self.critic, self.critic.neighborhood, self.settings, self.generator)

    @property
    def _learning(self) -> PPO:
        return self.ppo
