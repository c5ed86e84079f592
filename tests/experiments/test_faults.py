"""Runs on real SUMO to which something happens: they go on, or end in a message; what they had found stays."""

import json
import multiprocessing
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

import dmpo as learners
import envs
from experiments import cli
from experiments.config import loading
from experiments.drawing import plots
from experiments.errors import RunError
from experiments.runs import runner
from experiments.runs.folder import MetricsLog, RunFolder
from tests.experiments.conftest import TINY, metrics_of, tiny_experiment
from tests.experiments.runs.test_runner import RecordingCallback, assert_equal, state_of
from tests.faults import descendants, environment, file_size_limit, wait_until_gone

Command = Callable[..., Any]
RESUME = ("train", "--resume", "run")
ENVS, STARTS = 2, 20  # environments in training and in evaluation, by which the two are told apart


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to, not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    runner.train(tiny_experiment(), folder, RecordingCallback())
    return folder


@pytest.fixture
def run(undisturbed: Path, folder: Path) -> Path:
    """A copy of it, in the working directory."""
    return Path(shutil.copytree(undisturbed, folder / "run"))


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [line for line in metrics_of(run) if "eval/reward" in line]


def assert_ended_like(run: Path, undisturbed: Path) -> None:
    assert metrics_of(run) == metrics_of(undisturbed)
    assert_equal(state_of(run), state_of(undisturbed))
    assert RunFolder(run).read_report() == RunFolder(undisturbed).read_report()
    assert [path.name for path in run.rglob("*.partial*")] == []


# A full disk -------------------------------------------------------------------------------------------------------


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, count: int, room: int) -> None:
    """No file grows beyond `room` bytes while a function is called for the `count`-th time."""
    original, calls = getattr(where, name), []

    def crowded(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) != count:
            return original(*arguments, **named)
        with file_size_limit(room):
            return original(*arguments, **named)

    monkeypatch.setattr(where, name, crowded)


