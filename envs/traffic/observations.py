"""Observations by name: small functions from the state of a scenario's traffic to what an agent senses.

What is sensed on the road, such as the gap to the vehicle in front, is the agent's own state, no matter who its
neighbors on the graph are; others' states reach it through the graph alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from envs import plugins
from envs.types import Floats
from graphs.registration import Registry
from graphs.spelling import check_names

View = TypeVar("View")
Observation = TypeVar("Observation", bound=Callable[[Any], Floats])


class Observations(Generic[View]):
    """Observations of one kind of scenario, functions from its ``View`` to (E, M, D).

    Args:
        inherited: observations of a more general kind of scenario, which can be chosen here as well.
    """

    def __init__(self, inherited: Observations[Any] | None = None) -> None:
        self._functions: Registry[Callable[[View], Floats]] = Registry("observation", modules=plugins.MODULES)
        self._sizes: dict[str, int] = {}
        self._inherited = inherited

    def register(self, name: str, size: int) -> Callable[[Observation], Observation]:
        """Decorator that registers a function under a name, for ``scenario.observation``.

        Args:
            name: the name.
            size: D, the number of values that an agent senses.

        Raises:
            ValueError: another function has this name already.
        """

        def decorator(function: Observation) -> Observation:
            self._functions.register(name)(function)
            self._sizes[name] = size
            return function

        return decorator

    def check(self, name: str) -> str:
        """Return the name itself.

        Raises:
            ValueError: there is no observation of that name; the message tells which there are.
        """
        check_names("observation", [name], self.names())
        return name

    def names(self) -> list[str]:
        """All names there are now, inherited ones first, each group in alphabetical order."""
        return [*(self._inherited.names() if self._inherited else ()), *self._functions.names()]

    def list_in(self, schema: dict[str, Any]) -> None:
        """Write the names there are now into the JSON Schema of a parameter: its ``json_schema_extra``."""
        schema["enum"] = self.names()

    def size(self, name: str) -> int:
        """D of the observation of that name."""
        if self._inherited and self.check(name) not in self._sizes:
            return self._inherited.size(name)
        return self._sizes[self.check(name)]

    def observe(self, name: str, view: View) -> Floats:
        """Values (E, M, D) of the observation of that name."""
        if self._inherited and name not in self._sizes:
            return self._inherited.observe(name, view)
        return self._functions.get(name)(view)
