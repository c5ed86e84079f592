"""Topologies that come with the project. All are undirected, on nodes 0..n-1; see `graphs.register` to add one.

The bounds in the annotations are for schemas that are built from the signatures; the functions check for themselves,
because most bounds depend on n.
"""

import math
from typing import Annotated

import networkx as nx
from annotated_types import Ge, Gt, Le, MultipleOf

from graphs.checks import refusal
from graphs.registry import register

EvenDegree = Annotated[int, Ge(2), MultipleOf(2)]
Probability = Annotated[float, Ge(0), Le(1)]


@register("empty")
def empty(n: int) -> nx.Graph:
    """No edges: every agent is on its own."""
    return nx.empty_graph(n)


@register("path")
def path(n: int) -> nx.Graph:
    """i ~ i+1: a platoon, in which each vehicle talks to the one ahead and the one behind."""
    return nx.path_graph(n)


@register("cycle")
def cycle(n: int) -> nx.Graph:
    """i ~ i+1 modulo n: vehicles on a loop. Two agents share one edge, a single one has none."""
    return nx.cycle_graph(n) if n > 1 else nx.empty_graph(n)


@register("complete")
def complete(n: int) -> nx.Graph:
    """All agents talk to all others."""
    return nx.complete_graph(n)


@register("star")
def star(n: int) -> nx.Graph:
    """0 ~ i for every other i: all talk to agent 0 only."""
    return nx.star_graph(n - 1)


@register("grid")
def grid(n: int, rows: Annotated[int, Ge(1)] | None = None) -> nx.Graph:
    """Rectangle of `rows` × n/rows agents, numbered row by row.

    Each agent is joined to those above, below and beside it.

    Args:
        n: Number of agents.
        rows: Number of rows, a divisor of n. Left out, it is the largest up to √n, which gives the most square
            rectangle (a path if n is prime).

    Raises:
        ValueError: `rows` does not divide n.
    """
    divisors = [divisor for divisor in range(1, n + 1) if n % divisor == 0]
    if rows is None:
        rows = max(divisor for divisor in divisors if divisor * divisor <= n)
    if rows not in divisors:
        allowed = f"{n} agents fill a rectangle only with rows in {divisors}"
        raise refusal("rows", rows, allowed, "Choose one of these, another n, or leave rows out.")
    return nx.convert_node_labels_to_integers(nx.grid_2d_graph(rows, n // rows), ordering="sorted")


@register("k_nearest")
def k_nearest(n: int, k: EvenDegree = 4) -> nx.Graph:
    """i ~ i±1, …, i±k/2 modulo n: each agent talks to its k nearest on the loop; k = 2 is the cycle.

    Args:
        n: Number of agents.
        k: Number of neighbors of each agent, even, at least 2 and below n.

    Raises:
        ValueError: no such k.
    """
    _check_degree(n, k)
    return nx.circulant_graph(n, range(1, k // 2 + 1))


@register("crossed_cycle")
def crossed_cycle(n: int, reach: Annotated[int, Ge(0)] = 1) -> nx.Graph:
    """Cycle, and all within `reach` places of half a loop away.

    i ~ i±1 and, modulo n, i + n/2 ± reach: a loop that crosses itself halfway.

    On a figure eight those half a loop away drive towards the same crossing.

    Args:
        n: Number of agents.
        reach: Distance in places to either side of i + n/2, at least 0. With an odd n, 0 adds no edge.

    Raises:
        ValueError: a negative `reach`.
    """
    if reach < 0:
        raise refusal("reach", reach, "it is at least 0", "Use 1 for those next to the one half a loop away.")
    if n == 1:
        return nx.empty_graph(1)
    return nx.circulant_graph(n, {1, *(away for away in range(1, n // 2 + 1) if n / 2 - away <= reach)})


@register("small_world")
def small_world(n: int, k: EvenDegree = 4, p: Probability = 0.1, seed: int = 0) -> nx.Graph:
    """`k_nearest` with some edges rewired to random agents.

    Each edge is rewired with probability p (Watts and Strogatz 1998). The graph is drawn again until it is connected,
    so that it does not fall apart by chance.

    Args:
        n: Number of agents.
        k: Mean number of neighbors, even, at least 2 and below n.
        p: Probability of rewiring an edge: 0 gives `k_nearest`, 1 a random graph.
        seed: Seed of the draw; the same seed gives the same graph.

    Raises:
        ValueError: no such k or p, or a hundred draws in a row were not connected.
    """
    _check_degree(n, k)
    if not 0 <= p <= 1:
        raise refusal("p", p, "a probability lies between 0 and 1", "Use 0.1, for instance.")
    try:
        return nx.connected_watts_strogatz_graph(n, k, p, tries=100, seed=seed)
    except nx.NetworkXError as error:
        allowed = f"none of 100 graphs of {n} agents with k={k} and p={p} was connected"
        raise refusal("k", k, allowed, "Use a larger k, a smaller p or another seed.") from error


@register("random_geometric")
def random_geometric(n: int, radius: Annotated[float, Gt(0)] | None = None, seed: int = 0) -> nx.Graph:
    """i ~ j when at most `radius` apart in the unit square.

    Places are drawn uniformly; the graph is not always connected.

    Args:
        n: Number of agents.
        radius: Distance up to which two agents talk, in sides of the square. Left out, it is 2 √(ln n / (π n)), twice
            the radius from which such graphs are connected as n grows (Gupta and Kumar 1998): about 9 in 10 are.
        seed: Seed of the draw; the same seed gives the same graph.

    Raises:
        ValueError: `radius` is not greater than 0.
    """
    if radius is None:
        radius = 2 * math.sqrt(math.log(n) / (math.pi * n))
    elif not radius > 0:
        raise refusal("radius", radius, "it is a distance greater than 0", "Leave it out for a usual one.")
    return nx.random_geometric_graph(n, radius, seed=seed)


def _check_degree(n: int, k: int) -> None:
    if k < 2 or k % 2 or k >= n:
        allowed = f"k must be even, at least 2 and below n={n}"
        remedy = f"Use k={n - 1 - (n - 1) % 2} or less." if n > 2 else "Use the topology 'path' for so few agents."
        raise refusal("k", k, allowed, remedy)
