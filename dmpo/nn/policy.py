"""Policies: π_i(a_i | states of N_i^1), own parameters per agent."""

from collections.abc import Sequence

import networkx as nx
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dmpo.nn.distributions import ActionDistribution
from dmpo.nn.layers import StackedMLP
from dmpo.nn.local_policy import LocalPolicy
from graphs import Neighborhood
from graphs.neighborhood import Order

HEAD_GAIN = 0.01  # the untrained policy hardly depends on the state


class Policy(LocalPolicy):
    """π_i(a_i | s_j, j ∈ N_i^1), own state first, padding zero.

    Each of the K places among the inputs has weights of its own. With own parameters a place stands for one neighbor,
    on whatever graph the policy acts later; with shared ones for a rank by distance and then by `order`.

    Args:
        graph: who talks to whom.
        features: D, the width of one agent's state.
        distribution: of one agent's actions.
        hidden_sizes: widths of the hidden layers.
        init_outputs: (P',), outputs of the untrained network, whatever the state.
        init_log_std: initial value of the learned parameters that do not depend on the state.
        stacks: R, N for own parameters, 1 for shared ones.
        generator: of the initial weights.
        order: of the neighbors, see `Neighborhood`.

    Shapes:
        (B, N, D) -> (B, N, P), the parameters of the distribution.
    """

    def __init__(
        self,
        graph: nx.Graph,
        features: int,
        distribution: ActionDistribution,
        *,
        hidden_sizes: Sequence[int],
        init_outputs: Tensor,
        init_log_std: float,
        stacks: int,
        generator: torch.Generator,
        order: Order = "number",
    ) -> None:
        super().__init__(graph, order)
        self.distribution = distribution
        inputs = self.neighborhood.size * features
        self.network = StackedMLP(stacks, inputs, hidden_sizes, distribution.outputs, HEAD_GAIN, generator)
        with torch.no_grad():
            self.network.head.bias.copy_(init_outputs)
        self.log_std = nn.Parameter(torch.full((stacks, distribution.scales), init_log_std))  # (R, A), or (R, 0)

    def forward(self, states: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, P)."""
        outputs = self.network.forward_neighborhood(states, self.neighborhood)
        return self.distribution.dist_params(outputs, self.log_std)

    @property
    def knows_neighbors(self) -> bool:
        """True with own parameters."""
        return self.network.stacks > 1

    def in_trained_places(self, neighborhood: Neighborhood) -> Neighborhood:
        """Neighborhoods with each neighbor where its weights are, and zeros wherever there is nobody.

        With own parameters that is the neighbor's place in training; with shared ones it is that of its rank.

        Raises:
            ValueError: the agents are not those with parameters of their own, or one of them receives from a neighbor
                for which it has no weights; the message names the first such agent.
        """
        trained = self.sources.cpu()
        places = trained if self.knows_neighbors else self._ranks(neighborhood, trained.shape[1])
        if len(places) != neighborhood.num_agents:
            raise ValueError(
                f"here are {neighborhood.num_agents} agents, and {len(places)} have a policy of their own. Evaluate as "
                "many, or train with share_parameters, after which the number of agents is free"
            )
        try:
            return neighborhood.in_places(places)
        except ValueError as error:
            raise ValueError(
                f"{error}, or train on this graph. With a policy of its own, each agent has weights for the neighbors "
                "of its training alone"
            ) from error

    @staticmethod
    def _ranks(neighborhood: Neighborhood, size: int) -> Tensor:
        # Places (N, K) of a network that all agents share.
        if neighborhood.size > size:
            agent = int((neighborhood.sizes > size).nonzero()[0])
            raise ValueError(
                f"agent {agent} receives from {int(neighborhood.sizes[agent]) - 1} others here, and the network has "
                f"weights for {size - 1}. Evaluate on a graph with no more neighbors than training had, or train here"
            )
        return pad(neighborhood.sources, (0, size - neighborhood.size), value=-1)
