"""Modules of the user's own that register scenarios, controllers or observations.

A worker process starts from nothing: before it can look up a name, it has to import the module that registers it.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

#: Where the registries of this package collect the names of modules outside the project.
MODULES: dict[str, None] = {}


def modules() -> tuple[str, ...]:
    """Names of the modules that a worker process has to import, in the order of their registrations."""
    return tuple(MODULES)


def load(names: Iterable[str]) -> None:
    """Import modules for what they register."""
    for name in names:
        import_module(name)
