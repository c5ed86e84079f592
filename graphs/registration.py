"""Tables of what is registered under a name: topologies, scenarios, controllers, observations, learners.

Everything that a YAML file can name is found in one of them, and whatever a user registers joins those that come with
the package: a name must not be taken, and a class must say which parameters it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel

from graphs.spelling import check_names

T = TypeVar("T")
_OWN = ("graphs", "envs", "dmpo", "experiments")  # packages whose modules every process imports anyway


class Registry(Generic[T]):
    """Classes or functions of one kind by name.

    Args:
        kind: what they are, in a word, for error messages: `scenario`.
        model: for classes that have parameters, the base of their pydantic models.
        attribute: the attribute in which a class has its model.

    Attributes:
        modules: modules outside this project that registered something, in the order of their registration. A process
            that starts from nothing has to import them before it can look a name up.
    """

    def __init__(self, kind: str, model: type[BaseModel] | None = None, attribute: str = "Parameters") -> None:
        self.kind, self._model, self._attribute = kind, model, attribute
        self._entries: dict[str, T] = {}
        self.modules: dict[str, None] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that makes a class or function known under a name.

        Raises:
            ValueError: the name belongs to another one, or a class does not say which parameters it has.
        """

        def add(new: T) -> T:
            self.add(name, new)
            return new

        return add

    def add(self, name: str, new: T) -> None:
        """Make a class or function known under a name.

        Raises:
            ValueError: as `register`.
        """
        if self._model is not None:
            self._check_model(name, new)
        present = self._entries.get(name, new)
        # The same once more is a reloaded module or notebook cell, not a clash.
        if _place(present) != _place(new):
            raise ValueError(
                f"two {self.kind}s are called '{name}', {_place(present)} and {_place(new)}; register yours under "
                "another name"
            )
        self._entries[name] = new
        module: str = new.__module__
        if module.partition(".")[0] not in _OWN:
            self.modules[module] = None

    def get(self, name: str) -> T:
        """What is registered under a name.

        Raises:
            ValueError: nothing is; the message names the nearest spelling and all there are.
        """
        check_names(self.kind, [name], self.names())
        return self._entries[name]

    def names(self) -> list[str]:
        """All names in alphabetical order."""
        return sorted(self._entries)

    def _check_model(self, name: str, new: Any) -> None:
        assert self._model is not None
        model, field = getattr(new, self._attribute, None), None
        if isinstance(model, type) and issubclass(model, self._model) and "name" in model.model_fields:
            field = model.model_fields["name"]
        # The schema and the command line tell the classes of a kind apart by this field.
        if field is None or get_args(field.annotation) != (name,) or field.default != name:
            raise ValueError(
                f"the {self.kind} '{name}' needs an attribute {self._attribute}, a subclass of {self._model.__name__} "
                f'with the field name: Literal["{name}"] = "{name}"'
            )


def load(modules: Iterable[str]) -> None:
    """Import modules for what they register."""
    for module in modules:
        import_module(module)


def _place(something: Any) -> str:
    return f"{something.__module__}.{something.__qualname__}"
