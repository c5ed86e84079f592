"""Graphs of the agents that communicate, and gather, reduce and exchange over κ-hop neighborhoods.

`neighborhood = graphs.Neighborhood(graphs.make("cycle", n=22), hops=1)` is computed once; then
`neighborhood.gather(states)` takes (..., N, D) to (..., N, K, D).

PyTorch is loaded with the first use of `Neighborhood`: processes that only simulate never need it.
"""

from typing import TYPE_CHECKING, Any

from graphs import files as files
from graphs import topologies as topologies
from graphs.registry import docstring, make, names, parameters, register

if TYPE_CHECKING:
    from graphs.neighborhood import Neighborhood, Order

__all__ = ["Neighborhood", "Order", "docstring", "make", "names", "parameters", "register"]


def __getattr__(name: str) -> Any:
    if name in ("Neighborhood", "Order"):
        from graphs import neighborhood

        return getattr(neighborhood, name)
    raise AttributeError(f"module 'graphs' has no attribute {name!r}")
