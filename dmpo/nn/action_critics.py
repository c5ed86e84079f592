"""The extended action values: Q_i(states of N_i^κ, actions of N_i^κ), own parameters per agent, twice."""

from collections.abc import Sequence

import networkx as nx
import torch
from torch import Tensor, nn

from dmpo.nn.layers import StackedMLP
from graphs import Neighborhood, Order

HEAD_GAIN = 1.0


class ActionCritic(nn.Module):
    """Q_i(s_j, a_j, j ∈ N_i^κ), own state and action first, padding zero; the smaller one of twins where it counts.

    A discrete action is one of `actions` numbers that is one, which the first layer multiplies by a vector of its own.

    Args:
        graph: who talks to whom.
        kappa: κ.
        features: D, numbers in one agent's state.
        actions: A, numbers of one agent's action.
        hidden: widths of the hidden layers.
        stacks: R, N for own parameters, 1 for shared ones.
        generator: where the initial weights are drawn from.
        order: of the neighbors, see `Neighborhood`.

    Shapes:
        states (B, N, D), received actions (B, N, K, A) -> (2, B, N).
    """

    def __init__(
        self,
        graph: nx.Graph,
        kappa: int,
        features: int,
        actions: int,
        hidden: Sequence[int],
        stacks: int,
        generator: torch.Generator,
        order: Order = "number",
    ) -> None:
        super().__init__()
        self.neighborhood, self.actions = Neighborhood(graph, hops=kappa, order=order), actions
        inputs = self.neighborhood.size * (features + actions)
        self.twins = nn.ModuleList(StackedMLP(stacks, inputs, hidden, 1, HEAD_GAIN, generator) for _ in range(2))

    def forward(self, states: Tensor, received: Tensor) -> Tensor:
        """(B, N, D) and (B, N, K, A) -> (2, B, N)."""
        return self._values(self.neighborhood.gather(states), received)

    def own_options(self, states: Tensor, received: Tensor) -> Tensor:
        """Values of each of one's own discrete actions beside the others' actions, (B, N, A)."""
        return self._options(states, received, 1).squeeze(-2)

    def options(self, states: Tensor, received: Tensor) -> Tensor:
        """Values of what any one of N_i^κ might do instead, all others doing what they do, (B, N, K, A)."""
        return self._options(states, received, self.neighborhood.size)

    def _options(self, states: Tensor, received: Tensor, places: int) -> Tensor:
        # One pass over everything that might be instead: (P, A, B, N, K, A'), P the places that change.
        size, actions = self.neighborhood.size, self.actions
        changed = torch.eye(size, dtype=torch.bool, device=states.device)[:places]  # (P, K)
        instead = torch.eye(actions, device=states.device).view(1, actions, 1, 1, 1, actions)
        trial = torch.where(changed.view(places, 1, 1, 1, size, 1), instead, received)
        near = self.neighborhood.gather(states)  # (B, N, K, D)
        many = near.expand(places * actions, *near.shape).flatten(0, 1)  # (P·A·B, N, K, D)
        values = self._values(many, trial.flatten(0, 2)).amin(0)  # (P·A·B, N)
        return values.view(places, actions, *near.shape[:2]).movedim((0, 1), (2, 3))  # (B, N, P, A)

    def _values(self, states: Tensor, actions: Tensor) -> Tensor:
        # (B, N, K, D), (B, N, K, A) -> (2, B, N)
        inputs = torch.cat([states, actions], -1).flatten(-2)  # (B, N, K·(D + A))
        return torch.stack([twin(inputs).squeeze(-1) for twin in self.twins])
