"""What the tests of the learners share."""

from collections.abc import Iterator

import networkx as nx
import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # The networks of the tests are small: a second thread would only wait.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


GRAPHS = {
    "path": nx.path_graph(6),
    "cycle": nx.cycle_graph(6),
    "star": nx.star_graph(5),
    "empty": nx.empty_graph(6),
    "complete": nx.complete_graph(6),
    "two parts": nx.disjoint_union(nx.path_graph(3), nx.path_graph(3)),
}


@pytest.fixture(params=GRAPHS, ids=list(GRAPHS))
def graph(request: pytest.FixtureRequest) -> nx.Graph:
    """A graph of six agents."""
    return GRAPHS[request.param]
