"""The policies: π_i(a_i | states of N_i^1), own parameters per agent."""

from collections.abc import Sequence

import networkx as nx
import torch
from torch import Tensor, nn

from dmpo.nn.distributions import Acting
from dmpo.nn.layers import StackedMLP
from graphs import Neighborhood, Order

HEAD_GAIN = 0.01  # the first policy hardly depends on the state


class Policy(nn.Module):
    """π_i(a_i | s_j, j ∈ N_i^1), own state first, padding zero.

    Args:
        graph: who talks to whom.
        features: D, numbers in one agent's state.
        distribution: of one agent's actions.
        hidden: widths of the hidden layers.
        start: (P',) what the network gives at first, whatever the state.
        init_log_std: initial value of what the distribution learns that does not depend on the state.
        stacks: R, N for own parameters, 1 for shared ones.
        generator: where the initial weights are drawn from.
        order: of the neighbors, see `Neighborhood`.

    Shapes:
        (B, N, D) -> (B, N, P), the parameters of the distribution.
    """

    def __init__(
        self,
        graph: nx.Graph,
        features: int,
        distribution: Acting,
        hidden: Sequence[int],
        start: Tensor,
        init_log_std: float,
        stacks: int,
        generator: torch.Generator,
        order: Order = "number",
    ) -> None:
        super().__init__()
        self.neighborhood = Neighborhood(graph, hops=1, order=order)
        self.distribution = distribution
        inputs = self.neighborhood.size * features
        self.network = StackedMLP(stacks, inputs, hidden, distribution.outputs, HEAD_GAIN, generator)
        with torch.no_grad():
            self.network.head.bias.copy_(start)
        self.log_std = nn.Parameter(torch.full((stacks, distribution.scales), init_log_std))  # (R, A), or (R, 0)

    def forward(self, states: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, P)."""
        outputs = self.network.hear(states, self.neighborhood)
        return self.distribution.parameters(outputs, self.log_std)
