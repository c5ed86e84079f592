"""Errors of the models of the DMPO presets after 100,000 samples, on held-out real steps.

    python -m benchmarks.model_errors --folder FOLDER

Reads the same comparison as `benchmarks.learning`. An error is the mean square over the
variance, one step ahead, mean over agents; the table has the mean and the range over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.learning import COMMITTED, finished

SAMPLES = 100_000
#: Largest errors allowed; the state has its own limit in each preset.
LIMITS = {"change_error": 0.1, "reward_error": 0.1}
STATE_LIMITS = {
    "dmpo_cacc_catchup": 0.01,
    "dmpo_cacc_slowdown": 0.1,
    "dmpo_figure_eight": 0.01,
    "dmpo_figure_eight_shared": 0.01,
    "dmpo_ring": 0.01,
    "dmpo_ring_shared": 0.01,
}


def errors_at(lines: Sequence[dict[str, Any]], env_steps: int) -> dict[str, float]:
    """Errors on the line of metrics nearest to a number of env steps."""
    known = [line for line in lines if line.get("model/state_error") is not None]
    nearest = min(known, key=lambda line: abs(line["env_steps"] - env_steps))
    return {name: nearest[f"model/{name}"] for name in ("state_error", *LIMITS)}


def main(
    presets: Annotated[list[str] | None, typer.Argument(help="All that have a limit, if left out.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    folder: Annotated[Path, typer.Option(help="Of the comparison.")] = COMMITTED,
) -> None:
    """Print the table."""
    table = Table(title=f"Held-out errors over the variance after {SAMPLES:,} samples")
    for column in ("preset", "error", "mean", "range over seeds", "at most", "reached"):
        table.add_column(column, justify="left" if column in ("preset", "error") else "right")
    for name, records in finished(presets or list(STATE_LIMITS), seeds, folder).items():
        found = [errors_at(record.metrics, SAMPLES) for record in records]
        for error, limit in {"state_error": STATE_LIMITS[name], **LIMITS}.items():
            values = [of[error] for of in found]
            shown = f"{100 * mean(values):.2g} %", f"{100 * min(values):.2g} – {100 * max(values):.2g} %"
            table.add_row(name, error, *shown, f"{100 * limit:g} %", "yes" if mean(values) < limit else "no")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
