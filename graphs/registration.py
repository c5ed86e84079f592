"""Registries: the graphs, scenarios, controllers, observations and learners that can be chosen by name.

What a user registers joins what comes with the project. A name can be taken only once, and a class has to say which
parameters it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

from graphs.spelling import check_names

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T")
New = TypeVar("New")
_PROJECT = ("graphs", "envs", "dmpo", "experiments")  # packages whose modules register what comes with the project


class Registry(Generic[T]):
    """Registry of the classes or functions of one kind by name. It imports nothing to fill itself.

    Args:
        kind: the kind as error messages call it, in the singular: `scenario`.
        base: base class of the pydantic models of parameters, where the registered classes have parameters.
        attribute: name of the attribute in which a class has that model.
        modules: where the names of modules outside the project that register something are collected, in the order
            of their registrations; None, nowhere. Several registries may share one.
    """

    def __init__(
        self,
        kind: str,
        base: type[BaseModel] | None = None,
        attribute: str = "Parameters",
        modules: dict[str, None] | None = None,
    ) -> None:
        self._kind, self._base, self._attribute = kind, base, attribute
        self._entries: dict[str, T] = {}
        self._modules = {} if modules is None else modules

    def register(self, name: str) -> Callable[[New], New]:
        """Decorator that registers a class or function under a name.

        Raises:
            ValueError: the name belongs to another one, or a class does not say which parameters it has.
        """

        def decorator(new: New) -> New:
            self._add(name, new)
            return new

        return decorator

    def _add(self, name: str, new: Any) -> None:
        if self._base is not None:
            self._check_model(name, new, self._base)
        present = self._entries.get(name, new)
        # The same once more is a reloaded module or notebook cell, not a clash.
        if _place(present) != _place(new):
            raise ValueError(
                f"two {self._kind}s are called '{name}', {_place(present)} and {_place(new)}; register yours under "
                "another name"
            )
        self._entries[name] = new
        module: str = new.__module__
        if module.partition(".")[0] not in _PROJECT:
            self._modules[module] = None

    def get(self, name: str) -> T:
        """The class or function that is registered under a name.

        Raises:
            ValueError: there is none; the message names the nearest spelling and all that are registered.
        """
        check_names(self._kind, [name], self.names())
        return self._entries[name]

    def names(self) -> list[str]:
        """All registered names in alphabetical order."""
        return sorted(self._entries)

    def _check_model(self, name: str, new: Any, base: type[BaseModel]) -> None:
        model, field = getattr(new, self._attribute, None), None
        if isinstance(model, type) and issubclass(model, base):
            field = model.model_fields.get("name")
        # The schema and the command line tell the classes of a kind apart by this field.
        if field is None or get_args(field.annotation) != (name,) or field.default != name:
            raise ValueError(
                f"the {self._kind} '{name}' needs an attribute {self._attribute}, a subclass of {base.__name__} "
                f'with the field name: Literal["{name}"] = "{name}"'
            )


def _place(something: Any) -> str:
    return f"{something.__module__}.{something.__qualname__}"
