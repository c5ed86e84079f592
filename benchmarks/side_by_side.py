"""Throughput of runs side by side, relative to one run alone.

    python -m benchmarks.side_by_side

Each shortened preset is trained alone, then two of it at once with different seeds, by the same processes that `dmpo
compare` starts. Throughput is env steps over seconds, without the first and the last iteration, so that starting and
ending processes does not count. That of two runs is the sum of both.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from experiments.comparisons.job import RunJob, Supervisor
from experiments.config import loading
from experiments.runs.folder import RunFolder

LEAST_RATIO = 1.6
PRESETS = ("dppo_cacc_catchup", "dmpo_cacc_catchup")


def job(preset: str, seed: int, env_steps: int, folder: Path) -> RunJob:
    """Job of the shortened preset, evaluated at the start and the end only, on one thread."""
    overrides = [f"train.seed={seed}", f"train.env_steps={env_steps}", "train.threads=1", "evaluate.every=1e12"]
    experiment = loading.load(preset, overrides).experiment
    return RunJob(str(folder.absolute()), loading.dump(experiment), {}, [], os.getcwd())


def steps_per_second(jobs: list[RunJob]) -> float:
    """Throughput of all jobs together, run at the same time, in env steps/s."""
    supervisor = Supervisor()
    try:
        with ThreadPoolExecutor(len(jobs)) as pool:
            failures = [failure for failure in pool.map(supervisor.run, jobs) if failure]
    finally:
        supervisor.stop()
    if failures:
        raise RuntimeError(failures[0].message)
    return sum(_rate(each.run) for each in jobs)


def _rate(run: RunFolder) -> float:
    lines = run.read_metrics()
    first, last = lines[1], lines[-2]  # the first evaluation is behind the one, the last before the other
    return float((last["env_steps"] - first["env_steps"]) / (last["wall_seconds"] - first["wall_seconds"]))


def main(
    env_steps: Annotated[int, typer.Option(min=1000, help="Of each run.")] = 48_000,
    repeats: Annotated[int, typer.Option(min=1, help="The median is printed.")] = 3,
) -> None:
    """Train one and two at once in turn, and print the ratio."""
    table = Table(title=f"Throughput, {len(os.sched_getaffinity(0))} cores")
    for column in ("preset", "one, steps/s", "two, steps/s", "ratio", "at least"):
        table.add_column(column, justify="left" if column == "preset" else "right")
    for preset in PRESETS:
        pairs = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                one, two, three = (job(preset, seed, env_steps, Path(folder) / str(seed)) for seed in range(3))
                pairs.append((steps_per_second([one]), steps_per_second([two, three])))
        ratio = median(together / alone for alone, together in pairs)
        alone, together = (median(column) for column in zip(*pairs, strict=True))
        table.add_row(preset, f"{alone:,.0f}", f"{together:,.0f}", f"{ratio:.2f}", f"{LEAST_RATIO}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
