"""Topologies by name: what is listed, what is refused, and how users add their own."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import networkx as nx
import pydantic
import pytest
from annotated_types import Ge

import graphs
from graphs import registry

BUILT_IN = {
    "complete",
    "crossed_cycle",
    "cycle",
    "empty",
    "file",
    "grid",
    "k_nearest",
    "path",
    "random_geometric",
    "small_world",
    "star",
}


@pytest.fixture(autouse=True)
def table_is_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_topologies", dict(registry._topologies))
        yield


def test_names_are_listed_in_order() -> None:
    assert set(graphs.names()) == BUILT_IN
    assert graphs.names() == sorted(graphs.names())


def test_parameters_tell_types_and_defaults() -> None:
    assert graphs.parameters("cycle") == {}
    small_world = graphs.parameters("small_world")
    assert {name: parameter.default for name, parameter in small_world.items()} == {"k": 4, "p": 0.1, "seed": 0}
    path = graphs.parameters("file")["path"]
    assert path.annotation is str and path.default is inspect.Parameter.empty


def test_topologies_say_what_they_are() -> None:
    first, *others = graphs.docstring("small_world").splitlines()
    assert "rewired" in first
    assert "    seed: Seed of the draw; the same seed gives the same graph." in others
    graphs.register("mine")(without_words)
    assert graphs.docstring("mine") == ""


@pytest.mark.parametrize("name", sorted(BUILT_IN - {"file"}))
def test_every_parameter_has_a_default_that_works(name: str) -> None:
    assert len(graphs.make(name, n=22)) == 22


def test_parameters_make_a_schema() -> None:
    fields: dict[str, Any] = {
        name: (parameter.annotation, parameter.default) for name, parameter in graphs.parameters("small_world").items()
    }
    model = pydantic.create_model("SmallWorld", **fields)
    assert model.model_validate({"p": 0.5}).model_dump() == {"k": 4, "p": 0.5, "seed": 0}
    for wrong in ({"p": 1.5}, {"k": 3}, {"k": 0}, {"seed": "x"}):
        with pytest.raises(pydantic.ValidationError):
            model.model_validate(wrong)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("cycel", "cycle"), ("Grid", "grid"), ("k-nearest", "k_nearest"), ("STAR", "star"), ("smallworld", "small_world")],
)
def test_a_misspelt_name_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    for call in (lambda: graphs.make(wrong, n=5), lambda: graphs.parameters(wrong), lambda: graphs.docstring(wrong)):
        with pytest.raises(
            ValueError, match=f"'{wrong}'.*Did you mean '{right}'.*Known: complete, crossed_cycle, cycle"
        ):
            call()


def test_a_name_like_no_other_is_answered_with_the_list() -> None:
    with pytest.raises(ValueError, match="'xyz'. Known: complete"):
        graphs.make("xyz", n=5)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("small_world", {"sead": 1}, "'small_world' has no parameter sead=1. Did you mean 'seed'. Known: k, p, seed"),
        ("k_nearest", {"K": 2}, "K=2. Did you mean 'k'"),
        ("cycle", {"k": 2}, "'cycle' has no parameter k=2. Known: none"),
        ("file", {}, "'file' needs path"),
    ],
)
def test_unknown_and_missing_parameters_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graphs.make(name, n=5, **parameters)


@pytest.mark.parametrize("n", [0, -3, 2.5, "4"])
def test_the_number_of_agents_must_be_positive_and_whole(n: Any) -> None:
    with pytest.raises(ValueError, match=f"n={n!r} .*whole number from 1"):
        graphs.make("cycle", n=n)


def test_users_add_their_own_topology() -> None:
    @graphs.register("ladder")
    def ladder(n: int, rungs: Annotated[int, Ge(0)] = 1) -> nx.Graph:
        graph = nx.path_graph(n)
        graph.add_edges_from((i, n - 1 - i) for i in range(rungs))
        return graph

    assert "ladder" in graphs.names()
    assert graphs.parameters("ladder")["rungs"].annotation == Annotated[int, Ge(0)]
    assert graphs.make("ladder", n=6, rungs=2).has_edge(1, 4)
    assert ladder(4).has_edge(0, 3), "the function itself is left as it was"
    with pytest.raises(ValueError, match="Did you mean 'rungs'"):
        graphs.make("ladder", n=6, rung=2)


def test_a_name_belongs_to_one_function() -> None:
    def cycle(n: int) -> nx.Graph:
        return nx.path_graph(n)

    with pytest.raises(ValueError, match=r"name='cycle' .*graphs\.topologies\.cycle has that name.*another name"):
        graphs.register("cycle")(cycle)
    assert graphs.make("cycle", 5).number_of_edges() == 5


def test_registering_the_same_function_again_replaces_it() -> None:
    for edges in (0, 1):

        @graphs.register("mine")
        def mine(n: int, edges: int = edges) -> nx.Graph:
            return nx.path_graph(n) if edges else nx.empty_graph(n)

    assert graphs.make("mine", 3).number_of_edges() == 2


def without_words(n: int) -> nx.Graph:
    return nx.empty_graph(n)


def without_n(agents: int) -> nx.Graph:
    return nx.empty_graph(agents)


def without_parameters() -> nx.Graph:
    return nx.empty_graph(3)


def with_anything(n: int, **anything: int) -> nx.Graph:
    return nx.empty_graph(n + len(anything))


def with_a_name(n: int, name: str) -> nx.Graph:
    return nx.empty_graph(n, create_using=nx.Graph(name=name))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (without_n, r"mine\(agents.*first parameter of a topology is n"),
        (without_parameters, "first parameter of a topology is n"),
        (with_anything, "can be given by name"),
        (with_a_name, "'name'"),
    ],
)
def test_signatures_that_no_schema_can_hold_are_refused(function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graphs.register("mine")(function)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.path_graph(4), "n=5 .*'mine' returned 4 nodes"),
        (nx.path_graph(range(1, 6)), r"numbered 0\.\.4.*: 5\."),
        (nx.MultiGraph(nx.path_graph(5)), "parallel edges"),
        (None, "networkx Graph or DiGraph is needed"),
    ],
)
def test_what_a_topology_returns_is_checked(graph: Any, message: str) -> None:
    @graphs.register("mine")
    def mine(n: int) -> nx.Graph:
        return graph

    with pytest.raises(ValueError, match=message):
        graphs.make("mine", n=5)


def test_importing_touches_nothing_heavier_than_torch_and_networkx() -> None:
    probe = "import sys, torch, networkx; seen = set(sys.modules); import graphs; print(*(set(sys.modules) - seen))"
    loaded = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout.split()
    assert {module.partition(".")[0] for module in loaded} <= {"graphs", "annotated_types"}
