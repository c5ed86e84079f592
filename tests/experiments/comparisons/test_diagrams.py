from typing import Any

import networkx as nx
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle, FancyArrowPatch

import graphs
from experiments.comparisons import diagrams


def episode(speed: float, vehicles: int = 3, headway: bool = False) -> dict[str, Any]:
    place = np.arange(40)[:, None] * 0.1 * speed + 10.0 * np.arange(vehicles)
    found = {"position": place, "speed": np.full_like(place, speed), "step_seconds": np.float64(0.1)}
    return found | ({"headway": np.full_like(place, 20.0)} if headway else {})


def test_episodes_share_their_scales_and_a_missing_one_is_said_to_be_missing() -> None:
    figure = diagrams.time_spaces({"a": episode(1.0), "b": None, "c": episode(4.0)})
    assert figure is not None
    a, b, c, bar = figure.axes
    assert [axes.get_title("left") for axes in (a, b, c)] == ["a", "b", "c"]
    assert "no episode kept" in b.texts[0].get_text()
    assert a.get_ylim() == c.get_ylim()
    norms = [lines.norm for axes in (a, c) for lines in axes.collections]
    assert [(norm.vmin, norm.vmax) for norm in norms] == [(0.0, 4.0)] * 2
    assert bar.get_ylabel() == "speed (m/s)"


def test_headways_have_a_row_where_all_episodes_have_them() -> None:
    both = diagrams.time_spaces({"a": episode(1.0, headway=True), "b": episode(1.0, headway=True)})
    one = diagrams.time_spaces({"a": episode(1.0, headway=True), "b": episode(1.0)})
    assert both is not None and one is not None
    assert [len(both.axes), len(one.axes)] == [5, 3]  # the scale of speeds among them


def test_no_episode_is_no_picture() -> None:
    assert diagrams.time_spaces({"a": None}) is None


def _places(graph: nx.Graph) -> dict[str, tuple[float, float]]:
    (axes,) = diagrams.communication_graph(graph).axes
    nodes = [patch for patch in axes.patches if isinstance(patch, Circle)]
    return {text.get_text(): node.center for text, node in zip(axes.texts, nodes, strict=True)}


def test_a_chain_is_a_line_in_its_order() -> None:
    places = _places(nx.relabel_nodes(nx.path_graph(4), {0: 2, 1: 0, 2: 3, 3: 1}))
    assert {y for _, y in places.values()} == {0.0}
    order = [int(name) for name, _ in sorted(places.items(), key=lambda item: item[1][0])]
    assert order in ([2, 0, 3, 1], [1, 3, 0, 2])


@pytest.mark.parametrize("name", ["cycle", "complete", "empty", "star"])
def test_anything_else_is_a_circle_in_the_order_of_the_vehicles(name: str) -> None:
    places = _places(graphs.make(name, n=6))
    assert np.hypot(*np.array(list(places.values())).T) == pytest.approx(1.0)
    angles = [np.arctan2(y, x) for x, y in (places[str(k)] for k in range(6))]
    assert np.mod(np.diff(angles), 2 * np.pi) == pytest.approx(2 * np.pi * 5 / 6)  # clockwise


def test_every_edge_is_drawn_and_directed_ones_as_arrows() -> None:
    (axes,) = diagrams.communication_graph(nx.cycle_graph(5)).axes
    (lines,) = (c for c in axes.collections if isinstance(c, LineCollection))
    assert len(lines.get_segments()) == 5
    (axes,) = diagrams.communication_graph(nx.cycle_graph(5, create_using=nx.DiGraph)).axes
    assert sum(isinstance(patch, FancyArrowPatch) for patch in axes.patches) == 5


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (nx.cycle_graph(22), "22 agents, 22 edges, diameter 11"),
        (nx.empty_graph(3), "3 agents, 0 edges, not connected"),
        (nx.cycle_graph(3, create_using=nx.DiGraph), "3 agents, 3 directed edges, diameter 2"),
        (nx.empty_graph(1), "1 agent, 0 edges, diameter 0"),
    ],
)
def test_a_graph_in_words(graph: nx.Graph, words: str) -> None:
    assert diagrams.describe_graph(graph) == words
    assert diagrams.communication_graph(graph).axes
