"""Sizes, degrees, connectedness and repeatability of the topologies, and what they refuse."""

import math
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphs

SIZES = st.integers(1, 40)
MANY = settings(max_examples=40, deadline=None)
WITHOUT_ARGUMENTS = ["complete", "crossed_cycle", "cycle", "empty", "grid", "path", "random_geometric", "star"]


def degrees(graph: nx.Graph) -> list[int]:
    return [graph.degree(node) for node in range(len(graph))]


@MANY
@given(st.sampled_from(WITHOUT_ARGUMENTS), SIZES)
def test_any_number_of_agents_gives_a_simple_graph_in_order(name: str, n: int) -> None:
    graph = graphs.make(name, n=n)
    assert type(graph) is nx.Graph
    assert list(graph) == list(range(n))
    assert nx.number_of_selfloops(graph) == 0


@MANY
@given(SIZES)
def test_neighbors_follow_the_definitions(n: int) -> None:
    assert not graphs.make("empty", n).edges
    edges = {name: graphs.make(name, n).edges for name in ("path", "cycle", "complete", "star")}
    for i in range(n):
        for j in range(i + 1, n):
            assert ((i, j) in edges["path"]) == (j - i == 1)
            assert ((i, j) in edges["cycle"]) == (j - i in (1, n - 1))
            assert (i, j) in edges["complete"]
            assert ((i, j) in edges["star"]) == (i == 0)


@MANY
@given(SIZES)
def test_grid_is_as_square_as_possible(n: int) -> None:
    rows = max(r for r in range(1, math.isqrt(n) + 1) if n % r == 0)
    assert nx.utils.graphs_equal(graphs.make("grid", n), graphs.make("grid", n, rows=rows))


@MANY
@given(st.integers(1, 7), st.integers(1, 7))
def test_grid_joins_those_one_step_away(rows: int, columns: int) -> None:
    graph = graphs.make("grid", n=rows * columns, rows=rows)
    for i in range(rows * columns):
        for j in range(i):
            (r, c), (s, d) = divmod(i, columns), divmod(j, columns)
            assert graph.has_edge(i, j) == (abs(r - s) + abs(c - d) == 1)


@MANY
@given(st.integers(3, 40), st.data())
def test_k_nearest_joins_the_k_nearest_on_the_loop(n: int, data: st.DataObject) -> None:
    k = 2 * data.draw(st.integers(1, (n - 1) // 2))
    graph = graphs.make("k_nearest", n, k=k)
    assert degrees(graph) == [k] * n
    assert all(min(abs(u - v), n - abs(u - v)) <= k // 2 for u, v in graph.edges)


@MANY
@given(SIZES, st.integers(0, 20))
def test_a_crossed_cycle_joins_those_half_a_loop_away(n: int, reach: int) -> None:
    graph = graphs.make("crossed_cycle", n, reach=reach)
    for i in range(n):
        for j in range(i):
            away = min(i - j, n - i + j)
            assert graph.has_edge(i, j) == (away == 1 or n / 2 - away <= reach)


def test_fourteen_on_a_figure_eight_have_two_neighbors_on_their_road_and_three_across() -> None:
    assert sorted(graphs.make("crossed_cycle", 14)[0]) == [1, 6, 7, 8, 13]


def test_k_nearest_with_two_is_the_cycle() -> None:
    assert nx.utils.edges_equal(graphs.make("k_nearest", 9, k=2).edges, graphs.make("cycle", 9).edges)


@MANY
@given(st.integers(6, 40), st.sampled_from([2, 4]), st.floats(0, 0.3), st.integers(0, 2**32))
def test_small_world_is_connected_and_keeps_the_number_of_edges(n: int, k: int, p: float, seed: int) -> None:
    graph = graphs.make("small_world", n, k=k, p=p, seed=seed)
    assert nx.is_connected(graph)
    assert graph.number_of_edges() == n * k // 2


def test_small_world_without_rewiring_is_k_nearest() -> None:
    small_world, k_nearest = graphs.make("small_world", 22, p=0.0), graphs.make("k_nearest", 22)
    assert nx.utils.edges_equal(small_world.edges, k_nearest.edges)


@pytest.mark.parametrize("n", [4, 8, 14, 22, 100])
def test_random_geometric_is_connected_as_a_rule(n: int) -> None:
    assert sum(nx.is_connected(graphs.make("random_geometric", n, seed=seed)) for seed in range(20)) >= 14


def test_random_geometric_joins_places_within_the_radius() -> None:
    graph = graphs.make("random_geometric", 30, radius=0.25, seed=7)
    place = nx.get_node_attributes(graph, "pos")
    for i in range(30):
        for j in range(i):
            assert graph.has_edge(i, j) == (math.dist(place[i], place[j]) <= 0.25)


@pytest.mark.parametrize("name", ["small_world", "random_geometric"])
def test_the_seed_determines_random_graphs(name: str) -> None:
    drawn = [graphs.make(name, 22, seed=seed) for seed in (0, 0, 1)]
    assert nx.utils.graphs_equal(drawn[0], drawn[1])
    assert set(drawn[0].edges) != set(drawn[2].edges)
    assert nx.utils.graphs_equal(graphs.make(name, 22), drawn[0]), "the default seed is 0"


@pytest.mark.parametrize(
    ("name", "n", "parameters", "message"),
    [
        ("k_nearest", 22, {"k": 3}, "k=3 .*even.*below n=22.*k=20 or less"),
        ("k_nearest", 22, {"k": 22}, "k=22 .*below n=22"),
        ("k_nearest", 22, {"k": 0}, "k=0 .*at least 2"),
        ("k_nearest", 4, {}, "k=4 .*below n=4.*k=2 or less"),
        ("k_nearest", 2, {}, "k=4 .*'path'"),
        ("small_world", 22, {"k": 5}, "k=5 .*even"),
        ("small_world", 22, {"p": 1.5}, "p=1.5 .*between 0 and 1"),
        ("small_world", 22, {"p": float("nan")}, "p=nan .*between 0 and 1"),
        ("crossed_cycle", 14, {"reach": -1}, "reach=-1 .*at least 0"),
        ("grid", 22, {"rows": 3}, r"rows=3 .*\[1, 2, 11, 22\]"),
        ("grid", 22, {"rows": 0}, "rows=0 "),
        ("random_geometric", 22, {"radius": 0.0}, "radius=0.0 .*greater than 0"),
        ("random_geometric", 22, {"radius": float("nan")}, "radius=nan "),
    ],
)
def test_impossible_values_are_refused_with_what_is_allowed(
    name: str, n: int, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        graphs.make(name, n, **parameters)


def test_a_small_world_that_stays_disconnected_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unlucky(*arguments: object, **settings: object) -> nx.Graph:
        raise nx.NetworkXError("Maximum number of tries exceeded")

    monkeypatch.setattr(nx, "connected_watts_strogatz_graph", unlucky)
    with pytest.raises(ValueError, match="k=2 .*none of 100.*p=1.0 was connected.*larger k"):
        graphs.make("small_world", 22, k=2, p=1.0)
