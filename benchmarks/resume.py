"""Runs killed at random moments and resumed each time, against the same runs left alone.

    python -m benchmarks.resume

Every process of a run's group gets SIGKILL at a random moment: up to 3 s after its start, or up to 0.3 s after the run
came to a random step, while it steps, learns, evaluates or saves. At the end parameters, optimizers, experience,
generators and environment must be equal to the last bit, and `metrics.jsonl` line by line but for times.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import dmpo
from experiments.runs.folder import RunFolder

STEPS = 4_000
_SMALL = {
    "name": "platoon",
    "scenario": {"name": "cacc_catchup", "num_vehicles": 4, "horizon": 100},
    "train": {"env_steps": STEPS, "num_envs": 4, "threads": 1},
    "evaluate": {"every": 200},
}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "dppo": {"rollout_steps": 20, "epochs": 4},
    "dmpo": {"rollout_steps": 20, "epochs": 2, "inner_iterations": 3, "model_fit_steps": 25, "model_batch_size": 64}
    | {"model_horizon": 5, "model_starts": 32},
    "dsac": {"rollout_steps": 20, "gradient_steps": 10, "batch_size": 64},
}


@dataclass
class Killed:
    """Record of a run that was killed again and again.

    Attributes:
        steps: env steps of the checkpoint at each kill, 0 before the first checkpoint.
        evaluations: lines of metrics with an evaluation, as they were at each kill.
        lost: number of these lines that are missing at the end.
        equal: whether the run ended like the uninterrupted one.
    """

    steps: list[int] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    lost: int = 0
    equal: bool = False


def start(folder: Path, config: Path) -> subprocess.Popen[bytes]:
    """Start or resume a run, in a process group of its own."""
    begun = (folder / "config.yaml").is_file()
    asked = ["--resume", str(folder)] if begun else [str(config), "--output", str(folder)]
    # A folder without a configuration was made by a process that was killed before anything was in it.
    if not begun:
        shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "experiments", "train", *asked]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def finish(folder: Path, config: Path) -> None:
    """Start or resume a run and wait for its end."""
    process = start(folder, config)
    told = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"the run in {folder} ended with status {process.returncode}: {told.decode()[-2000:]}")


def kill_again_and_again(folder: Path, config: Path, kills: int, random: Random) -> Killed:
    """Kill a run at random moments, one in four of them while it starts, and then let it end."""
    found, run = Killed(), RunFolder(folder)
    for target in track(sorted(random.uniform(0, STEPS) for _ in range(kills)), folder.name, transient=True):
        process, early = start(folder, config), random.random() < 0.25
        while not early and process.poll() is None and _steps(run) < target:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 3.0 if early else 0.3))
        if process.poll() is not None:
            told = process.communicate()[1].decode()[-2000:]
            raise RuntimeError(f"the run in {folder} ended before it was killed {kills} times: {told}")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        found.steps.append(run.load_state()["env_steps"] if run.checkpoint.is_file() else 0)
        found.evaluations += [line for line in _metrics(folder) if "eval/reward" in line]
    finish(folder, config)
    found.lost = sum(line not in _metrics(folder) for line in found.evaluations)
    return found


def _steps(run: RunFolder) -> int:
    """Progress of a run by its metrics, including lines written before a kill."""
    return max((line["env_steps"] for line in run.read_metrics()), default=-1)


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


def ended_alike(one: Path, other: Path) -> bool:
    """Whether two runs have the same state, metrics and report, times aside."""
    return all(same(part(one), part(other)) for part in (_state, _metrics, lambda path: RunFolder(path).read_report()))


def _state(run: Path) -> Any:
    return dmpo.load_checkpoint(RunFolder(run).checkpoint)["trainer"]


def _metrics(run: Path) -> list[dict[str, Any]]:
    lines = RunFolder(run).read_metrics()
    return [{k: x for k, x in line.items() if k != "wall_seconds" and not k.startswith("time/")} for line in lines]


def write_config(algorithm: str, folder: Path) -> Path:
    """Experiment file of a small platoon that learns by an algorithm."""
    path = folder / f"{algorithm}.yaml"
    content = _SMALL | {"algorithm": {"name": algorithm, "kappa": 1, "hidden_sizes": [16], **ALGORITHMS[algorithm]}}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def measure(algorithm: str, kills: int, seed: int, folder: Path) -> Killed:
    """Compare an uninterrupted run with one that is killed and resumed.

    Args:
        algorithm: one of `ALGORITHMS`.
        kills: number of kills.
        seed: of the random moments.
        folder: for both runs.
    """
    config = write_config(algorithm, folder)
    alone, killed = folder / f"{algorithm}-alone", folder / f"{algorithm}-killed"
    finish(alone, config)
    found = kill_again_and_again(killed, config, kills, Random(seed))
    found.equal = ended_alike(alone, killed)
    return found


def main(
    algorithms: Annotated[list[str] | None, typer.Argument(help="All, if left out.")] = None,
    kills: Annotated[int, typer.Option(min=1, help="Of each run.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Print the table; exit status 1 if a run ended otherwise."""
    table = Table(title=f"SIGKILL of the whole process group at {kills} random moments, then resumed")
    for column in ("algorithm", "kills", "checkpoints gone on from", "evaluations lost", "equal to the last bit"):
        table.add_column(column, justify="left" if column == "algorithm" else "right")
    equal = True
    with tempfile.TemporaryDirectory() as folder:
        for algorithm in algorithms or list(ALGORITHMS):
            found = measure(algorithm, kills, seed, Path(folder))
            checkpoints = len({steps for steps in found.steps if steps})
            table.add_row(algorithm, str(kills), str(checkpoints), str(found.lost), "yes" if found.equal else "NO")
            equal &= found.equal
    Console(width=110).print(table)
    raise typer.Exit(0 if equal else 1)


if __name__ == "__main__":
    typer.run(main)
