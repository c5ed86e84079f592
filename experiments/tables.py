"""Tables for the terminal."""

from collections.abc import Iterable, Iterator
from statistics import mean, stdev
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from experiments.runs.records import RunRecord, by_scenario

Metrics = dict[str, float]
STEP_SECONDS = 0.1  # a simulated step, everywhere


def comparison(report: dict[str, Any], title: str) -> Table:
    """Table of the trained policy beside classical controllers; `report` is the content of `evaluation.json`."""
    episodes, trained = len(report["episodes"]), report["metrics"]
    table = _policies(title, episodes)
    table.add_row("trained policy", *_cells(trained, episodes), style="bold")
    drawn = _collisions(trained["eval/collisions_sampled"], episodes)
    table.add_row("trained, sampled", _number(trained["eval/reward_sampled"]), "", "", "", drawn, "")
    for name, metrics in report["controllers"].items():
        table.add_row(name, *_cells(metrics, episodes))
    return table


def driving(report: dict[str, Any]) -> Table:
    """Table of traffic measures, empty where a scenario has none; `report` is the content of `evaluation.json`."""
    caption = "Headway: mean and least; TTC: the least time to collision; defined in envs/traffic/measures.py."
    table = Table(caption=caption, caption_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("policy", no_wrap=True)
    for heading, unit, _ in _DRIVING:
        table.add_column(f"{heading}\n{unit}", justify="right", no_wrap=True)
    for name, metrics in {"trained policy": report["metrics"], **report["controllers"]}.items():
        cells = [_number(metrics[key], digits=3) if key in metrics else "" for *_, key in _DRIVING]
        table.add_row(name, *cells, style="bold" if metrics is report["metrics"] else None)
    return table


_DRIVING = (
    ("spread", "m/s", "eval/speed_std"),
    ("headway", "m", "eval/headway"),
    ("least", "m", "eval/headway_min"),
    ("acc.", "m/s²", "eval/acceleration"),
    ("jerk", "m/s³", "eval/jerk"),
    ("TTC", "s", "eval/time_to_collision_min"),
    ("flow", "1/h", "eval/throughput"),
    ("fuel", "g/km", "eval/fuel"),
    ("CO₂", "g/km", "eval/co2"),
)


def over_seeds(records: Iterable[RunRecord]) -> Iterator[Table]:
    """Table for each scenario of every label's final evaluations: mean and standard deviation over its seeds."""
    keys = {"reward": "eval/reward", "return": "eval/return", "m/s": "eval/speed", "collisions": "eval/collisions"}
    for scenario, labels in by_scenario(records).items():
        caption = "In brackets the number of seeds; ±, the standard deviation over them."
        table = Table("policy", title=Text(scenario), caption=caption, title_justify="left", caption_justify="left")
        table.box, table.pad_edge, table.collapse_padding = SIMPLE_HEAD, False, True
        for heading in keys:
            table.add_column(heading, justify="right", no_wrap=True)
        for label, runs in labels.items():
            found = [_spread([run.report["metrics"][key] for run in runs]) for key in keys.values()]
            table.add_row(Text(f"{label} ({len(runs)})"), *found, style="bold")
        controllers = {name: found for runs in labels.values() for name, found in runs[0].report["controllers"].items()}
        for name, metrics in controllers.items():
            table.add_row(name, *(_number(metrics[key]) for key in keys.values()))
        yield table


def _spread(values: list[float]) -> str:
    return _number(mean(values)) + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")


def controllers(found: dict[str, Metrics], episodes: int, title: str) -> Table:
    """Table of controllers with their metrics, from so many episodes each."""
    table = _policies(title, episodes)
    for name, metrics in found.items():
        table.add_row(name, *_cells(metrics, episodes))
    return table


def _policies(title: str, episodes: int) -> Table:
    """A table of policies without a row yet."""
    caption = f"Means over agents and {episodes} episodes, one from each reference start; late: the last third."
    table = Table(title=Text(title), caption=caption, title_justify="left", caption_justify="left")
    table.box, table.pad_edge, table.collapse_padding = SIMPLE_HEAD, False, True
    table.add_column("policy", no_wrap=True)
    for heading in ("reward", "return", "m/s", "late m/s", "collisions", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cells(metrics: Metrics, episodes: int) -> list[str]:
    keys = ("eval/reward", "eval/return", "eval/speed", "eval/speed_final")
    numbers = [_number(metrics[key]) if key in metrics else "" for key in keys]
    return [*numbers, _collisions(metrics["eval/collisions"], episodes), _number(metrics["eval/length"] * STEP_SECONDS)]


def _number(value: float, digits: int = 4) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def _collisions(count: float, episodes: int) -> str:
    return "none" if count == 0 else f"{count:.0f} of {episodes}"
