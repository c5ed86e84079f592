"""Check of a refactoring: a change of the code must leave every number of a training run as it was.

    python -m benchmarks.same_numbers record FOLDER      # before the change
    python -m benchmarks.same_numbers compare FOLDER     # after it

`record` trains a short run of every learner in every kind of scenario, and of every option that changes how a learner
computes. `compare` trains each again from the recorded `config.yaml` and compares `metrics.jsonl` and `evaluation.json`
with the recorded ones: all numbers but times must be equal to the last digit. Both need the same machine, as results
depend on the processor's kernels. Runs recorded in an earlier format are migrated first, in a copy. The exit status is
1 if anything differs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from experiments.runs.folder import RunFolder

SCENARIOS: dict[str, dict[str, Any]] = {
    "ring": {"name": "ring", "horizon": 200, "observation": "relative", "action_repeat": 5, "stagger": True},
    "figure_eight": {"name": "figure_eight", "horizon": 200, "observation": "relative_harmonics", "action_repeat": 5},
    "platoon": {"name": "cacc_catchup", "horizon": 200, "action_repeat": 5, "collision_steps": 50},
    "slowdown": {"name": "cacc_slowdown", "horizon": 200, "stagger": True},
    "fleet": {"name": "figure_eight", "horizon": 200, "learners": 7, "observation": "crossing", "action_repeat": 5},
    "own": {
        "name": "sumo",
        "network": "merge.net.xml",
        "routes": "merge.rou.xml",
        "agents": {"type": "learner", "count": 4},
        "warm_up_steps": 100,
        "horizon": 200,
        "action_repeat": 5,
    },
}
SMALL = {"rollout_steps": 20, "hidden_sizes": [16, 16]}
PPO = {**SMALL, "epochs": 2, "minibatches": 2}
MODEL = {
    "model_starts": 32,
    "model_horizon": 5,
    "model_fit_steps": 20,
    "model_validation_every": 5,
    "model_buffer_size": 400,
}
SAC = {"rollout_steps": 10, "hidden_sizes": [16, 16], "gradient_steps": 5, "warm_up_steps": 20, "batch_size": 64}
LEARNERS: dict[str, dict[str, Any]] = {
    "dppo": {"name": "dppo", "kappa": 2, **PPO},
    "cppo": {"name": "cppo", **PPO},
    "ia2c": {"name": "ia2c", **SMALL},
    "ic3net": {"name": "ic3net", "rollout_steps": 10, "hidden_size": 16},
    "dmpo": {"name": "dmpo", "kappa": 2, "inner_iterations": 4, **PPO, **MODEL},
    "dsac": {"name": "dsac", "kappa": 1, **SAC},
    "dmpo_sac": {"name": "dmpo_sac", "kappa": 1, "inner_iterations": 2, **SAC, **MODEL, "model_horizon": 2},
}
# Options that change how a learner computes: learner, scenario, further settings.
OPTIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dppo_shared": ("dppo", "ring", {"algorithm": {"share_parameters": True, "neighbor_order": "cyclic"}}),
    "dmpo_shared": ("dmpo", "figure_eight", {"algorithm": {"share_parameters": True, "normalize_observations": True}}),
    "dmpo_consensus": (
        "dmpo",
        "figure_eight",
        {"algorithm": {"consensus": 0.5, "neighbor_order": "cyclic"}, "graph": {"name": "crossed_cycle"}},
    ),
    "dmpo_bfloat16": ("dmpo", "platoon", {"train": {"precision": "bfloat16"}}),
    "dmpo_open_loop": (
        "dmpo",
        "platoon",
        {
            "algorithm": {
                "model_loss_steps": 4,
                "model_actions": "neighbors",
                "warm_up_steps": 100,
                "model_warm_up_fit_steps": 40,
            }
        },
    ),
    "dmpo_fading": (
        "dmpo",
        "ring",
        {"algorithm": {"model_share": 1.0, "model_share_final": 0.0, "model_horizon_final": 8, "lr_decay": True}},
    ),
    "dppo_entropy": (
        "dppo",
        "platoon",
        {"algorithm": {"entropy_coef": 0.01, "entropy_coef_final": 0.001, "kl_target": None}},
    ),
    "dppo_normalized": ("dppo", "ring", {"algorithm": {"normalize_observations": True, "minibatches": 1}}),
    "cppo_selfish": ("cppo", "slowdown", {"algorithm": {"objective": "selfish"}}),
    "ia2c_consensus": ("ia2c", "ring", {"algorithm": {"consensus": 1.0}, "graph": {"name": "k_nearest", "k": 4}}),
    "dsac_shared": ("dsac", "platoon", {"algorithm": {"share_parameters": True, "normalize_observations": True}}),
    "dsac_bfloat16": ("dsac", "ring", {"train": {"precision": "bfloat16"}}),
    "dmpo_sac_open_loop": ("dmpo_sac", "ring", {"algorithm": {"model_loss_steps": 3, "model_actions": "neighbors"}}),
    "ic3net_decay": ("ic3net", "platoon", {"algorithm": {"lr_decay": True, "normalize_observations": True}}),
    "dppo_workers": ("dppo", "figure_eight", {"train": {"workers": 2}}),
}


def cases() -> dict[str, dict[str, Any]]:
    """Content of the experiment files, by name."""
    plain = {
        f"{learner}_{scenario}": _experiment(learner, scenario, {})
        for learner in LEARNERS
        for scenario in ("ring", "platoon", "fleet", "own")
    }
    return plain | {name: _experiment(*option) for name, option in OPTIONS.items()}


def _experiment(learner: str, scenario: str, changed: dict[str, Any]) -> dict[str, Any]:
    experiment = {
        "scenario": SCENARIOS[scenario],
        "algorithm": LEARNERS[learner],
        "train": {"env_steps": 1_200 if SCENARIOS[scenario].get("action_repeat") else 600, "num_envs": 3, "threads": 1},
        "evaluate": {"every": 600},
    }
    return experiment | {part: experiment.get(part, {}) | keys for part, keys in changed.items()}


def train(config: Path, output: Path) -> str | None:
    """Train an experiment file; returns the error message if that fails."""
    return _dmpo("train", str(config), "--output", str(output))


def in_current_format(run: RunFolder, folder: Path) -> RunFolder:
    """A recorded run, or a migrated copy of it in a folder if its format is an earlier one.

    Raises:
        RuntimeError: it cannot be migrated.
    """
    if "format" in yaml.safe_load(run.config.read_text(encoding="utf-8")):
        return run
    copy = RunFolder(folder / f"{run.path.name}-migrated")
    shutil.copytree(run.path, copy.path)
    if problem := _dmpo("migrate", str(copy.path)):
        raise RuntimeError(problem)
    return copy


def _dmpo(*arguments: str) -> str | None:
    # The error message, if there is one.
    command = [sys.executable, "-m", "experiments", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr or done.stdout)[-2_000:]


def numbers(run: RunFolder) -> list[dict[str, Any]]:
    """Numbers of a run: the lines of its metrics without times, and its final evaluation."""
    lines = [*run.read_metrics(), run.read_report()["metrics"]]
    return [{k: v for k, v in line.items() if not k.startswith("time/") and k != "wall_seconds"} for line in lines]


def difference(recorded: RunFolder, repeated: RunFolder) -> str | None:
    """Description of the first number in which two runs differ, None if all are equal."""
    before, after = numbers(recorded), numbers(repeated)
    if len(before) != len(after):
        return f"{len(before)} lines of metrics, now {len(after)}"
    for number, (old, new) in enumerate(zip(before, after, strict=True), start=1):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key) or (key in old) != (key in new):
                return f"line {number}, {key}: {old.get(key)!r}, now {new.get(key)!r}"
    return None


app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode=None)
Folder = Annotated[Path, typer.Argument(help="Folder of the recorded runs.")]
Jobs = Annotated[int, typer.Option(min=1, help="Number of runs at the same time.")]
Only = Annotated[str, typer.Option(help="Only runs whose names contain this.")]


@app.command()
def record(folder: Folder, jobs: Jobs = 2, only: Only = "") -> None:
    """Train every experiment and keep its run folder."""
    chosen = {name: case for name, case in cases().items() if only in name}
    folder.mkdir(parents=True, exist_ok=True)

    def one(name: str) -> str | None:
        shutil.rmtree(folder / name, ignore_errors=True)
        config = folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump({"name": name, **chosen[name]}, sort_keys=False), encoding="utf-8")
        return train(config, folder / name)

    _run(chosen, one, jobs)


@app.command()
def compare(folder: Folder, jobs: Jobs = 2, only: Only = "") -> None:
    """Train every recorded experiment again and compare."""
    names = sorted(path.parent.name for path in folder.glob("*/config.yaml") if only in path.parent.name)

    with tempfile.TemporaryDirectory() as temporary:

        def one(name: str) -> str | None:
            repeated = RunFolder(Path(temporary) / name)
            try:
                recorded = in_current_format(RunFolder(folder / name), Path(temporary))
            except RuntimeError as error:
                return str(error)
            return train(recorded.config, repeated.path) or difference(recorded, repeated)

        _run(dict.fromkeys(names), one, jobs)


def _run(names: dict[str, Any], one: Any, jobs: int) -> None:
    failed = 0
    with ThreadPoolExecutor(jobs) as pool:
        for name, problem in zip(names, pool.map(one, names), strict=True):
            failed += problem is not None
            Console().print(f"{name}: {problem or 'as recorded'}", markup=False, highlight=False)
    Console().print(f"{len(names) - failed} of {len(names)} as recorded")
    if failed or not names:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
