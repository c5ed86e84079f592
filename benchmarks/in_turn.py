"""`dmpo bench` of two checkouts in turn: whether a change made anything slower.

    python -m benchmarks.in_turn OTHER/.venv/bin/dmpo --only acting --only parts --rounds 5

Each round runs the suite of the other checkout and of this one, in alternating order, so that a machine that slows down
or speeds up does so for both. The ratio of a row is the median over rounds of the ratio within a round; above 1 this
checkout is faster. Exit status 1 where a row is slower by more than `--tolerance`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.rows import Report, Row, read


def measure(command: list[str], arguments: list[str], folder: Path) -> Report:
    """The report of one run of the suite.

    Raises:
        CalledProcessError: it failed.
    """
    output = folder / "report.json"
    # In a folder of its own, so that no checkout is imported but the one that is installed beside the command.
    subprocess.run(
        [*command, "bench", *arguments, "--output", str(output)], check=True, cwd=folder, capture_output=True
    )
    return read(output)


def ratios(other: Report, here: Report) -> dict[str, float]:
    """How many times as fast each row is here: by name where both have it, else by its place among the others."""
    found, left = {}, [row for row in other.rows if row.value is not None]
    unmatched = []
    for row in (row for row in here.rows if row.value is not None):
        same = next((before for before in left if _key(before) == _key(row)), None)
        if same is None:
            unmatched.append(row)
        else:
            left.remove(same)
            found[_name(row)] = row.against(same)
    if len(left) == len(unmatched):
        pairs = zip(left, unmatched, strict=True)
        found |= {f"{_name(row)} (there: {_name(before)})": row.against(before) for before, row in pairs}
    return {name: ratio for name, ratio in found.items() if ratio is not None}


def _key(row: Row) -> tuple[str, str, str, str]:
    return row.piece, row.what, row.size, row.unit


def _name(row: Row) -> str:
    return f"{row.piece}: {row.what}, {row.size}"


def main(
    other: Annotated[Path, typer.Argument(help="The `dmpo` command of the other checkout's environment.")],
    only: Annotated[list[str] | None, typer.Option(help="As of `dmpo bench`.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each checkout.")] = 5,
    quick: Annotated[bool, typer.Option(help="As of `dmpo bench`.")] = True,
    tolerance: Annotated[float, typer.Option(min=0, help="Share by which a row may be slower.")] = 0.05,
) -> None:
    """Run both suites in turn, and print how many times as fast each row is here."""
    arguments = [word for name in only or [] for word in ("--only", name)] + (["--quick"] if quick else [])
    here = [str(Path(sys.executable).with_name("dmpo"))]
    collected: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(rounds):
            order = [[str(other.absolute())], here]
            reports = [
                measure(each, arguments, Path(temporary)) for each in (order if number % 2 == 0 else order[::-1])
            ]
            there, this = reports if number % 2 == 0 else reports[::-1]
            for name, ratio in ratios(there, this).items():
                collected.setdefault(name, []).append(ratio)
    table = Table("row", "times as fast", "least", "most", title=f"This checkout against {other}, {rounds} rounds")
    for name, values in collected.items():
        table.add_row(name, *(f"{x:.2f}" for x in (median(values), min(values), max(values))))
    Console(width=160).print(table)
    slower = [name for name, values in collected.items() if median(values) < 1 / (1 + tolerance)]
    if slower or not collected:
        Console().print(f"slower by more than {tolerance:.0%}: {', '.join(slower) or 'nothing was measured'}")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
