"""Observations by name: small functions from what a scenario knows to what an agent senses.

What is sensed on the road, such as the gap to the vehicle in front, is the agent's own state, whoever its neighbors on
the graph are; what it learns of others' states comes through the graph alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from envs import plugins
from envs.types import Floats
from graphs.spelling import check_names

View = TypeVar("View")


class Observations(Generic[View]):
    """The observations of one kind of scenario, functions from its ``View`` to (E, N, D).

    Args:
        others: observations of a more general kind, which are possible here as well.
    """

    def __init__(self, others: Observations[Any] | None = None) -> None:
        self._functions: dict[str, Callable[[View], Floats]] = {}
        self._sizes: dict[str, int] = {}
        self._others = others

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
        check_names("observation", [name], self.names())
        return name

    def names(self) -> list[str]:
        """All names there are now, those of the more general kind first."""
        return [*(self._others.names() if self._others else ()), *self._functions]

    def list_in(self, schema: dict[str, Any]) -> None:
        """Write the names there are now into the JSON Schema of a parameter: its ``json_schema_extra``."""
        schema["enum"] = self.names()

    def size(self, name: str) -> int:
        """D of the observation of that name."""
        if self._others and self.check(name) not in self._sizes:
            return self._others.size(name)
        return self._sizes[self.check(name)]

    def observe(self, name: str, view: View) -> Floats:
        """The observation (E, N, D) of that name."""
        if self._others and name not in self._functions:
            return self._others.observe(name, view)
        return self._functions[name](view)
