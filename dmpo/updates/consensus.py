"""Consensus: agents move their parameters towards their neighbors', each of which keeps its own.

θ_i ← (1 - w) θ_i + w / |N_i^1| Σ_{j∈N_i^1} θ_j,

as networked agents do with their values (Zhang et al. 2018, arXiv 1802.08757, their consensus step with equal weights),
here for policies and critics. Repeated, it carries what one agent has learned over the whole graph, one hop at a time;
no agent receives more than its neighbors' parameters. A mean of unlike networks means nothing, so all begin with the
same parameters.

Where all have the same number of neighbors the mean over agents stays what it is; elsewhere those with many weigh more.
It is meant for agents whose networks find the same input in the same place: on loops that is `neighbor_order` cyclic.
Normalizers of observations and returns stay each agent's own, as their units are.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from graphs import Neighborhood

RECEIVED_AT_ONCE = 4_194_304  # numbers that agents receive at a time, which bounds the memory on dense graphs


class Consensus:
    """Parameters that move towards those of the neighbors.

    Args:
        modules: whose parameters (N, ...) begin alike and move.
        neighborhood: N_i^1.
        weight: w in [0, 1], how far.
    """

    def __init__(self, modules: Iterable[nn.Module], neighborhood: Neighborhood, weight: float) -> None:
        self.parameters = [parameter for module in modules for parameter in module.parameters()]
        self.neighborhood, self.weight = neighborhood, weight
        self._exchanges = 0
        with torch.no_grad():
            for parameter in self.parameters:
                parameter.copy_(parameter[:1].clone().expand_as(parameter))

    @torch.no_grad()
    def step(self) -> None:
        """One exchange with the neighbors."""
        self._exchanges += 1
        for parameter in self.parameters:
            parameter.lerp_(self._mean(parameter.flatten(1)).view_as(parameter), self.weight)

    def bytes_received(self) -> float:
        """Bytes that an agent has received since the last call, mean over agents."""
        numbers = sum(parameter[0].numel() for parameter in self.parameters)
        exchanges, self._exchanges = self._exchanges, 0
        return exchanges * self.neighborhood.bytes_per_agent(numbers)

    def _mean(self, x: Tensor) -> Tensor:
        # (N, P) -> (N, P), over N_i^1, some columns (P', N) at a time
        rows = max(1, RECEIVED_AT_ONCE // (self.neighborhood.num_agents * self.neighborhood.size))
        return torch.cat([self.neighborhood.reduce(piece, "mean") for piece in torch.split(x.T, rows)]).T
