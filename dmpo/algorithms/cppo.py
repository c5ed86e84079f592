"""CPPO: PPO with local policies and central critics, the baseline of the DMPO paper (section 5).

It is DPPO with two other neighborhoods. V_i sees everybody's state, whether or not a path of the graph leads there;
advantages are those of the team, Â_i on (1/n) Σ_j r_j and (1/n) Σ_j V_j, j any agent, or selfish, on r_i and V_i.
As V_j learns agent j's return (eq. 5), (1/n) Σ_j V_j is by linearity the team's, so that the team's CPPO is DPPO with κ
of at least the graph's diameter, to the last bit.
"""

import networkx as nx

from dmpo.algorithms.dppo import DPPO
from dmpo.settings import CPPOSettings
from dmpo.updates.ppo import PPO
from graphs import Neighborhood


class CPPO(DPPO):
    """N agents, each with its own policy π_i(a_i | s_(N_i^1)) and a value function V_i(s_1 … s_N).

    Args: see `Agents`.
    """

    settings: CPPOSettings

    def _build(self, graph: nx.Graph, seed: int) -> None:
        self.critic = self._build_critic(graph, kappa=None)
        everybody, alone = self.critic.neighborhood, Neighborhood(graph, hops=0).to(self.device)
        over = everybody if self.settings.objective == "team" else alone
        self.ppo = PPO(self.policy, self.critic, over, self.settings, self.generator)
