"""Suite of `dmpo bench`: its pieces, one after the other, and the report on them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import acting, dmpo_parts, env_throughput, iteration, scale, training
from benchmarks.machine import kernels_in_use
from benchmarks.rows import Options, Report, Row, read, table
from experiments.config.checks import check_device
from experiments.errors import ConfigError, shown, suggestion
from experiments.runs.folder import write_whole

PIECES: dict[str, Callable[[Options], Iterator[Row]]] = {
    "environments": env_throughput.rows,
    "acting": acting.rows,
    "parts": dmpo_parts.rows,
    "iteration": iteration.rows,
    "training": training.rows,
    "scale": scale.rows,
}


def bench(
    only: Sequence[str],
    options: Options,
    output: Path | None,
    against: Path | None,
    tell: Callable[[str], None],
) -> Report:
    """Measure, print the table, and write it as JSON where asked to.

    Args:
        only: names of pieces; all of them if empty.
        options: of the suite.
        output: file for the report.
        against: an earlier report.
        tell: receives a line for each row, as soon as it is measured.

    Raises:
        ConfigError: no such piece or device, or no report to compare with.
    """
    for name in only:
        if name not in PIECES:
            raise ConfigError(f"--only: {shown(name)} is unknown; {suggestion(name, list(PIECES))}")
    check_device("--device", options.device)
    earlier = read(against) if against else None
    report = Report(options=options, machine=_machine(options), rows=list(_rows(only, options, tell)))
    if output is not None:
        write_whole(output, report.model_dump_json(indent=1) + "\n")
    # A file or a pipe has no width of its own, and a narrow terminal would fold every cell.
    console = Console()
    Console(width=max(console.width, 160)).print(table(report, earlier))
    return report


def _rows(only: Sequence[str], options: Options, tell: Callable[[str], None]) -> Iterator[Row]:
    for name, rows in PIECES.items():
        if not only or name in only:
            try:
                for row in rows(options):
                    measured = row.note if row.value is None else f"{row.value:.3g} {row.unit}"
                    tell(f"{row.piece}: {row.what}, {row.size}: {measured}")
                    yield row
            except ConfigError as error:
                # Such as an impossible scenario; the other pieces go on.
                yield Row(piece=name, what=name, size="", value=None, unit="", note=str(error))


def _machine(options: Options) -> dict[str, str]:
    cuda = options.device.startswith("cuda")
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "threads": str(options.threads),
        "device": torch.cuda.get_device_name(options.device) if cuda else options.device,
        "kernels": kernels_in_use(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
