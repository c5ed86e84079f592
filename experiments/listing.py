"""`dmpo list`: the names there are on one screen, and what is behind each of them in whole sentences."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import dmpo
import envs
import graphs
from experiments.config import loading
from experiments.config.json_schema import Schema
from experiments.config.metrics import METRICS
from experiments.config.schema import Evaluate, Log, Train, graph_model
from experiments.errors import shown

_SECTIONS: dict[str, type[BaseModel]] = {"train": Train, "evaluate": Evaluate, "log": Log}
_SHORT = 68  # characters of a summary on the one screen
_LONG = 10_000  # characters of a default: all of them


def names() -> list[str]:
    """Everything that `dmpo list NAME` knows."""
    return [*loading.presets(), *(name for _, models in _groups() for name in models), *_SECTIONS, "metrics"]


def overview() -> Iterator[RenderableType]:
    """All names by what they are, each with a few words."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column()
    for group, models in _groups():
        for number, (name, model) in enumerate(models.items()):
            table.add_row("" if number else f"{group}s", name, Text(_few_words(_summary(model))))
    yield table
    yield Text("presets, for dmpo train NAME", style="bold")
    yield Padding(Text(" ".join(loading.presets())), (0, 0, 0, 2))
    yield Text(
        "dmpo list NAME tells what is behind a name: every setting with its default, range and meaning. "
        f"NAME may also be {', '.join(_SECTIONS)} (the other sections of an experiment file) or metrics."
    )


def details(name: str) -> Iterator[RenderableType]:
    """What is behind a name, which may be that of a scenario, a graph and a controller at once."""
    if name in loading.presets():
        yield from _preset(name)
    for group, models in _groups():
        if name in models:
            yield Text(f"{group}: {{name: {name}}}", style="bold")
            yield from _model(models[name])
    if name in _SECTIONS:
        yield Text(f"{name}:", style="bold")
        yield from _model(_SECTIONS[name])
    if name == "metrics":
        yield _metrics()


def settings(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str, Any, str]]:
    """Every setting of a model, with those of nested models by dotted key.

    Yields:
        Key, description, default (`...` where one is needed), and in words what is allowed.
    """
    schema = Schema(model.model_json_schema())
    for key, field in model.model_fields.items():
        if key == "name":
            continue
        default = ... if field.is_required() else field.get_default(call_default_factory=True)
        parts = [part for part in (field.annotation, *get_args(field.annotation)) if inspect.isclass(part)]
        nested = [part for part in parts if issubclass(part, BaseModel)]
        allowed = "a mapping with the keys below" if nested else schema.allowed(schema.subschema([key], {}) or {})
        if nested and type(None) in parts:
            allowed += ", or null"
        yield path + key, field.description or "", _plain(default), allowed
        for part in nested:
            yield from settings(part, f"{path}{key}.")


def _groups() -> Iterator[tuple[str, dict[str, type[BaseModel]]]]:
    yield "scenario", {name: envs.parameters(name) for name in envs.names()}
    yield "graph", {name: graph_model(name) for name in graphs.names()}
    yield "algorithm", {name: dmpo.settings_of(name) for name in dmpo.names()}
    yield "controller", {name: envs.controllers.parameters(name) for name in envs.controllers.names()}


def _preset(name: str) -> Iterator[RenderableType]:
    text = loading.presets()[name].read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "yaml-language-server" not in line]
    comment = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    yield Text(f"preset {name}", style="bold")
    yield Padding(Text(" ".join(comment)), (0, 0, 1, 2))
    yield Padding(Text("\n".join(line for line in lines if not line.startswith("#"))), (0, 0, 1, 2))
    yield Text(f"Train it with dmpo train {name}; whatever is not in it has its default.")


def _model(model: type[BaseModel]) -> Iterator[RenderableType]:
    """A model's description and settings, each with meaning, default and range."""
    yield Padding(Text(_summary(model)), (0, 0, 1, 2))
    found = list(settings(model))
    if not found:
        yield Padding(Text("It has no settings."), (0, 0, 1, 2))
    for key, description, default, allowed in found:
        given = "Must be given" if default is ... else f"Default: {shown(default, _LONG)}"
        lines = [Text(description)] if description else []
        yield Padding(Text(key, style="bold"), (0, 0, 0, 2))
        yield Padding(Group(*lines, Text(f"{given}. Allowed: {allowed}.", style="dim")), (0, 0, 1, 6))


def _metrics() -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("metric", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("meaning")
    for metric in METRICS:
        table.add_row(*metric)
    return table


def _summary(model: type[BaseModel]) -> str:
    """The first paragraph of a model's docstring."""
    return " ".join(inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].split())


def _few_words(summary: str) -> str:
    """The longest short beginning of a summary that can stand alone, or else as much as there is room for."""
    if len(summary) <= _SHORT:
        return summary.removesuffix(".")
    plain = re.sub(r"\([^)]*\)", lambda bracket: "(" + "x" * (len(bracket[0]) - 1), summary)  # nothing ends in brackets
    ends = [end.start() for end in re.finditer(r"[:;.] | \(", plain[: _SHORT + 1])]
    return summary[: ends[-1]] if ends else textwrap.shorten(summary, _SHORT, placeholder=" …")


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value
