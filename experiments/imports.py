"""Modules of the user's, which register scenarios, graphs, learners, observations and controllers: `dmpo --import`."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module, util
from pathlib import Path

from experiments.errors import ConfigError, shown


def import_modules(names: Sequence[str]) -> None:
    """Import modules, which may be in the working directory, and see that experiments can hold what they register.

    Raises:
        ConfigError: one cannot be imported, or registers what no experiment file can hold.
    """
    if not names:
        return
    folder = os.getcwd()
    if folder not in sys.path:
        # Behind everything else: a file of the user's called random.py is no reason for Python to fall apart. The
        # processes in which SUMO runs get the same path.
        sys.path.append(folder)
    for name in names:
        _import(name, Path(folder))
    _check_schema(names)


def _import(name: str, folder: Path) -> None:
    path = Path(name)
    if path.suffix == ".py" or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"--import: {shown(name)} is not the name of a module; for a file waves.py it is waves")
    first = name.partition(".")[0]
    files = [file for file in (folder / f"{first}.py", folder / first / "__init__.py") if file.is_file()]
    try:
        spec = util.find_spec(first)
        if files and spec is not None and spec.origin and Path(spec.origin).resolve() not in map(Path.resolve, files):
            raise ConfigError(
                f"--import: {files[0].name} here has the name of another module, {spec.origin}; give it another name"
            )
        import_module(name)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"--import: {shown(name)} cannot be imported: {_cause(error, folder)}") from error


def _cause(error: BaseException, folder: Path) -> str:
    """Cause of a failed import, with the line where it arose unless the module was not found."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    if lines and not isinstance(error, SyntaxError):
        return f"{what} ({lines[-1].filename}, line {lines[-1].lineno})"
    return f"{what}; it is looked for in {folder}" if isinstance(error, ModuleNotFoundError) else what


def _check_schema(names: Sequence[str]) -> None:
    from experiments.config.schema import json_schema
    from experiments.runs.controllers import controller_evaluation_model

    try:
        json_schema()
        controller_evaluation_model().model_json_schema()
    except Exception as error:
        what = str(error).splitlines()[0]
        raise ConfigError(
            f"--import: an experiment cannot hold what {', '.join(names)} registers: {what}; give each parameter a "
            "type that YAML can hold"
        ) from error
