"""Runs on real SUMO, with a budget of a few hundred steps."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import dmpo as learners
from experiments.config import loading
from experiments.runs import runner
from experiments.runs.folder import RunFolder
from tests.experiments.conftest import metrics_of, tiny_experiment

ROOT = Path(__file__).parents[3]


class RecordingCallback:
    """Watches a run and remembers what it was told."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.steps: list[int] = []
        self.evaluations: list[int] = []

    def begin(self, env_steps: int, total: int) -> None:
        self.begun.append((env_steps, total))

    def advance(self, env_steps: int) -> None:
        self.steps.append(env_steps)

    def evaluated(self, env_steps: int, metrics: dict[str, float]) -> None:
        self.evaluations.append(env_steps)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RecordingCallback]:
    """The folder of a run that nobody disturbed, not to be changed, and what its watcher was told."""
    folder, callback = tmp_path_factory.mktemp("runs") / "tiny", RecordingCallback()
    runner.train(tiny_experiment(), folder, callback)
    return folder, callback


@pytest.fixture
def run(finished: tuple[Path, RecordingCallback], folder: Path) -> Path:
    """A copy of the finished run, in the working directory."""
    return Path(shutil.copytree(finished[0], folder / "run"))


def test_a_run_leaves_everything_in_its_folder(finished: tuple[Path, RecordingCallback]) -> None:
    folder = finished[0]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "checkpoint/newest.pt",
        "config.yaml",
        "evaluation.json",
        "metrics.jsonl",
        "plots/learning_curve.png",
        "plots/time_space.png",
        "trajectory.npz",
    ]


def test_metrics_are_in_order_and_begin_with_the_untrained_policy(finished: tuple[Path, RecordingCallback]) -> None:
    lines = RunFolder(finished[0]).read_metrics()
    assert [line["env_steps"] for line in lines] == list(range(0, 401, 40))
    assert lines == sorted(lines, key=lambda line: line["wall_seconds"])
    evaluated = [line for line in lines if "eval/reward" in line]
    assert [line["env_steps"] for line in evaluated] == [0, 120, 200, 320, 400]
    names = {"eval/reward", "eval/reward_sampled", "eval/return", "eval/speed", "eval/collisions"}
    assert all(names <= line.keys() for line in evaluated)
    assert all("time/env_steps_per_second" in line and "comm/bytes_per_agent_step" in line for line in lines[1:])


def test_the_callback_is_notified_of_every_step_and_evaluation(finished: tuple[Path, RecordingCallback]) -> None:
    callback = finished[1]
    assert callback.begun == [(0, 400)]
    assert callback.steps == list(range(40, 401, 40))
    assert callback.evaluations == [0, 120, 200, 320, 400]


def test_the_last_evaluation_is_that_of_the_metrics(finished: tuple[Path, RecordingCallback]) -> None:
    report = json.loads(RunFolder(finished[0]).evaluation.read_text(encoding="utf-8"))
    last = RunFolder(finished[0]).read_metrics()[-1]
    assert report["env_steps"] == last["env_steps"] == 400
    assert report["metrics"] == {key: last[key] for key in report["metrics"]}
    assert [episode["start"] for episode in report["episodes"]] == list(range(20))
    assert all(len(episode["agents"]) == 3 for episode in report["episodes"])
    mean = sum(episode["return"] for episode in report["episodes"]) / 20
    assert mean == pytest.approx(report["metrics"]["eval/return"])
    assert {"constant (0, 0)", "constant (0.5, 0.5)"} <= report["controllers"].keys()
    assert {"python", "torch", "eclipse-sumo"} <= report["versions"].keys()


# Ends itself by SIGKILL when a function has been called so many times.
KILLER = """
import os, signal, sys

def kill_after(where, name, count):
    original, calls = getattr(where, name), []

    def deadly(*arguments, **named):
        result = original(*arguments, **named)
        calls.append(0)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(where, name, deadly)

if __name__ == "__main__":
    from experiments import cli
    from experiments.drawing import plots
    from experiments.runs import runner

    moments = {"checkpoint": (runner.Run, "_save", 1), "line before checkpoint": (runner.Run, "_write", 2),
               "pictures": (plots, "draw_run", 1)}
    kill_after(*moments[sys.argv.pop(1)])
    cli.main()
"""


