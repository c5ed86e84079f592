"""Scenarios by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from envs import plugins
from envs.scenario import Scenario, ScenarioParameters
from graphs.spelling import check_names

_scenarios: dict[str, type[Scenario[Any]]] = {}
_S = TypeVar("_S", bound=type[Scenario[Any]])


def register(name: str) -> Callable[[_S], _S]:
    """Class decorator that makes a scenario known under a name, for ``envs.make`` and the YAML.

    Raises:
        ValueError: another class has this name already, or its ``Parameters`` do not say the name.
    """

    def add(scenario: _S) -> _S:
        plugins.check_parameters("scenario", name, scenario, ScenarioParameters)
        plugins.enter(_scenarios, "scenario", name, scenario)
        return scenario

    return add


def scenario(name: str) -> type[Scenario[Any]]:
    """The scenario of that name.

    Raises:
        ValueError: there is none; the message names those there are.
    """
    check_names("scenario", [name], names())
    return _scenarios[name]


def names() -> list[str]:
    """Names of all scenarios in alphabetical order."""
    for module in ("ring", "figure_eight", "platoon", "sumo_network"):
        import_module(f"envs.traffic.{module}")
    return sorted(_scenarios)


def parameters(name: str) -> type[ScenarioParameters]:
    """The pydantic model of a scenario's parameters, ``name`` among its fields."""
    return scenario(name).Parameters
