"""κ-hop neighborhoods, through which every message between agents passes."""

import copy
import math
from dataclasses import InitVar, dataclass, field
from typing import Literal, Self

import networkx as nx
import torch
from torch import Tensor
from torch.nn.functional import pad

from graphs.checks import check_graph, excerpt, refusal

Order = Literal["number", "cyclic"]


@dataclass(frozen=True, eq=False)
class Neighborhood:
    """Neighborhoods N_i^κ = {j : distance from j to i ≤ κ} of all agents i, with i itself (DMPO paper, section 3).

    Distances count edges and ignore weights. In a directed graph an edge (u, v) means that u speaks to v, so the
    distance is the length of the shortest directed path from j to i. Self-loops change nothing.

    Args:
        graph: networkx `Graph` or `DiGraph` on the nodes 0..N-1.
        hops: κ ≥ 0. With 0 each agent is alone, with N - 1 or more its neighbors are all agents from which there is a
            path, with None all agents.
        order: order of equally distant neighbors: "number" by j, "cyclic" by j - i modulo N. On graphs that look the
            same from every node, such as cycles and complete graphs, the cyclic order gives each place in a
            neighborhood the same meaning for all agents, which a network shared by all agents needs.

    Shapes:
        index: (N, K) int64, row i lists N_i^κ: i first, then by distance, then in `order`; padded with i itself.
            Agents without a path to i are infinitely far away. `in_places` gives a copy in another order.
        mask: (N, K) bool, False where `index` is padding.
        sizes: (N,) int64, |N_i^κ|.
        sources: (N, K) int64, as `index`, but -1 in padding.

    Attributes may not be assigned, and the tensors must not be written to; `to` gives a copy elsewhere.

    Raises:
        ValueError: negative `hops`, another `order`, a multigraph, nodes other than 0..N-1.
    """

    graph: InitVar[nx.Graph]
    hops: int | None
    order: Order = "number"
    num_agents: int = field(init=False)  # N
    size: int = field(init=False)  # K, the size of the largest neighborhood
    messages: int = field(init=False)  # pairs of a receiver and another agent as its source, Σ_i (|N_i^κ| - 1)
    index: Tensor = field(init=False, repr=False)
    mask: Tensor = field(init=False, repr=False)
    sizes: Tensor = field(init=False, repr=False)
    sources: Tensor = field(init=False, repr=False)
    _source: Tensor = field(init=False, repr=False)  # (N·K,) as `index`, but N, one past the last agent, in padding
    _answer: Tensor = field(init=False, repr=False)  # (N·K,) where in j's row i stands, as j·K + l, or N·K if nowhere

    def __post_init__(self, graph: nx.Graph) -> None:
        check_graph(graph)
        if self.hops is not None and (not isinstance(self.hops, int) or self.hops < 0):
            allowed = "it is a whole number, at least 0, or None for all agents"
            raise refusal("hops", self.hops, allowed, "Use 1 for the direct neighbors.")
        if self.order not in ("number", "cyclic"):
            raise refusal("order", self.order, "neighbors are ordered by 'number' or 'cyclic'", "Choose one of these.")
        rows = _neighborhoods(graph, self.hops, self.order)
        k = max(map(len, rows))
        self._fill(torch.tensor([row + [-1] * (k - len(row)) for row in rows], dtype=torch.int64))

    def gather(self, x: Tensor) -> Tensor:
        """Values of the neighbors: y_(i,k) = x_j with j the k-th of N_i^κ, and exactly 0 in padding.

        Nothing outside N_i^κ reaches row i, neither forwards (NaN and infinities included) nor as a gradient.

        Args:
            x: (..., N, D), the values that each agent shares.

        Returns:
            (..., N, K, D), the values that each agent receives, its own first.

        Raises:
            ValueError: `x` is not (..., N, D).
        """
        if x.dim() < 2 or x.shape[-2] != self.num_agents:
            raise self._shape_error(x, "(..., N, D)")
        if self._padded:
            # One row of zeros, from which all padding is taken, costs about half of masking the result, whose gradient
            # would be masked as well; and NaN cannot pass, as it would through a multiplication by the mask.
            x = pad(x, (0, 0, 0, 1))  # (..., N+1, D)
        # Faster than x[..., index, :] on large batches, above all in the backward pass (two to eight times).
        received = x.index_select(-2, self._source)  # (..., N·K, D)
        return received.reshape(*x.shape[:-2], self.num_agents, self.size, x.shape[-1])

    def exchange(self, x: Tensor) -> Tensor:
        """Values addressed to each agent: y_(i,k) = x_(j,l), j the k-th of N_i^κ and i the l-th of N_j^κ.

        It is exactly 0 in padding and where i is not in N_j^κ, which only happens on directed graphs.

        Args:
            x: (..., N, K, D), the values that each agent addresses to each of its neighbors.

        Returns:
            (..., N, K, D), the values that each agent's neighbors address to it, its own first.

        Raises:
            ValueError: `x` is not (..., N, K, D).
        """
        if x.dim() < 3 or x.shape[-3:-1] != (self.num_agents, self.size):
            raise self._shape_error(x, f"(..., N, K, D), K={self.size},")
        sent = pad(x.flatten(-3, -2), (0, 0, 0, 1))  # (..., N·K+1, D)
        return sent.index_select(-2, self._answer).reshape(x.shape)

    def reduce(self, x: Tensor, how: Literal["mean", "sum"]) -> Tensor:
        """Sum Σ_{j∈N_i^κ} x_j, divided by |N_i^κ| for the mean. Eq. 6 of the DMPO paper is the sum divided by N.

        Args:
            x: (..., N), one number for each agent.
            how: "mean" or "sum".

        Returns:
            (..., N).

        Raises:
            ValueError: `x` is not (..., N), or another `how`.
        """
        if how not in ("mean", "sum"):
            raise refusal("how", how, "the reduction is 'mean' or 'sum'", "Choose one of these.")
        if x.dim() < 1 or x.shape[-1] != self.num_agents:
            raise self._shape_error(x, "(..., N)")
        total = self.gather(x.unsqueeze(-1)).squeeze(-1).sum(-1)  # (..., N, K, 1) -> (..., N)
        return total if how == "sum" else total / self.sizes

    def bytes_per_agent(self, width: int, itemsize: int = 4) -> float:
        """Bytes that an agent receives in one gather, mean over agents: messages · D · itemsize / N.

        Each number counts once for each agent that receives it; passing it on over several hops does not count.

        Args:
            width: D, the number of values that each agent shares (1 for `reduce`).
            itemsize: bytes of one value, `x.element_size()`.
        """
        return self.messages * width * itemsize / self.num_agents

    def in_places(self, places: Tensor) -> Self:
        """Copy on the CPU, in which each neighbor has a given place; places without one of the neighbors are padding.

        Networks whose weights were learned for the neighborhoods of another graph thus find each neighbor where its
        weights are.

        Args:
            places: (N, K') int64, the agent that each place is for, i itself first, or -1 for nobody: `sources` of
                other neighborhoods of the same agents.

        Raises:
            ValueError: `places` is not (N, K'), or a neighbor has no place; the message names the first such pair.
        """
        places = places.cpu()
        if places.dim() != 2 or len(places) != self.num_agents:
            allowed = f"it must be (N, K) with N={self.num_agents} agents"
            raise refusal("places.shape", tuple(places.shape), allowed, "Give those of the same agents.")
        neighbors = _members(self.sources.cpu())  # (N, N)
        missing = neighbors & ~_members(places)
        if bool(missing.any()):
            agent, neighbor = missing.nonzero()[0].tolist()
            others = [other for other in places[agent].tolist() if other not in (agent, -1)]
            known = f"places only for agents {excerpt(others)}" if others else "no place for any other"
            raise ValueError(f"agent {agent} receives from agent {neighbor}, and has {known}; leave this edge out")
        kept = (places >= 0) & neighbors.gather(1, places.clamp(min=0))
        moved = copy.copy(self)
        moved._fill(places.masked_fill(~kept, -1))
        return moved

    def to(self, device: torch.device | str) -> Self:
        """Copy whose tensors are on `device`."""
        moved = copy.copy(self)
        moved._set(**{name: getattr(self, name).to(device) for name in _TENSORS})
        return moved

    @property
    def _padded(self) -> bool:
        return self.messages + self.num_agents < self.num_agents * self.size

    def _fill(self, sources: Tensor) -> None:
        # Everything that follows from sources (N, K).
        n, k = sources.shape
        mask, agents = sources >= 0, torch.arange(n).unsqueeze(1)  # (N, K), (N, 1)
        index, sizes = torch.where(mask, sources, agents), mask.sum(1)
        place = torch.full((n, n), -1)  # where in row i agent j stands
        place[agents.expand(n, k)[mask], index[mask]] = torch.arange(k).expand(n, k)[mask]
        there = place[index, agents]  # (N, K), where in j's row i stands
        answer = (index * k + there).masked_fill(~mask | (there < 0), n * k).flatten()
        self._set(num_agents=n, size=k, messages=int(sizes.sum()) - n)
        self._set(index=index, mask=mask, sizes=sizes, sources=sources)
        self._set(_source=sources.masked_fill(~mask, n).flatten(), _answer=answer)

    def _set(self, **attributes: object) -> None:
        # A frozen dataclass fills in its own fields this way.
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def _shape_error(self, x: Tensor, wanted: str) -> ValueError:
        allowed = f"it must be {wanted} with N={self.num_agents} agents"
        return refusal("x.shape", tuple(x.shape), allowed, "Move the agents to that dimension, or use their own graph.")


