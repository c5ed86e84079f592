"""Final evaluations of the presets over seeds, beside the figures that they have to reach.

    dmpo compare PRESET... --seeds 3 --output FOLDER
    python -m benchmarks.learning --folder FOLDER

It is the evaluation after the last training step that counts, with deterministic actions, from all reference starts.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from envs.traffic.ring import uniform_flow_speed
from experiments.config import loading
from experiments.errors import ConfigError, RunError
from experiments.runs.records import RunRecord, read_record

#: Comparison under version control.
COMMITTED = Path(__file__).parents[1] / "docs" / "results" / "figure2"
RING_LENGTHS, RING_VEHICLES = range(220, 271, 10), 22
Report = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """Figure of an evaluation, with the least value that counts as reached."""

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


#: Figures that each preset has to reach; besides, no run may end with a collision.
FIGURES = {
    "dppo_cacc_catchup": [Figure("reward", -10.15, _metric("reward"))],
    "dppo_cacc_slowdown": [Figure("reward", -61.4, _metric("reward"))],
    "dmpo_cacc_catchup": [Figure("reward", -5.5, _metric("reward"))],
    "dmpo_cacc_slowdown": [Figure("reward", -50.0, _metric("reward"))],
    "dmpo_figure_eight": [Figure("speed in m/s", 7.0, _metric("speed"))],
    "dmpo_figure_eight_shared": [Figure("speed in m/s", 10.5, _metric("speed"))],
    "dmpo_ring": [Figure("return summed over agents", 1600.0, _summed_return)],
    "dmpo_ring_shared": [Figure("return summed over agents", 1600.0, _summed_return)],
    "dppo_ring": [
        Figure("last 1,000 steps' speed / bound", 0.95, _share_of_bound),
        Figure("return summed over agents", 1000.0, _summed_return),
    ],
    "dppo_ring_shared": [
        Figure("last 1,000 steps' speed / bound", 0.95, _share_of_bound),
        Figure("return summed over agents", 1000.0, _summed_return),
    ],
    "dppo_figure_eight": [Figure("speed in m/s", 6.2, _metric("speed"))],
    "dppo_figure_eight_shared": [Figure("speed in m/s", 9.0, _metric("speed"))],
    "dppo_figure_eight_crossed": [Figure("speed in m/s", 9.0, _metric("speed"))],
}


def finished(presets: Sequence[str], seeds: int, folder: Path) -> dict[str, list[RunRecord]]:
    """Runs of presets in the folder of a comparison, in order of seeds.

    Raises:
        typer.BadParameter: a run is not there or not finished, or its preset has other settings now.
    """
    try:
        return {preset: [_finished(preset, seed, folder) for seed in range(seeds)] for preset in presets}
    except (ConfigError, RunError) as error:
        raise typer.BadParameter(str(error)) from error


def _finished(preset: str, seed: int, folder: Path) -> RunRecord:
    path = folder / "runs" / f"{preset}-seed{seed}"
    if not path.is_dir():
        words = shlex.join([preset, "--seeds", str(seed + 1), "--output", str(folder)])
        raise ConfigError(f"{path} is missing; it is made by: dmpo compare {words}")
    record, wanted = read_record(preset, path), loading.load(preset, [f"train.seed={seed}"]).experiment
    free = ("train.workers", "train.threads", "train.update_threads")
    loading.check_unchanged(record.experiment, wanted, free, f"so {path} is not of the preset as it is now")
    return record


def main(
    presets: Annotated[list[str] | None, typer.Argument(help="All that have a figure, if left out.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    folder: Annotated[Path, typer.Option(help="Of the comparison.")] = COMMITTED,
) -> None:
    """Print the table."""
    table = Table(title="Evaluation after the last training step")
    for column in ("preset", "env steps", "figure", "at least", *(f"seed {seed}" for seed in range(seeds)), "reached"):
        table.add_column(column, justify="left" if column in ("preset", "figure") else "right")
    for name, records in finished(presets or list(FIGURES), seeds, folder).items():
        reports = [record.report for record in records]
        for figure in [*FIGURES[name], Figure("collisions", 0, lambda report: -_metric("collisions")(report))]:
            values = [figure.of(report) for report in reports]
            reached = f"{sum(value >= figure.least for value in values)} of {seeds}"
            shown = [f"{abs(v) if figure.least == 0 else v:.4g}" for v in (figure.least, *values)]
            table.add_row(name, f"{reports[0]['env_steps']:,}", figure.name, *shown, reached)
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
