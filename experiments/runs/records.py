"""Records of finished runs, read from their folders."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config import loading
from experiments.config.schema import Experiment
from experiments.errors import ConfigError, shown
from experiments.runs.folder import RunFolder


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        label: of what is compared, the same for all seeds of it; unique within a scenario.
        experiment: its configuration, seed included.
        folder: where it lies.
        metrics: the lines of its `metrics.jsonl`.
        report: what its `evaluation.json` holds.
        transfers: what each `evaluation-LABEL.json` holds, by label.
    """

    label: str
    experiment: Experiment
    folder: RunFolder
    metrics: list[dict[str, Any]]
    report: dict[str, Any]
    transfers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """Steps and values of the lines that have a metric; null, which is not finite, as not a number."""
        lines = [line for line in self.metrics if key in line]
        values = [math.nan if line[key] is None else float(line[key]) for line in lines]
        return [line["env_steps"] for line in lines], values


def read_record(label: str, path: Path) -> RunRecord:
    """A finished run.

    Raises:
        ConfigError: there is no run in that folder.
        RunError: it is not finished.
    """
    folder = RunFolder.existing(path)
    experiment = loading.load(folder.config).experiment
    return RunRecord(
        label, experiment, folder, folder.read_metrics(), folder.read_report(), folder.read_evaluations_on()
    )


def read_named(path: Path) -> RunRecord:
    """A finished run, labeled with the name of its folder less `-seedSEED`.

    Raises:
        ConfigError: there is no run in that folder.
        RunError: it is not finished.
    """
    return read_record(re.sub(r"-seed\d+$", "", path.resolve().name), path)


def check_distinct(records: Iterable[RunRecord]) -> None:
    """Refuse runs that nothing tells apart.

    Raises:
        ConfigError: two runs have one label, scenario and seed.
    """
    known: dict[tuple[str, str, int], RunRecord] = {}
    for record in records:
        key = (record.experiment.scenario.name, record.label, record.experiment.train.seed)
        there = known.setdefault(key, record)
        if there is not record:
            label, seed = shown(record.label), record.experiment.train.seed
            raise ConfigError(
                f"RUN_DIR: {there.folder.path} and {record.folder.path} are both {label} with seed {seed}; give each "
                "run once, and rename the folder of what is another variant"
            )


def by_scenario(records: Iterable[RunRecord]) -> dict[str, dict[str, list[RunRecord]]]:
    """Scenario → label → runs, in order of their seeds."""
    found: dict[str, dict[str, list[RunRecord]]] = {}
    for record in sorted(records, key=lambda r: r.experiment.train.seed):
        found.setdefault(record.experiment.scenario.name, {}).setdefault(record.label, []).append(record)
    return found
