"""Who talks to whom: topologies as networkx graphs, and gather and reduce over κ-hop neighbourhoods.

`neighborhood = graphs.Neighborhood(graphs.make("cycle", n=22), hops=1)` is computed once; then
`neighborhood.gather(states)` takes (..., N, D) to (..., N, K, D).
"""

from graphs import files as files
from graphs import topologies as topologies
from graphs.neighborhood import Neighborhood, Order
from graphs.registry import docstring, make, names, parameters, register

__all__ = ["Neighborhood", "Order", "docstring", "make", "names", "parameters", "register"]
