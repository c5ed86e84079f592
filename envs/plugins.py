"""Scenarios, controllers and observations that others register, and the modules they come from.

A worker process starts from nothing: before it can look up a name, it has to import the module that registers it.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any, get_args

from pydantic import BaseModel

_modules: dict[str, None] = {}


def enter(table: dict[str, Any], what: str, name: str, new: Any) -> None:
    """Put a class or function under a name into a table, and remember its module.

    Raises:
        ValueError: the name belongs to another one.
    """
    present = table.get(name, new)
    # The same once more is a reloaded module or notebook cell, not a clash.
    if _place(present) != _place(new):
        raise ValueError(
            f"two {what}s are called '{name}', {_place(present)} and {_place(new)}; register yours under another name"
        )
    table[name] = new
    if not new.__module__.startswith("envs."):
        _modules[new.__module__] = None


def check_parameters(what: str, name: str, new: type[Any], base: type[BaseModel]) -> None:
    """See to it that a class to be registered says what parameters it has.

    Args:
        what: a kind of class, in a word.
        name: under which it is to be registered.
        new: the class.
        base: of all parameters of this kind, with the field ``name``.

    Raises:
        ValueError: its attribute ``Parameters`` is no subclass of ``base`` that goes by this name.
    """
    model = getattr(new, "Parameters", None)
    field = None
    if isinstance(model, type) and issubclass(model, base):
        field = model.model_fields["name"]
    # The schema and the command line tell the classes of a kind apart by this field.
    if field is None or get_args(field.annotation) != (name,) or field.default != name:
        raise ValueError(
            f"the {what} '{name}' needs an attribute Parameters, a subclass of {base.__name__} with the field "
            f'name: Literal["{name}"] = "{name}"'
        )


def modules() -> tuple[str, ...]:
    """The modules outside this package from which something was registered."""
    return tuple(_modules)


def load(names: Iterable[str]) -> None:
    """Import modules for what they register."""
    for name in names:
        import_module(name)


def _place(something: Any) -> str:
    return f"{something.__module__}.{something.__qualname__}"
