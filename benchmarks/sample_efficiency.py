"""How many real steps DMPO needs to be as good as DPPO is at its end.

    python -m benchmarks.sample_efficiency

DPPO is its own preset, once as it is and once with as many gradient steps for each action as the DMPO beside it takes:
more epochs over the same real steps. The bar is the mean of its last evaluations over seeds; DMPO has reached it at the
first evaluation from which on the mean over seeds is never below. Both count every simulated step of training, the
warm-up included.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.learning import run
from experiments.schema import Experiment


@dataclass(frozen=True)
class Pair:
    """Two presets of one scenario, and the share of DPPO's samples that DMPO may take."""

    dmpo: str
    dppo: str
    share: float


PAIRS = [
    Pair("dmpo_cacc_catchup", "dppo_cacc_catchup", 1 / 3),
    Pair("dmpo_cacc_slowdown", "dppo_cacc_slowdown", 1.0),
    Pair("dmpo_figure_eight_shared", "dppo_figure_eight_shared", 1.0),
    Pair("dmpo_ring", "dppo_ring", 1 / 3),
]


def updates_per_action(experiment: Experiment) -> float:
    """Gradient steps of each agent's policy and values for each action that it takes."""
    algorithm: Any = experiment.algorithm
    steps = algorithm.epochs * algorithm.minibatches * getattr(algorithm, "inner_iterations", 1)
    return float(steps / (algorithm.rollout_steps * experiment.train.num_envs))


def curve(path: Path) -> list[tuple[int, float]]:
    """Env steps and rewards of a run's evaluations."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["env_steps"], line["eval/reward"]) for line in lines if line.get("eval/reward") is not None]


def reached(curves: list[list[tuple[int, float]]], bar: float) -> int | None:
    """Env steps of the first evaluation from which on the mean over seeds is never below the bar."""
    means = [(points[0][0], mean(value for _, value in points)) for points in zip(*curves, strict=True)]
    first = None
    for env_steps, value in reversed(means):
        if value < bar:
            break
        first = env_steps
    return first


def rivals(pair: Pair) -> list[str]:
    """The DPPO of a pair as it is, and with as many updates as its DMPO takes."""
    return [pair.dppo, f"{pair.dppo}_updates"]


def row(pair: Pair, rival: str, folder: Path, seeds: int) -> list[str]:
    """What the table says of a pair and one of its rivals."""
    ends = [curve(folder / f"{rival}-seed{seed}")[-1] for seed in range(seeds)]
    curves = [curve(folder / f"{pair.dmpo}-seed{seed}") for seed in range(seeds)]
    bar, steps = mean(value for _, value in ends), ends[0][0]
    needed = reached(curves, bar)
    shown = ("never", "–") if needed is None else (f"{needed:,}", f"{needed / steps:.2f}")
    last = f"{mean(points[-1][1] for points in curves):.4g}"
    return [pair.dmpo, rival, f"{bar:.4g}", f"{steps:,}", *shown, f"{pair.share:.2f}", last]


def main(
    presets: Annotated[list[str] | None, typer.Argument(help="Of DMPO; all that have a figure, if left out.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    folder: Annotated[Path, typer.Option(help="Where the runs are kept.")] = Path("runs/learning"),
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side.")] = len(os.sched_getaffinity(0)),
) -> None:
    """Train what is not trained yet and print the table."""
    wanted = [pair for pair in PAIRS if presets is None or pair.dmpo in presets]
    against = [(pair, rival) for pair in wanted for rival in rivals(pair)]
    with ThreadPoolExecutor(jobs) as pool:
        names = dict.fromkeys(name for pair, rival in against for name in (pair.dmpo, rival))
        waiting = [pool.submit(run, name, seed, folder) for name in names for seed in range(seeds)]
        for job in track(waiting, description="training", transient=True):
            job.result()
    table = Table(title="Real steps until DMPO is, and stays, as good as DPPO at its end")
    for column in ("DMPO", "DPPO", "its reward", "its steps", "DMPO's steps", "share", "at most", "DMPO's last"):
        table.add_column(column, justify="left" if column in ("DMPO", "DPPO") else "right")
    for pair, rival in against:
        table.add_row(*row(pair, rival, folder, seeds))
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
