"""A tiny experiment on real SUMO."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.config import loading
from experiments.config.schema import Experiment

TINY = """\
name: tiny
scenario: {name: cacc_catchup, num_vehicles: 3, horizon: 40}
algorithm: {name: dppo, kappa: 1, rollout_steps: 20, epochs: 2, hidden_sizes: [8]}
train: {env_steps: 400, num_envs: 2, threads: 1}
evaluate: {every: 100}
log: {tensorboard: false}
"""


def tiny_experiment(*overrides: str) -> Experiment:
    """The tiny experiment with overrides."""
    return loading.check(loading.yaml_io.read_text(TINY, "tiny.yaml"), overrides).experiment


@pytest.fixture
def tiny(folder: Path) -> Path:
    """The tiny experiment, alone in the working directory."""
    path = folder / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics but for times, which no two runs share."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if not _is_time(k)} for line in lines]


def _is_time(key: str) -> bool:
    # Replaced processes are counted beside the times, but runs that lose as many share them.
    return key == "wall_seconds" or (key.startswith("time/") and key != "time/env_restarts")
