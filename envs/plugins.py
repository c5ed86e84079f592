"""Scenarios and observations that others register, and the modules they come from.

A worker process starts from nothing: before it can look up a name, it has to import the module that registers it.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

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


def modules() -> tuple[str, ...]:
    """The modules outside this package from which something was registered."""
    return tuple(_modules)


def load(names: Iterable[str]) -> None:
    """Import modules for what they register."""
    for name in names:
        import_module(name)


def _place(something: Any) -> str:
    return f"{something.__module__}.{something.__qualname__}"
