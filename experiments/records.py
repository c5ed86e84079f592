"""Finished runs as they lie on the disk, for whoever compares them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import config
from experiments.folder import RunFolder
from experiments.schema import Experiment


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        label: of what is compared, the same for all seeds of it; unique within a scenario.
        experiment: its configuration, seed included.
        folder: where it lies.
        metrics: the lines of its `metrics.jsonl`.
        report: what its `evaluation.json` holds.
    """

    label: str
    experiment: Experiment
    folder: RunFolder
    metrics: list[dict[str, Any]]
    report: dict[str, Any]


def read_record(label: str, path: Path) -> RunRecord:
    """A finished run.

    Raises:
        ConfigError: there is no run in that folder.
        RunError: it is not finished.
    """
    folder = RunFolder.existing(path)
    return RunRecord(label, config.load(folder.config).experiment, folder, folder.read_metrics(), folder.read_report())


def by_scenario(records: Iterable[RunRecord]) -> dict[str, dict[str, list[RunRecord]]]:
    """Scenario → label → runs, in order of their seeds."""
    found: dict[str, dict[str, list[RunRecord]]] = {}
    for record in sorted(records, key=lambda r: r.experiment.train.seed):
        found.setdefault(record.experiment.scenario.name, {}).setdefault(record.label, []).append(record)
    return found
