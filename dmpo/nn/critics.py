"""The extended value functions: V_i(states of N_i^κ), own parameters per agent."""

from collections.abc import Sequence

import networkx as nx
import torch
from torch import Tensor, nn

from dmpo.nn.layers import StackedMLP
from dmpo.nn.normalization import ReturnMoments
from graphs import Neighborhood, Order

HEAD_GAIN = 1.0
MEMORY = 0.5  # rewards change by orders of magnitude while an agent learns, so old returns are soon forgotten


class Critic(nn.Module):
    """V_i(s_j, j ∈ N_i^κ) = mean_i + std_i · network_i, own state first, padding zero.

    The network learns returns normalized by their running mean and standard deviation, per agent, so that rewards of
    any scale can be learned. Advantages are normalized as well, so rewards need no scaling of their own.

    Args:
        graph: who talks to whom.
        kappa: κ; None lets it see everybody.
        features: D, numbers in one agent's state.
        hidden: widths of the hidden layers.
        stacks: R, N for own parameters, 1 for shared ones.
        generator: where the initial weights are drawn from.
        order: of the neighbors, see `Neighborhood`.

    Shapes:
        (B, N, D) -> (B, N), in units of the rewards.
    """

    def __init__(
        self,
        graph: nx.Graph,
        kappa: int | None,
        features: int,
        hidden: Sequence[int],
        stacks: int,
        generator: torch.Generator,
        order: Order = "number",
    ) -> None:
        super().__init__()
        self.neighborhood = Neighborhood(graph, hops=kappa, order=order)
        self.network = StackedMLP(stacks, self.neighborhood.size * features, hidden, 1, HEAD_GAIN, generator)
        self.moments = ReturnMoments(stacks, MEMORY)

    def normalized(self, states: Tensor) -> Tensor:
        """(B, N, D) -> (B, N), in units of the standard deviation of the returns."""
        return self.network.hear(states, self.neighborhood).squeeze(-1)

    def forward(self, states: Tensor) -> Tensor:
        """(B, N, D) -> (B, N), in units of the rewards."""
        return self.moments.denormalize(self.normalized(states))

    def observe(self, returns: Tensor) -> None:
        """Take in the returns (B, N) of a batch; V stays what it is."""
        self.moments.observe(returns, self.network.head)
