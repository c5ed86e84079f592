"""Base of the policies of N agents that receive messages from their direct neighbors."""

from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn

from graphs import Neighborhood
from graphs.neighborhood import Order


class LocalPolicy(nn.Module):
    """Policies of N agents, each of which receives messages from N_i^1, the neighborhood that it was made for.

    The state holds `sources` (N, K), the neighbors of training in their places, see `Neighborhood`. Where parameters
    are those of particular neighbors, the state of another graph is refused; a state without `sources`, as older ones
    are, is taken to be one of this graph.

    Args:
        graph: who talks to whom.
        order: of the neighbors, see `Neighborhood`.
    """

    sources: Tensor

    def __init__(self, graph: nx.Graph, order: Order = "number") -> None:
        super().__init__()
        self.neighborhood = Neighborhood(graph, hops=1, order=order)
        self.register_buffer("sources", self.neighborhood.sources.clone())
        self.register_load_state_dict_pre_hook(_before_loading)  # type: ignore[no-untyped-call]

    @property
    def knows_neighbors(self) -> bool:
        """Whether parameters are those of particular neighbors, and not for whoever sends a message."""
        return False

    def communicate_on(self, graph: nx.Graph) -> None:
        """Receive messages over another graph from now on, perhaps of another number of agents.

        The parameters and `sources` stay what they are.

        Raises:
            ValueError: they are of no use on that graph.
        """
        near = Neighborhood(graph, hops=1, order=self.neighborhood.order)
        self.neighborhood = self.in_trained_places(near).to(self.sources.device)

    def in_trained_places(self, neighborhood: Neighborhood) -> Neighborhood:
        """Neighborhoods with each neighbor where the parameters expect it.

        Raises:
            ValueError: the parameters expect nobody there.
        """
        return neighborhood


def check_same_sources(there: Tensor, here: Tensor) -> None:
    """Refuse parameters learned on another graph.

    Args:
        there: (N', K') int64, `sources` of the policies that learned.
        here: (N, K) int64, those of the policies that are to go on.

    Raises:
        RuntimeError: they differ; the message names the first agent that has other neighbors.
    """
    if torch.equal(there.cpu(), here.cpu()):
        return
    if len(there) != len(here):
        raise RuntimeError(f"it is of policies of {len(there)} agents, and here are {len(here)}")
    for agent, rows in enumerate(zip(there.tolist(), here.tolist(), strict=True)):
        old, new = ([j for j in row if j not in (agent, -1)] for row in rows)
        if old != new:
            raise RuntimeError(
                f"it is of policies on another graph, where agent {agent} received from {old or 'nobody'}, and here it "
                f"receives from {new or 'nobody'}; restore the graph of training, or begin anew"
            )


def _before_loading(policy: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(policy, LocalPolicy)
    if policy.knows_neighbors and (there := state.get(f"{prefix}sources")) is not None:
        check_same_sources(there, policy.sources)
    state[f"{prefix}sources"] = policy.sources