def test_a_disk_that_is_full_again_and_again_costs_no_evaluation(
    undisturbed: Path, tiny: Path, dmpo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command: tuple[str, ...] = ("train", "tiny.yaml", "--output", "run")
    for where, name, count, room, what, found in (
        (runner.Run, "_save", 1, 2000, "run/checkpoint/newest.pt", 2),
        (MetricsLog, "write", 7, 1500, "run/metrics.jsonl", 3),
        (runner, "write_whole", 1, 100, "run/evaluation.json", 5),
        (plots, "save", 1, 5000, "run/plots/learning_curve.png", 5),
    ):
        with monkeypatch.context() as patch:
            fill_the_disk(patch, where, name, count, room)
            result = dmpo(*command)
        assert result.status == 1, result.err
        assert f"File too large: '{what}'; go on with: dmpo train --resume run" in result.err
        assert "Traceback" not in result.err
        assert evaluations(Path("run")) == evaluations(undisturbed)[:found]
        assert RunFolder(Path("run")).metrics.read_bytes().endswith(b"}\n")
        assert [path.name for path in Path("run").rglob("*.partial*")] == []
        command = RESUME
    assert dmpo(*RESUME).status == 0
    assert_ended_like(Path("run"), undisturbed)


# SIGKILL at moments of all kinds ------------------------------------------------------------------------------------


def die() -> None:
    os.killpg(os.getpid(), signal.SIGKILL)


def run_to_death(where: str, name: str, count: int, of: int | None, arguments: tuple[str, ...], folder: Path) -> None:
    """The command line in this process, killed with all that it started before a function's `count`-th call.

    Args:
        where: a module, or a class in one.
        name: of the function there.
        count: 1 for the first call.
        of: only calls of environments count that are so many; None for all calls.
        arguments: of the command line.
        folder: to work in.
    """
    os.setsid()
    os.chdir(folder)
    place = pkgutil.resolve_name(where)
    original, calls = getattr(place, name), []

    def deadly(*given: Any, **named: Any) -> Any:
        if of is None or given[0].num_envs == of:
            calls.append(1)
        if len(calls) == count:
            die()
        return original(*given, **named)

    setattr(place, name, deadly)
    sys.argv = ["dmpo", *arguments]
    cli.main()


def random_moments(count: int, seed: int) -> list[tuple[str, str, int, int | None]]:
    """So many steps of an environment, in training or in evaluation, before which to die."""
    random = Random(seed)
    return [("envs:VectorEnv", "step", random.randint(1, 120), random.choice([ENVS, STARTS])) for _ in range(count)]


def test_a_run_killed_at_moments_of_all_kinds_ends_like_one_that_never_was(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One process that has loaded everything, and copies of it that die.
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["experiments.runs.runner", "experiments.drawing.plots"])
    folder = tmp_path
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    begin = ("train", "tiny.yaml", "--output", "run")
    moments = [
        ("experiments.runs.runner:Run", "_train", 1, None),  # right after the first evaluation
        *random_moments(2, seed=24),  # in training, and in an evaluation
        ("dmpo:Trainer", "state_dict", 2, None),  # between an evaluation's line and its checkpoint
        ("os", "replace", 3, None),  # a picture, a report or a checkpoint is written and has not its name yet
    ]
    seen: list[dict[str, Any]] = []
    for moment in moments:
        arguments = RESUME if (folder / "run" / "config.yaml").exists() else begin
        process = processes.Process(target=run_to_death, args=(*moment, arguments, folder))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        # What is there now was there, or comes again.
        assert evaluations(folder / "run") == evaluations(undisturbed)[: len(evaluations(folder / "run"))]
        seen = max(seen, evaluations(folder / "run"), key=len)
    assert len(seen) > 2
    runner.resume(tiny_experiment(), RunFolder(folder / "run"), RecordingCallback())
    assert_ended_like(folder / "run", undisturbed)


# Signals from outside -----------------------------------------------------------------------------------------------


def begun(name: str, *overrides: str) -> subprocess.Popen[str]:
    """A run that would not end, in a process group of its own."""
    command = [sys.executable, "-m", "experiments", "train", "tiny.yaml", "train.env_steps=1e9", *overrides]
    return subprocess.Popen(
        [*command, "--output", name],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: (os.setsid(), signal.signal(signal.SIGINT, signal.SIG_DFL)),
    )


def test_nobody_survives_a_trainer_that_is_stopped_or_killed(tiny: Path) -> None:
    ends: dict[str, Callable[[int], None]] = {
        "ctrl-c": lambda pid: os.killpg(pid, signal.SIGINT),  # a terminal tells all processes
        "slurm": lambda pid: os.killpg(pid, signal.SIGTERM),
        "oom": lambda pid: os.kill(pid, signal.SIGKILL),  # the kernel, out of memory, takes the largest process
    }
    runs = {name: begun(name) for name in ends}
    for name, process in runs.items():
        deadline = time.monotonic() + 120
        while not RunFolder(Path(name)).checkpoint.exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        family = descendants(process.pid)
        assert len(family) >= 2  # SUMO for training and for evaluation
        if name == "oom":
            os.kill(family[-1], signal.SIGSTOP)  # and one of them hangs
        found = len(evaluations(Path(name)))
        ends[name](process.pid)
        told = process.communicate(timeout=60)[1]
        wait_until_gone(family)
        assert process.returncode == {"ctrl-c": 130, "slurm": 143, "oom": -signal.SIGKILL}[name]
        assert "Traceback" not in told
        assert len(evaluations(Path(name))) >= found
        assert RunFolder(Path(name)).load_state()["env_steps"] >= 120
        if name != "oom":
            assert told.splitlines()[-1] == f"error: stopped; go on with: dmpo train --resume {name}"


# SUMO dies ----------------------------------------------------------------------------------------------------------


def test_training_goes_on_when_sumo_dies_in_training_and_in_evaluation(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, step = {ENVS: 0, STARTS: 0}, envs.VectorEnv.step

    def deadly(env: envs.VectorEnv, actions: Any) -> Any:
        steps[env.num_envs] += 1
        if steps[env.num_envs] == {ENVS: 50, STARTS: 10}[env.num_envs]:
            env._workers[0].process.kill()
        return step(env, actions)

    monkeypatch.setattr(envs.VectorEnv, "step", deadly)
    runner.train(tiny_experiment(), tmp_path / "run", RecordingCallback())
    lines = metrics_of(tmp_path / "run")
    assert [line.get("time/env_restarts") for line in (lines[0], lines[-1])] == [1, 2]
    # The evaluation was made again and found the same; no step of the lost episodes counts.
    assert {key: x for key, x in lines[0].items() if key != "time/env_restarts"} == metrics_of(undisturbed)[0]
    assert 400 <= lines[-1]["env_steps"] < 440
    assert lines[-1]["env_steps"] % 40 == 40 - ENVS
    assert RunFolder(tmp_path / "run").load_state()["restarts"] == 2


# The folder ---------------------------------------------------------------------------------------------------------


class Remover(RecordingCallback):
    """Deletes the folder of a run that is going on."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def advance(self, env_steps: int) -> None:
        if env_steps == 80:
            shutil.rmtree(self.folder)


def test_a_folder_that_is_deleted_under_a_run_is_missed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"metrics.jsonl was moved or deleted while the run was going on"):
        runner.train(tiny_experiment(), tmp_path / "run", Remover(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_of_two_that_begin_in_one_folder_the_second_leaves_the_first_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")

    def slow(*arguments: Any) -> envs.VectorEnv:
        if not folder.config.exists():
            folder.create("name: first\n")
            folder.metrics.write_text('{"env_steps": 0}\n', encoding="utf-8")
        return env

    with envs.make("cacc_catchup", 1) as env:
        monkeypatch.setattr(runner, "make_env", slow)
        with pytest.raises(RunError, match="another process has begun a run in"):
            runner.train(tiny_experiment(), folder.path, RecordingCallback())
    assert folder.config.read_text(encoding="utf-8") == "name: first\n"
    assert folder.metrics.read_text(encoding="utf-8") == '{"env_steps": 0}\n'


# What is there is damaged -------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def fill_with_nul(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:300] + b"\0" * 100 + content[400:])


def other_trainer(path: Path) -> None:
    learners.save_checkpoint(path, learners.load_checkpoint(path) | {"trainer": {"env_steps": [], "learner": 3}})


@pytest.mark.parametrize(
    ("damage", "name", "what"),
    [
        (cut, "metrics.jsonl", "lines are lost"),
        (fill_with_nul, "metrics.jsonl", "line 1 is no JSON object"),
        (Path.unlink, "metrics.jsonl", "lines are lost"),
        (cut, "checkpoint/newest.pt", "cannot be read"),
        (Path.unlink, "checkpoint/newest.pt", "is missing, though run/metrics.jsonl has 5 evaluations"),
        (other_trainer, "checkpoint/newest.pt", "does not fit the run's config.yaml"),
    ],
)
def test_what_is_damaged_is_named_and_nothing_more_is_lost(
    run: Path, dmpo: Command, damage: Callable[[Path], None], name: str, what: str
) -> None:
    damage(Path("run") / name)
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    result = dmpo(*RESUME, "train.env_steps=480")
    assert result.status == 1
    assert what in result.err
    assert "Traceback" not in result.err
    after = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert {path: content for path, content in after.items() if content} == before
    if name.startswith("checkpoint"):
        result = dmpo("evaluate", "run")
        assert result.status == 1
        assert "Traceback" not in result.err


def test_a_report_that_is_damaged_is_named_and_made_again(run: Path, undisturbed: Path, dmpo: Command) -> None:
    cut(run / "evaluation.json")
    result = dmpo(*RESUME)
    assert result.status == 1
    assert "run/evaluation.json is damaged" in result.err
    (run / "evaluation.json").unlink()
    assert dmpo(*RESUME).status == 0
    assert_ended_like(run, undisturbed)


def test_what_sets_another_time_to_answer_is_no_other_run(run: Path, dmpo: Command) -> None:
    assert "is finished" in dmpo(*RESUME, "train.worker_timeout=5").out
    assert loading.load(run / "config.yaml").experiment.train.worker_timeout == envs.WORKER_TIMEOUT
    assert json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["env_steps"] == 400
