"""Registry of topologies: functions from the number of agents and named parameters to a graph."""

import inspect
from collections.abc import Callable
from numbers import Integral
from typing import Any, TypeVar

import networkx as nx

from graphs.checks import check_graph, refusal
from graphs.registration import Registry
from graphs.spelling import check_names

Topology = TypeVar("Topology", bound=Callable[..., nx.Graph])

_topologies: Registry[Callable[..., nx.Graph]] = Registry("graph")


def register(name: str) -> Callable[[Topology], Topology]:
    """Make a function available as `graphs.make(name, n=…, **parameters)` and in experiment files.

        @graphs.register("wheel")
        def wheel(n: int) -> networkx.Graph:
            return networkx.wheel_graph(n)

    The function takes the number of agents `n` first, then parameters of its own that can be given by name, annotated
    and with defaults where there are sensible ones. It returns a graph on the nodes 0..n-1 and depends on nothing but
    its arguments: whatever is random takes a `seed`. An edge (u, v) of a directed graph means that u speaks to v.

    Raises:
        ValueError: another function has this name already, or the signature is not as above.
    """

    def decorator(function: Topology) -> Topology:
        _check_signature(name, function)
        return _topologies.register(name)(function)

    return decorator


def names() -> list[str]:
    """Names of all topologies in alphabetical order."""
    return _topologies.names()


def parameters(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of a topology but for `n`, as `inspect.Parameter` with evaluated annotation and default.

    Raises:
        ValueError: no topology has this name.
    """
    signature = inspect.signature(_topologies.get(name), eval_str=True)
    return {key: parameter for key, parameter in signature.parameters.items() if key != "n"}


def docstring(name: str) -> str:
    """Docstring of a topology, which describes its parameters under `Args:`; empty where it has none.

    Raises:
        ValueError: no topology has this name.
    """
    return inspect.getdoc(_topologies.get(name)) or ""


def make(name: str, n: int, **parameters: Any) -> nx.Graph:
    """The graph of the topology `name` on the nodes 0..n-1, for instance `make("k_nearest", n=22, k=4)`.

    Args:
        name: one of `names()`.
        n: number of agents N, at least 1.
        parameters: as listed by `graphs.parameters(name)`.

    Raises:
        ValueError: unknown name, unknown or missing parameter, impossible value.
    """
    function = _topologies.get(name)
    if not isinstance(n, Integral) or n < 1:
        raise refusal("n", n, "the number of agents is a whole number from 1", "Give the number of agents.")
    _check_arguments(name, parameters)
    graph = function(int(n), **parameters)
    check_graph(graph)
    if len(graph) != n:
        allowed = f"topology {name!r} returned {len(graph)} nodes"
        raise refusal("n", n, allowed, "A topology must return exactly n nodes: correct its function.")
    return graph


def _check_arguments(name: str, given: dict[str, Any]) -> None:
    known = parameters(name)
    check_names(f"parameter of {name}", given, known)
    missing = [key for key, parameter in known.items() if parameter.default is parameter.empty and key not in given]
    if missing:
        raise ValueError(f"the graph '{name}' needs {', '.join(missing)}; give graphs.make(…, {missing[0]}=…)")


def _check_signature(name: str, function: Callable[..., nx.Graph]) -> None:
    signature = inspect.signature(function)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = list(signature.parameters.values())
    if not known or known[0].name != "n" or known[0].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        allowed = "the first parameter of a topology is n, the number of agents"
        raise refusal("signature", f"{name}{signature}", allowed, "Call it n.")
    if any(parameter.kind not in by_name or parameter.name == "name" for parameter in known):
        # Experiment files write {name: …, parameters…}, and their schema is built from the signature.
        allowed = "each parameter must be one that can be given by name, and none may be called 'name'"
        raise refusal("signature", f"{name}{signature}", allowed, "Spell them out under other names.")
