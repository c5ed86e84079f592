"""Registry of scenarios. The modules with those of the package are imported by ``envs`` itself."""

from __future__ import annotations

from typing import Any

from envs import plugins
from envs.scenario import Scenario, ScenarioParameters
from graphs.registration import Registry

_scenarios: Registry[type[Scenario[Any]]] = Registry("scenario", ScenarioParameters, modules=plugins.MODULES)

#: Class decorator: ``@envs.register("mine")`` makes a scenario known for ``envs.make("mine")`` and for
#: ``scenario: {name: mine}``. The class has an attribute ``Parameters``, a subclass of ``ScenarioParameters`` whose
#: field ``name`` is ``Literal["mine"] = "mine"``. A name that is taken, or parameters that do not say it, raise a
#: ValueError.
register = _scenarios.register


def scenario(name: str) -> type[Scenario[Any]]:
    """The scenario of that name.

    Raises:
        ValueError: there is none; the message names those there are.
    """
    return _scenarios.get(name)


def names() -> list[str]:
    """Names of all scenarios in alphabetical order."""
    return _scenarios.names()


def parameters(name: str) -> type[ScenarioParameters]:
    """The pydantic model of a scenario's parameters, ``name`` among its fields.

    Raises:
        ValueError: there is no such scenario; the message names those there are.
    """
    return scenario(name).Parameters
