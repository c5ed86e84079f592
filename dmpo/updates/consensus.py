"""Agents that agree on their parameters with their neighbors, each of which still has its own.

θ_i ← (1 - w) θ_i + w / |N_i^1| Σ_{j∈N_i^1} θ_j,

as networked agents do with their values (Zhang et al. 2018, arXiv 1802.08757, their consensus step with equal weights),
here for policies and value functions. Repeated, it carries what one agent has learned over the whole graph, one hop at a
time; nobody hears more than its neighbors. A mean of unlike networks is none, so all begin with the same parameters.

Where all have as many neighbors it leaves the mean over agents what it is, elsewhere those with many weigh more. It is
for agents whose networks are given the same thing in the same place: on loops that is `neighbor_order` cyclic. Moments
of observations and returns stay each agent's own, as their units are.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from graphs import Neighborhood

PIECE = 4_194_304  # numbers that agents hear at a time, which bounds the memory on dense graphs


class Consensus:
    """Parameters that move towards those of the neighbors.

    Args:
        modules: whose parameters (N, ...) begin alike and move.
        near: N_i^1.
        weight: w in [0, 1], how far.
    """

    def __init__(self, modules: Iterable[nn.Module], near: Neighborhood, weight: float) -> None:
        self.parameters = [parameter for module in modules for parameter in module.parameters()]
        self.near, self.weight = near, weight
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

    def received(self) -> float:
        """Bytes that an agent has received since this was last asked, mean over agents."""
        numbers = sum(parameter[0].numel() for parameter in self.parameters)
        exchanges, self._exchanges = self._exchanges, 0
        return exchanges * self.near.bytes_per_agent(numbers)

    def _mean(self, x: Tensor) -> Tensor:
        # (N, P) -> (N, P), over N_i^1
        rows = max(1, PIECE // (self.near.num_agents * self.near.size))
        return torch.cat([self.near.reduce(piece, "mean") for piece in torch.split(x.T, rows)]).T  # pieces (P', N)
