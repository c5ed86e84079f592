"""Policies: π_i(a_i | states of N_i^1), own parameters per agent."""

from collections.abc import Sequence

import networkx as nx
import torch
from torch import Tensor, nn

from dmpo.nn.distributions import ActionDistribution
from dmpo.nn.layers import StackedMLP
from graphs import Neighborhood
from graphs.neighborhood import Order

HEAD_GAIN = 0.01  # the untrained policy hardly depends on the state


class Policy(nn.Module):
    """π_i(a_i | s_j, j ∈ N_i^1), own state first, padding zero.

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
        super().__init__()
        self.neighborhood = Neighborhood(graph, hops=1, order=order)
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
