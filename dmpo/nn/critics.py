"""Critics: extended value functions V_i(states of N_i^κ) and action values Q_i(states and actions of N_i^κ)."""

from collections.abc import Sequence

import networkx as nx
import torch
from torch import Tensor, nn

from dmpo.nn.layers import StackedMLP
from dmpo.nn.normalization import ReturnNormalizer
from graphs import Neighborhood
from graphs.neighborhood import Order

HEAD_GAIN = 1.0
RETURN_MEMORY = 0.5  # rewards change by orders of magnitude while an agent learns, so old returns are soon forgotten


class ValueCritic(nn.Module):
    """V_i(s_j, j ∈ N_i^κ) = mean_i + std_i · network_i, own state first, padding zero.

    The network learns returns normalized by their running mean and standard deviation, per agent, so that rewards of
    any scale can be learned. Advantages are normalized as well, so rewards need no scaling of their own.

    Args:
        graph: who talks to whom.
        kappa: κ; None lets it see everybody.
        features: D, the width of one agent's state.
        hidden_sizes: widths of the hidden layers.
        stacks: R, N for own parameters, 1 for shared ones.
        generator: of the initial weights.
        order: of the neighbors, see `Neighborhood`.

    Shapes:
        (B, N, D) -> (B, N), in units of the rewards.
    """

    def __init__(
        self,
        graph: nx.Graph,
        kappa: int | None,
        features: int,
        hidden_sizes: Sequence[int],
        stacks: int,
        generator: torch.Generator,
        order: Order = "number",
    ) -> None:
        super().__init__()
        self.neighborhood = Neighborhood(graph, hops=kappa, order=order)
        self.network = StackedMLP(stacks, self.neighborhood.size * features, hidden_sizes, 1, HEAD_GAIN, generator)
        self.normalizer = ReturnNormalizer(stacks, RETURN_MEMORY)

    def normalized(self, states: Tensor) -> Tensor:
        """(B, N, D) -> (B, N), in units of the standard deviation of the returns."""
        return self.network.forward_neighborhood(states, self.neighborhood).squeeze(-1)

    def forward(self, states: Tensor) -> Tensor:
        """(B, N, D) -> (B, N), in units of the rewards."""
        return self.normalizer.denormalize(self.normalized(states))

    def observe(self, returns: Tensor, weights: Tensor | None = None) -> None:
        """Update the normalizer with the returns (B, N) of a batch, weights (B, N) or none; V stays what it is."""
        self.normalizer.observe(returns, self.network.head, weights)


class QCritic(nn.Module):
    """Twin action values Q_i(s_j, a_j, j ∈ N_i^κ), own state and action first, padding zero.

    A discrete action is one-hot: the first layer multiplies it by a vector of its own.

    Args:
        graph: who talks to whom.
        kappa: κ.
        features: D, the width of one agent's state.
        actions: A, the width of one agent's action.
        hidden_sizes: widths of the hidden layers.
        stacks: R, N for own parameters, 1 for shared ones.
        generator: of the initial weights.
        order: of the neighbors, see `Neighborhood`.

    Shapes:
        states (B, N, D), actions of each agent's neighborhood (B, N, K, A) -> (2, B, N).
    """

    def __init__(
        self,
        graph: nx.Graph,
        kappa: int,
        features: int,
        actions: int,
        hidden_sizes: Sequence[int],
        stacks: int,
        generator: torch.Generator,
        order: Order = "number",
    ) -> None:
        super().__init__()
        self.neighborhood, self.actions = Neighborhood(graph, hops=kappa, order=order), actions
        inputs = self.neighborhood.size * (features + actions)
        self.twins = nn.ModuleList(StackedMLP(stacks, inputs, hidden_sizes, 1, HEAD_GAIN, generator) for _ in range(2))

    def forward(self, states: Tensor, neighbor_actions: Tensor) -> Tensor:
        """(B, N, D) and (B, N, K, A) -> (2, B, N)."""
        return self._values(self.neighborhood.gather(states), neighbor_actions)

    def own_counterfactual_q(self, states: Tensor, neighbor_actions: Tensor) -> Tensor:
        """Smaller Q of each of an agent's own discrete actions, the others' actions as they are, (B, N, A)."""
        return self._counterfactual_q(states, neighbor_actions, 1).squeeze(-2)

    def counterfactual_q(self, states: Tensor, neighbor_actions: Tensor) -> Tensor:
        """Smaller Q_i if one agent of N_i^κ took another action, all others' actions as they are, (B, N, K, A)."""
        return self._counterfactual_q(states, neighbor_actions, self.neighborhood.size)

    def _counterfactual_q(self, states: Tensor, neighbor_actions: Tensor, places: int) -> Tensor:
        # One pass over all alternatives: (P, A, B, N, K, A'), P the places whose action is exchanged.
        size, actions = self.neighborhood.size, self.actions
        exchanged = torch.eye(size, dtype=torch.bool, device=states.device)[:places]  # (P, K)
        alternatives = torch.eye(actions, device=states.device).view(1, actions, 1, 1, 1, actions)
        trial = torch.where(exchanged.view(places, 1, 1, 1, size, 1), alternatives, neighbor_actions)
        near = self.neighborhood.gather(states)  # (B, N, K, D)
        many = near.expand(places * actions, *near.shape).flatten(0, 1)  # (P·A·B, N, K, D)
        values = self._values(many, trial.flatten(0, 2)).amin(0)  # (P·A·B, N)
        return values.view(places, actions, *near.shape[:2]).movedim((0, 1), (2, 3))  # (B, N, P, A)

    def _values(self, states: Tensor, actions: Tensor) -> Tensor:
        # (B, N, K, D), (B, N, K, A) -> (2, B, N)
        inputs = torch.cat([states, actions], -1).flatten(-2)  # (B, N, K·(D + A))
        return torch.stack([twin(inputs).squeeze(-1) for twin in self.twins])