_TENSORS = ("index", "mask", "sizes", "sources", "_source", "_answer")


def graph_of(sources: Tensor) -> nx.DiGraph:
    """Directed graph whose direct neighborhoods, `Neighborhood(graph, hops=1)`, have the given `sources` (N, K)."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(sources)))
    graph.add_edges_from((j, i) for i, row in enumerate(sources.tolist()) for j in row if j not in (i, -1))
    return graph


def _members(sources: Tensor) -> Tensor:
    # (N, K) -> (N, N) bool, whether j stands in row i.
    n = len(sources)
    columns = sources.masked_fill(sources < 0, n)
    return torch.zeros(n, n + 1, dtype=torch.bool).scatter_(1, columns, True)[:, :n]


def _neighborhoods(graph: nx.Graph, hops: int | None, order: Order) -> list[list[int]]:
    # The search starts at the receiver, against the direction in which messages travel.
    sources = graph.reverse(copy=False) if graph.is_directed() else graph
    return [_neighborhood(sources, agent, hops, agent if order == "cyclic" else 0) for agent in range(len(graph))]


def _neighborhood(sources: nx.Graph, agent: int, hops: int | None, first: int) -> list[int]:
    # Equally distant neighbors in the order of their numbers, counted from `first`.
    distance = nx.single_source_shortest_path_length(sources, agent, cutoff=hops)
    members = range(len(sources)) if hops is None else distance
    return sorted(members, key=lambda other: (distance.get(other, math.inf), (other - first) % len(sources)))