def test_a_run_killed_again_and_again_ends_like_one_that_never_was(
    finished: tuple[Path, RecordingCallback], folder: Path, dmpo: Callable[..., Any]
) -> None:
    resume = ["train", "--resume", "run"]
    kill_at(folder, "checkpoint", "train", str(finished[0] / "config.yaml"), "--output", "run")
    assert RunFolder(Path("run")).load_state()["env_steps"] == 120
    kill_at(folder, "line before checkpoint", *resume)
    assert metrics_of(Path("run"))[-1]["env_steps"] == 200
    assert RunFolder(Path("run")).load_state()["env_steps"] == 120
    kill_at(folder, "pictures", *resume)
    assert dmpo(*resume).status == 0
    assert metrics_of(Path("run")) == metrics_of(finished[0])
    assert_equal(state_of(Path("run")), state_of(finished[0]))
    for name in ("evaluation.json", "config.yaml"):
        assert (Path("run") / name).read_bytes() == (finished[0] / name).read_bytes()


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_run_that_is_stopped_says_how_to_go_on(tiny: Path) -> None:
    command = [sys.executable, "-m", "experiments", "train", "tiny.yaml", "train.env_steps=1e9", "--output"]
    # A shell's background job ignores Ctrl-C, and so would everything that it starts.
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True, "preexec_fn": _heed_ctrl_c}
    runs = {
        number: subprocess.Popen([*command, number.name], env=environment(), **pipes)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    deadline = time.monotonic() + 60
    for number, process in runs.items():
        while not RunFolder(Path(number.name)).checkpoint.exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 128 + number
        assert told.splitlines()[-1] == f"error: stopped; go on with: dmpo train --resume {number.name}"
        assert "Traceback" not in told


def test_a_finished_run_says_so(run: Path, dmpo: Callable[..., Any]) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = dmpo("train", "--resume", run)
    assert result.status == 0
    assert "is finished (400 steps)" in result.out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_finished_run_goes_on_when_it_is_given_more_steps(run: Path, dmpo: Callable[..., Any]) -> None:
    before = metrics_of(run)
    result = dmpo("train", "--resume", run, "train.env_steps=480")
    assert result.status == 0
    assert metrics_of(run)[: len(before)] == before
    assert [line["env_steps"] for line in metrics_of(run)[len(before) :]] == [440, 480]
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["train"]["env_steps"] == 480
    assert json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["env_steps"] == 480


def test_a_resumed_run_stays_what_it_was(run: Path, tiny: Path, dmpo: Callable[..., Any]) -> None:
    for arguments, key in (
        (["algorithm.kappa=0"], "algorithm.kappa"),
        (["graph.name=empty"], "graph.name"),
        (["train.seed=1"], "train.seed"),
    ):
        result = dmpo("train", "--resume", run, *arguments)
        assert result.status == 2
        assert f"error: {key}: " in result.err
        assert "train.env_steps" in result.err
    result = dmpo("train", tiny, "--resume", run, "--output", "other")
    assert result.status == 2
    assert "--output" in result.err
    assert "is finished" in dmpo("train", tiny, "--resume", run).out


@pytest.mark.parametrize("share_parameters", [False, True])
def test_a_run_does_not_go_on_on_a_graph_that_has_changed(
    folder: Path, dmpo: Callable[..., Any], share_parameters: bool
) -> None:
    graph = folder / "graph.txt"
    graph.write_text("0 1\n1 2\n", encoding="utf-8")
    given = ["graph.name=file", f"graph.path={graph}", f"algorithm.share_parameters={share_parameters}"]
    runner.train(tiny_experiment(*given, "train.env_steps=40"), folder / "run", RecordingCallback())
    before = RunFolder(folder / "run").checkpoint.read_bytes()
    graph.write_text("0 2\n1 2\n", encoding="utf-8")
    result = dmpo("train", "--resume", "run", "train.env_steps=80")
    assert result.status == 1
    assert "where agent 0 received from [1], and here it receives from [2]" in result.err
    assert RunFolder(folder / "run").checkpoint.read_bytes() == before


def test_an_existing_run_is_not_trained_into(run: Path, tiny: Path, dmpo: Callable[..., Any]) -> None:
    result = dmpo("train", tiny, "--output", run)
    assert result.status == 2
    assert result.err == (
        f'error: --output: "{run}" is not empty; go on with it (dmpo train --resume {run}), '
        "or choose another with --output\n"
    )


def test_a_damaged_checkpoint_ends_in_a_message(run: Path, dmpo: Callable[..., Any]) -> None:
    RunFolder(run).checkpoint.write_bytes(b"PK\x03\x04 nothing")
    for command in (["train", "--resume", run], ["evaluate", run]):
        result = dmpo(*command)
        assert result.status == 1
        assert "cannot be read" in result.err
        assert "Traceback" not in result.err


def test_evaluating_again_finds_what_training_found(run: Path, dmpo: Callable[..., Any]) -> None:
    result = dmpo("evaluate", run, "--output", "again.json")
    assert result.status == 0
    again, report = (
        json.loads(path.read_text(encoding="utf-8")) for path in (Path("again.json"), run / "evaluation.json")
    )
    for part in ("episodes", "episodes_sampled", "controllers", "metrics"):
        assert again[part] == report[part]
    for row in ("trained policy", "trained, sampled", "constant (0.5, 0.5)"):
        assert row in result.out


def test_lines_between_evaluations_are_as_far_apart_as_asked(tmp_path: Path) -> None:
    # A run that was killed before its first checkpoint begins again.
    experiment, folder = tiny_experiment("log.every=80", "evaluate.every=200"), RunFolder(tmp_path / "run")
    folder.create(loading.dump(experiment))
    folder.metrics.write_text('{"env_steps": 0}\n{"env', encoding="utf-8")
    runner.resume(experiment, folder, RecordingCallback())
    lines = metrics_of(folder.path)
    assert [line["env_steps"] for line in lines] == [0, 80, 160, 200, 240, 320, 400]
    assert lines[1]["iteration"] == 2


def test_a_line_holds_means_over_its_iterations(tmp_path: Path) -> None:
    for every in (40, 80):
        experiment = tiny_experiment(f"log.every={every}", "evaluate.every=400")
        runner.train(experiment, tmp_path / str(every), RecordingCallback())
    often, seldom = (metrics_of(tmp_path / str(every))[1:] for every in (40, 80))  # one iteration a line, and two
    assert len(often) == 2 * len(seldom) == 10
    for first, second, both in zip(often[::2], often[1::2], seldom, strict=True):
        assert both["iteration"] == second["iteration"]
        for key in ("policy/entropy", "policy/train_reward"):
            assert both[key] == pytest.approx((first[key] + second[key]) / 2)


def state_of(run: Path) -> Any:
    return learners.load_checkpoint(RunFolder(run).checkpoint)["trainer"]


def assert_equal(one: Any, other: Any) -> None:
    """Equal to the last bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert one == other


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def kill_at(folder: Path, moment: str, *arguments: str) -> None:
    (folder / "killer.py").write_text(KILLER, encoding="utf-8")
    command = [sys.executable, "killer.py", moment, *arguments]
    result = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120)
    assert result.returncode == -signal.SIGKILL, result.stderr
