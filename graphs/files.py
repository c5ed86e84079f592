"""Topology `file`: a graph read from GraphML or from an edge list."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EFBIG, EINVAL
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from xml.etree.ElementTree import ParseError

import networkx as nx

from graphs.checks import excerpt, refusal
from graphs.registry import register

MAX_BYTES = 64 * 2**20  # a complete graph of 2,000 agents is an edge list of 20 MB


@register("file")
def file(n: int, path: str, directed: bool = False) -> nx.Graph:
    """The graph in a file, its nodes labeled 0..n-1.

    `.graphml` is GraphML, which says itself whether it is directed and lists every node. `.edgelist` and `.txt` hold
    one edge a line, two labels separated by white space, `.csv` by a comma; columns after the second are ignored, `#`
    starts a comment, and agents in no line have no neighbors.

    Args:
        n: Number of agents.
        path: Path of the file, relative to the working directory.
        directed: Whether each line `u v` of an edge list means that u speaks to v but not v to u.

    Raises:
        ValueError: the file is missing or unreadable, larger than 64 MiB, of another suffix, a multigraph, or its
            labels are not 0..n-1.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    if suffix == ".graphml":
        graph = _read_graphml(source, directed)
        if len(graph) != n:
            allowed = f"the file has {len(graph)} nodes, but there are n={n} agents"
            raise refusal("path", str(path), allowed, f"Use n={len(graph)} or another file.")
    elif suffix in (".edgelist", ".txt", ".csv"):
        graph = _read_edge_list(source, directed, "," if suffix == ".csv" else None)
    else:
        allowed = "the suffix must be .graphml (GraphML) or .edgelist, .txt, .csv (edge list)"
        raise refusal("path", str(path), allowed, "Rename the file, or save it in one of these formats.")
    return _numbered(graph, n, source)


def _read_graphml(source: Path, directed: bool) -> nx.Graph:
    with _reading(source, "GraphML"):
        graph = nx.read_graphml(source)
    if graph.is_multigraph():
        allowed = "two agents either talk or do not, but the file has parallel edges"
        raise refusal("path", str(source), allowed, "Leave one edge for each pair.")
    if directed and not graph.is_directed():
        allowed = f"a GraphML file says itself whether it is directed, and {str(source)!r} is not"
        raise refusal("directed", directed, allowed, 'Write edgedefault="directed" in the file, or leave directed out.')
    return graph


def _read_edge_list(source: Path, directed: bool, delimiter: str | None) -> nx.Graph:
    with _reading(source, "an edge list"):
        lines = source.read_text(encoding="utf-8-sig").splitlines()  # spreadsheets begin files with a byte-order mark
    edges = []
    for number, line in enumerate(lines, start=1):
        labels = [label.strip() for label in line.partition("#")[0].split(delimiter)]
        if not any(labels):
            continue
        # networkx's own reader passes over such lines, and a file with the wrong separator would have no edges.
        if len(labels) < 2 or not (labels[0] and labels[1]):
            separator = "a comma" if delimiter else "white space"
            allowed = f"line {number} must name two agents separated by {separator}, but reads {line!r}"
            raise refusal("path", str(source), allowed, "Write one edge a line.")
        edges.append((labels[0], labels[1]))
    return nx.DiGraph(edges) if directed else nx.Graph(edges)


@contextmanager
def _reading(source: Path, form: str) -> Iterator[None]:
    """Turn the errors of a missing, unreadable or malformed file into a `ValueError` that says what to do."""
    try:
        _check_file(source)
        yield
    except OSError as error:
        allowed = f"the file cannot be read ({error.strerror})"
        remedy = "Check the path, which is relative to the working directory."
        raise refusal("path", str(source), allowed, remedy) from error
    except (ParseError, nx.NetworkXException, AttributeError, LookupError, TypeError, ValueError) as error:
        allowed = f"the file is not {form} ({error})"
        raise refusal("path", str(source), allowed, "Repair it, or give it the suffix of its format.") from error


def _check_file(source: Path) -> None:
    """Refuse a file that would block, never end or fill the memory, before it is opened."""
    status = source.stat()
    if not S_ISREG(status.st_mode):
        raise OSError(EINVAL, "it is a folder" if S_ISDIR(status.st_mode) else "it is not a regular file")
    if status.st_size > MAX_BYTES:
        many = f"it has {status.st_size:,} bytes, at most {MAX_BYTES:,} are read: write nothing but the edges"
        raise OSError(EFBIG, many)


def _numbered(graph: nx.Graph, n: int, source: Path) -> nx.Graph:
    """The same graph on the integers 0..n-1, in that order, those without an edge included."""
    number = {str(agent): agent for agent in range(n)}
    strangers = [label for label in graph if label not in number]
    if strangers:
        allowed = f"the labels must be 0..{n - 1} for n={n} agents, these are not: {excerpt(strangers)}"
        raise refusal("path", str(source), allowed, f"Number the agents from 0 to {n - 1}, or change n.")
    numbered = nx.DiGraph() if graph.is_directed() else nx.Graph()
    numbered.add_nodes_from(range(n))
    numbered.add_nodes_from((number[label], attributes) for label, attributes in graph.nodes(data=True))
    numbered.add_edges_from((number[u], number[v], attributes) for u, v, attributes in graph.edges(data=True))
    return numbered
