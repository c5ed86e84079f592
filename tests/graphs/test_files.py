"""Graphs from files: round trips, and errors that say what to do."""

import os
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphs

GRAPHML = (
    """<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="undirected">{}</graph></graphml>"""
)
NODE_0_AND_1 = '<node id="0"/><node id="1"/>'


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_graphml_round_trip(tmp_path: Path, directed: bool, seed: int) -> None:
    graph = nx.gnp_random_graph(12, 0.1, seed=seed, directed=directed)  # some nodes have no edges
    nx.set_node_attributes(graph, 0.5, "x")
    nx.set_edge_attributes(graph, 2.0, "weight")
    nx.write_graphml(graph, tmp_path / "graph.graphml")
    read = graphs.make("file", n=12, path=str(tmp_path / "graph.graphml"))
    assert read.is_directed() == directed
    assert nx.utils.graphs_equal(read, graph)
    assert list(read) == list(range(12))


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("suffix", ["edgelist", "txt", "csv", "CSV"])
def test_edge_list_round_trip(tmp_path: Path, directed: bool, suffix: str) -> None:
    graph = nx.gnp_random_graph(12, 0.1, seed=3, directed=directed)
    file = tmp_path / f"graph.{suffix}"
    nx.write_edgelist(graph, file, delimiter="," if suffix.lower() == "csv" else " ")
    read = graphs.make("file", n=12, path=str(file), directed=directed)
    assert read.is_directed() == directed
    assert nx.utils.graphs_equal(read, graph)
    assert list(read) == list(range(12))


def test_an_edge_list_leaves_comments_blank_lines_and_further_columns_out(tmp_path: Path) -> None:
    path = written(tmp_path / "graph.csv", "\ufeff# who, whom, how far\n0, 1, 2.5\n\n1,2  # near\n")
    read = graphs.make("file", n=5, path=path)
    assert sorted(read.edges) == [(0, 1), (1, 2)] and len(read) == 5


def test_the_order_of_lines_does_not_change_the_order_of_nodes(tmp_path: Path) -> None:
    path = written(tmp_path / "graph.edgelist", "3 2\n1 0\n")
    assert list(graphs.make("file", n=4, path=path)) == [0, 1, 2, 3]


def test_a_directed_edge_list_says_who_speaks(tmp_path: Path) -> None:
    path = written(tmp_path / "graph.txt", "0 1\n")
    neighborhood = graphs.Neighborhood(graphs.make("file", n=2, path=path, directed=True), hops=1)
    assert neighborhood.sizes.tolist() == [1, 2]


def test_paths_may_be_path_objects(tmp_path: Path) -> None:
    written(tmp_path / "graph.txt", "0 1\n")
    assert graphs.make("file", n=2, path=tmp_path / "graph.txt").has_edge(0, 1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "", r"suffix must be \.graphml.*\.edgelist, \.txt, \.csv"),
        ("noending", "", "suffix must be"),
        ("a.graphml", "", "not GraphML .*Repair it"),
        ("a.graphml", "0 1\n", "not GraphML"),
        ("a.graphml", "<html/>", "not GraphML"),
        (
            "a.graphml",
            GRAPHML.format(NODE_0_AND_1 + '<edge source="0" target="1"><data key="q">1</data></edge>'),
            "not",
        ),
        ("a.graphml", GRAPHML.format(NODE_0_AND_1 + '<edge source="0" target="1"/>' * 2), "parallel edges"),
        ("a.graphml", GRAPHML.format('<node id="0"/>'), "has 1 nodes, but there are n=2 agents.*Use n=1"),
        ("a.graphml", GRAPHML.format('<node id="n0"/><node id="n1"/>'), r"must be 0\.\.1 .*'n0', 'n1'"),
        ("a.graphml", GRAPHML.format('<node id="0"/><node id="00"/>'), "'00'"),
        ("a.csv", "source,target\n0,1\n", "labels must be.*'source', 'target'"),
        ("a.csv", "0 1\n", "line 1 must name two agents separated by a comma, but reads '0 1'"),
        ("a.txt", "0 1\n0,1\n", "line 2 must name two agents separated by white space"),
        ("a.csv", "0,\n", "line 1"),
        ("a.txt", "1 2\n", r"must be 0\.\.1 for n=2 agents, these are not: '2'\. Number the agents from 0 to 1"),
        ("a.txt", "0 -1\n", "'-1'"),
        ("a.txt", "0 1.0\n", "'1.0'"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = written(tmp_path / name, text)
    with pytest.raises(ValueError, match=message) as refused:
        graphs.make("file", n=2, path=path)
    assert name in str(refused.value), "the message names the file"


@pytest.mark.parametrize("name", ["a.graphml", "a.txt"])
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}' .*No such file.*working directory"):
        graphs.make("file", n=2, path=str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.graphml", "a.txt"])
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)  # opening it would wait for a writer for ever
    with pytest.raises(ValueError, match=f"{name}' .*not a regular file"):
        graphs.make("file", n=2, path=str(tmp_path / name))
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")  # reading it would never end
    with pytest.raises(ValueError, match="not a regular file"):
        graphs.make("file", n=2, path=str(tmp_path / name))
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=r"cannot be read \(it is a folder\)"):
        graphs.make("file", n=2, path=str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.graphml", "a.txt"])
def test_a_file_that_would_fill_the_memory_is_refused_unread(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**30)  # takes no space on the disk
    with pytest.raises(ValueError, match="has 1,073,741,824 bytes, at most 67,108,864 are read"):
        graphs.make("file", n=2, path=str(tmp_path / name))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe0 1")
    with pytest.raises(ValueError, match="not an edge list"):
        graphs.make("file", n=2, path=str(tmp_path / "a.txt"))


def test_an_undirected_graphml_cannot_be_declared_directed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.graphml", GRAPHML.format(NODE_0_AND_1))
    with pytest.raises(ValueError, match="directed=True .*edgedefault"):
        graphs.make("file", n=2, path=path, directed=True)


@pytest.mark.filterwarnings("ignore:No key type")
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_graphml_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    key = '<key id="d0" for="edge" attr.name="weight" attr.type="double"/>'
    edge = '<edge source="0" target="1"><data key="d0">1.5</data></edge>'
    text = GRAPHML.format(NODE_0_AND_1 + edge).replace("<graph ", key + "<graph ")
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 12)))
    damaged = text[:start] + data.draw(st.text('<>/="abd01', max_size=3)) + text[stop:]
    path: Any = written(tmp_path_factory.getbasetemp() / "damaged.graphml", damaged)
    try:
        graph = graphs.make("file", n=2, path=path)
    except ValueError as error:
        assert "damaged.graphml" in str(error)
    else:
        assert set(graph) == {0, 1}
