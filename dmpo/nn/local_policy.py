"""Base of the policies of N agents that receive messages from their direct neighbors."""

from typing import Any

import networkx as nx
from torch import Tensor, nn

from graphs import Neighborhood
from graphs.neighborhood import Order


class LocalPolicy(nn.Module):
    """Policies of N agents, each of which receives messages from N_i^1, the neighborhood that it was made for.

    The state holds `sources` (N, K), the neighbors that the parameters are learned for, see `Neighborhood`. The state
    of another graph is refused; one from before states had them is taken to be of this graph.

    Args:
        graph: who talks to whom.
        order: of the neighbors, see `Neighborhood`.
    """

    sources: Tensor

    def __init__(self, graph: nx.Graph, order: Order = "number") -> None:
        super().__init__()
        self.neighborhood = Neighborhood(graph, hops=1, order=order)
        self.register_buffer("sources", self.neighborhood.sources.clone())
        self.register_load_state_dict_pre_hook(_check_sources)  # type: ignore[no-untyped-call]

    def communicate_on(self, graph: nx.Graph) -> None:
        """Receive messages over another graph from now on, perhaps of another number of agents.

        The parameters and `sources` stay what they are.

        Raises:
            ValueError: they are of no use on that graph.
        """
        near = Neighborhood(graph, hops=1, order=self.neighborhood.order)
        self.neighborhood = self.in_trained_places(near).to(self.sources.device)

    def in_trained_places(self, neighborhood: Neighborhood) -> Neighborhood:
        """Neighborhoods with each neighbor where the parameters expect it; here they tell no neighbors apart.

        Raises:
            ValueError: the parameters expect nobody there.
        """
        return neighborhood


def _check_sources(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(module, LocalPolicy)
    here = module.sources.tolist()
    there = state.setdefault(f"{prefix}sources", module.sources).tolist()
    if there == here:
        return
    changed = f"it is of {len(there)} agents, here are {len(here)}"
    if len(there) == len(here):
        agent = next(i for i, (old, new) in enumerate(zip(there, here, strict=True)) if old != new)
        old, new = ([j for j in rows[agent] if j not in (agent, -1)] for rows in (there, here))
        changed = f"agent {agent} received from {old} there, and receives from {new} here"
    raise ValueError(f"That state is of policies on another graph: {changed}. Load it with the graph of its training.")
