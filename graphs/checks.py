"""Checks of graphs, and the error for values that are refused."""

from collections.abc import Iterable

import networkx as nx


def refusal(parameter: str, value: object, allowed: str, remedy: str) -> ValueError:
    """Error for an impossible value, which names the parameter, the value, what is allowed and what to do."""
    return ValueError(f"{parameter}={value!r} is not possible: {allowed}. {remedy}")


def excerpt(values: Iterable[object], limit: int = 5) -> str:
    """The first few values as text, so that a message about a large graph stays readable."""
    listed = list(values)
    return ", ".join(repr(value) for value in listed[:limit]) + (", …" if len(listed) > limit else "")


def check_graph(graph: nx.Graph) -> None:
    """Refuse everything but a simple graph, directed or not, on the nodes 0..n-1 with n ≥ 1.

    Raises:
        ValueError: not a networkx graph, a multigraph, no nodes, or other labels than 0..n-1.
    """
    if not isinstance(graph, nx.Graph):
        allowed = f"a networkx Graph or DiGraph is needed, not {type(graph).__name__}"
        raise refusal("graph", graph, allowed, "Build one with graphs.make.")
    if graph.is_multigraph():
        allowed = "two agents either talk or do not, so parallel edges mean nothing"
        remedy = "Convert it with networkx.Graph(graph) or networkx.DiGraph(graph)."
        raise refusal("graph", str(graph), allowed, remedy)
    n = len(graph)
    if n == 0:
        raise refusal("graph", str(graph), "it has no nodes, at least one agent is needed", "Add the nodes 0..n-1.")
    strangers = [node for node in graph if node not in range(n)]
    if strangers:
        allowed = f"its {n} nodes must be numbered 0..{n - 1}, these are not: {excerpt(strangers)}"
        remedy = "Renumber them, for instance with networkx.convert_node_labels_to_integers(graph)."
        raise refusal("graph", str(graph), allowed, remedy)
