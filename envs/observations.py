"""Observations by name: small functions from what a scenario knows to what an agent sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from envs import plugins
from envs.simulation import Floats
from envs.spelling import check_names

View = TypeVar("View")


class Observations(Generic[View]):
    """The observations of one kind of scenario, functions from its ``View`` to (E, N, D)."""

    def __init__(self) -> None:
        self._functions: dict[str, Callable[[View], Floats]] = {}
        self._sizes: dict[str, int] = {}

    def register(self, name: str, size: int) -> Callable[[Callable[[View], Floats]], Callable[[View], Floats]]:
        """Decorator that makes a function known under a name for the YAML; ``size`` is its D.

        Raises:
            ValueError: another function has this name already.
        """

        def add(function: Callable[[View], Floats]) -> Callable[[View], Floats]:
            plugins.enter(self._functions, "observation", name, function)
            self._sizes[name] = size
            return function

        return add

    def check(self, name: str) -> str:
        """The name itself; raises ValueError, with the names there are, for an unknown one."""
        check_names("observation", [name], self._functions)
        return name

    def list_in(self, schema: dict[str, Any]) -> None:
        """Write the names there are now into the JSON Schema of a parameter: its ``json_schema_extra``."""
        schema["enum"] = list(self._functions)

    def size(self, name: str) -> int:
        """D of the observation of that name."""
        return self._sizes[self.check(name)]

    def observe(self, name: str, view: View) -> Floats:
        """The observation (E, N, D) of that name."""
        return self._functions[name](view)
