"""Real steps that DMPO needs to become as good as DPPO is at its end.

    python -m benchmarks.sample_efficiency --folder FOLDER

Reads the same comparison as `benchmarks.learning`. DPPO is its own preset, once as it is and once with as many gradient
steps for each action as the DMPO beside it takes: more epochs over the same real steps. The bar is the mean of its last
evaluations over seeds; DMPO has reached it at the first evaluation from which on the mean over seeds is never below.
Both count every simulated step of training, the warm-up included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.learning import COMMITTED, finished
from experiments.comparisons.standings import REWARD
from experiments.comparisons.statistics import samples_to
from experiments.config.schema import Experiment
from experiments.runs.records import RunRecord


@dataclass(frozen=True)
class Pair:
    """Pair of presets of one scenario, with the share of DPPO's samples that DMPO may take."""

    dmpo: str
    dppo: str
    share: float


PAIRS = [
    Pair("dmpo_cacc_catchup", "dppo_cacc_catchup", 1 / 3),
    Pair("dmpo_cacc_slowdown", "dppo_cacc_slowdown", 1.0),
    Pair("dmpo_figure_eight", "dppo_figure_eight_consensus", 1.0),
    Pair("dmpo_figure_eight_shared", "dppo_figure_eight_shared", 1.0),
    Pair("dmpo_figure_eight_shared", "dppo_figure_eight_crossed", 1.0),
    Pair("dmpo_ring", "dppo_ring", 1 / 3),
    Pair("dmpo_ring_shared", "dppo_ring_shared", 1 / 3),
]


def updates_per_action(experiment: Experiment) -> float:
    """Gradient steps of an agent's policy and values per action that it takes."""
    algorithm: Any = experiment.algorithm
    steps = algorithm.epochs * algorithm.minibatches * getattr(algorithm, "inner_iterations", 1)
    return float(steps / (algorithm.rollout_steps * experiment.train.num_envs))


def rivals(pair: Pair) -> list[str]:
    """DPPO presets of a pair: the plain one, and the one with as many updates as DMPO takes."""
    return [pair.dppo, f"{pair.dppo}_updates"]


def row(pair: Pair, ours: Sequence[RunRecord], theirs: Sequence[RunRecord]) -> list[str]:
    """Row of the table for DMPO and one of its rivals, each with the runs of all seeds."""
    curves, ends = [record.curve(REWARD) for record in ours], [record.curve(REWARD) for record in theirs]
    bar, steps = mean(values[-1] for _, values in ends), ends[0][0][-1]
    needed = samples_to(bar, curves[0][0], np.mean([values for _, values in curves], axis=0))
    shown = ("never", "–") if needed is None else (f"{needed:,}", f"{needed / steps:.2f}")
    last = f"{mean(values[-1] for _, values in curves):.4g}"
    return [pair.dmpo, theirs[0].label, f"{bar:.4g}", f"{steps:,}", *shown, f"{pair.share:.2f}", last]


def main(
    presets: Annotated[list[str] | None, typer.Argument(help="Of DMPO; all that have a figure, if left out.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    folder: Annotated[Path, typer.Option(help="Of the comparison.")] = COMMITTED,
) -> None:
    """Print the table."""
    table = Table(title="Real steps until DMPO is, and stays, as good as DPPO at its end")
    for column in ("DMPO", "DPPO", "its reward", "its steps", "DMPO's steps", "share", "at most", "DMPO's last"):
        table.add_column(column, justify="left" if column in ("DMPO", "DPPO") else "right")
    for pair in PAIRS:
        if presets is None or pair.dmpo in presets:
            found = finished([pair.dmpo, *rivals(pair)], seeds, folder)
            for rival in rivals(pair):
                table.add_row(*row(pair, found[pair.dmpo], found[rival]))
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
