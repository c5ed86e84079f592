"""A tiny experiment on real SUMO, and the command line run in this process."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from experiments import cli

TINY = """\
name: tiny
scenario: {name: cacc_catchup, num_vehicles: 3, horizon: 40}
algorithm: {name: dppo, kappa: 1, rollout_steps: 20, epochs: 2, hidden: [8]}
train: {env_steps: 400, num_envs: 2, threads: 1}
evaluate: {every: 100}
log: {tensorboard: false}
"""


class Result(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def dmpo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`dmpo("train", …)` in this process: exit status and what was printed."""

    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["dmpo", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        code = end.value.code
        return Result(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(folder: Path) -> Path:
    """The tiny experiment, alone in the working directory."""
    path = folder / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics but for times, which no two runs share."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "wall_seconds" and not k.startswith("time/")} for line in lines]
