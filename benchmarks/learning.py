"""Final evaluations of the presets over seeds, beside what they have to reach.

    python -m benchmarks.learning

Every run is `dmpo train PRESET train.seed=SEED`; runs that are finished are read, not run again. What is judged is the
evaluation after the last training step, with the likeliest actions, from all reference starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from envs.ring import uniform_flow_speed
from experiments import config

RING_LENGTHS, RING_VEHICLES = range(220, 271, 10), 22
Report = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One number of an evaluation, and what it has to be at least."""

    name: str
    least: float
    of: Callable[[Report], float]


def _metric(key: str) -> Callable[[Report], float]:
    return lambda report: float(report["metrics"][f"eval/{key}"])


def _share_of_bound(report: Report) -> float:
    bound = mean(uniform_flow_speed(length, RING_VEHICLES) for length in RING_LENGTHS)
    return float(report["metrics"]["eval/speed_final"]) / bound


def _summed_return(report: Report) -> float:
    return float(report["metrics"]["eval/return"]) * RING_VEHICLES


#: What each preset has to reach; no run may end with a collision.
FIGURES = {
    "dppo_cacc_catchup": [Figure("reward", -10.15, _metric("reward"))],
    "dppo_cacc_slowdown": [Figure("reward", -61.4, _metric("reward"))],
    "dmpo_cacc_catchup": [Figure("reward", -5.5, _metric("reward"))],
    "dmpo_cacc_slowdown": [Figure("reward", -50.0, _metric("reward"))],
    "dmpo_figure_eight": [Figure("speed in m/s", 7.0, _metric("speed"))],
    "dmpo_figure_eight_shared": [Figure("speed in m/s", 10.5, _metric("speed"))],
    "dmpo_ring": [Figure("return summed over agents", 1600.0, _summed_return)],
    "dppo_ring": [
        Figure("last 1,000 steps' speed / bound", 0.95, _share_of_bound),
        Figure("return summed over agents", 1000.0, _summed_return),
    ],
    "dppo_figure_eight": [Figure("speed in m/s", 6.2, _metric("speed"))],
    "dppo_figure_eight_shared": [Figure("speed in m/s", 9.0, _metric("speed"))],
}


def run(preset: str, seed: int, folder: Path) -> Report:
    """The evaluation of a finished run, trained first (or to its end) where that has not been done.

    Args:
        preset: what to train.
        seed: of the run.
        folder: where runs are kept, this one as PRESET-seedSEED.
    """
    path = folder / f"{preset}-seed{seed}"
    begun = (path / "config.yaml").is_file()
    overrides = [f"train.seed={seed}", "train.threads=1"]
    if begun:
        wanted, there = config.load(preset, overrides).experiment, config.load(path / "config.yaml").experiment
        config.check_unchanged(
            there, wanted, (), f"so {path} is of another preset: delete it or choose another --folder"
        )
    if not (path / "evaluation.json").is_file():
        asked = ["--resume", str(path)] if begun else [preset, *overrides, "--output", str(path)]
        command = [sys.executable, "-m", "experiments", "train", *asked]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-2000:]}")
    report: Report = json.loads((path / "evaluation.json").read_text(encoding="utf-8"))
    return report


def main(
    presets: Annotated[list[str] | None, typer.Argument(help="All that have a figure, if left out.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    folder: Annotated[Path, typer.Option(help="Where the runs are kept.")] = Path("runs/learning"),
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side.")] = len(os.sched_getaffinity(0)),
) -> None:
    """Train what is not trained yet and print the table."""
    names = presets or list(FIGURES)
    wanted = [(name, seed) for name in names for seed in range(seeds)]
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run, name, seed, folder) for name, seed in wanted]
        reports = [job.result() for job in track(waiting, description="training", transient=True)]
    table = Table(title="Evaluation after the last training step")
    for column in ("preset", "env steps", "figure", "at least", *(f"seed {seed}" for seed in range(seeds)), "reached"):
        table.add_column(column, justify="left" if column in ("preset", "figure") else "right")
    for name in names:
        found = [report for (of, _), report in zip(wanted, reports, strict=True) if of == name]
        for figure in [*FIGURES[name], Figure("collisions", 0, lambda report: -_metric("collisions")(report))]:
            values = [figure.of(report) for report in found]
            reached = f"{sum(value >= figure.least for value in values)} of {seeds}"
            shown = [f"{abs(v) if figure.least == 0 else v:.4g}" for v in (figure.least, *values)]
            table.add_row(name, f"{found[0]['env_steps']:,}", figure.name, *shown, reached)
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
